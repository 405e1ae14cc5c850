"""`--effort`: how many items a measurement has, what the record says of it, and with what it cannot be combined."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.cli import main
from auditkit.pytest_plugin.settings import LEAST, Settings
from auditkit.record.differences import plan_digest
from auditkit.record.plan import EFFORTS

pytestmark = pytest.mark.unit

SUITE = '''"""A finding."""
import numpy as np
import pandas as pd
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

def test_sized(model, audit):
    """Is above zero."""
    n = audit.sized(24)
    values = 1 + np.random.default_rng(0).normal(0, 0.4, n)
    index = pd.Index([f"item{i}" for i in range(n)], name="item")
    labels = pd.DataFrame({"topic": [f"t{i}" for i in range(n)]}, index=index)
    assert Estimate("e", "1", Measurement("m", "1", pd.DataFrame({"p": values}, index=index), labels), values) > 0
'''


@given(st.integers(1, 10_000), st.sampled_from(sorted(EFFORTS)))
def test_an_effort_is_a_share_of_the_measurements_own_number(own: int, effort: str) -> None:
    items = Settings(0, None, {}, effort).sized(own)
    assert items >= min(own, LEAST)
    assert abs(items - own * EFFORTS[effort]) <= max(0.5, LEAST)
    assert Settings(0, None, {}).sized(own) == own
    assert Settings(0, 7, {}).sized(own) == 7


def test_more_effort_measures_more_items_and_is_another_plan(audits: Any) -> None:
    (audits.suite / "test_finding.py").write_text(SUITE)
    counts, plans = {}, set()
    for effort in EFFORTS:
        audits("--effort", effort)
        claim = audits.claim("sized")
        counts[effort] = claim.effect.n
        plans.add(plan_digest(audits.run.plan))
        assert (f"--effort {effort}" in claim.rerun) == (effort != "standard")
    assert counts == {"quick": 6, "standard": 24, "thorough": 48}
    assert len(plans) == 3
    audits()
    assert plan_digest(audits.run.plan) in plans, "standard is the default"


def test_a_recorded_run_says_what_each_effort_would_decide(
    audits: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (audits.suite / "test_finding.py").write_text(SUITE.replace("1 +", "0.1 +"))
    audits("--effort", "thorough")
    capsys.readouterr()
    assert main(["plan", str(audits.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("here")
    assert ": 1 claims took" in lines[0]
    assert [line.partition(" times")[0] for line in lines[1:4]] == ["quick: 0.125", "standard: 0.5", "thorough: 1"]
    (row,) = [line for line in lines if line.startswith("suite/sized")]
    chances = [float(part.removesuffix("%")) for part in row.split() if part.endswith("%")]
    assert chances == sorted(chances)
    assert len(chances) == 3
    (head,) = [line for line in lines if line.startswith("claim ")]
    assert len(head) == len(row), "columns stand under their heads"
    assert main(["plan", str(audits.path / "nowhere")]) == 4
    audits("--items", "12")
    capsys.readouterr()
    assert main(["plan", str(audits.folder)]) == 0
    assert "x 0.25: 0.25 times the items" in capsys.readouterr().out, "no effort made this run's number of items"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--items", "8", "--effort", "quick"), "--items and --effort both say how many items are measured"),
        (("--effort", "huge"), "*invalid choice: 'huge'*"),
    ],
)
def test_an_effort_that_means_nothing_is_refused_in_one_line(
    audits: Any, options: tuple[str, ...], words: str
) -> None:
    result = audits(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{words}*"])
    assert not audits.folders()
