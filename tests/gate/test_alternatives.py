"""Alternatives take part in nothing that blocks: exit code, summary, families and gate are those of the plain suite."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from audits import audit
from recorded import content

from auditkit.gate.verify import verify
from auditkit.record.schema import Claim, Verdict
from auditkit.record.store import read_items, read_run

pytestmark = pytest.mark.slow  # whole sessions in processes of their own

SUITE = '''"""A finding (Somebody 2020)."""
import numpy as np
import pandas as pd
import pytest
from auditkit import Choice, alternatives
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.claim(family="all")

@pytest.fixture
def effect(model):
    def make(mean):
        index = pd.Index([f"item {i}" for i in range(12)], name="item")
        values = mean + np.linspace(-0.3, 0.3, 12)
        table = Measurement("m", "logit", pd.DataFrame({"v": values}, index), pd.DataFrame({"topic": index}, index))
        return Estimate("effect", "logit", table, values, shown_conditions=("v",))
    return make

@pytest.mark.parametrize("own", [1.0, 0.5, 0.3, -1.0])
def test_claim(effect, own):
    """The effect is at least 0.5."""
    def compare(mean=own):
        assert effect(mean) >= 0.5

    alternatives(compare, Choice("mean", "its own", {"a low mean": {"mean": -9.0}, "a high mean": {"mean": 9.0}}))
    compare()
'''


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> list[Path]:
    """The run of the suite, and that of the same suite without its alternatives."""
    made = []
    call = next(line for line in SUITE.splitlines(keepends=True) if line.startswith("    alternatives("))
    for text in (SUITE, SUITE.replace(call, "")):
        folder = tmp_path_factory.mktemp("one") / "suite"
        folder.mkdir()
        (folder / "test_finding.py").write_text(text)
        made.append(audit(folder.parent / "reports", str(folder), "--model", str(tiny_llama), codes=(1,)))
    return made


def test_verdicts_families_and_summary_are_those_without_alternatives(runs: list[Path]) -> None:
    shown, plain = (read_run(folder) for folder in runs)
    assert shown.summary == plain.summary
    assert {claim.verdict for claim in shown.claims} == {Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL}
    for one, other in zip(shown.claims, plain.claims, strict=True):
        assert [alternative.verdict for alternative in one.alternatives] == [Verdict.FAIL, Verdict.PASS]
        for field in set(Claim.__struct_fields__) - {"alternatives", "cost", "location", "rerun"}:
            assert getattr(one, field) == getattr(other, field), field


def test_such_a_record_holds(runs: list[Path]) -> None:
    for folder in runs:
        verified = verify(read_run(folder), read_items(folder))
        assert (verified.problems, verified.not_computed) == ((), ())


def test_a_record_from_before_there_were_alternatives_is_read(runs: list[Path]) -> None:
    """The field is optional, and the version of the schema the same."""
    record, _ = content(runs[1])
    for claim in record["claims"]:
        del claim["alternatives"]
    claims = msgspec.convert([claim | {"cost": COST} for claim in record["claims"]], tuple[Claim, ...])
    assert [claim.alternatives for claim in claims] == [()] * len(claims)


COST = {"seconds": 0.0, "token_layers": 0, "share_of_minimum": None}
