"""`--effort` and `--budget`: how many items a measurement has, what fits into a time, what the record and the terminal
say of it, and with what it cannot be combined."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit import open_model, options
from auditkit.cli import main
from auditkit.engine.batching import speed
from auditkit.gate.budget import REST, duration, fitting, seconds_of
from auditkit.gate.planned import decided, reference
from auditkit.pytest_plugin.settings import LEAST, Settings
from auditkit.record.differences import plan_digest
from auditkit.record.plan import EFFORTS, effort_of

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


def test_a_suite_has_an_effort_of_its_own(audits: Any) -> None:
    """Suites that are not part of this run may be named, as where one of its claims is measured again."""
    (audits.suite / "test_finding.py").write_text(SUITE)
    audits("--effort", "quick,traits=standard,suite=thorough")
    claim = audits.claim("sized")
    assert claim.effect.n == 48
    assert "--effort quick,traits=standard,suite=thorough" in claim.rerun
    audits("--effort", "thorough,suite=quick")
    assert audits.claim("sized").effect.n == 6


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


def test_a_claim_of_no_difference_that_cannot_pass_is_named_before_anything_is_measured(audits: Any) -> None:
    """By the variances of the newest run of the model, whatever its effort."""
    (audits.suite / "test_finding.py").write_text(
        SUITE.replace("1 +", "0 +").replace(" > 0", ".equals(0.0, within=0.2)")
    )
    said = "*of no difference cannot pass*"
    audits("--effort", "thorough").stdout.no_fnmatch_line(said)  # there is no run of this suite yet
    audits("--effort", "thorough").stdout.no_fnmatch_line(said)
    result = audits("--effort", "quick")
    result.stdout.fnmatch_lines(
        [
            "suite: at quick, 1 claim of no difference cannot pass, since its interval is wider than its margin: "
            "suite/sized (by the variances of run *; auditkit plan)"
        ]
    )
    lines = [line for line in result.outlines if "cannot pass" in line or "[100%]" in line]
    assert "cannot pass" in lines[0]
    audits("--effort", "quick", "--items", "6").stdout.no_fnmatch_line(said)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--items", "8", "--effort", "quick"), "--items and --effort both say how many items are measured"),
        (("--effort", "huge"), "'huge' is no effort; give quick, standard, thorough, stepwise"),
        (("--effort", "huge,suite=quick"), "'huge' is no effort for all suites; give quick, standard, thorough"),
        (("--effort", "stepwise,suite=quick"), "'stepwise' is no effort for all suites; give quick,"),
        (("--effort", "quick,suite"), "'suite' is no SUITE=EFFORT; give quick, standard, thorough to a suite"),
        (("--effort", "quick,suite=stepwise"), "'suite=stepwise' is no SUITE=EFFORT; give quick,"),
        (
            ("--effort", "quick,suits=thorough"),
            "--effort quick,suits=thorough: there is no suite 'suits', only *suite",
        ),
    ],
)
def test_an_effort_that_means_nothing_is_refused_in_one_line(
    audits: Any, options: tuple[str, ...], words: str
) -> None:
    result = audits(*options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{words}*"])
    assert not audits.folders()


SAYS = "\n\ndef pytest_audit_tokens(suite):\n    return {tokens} if suite == 'suite' else None\n"


def ready(audits: Any, tokens: int | dict[str, int] | None) -> None:
    (audits.suite / "test_finding.py").write_text(SUITE)
    if tokens is not None:
        with (audits.suite / "conftest.py").open("a") as conftest:
            conftest.write(SAYS.format(tokens=tokens))


@given(st.floats(1.0, 1e6), st.sampled_from(["s", "m", "h"]))
def test_a_time_is_read_and_what_is_said_can_be_given(number: float, unit: str) -> None:
    seconds = seconds_of(f"{number:.3f}{unit}")
    assert seconds == pytest.approx(number * {"s": 1, "m": 60, "h": 3600}[unit], abs=4)
    assert seconds * 0.999 <= seconds_of(duration(seconds)) <= 1.7 * seconds + 1


def in_proportion(whole: float) -> dict[str, float]:
    return {effort: whole * share for effort, share in EFFORTS.items()}


WORK = st.lists(st.floats(1e3, 1e9), min_size=3, max_size=3).map(
    lambda s: dict(zip(EFFORTS, sorted(s), strict=True))
)
NAMES = ("a", "b", "c", "d")
GAINS = st.lists(st.floats(0, 9), min_size=3, max_size=3).map(
    lambda some: dict(zip(EFFORTS, sorted(some), strict=True))
)


@given(
    st.dictionaries(st.sampled_from(NAMES), WORK, min_size=1),
    st.dictionaries(st.sampled_from(NAMES), GAINS),
    st.floats(10.0, 1e6),
    st.integers(1, 100_000),
)
def test_a_budget_is_kept_and_nothing_more_fits_into_it(
    tokens: dict[str, dict[str, float]], decided: dict[str, dict[str, float]], rate: float, budget: int
) -> None:
    takes = {suite: {e: REST * own / rate for e, own in of.items()} for suite, of in tokens.items()}
    if sum(one["quick"] for one in takes.values()) > budget:
        with pytest.raises(
            ValueError, match=f"--budget {budget}s is too short for the least effort .*: quick, about "
        ):
            fitting(f"{budget}s", tokens, rate, decided)
        return
    efforts, line = fitting(f"{budget}s", tokens, rate, decided)
    assert options.effort(efforts) == efforts, "it can be given to --effort"
    chosen = {suite: effort_of(efforts, suite) for suite in tokens}
    left = budget - sum(takes[suite][own] for suite, own in chosen.items())
    assert left >= -1e-6 * budget
    steps = (takes[suite][more] - takes[suite][own] for suite, own in chosen.items() for more in EFFORTS)
    assert all(step > left - 1e-6 * budget for step in steps if step > 0)
    assert line.startswith(f"--budget {budget}s: {efforts}, about ")


def test_a_budget_goes_to_the_suite_that_decides_most_with_it() -> None:
    tokens = {
        suite: in_proportion(whole)
        for suite, whole in (("dear", 1000), ("cheap", 100), ("sure", 100), ("new", 100))
    }
    tokens["full"] = {"quick": 50.0, "standard": 50.0, "thorough": 50.0}
    decided = {
        "dear": {"quick": 1.0, "standard": 3.0, "thorough": 4.0},
        "cheap": {"quick": 1.0, "standard": 3.0, "thorough": 4.0},
        "sure": {"quick": 5.0, "standard": 5.0, "thorough": 5.0},
        "full": {"quick": 1.0, "standard": 5.0, "thorough": 9.0},
    }
    rate = REST  # so that a token takes a second
    least = sum(of["quick"] for of in tokens.values())
    for more, expected in (
        (0, "quick"),
        (100, "quick,cheap=standard"),
        (175, "quick,cheap=thorough"),
        (175 + 750, "quick,cheap=thorough,dear=standard"),
        (175 + 750 + 75, "quick,cheap=thorough,dear=standard,sure=standard"),
    ):
        assert fitting(f"{least + more}s", tokens, rate, decided)[0] == expected


@pytest.mark.parametrize("seconds", [150, 200, 300, 400, 600])
def test_another_division_decides_hardly_more(seconds: int) -> None:
    """Suites whose claims are expected as in the package's reference run, each with more tokens than the one before."""
    decided_by = decided(dict.fromkeys(sorted(reference().suites()), reference()), reference().claims.keys())
    tokens = {suite: in_proportion(1000 * (1 + n)) for n, suite in enumerate(decided_by)}
    rate = REST * sum(of["standard"] for of in tokens.values()) / 400  # `standard` for all takes 400 seconds
    efforts, _ = fitting(f"{seconds}s", tokens, rate, decided_by)
    found = sum(expected[effort_of(efforts, suite)] for suite, expected in decided_by.items())
    most = 0.0
    for some in product(EFFORTS, repeat=len(tokens)):
        takes = sum(REST * of[one] / rate for of, one in zip(tokens.values(), some, strict=True))
        if takes <= seconds:
            most = max(most, sum(one[own] for one, own in zip(decided_by.values(), some, strict=True)))
    assert most - 0.7 <= found <= most + 1e-9


def test_a_budget_chooses_an_effort_and_is_that_efforts_plan(audits: Any) -> None:
    ready(audits, 10)
    said = audits("--budget", "1h").stdout.str()
    assert "--budget 1h: thorough, about 1s (" in said
    claim, plan = audits.claim("sized"), plan_digest(audits.run.plan)
    assert claim.effect.n == 48
    assert "--effort thorough" in claim.rerun
    assert "--budget" not in claim.rerun
    audits("--effort", "thorough")
    assert plan_digest(audits.run.plan) == plan


def test_a_suite_that_has_no_more_items_is_not_given_more(audits: Any) -> None:
    ready(audits, {"quick": 5, "standard": 10, "thorough": 10})
    assert "--budget 1h: standard, about 1s (" in audits("--budget", "1h").stdout.str()


def test_a_budget_that_nothing_fits_into_says_the_least(audits: Any) -> None:
    ready(audits, 10**12)
    result = audits("--budget", "10s")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--budget 10s is too short for *: quick, about *; give --budget *h, or fewer suites"]
    )
    assert not audits.folders(), "nothing was measured"


def test_a_suite_that_does_not_say_what_it_runs_is_named(audits: Any) -> None:
    ready(audits, None)
    result = audits("--budget", "5m")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--budget: suite does not say how many tokens it runs (hook pytest_audit_tokens*"]
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--budget", "5"), "--budget 5: give a time, such as 90s, 5m or 1.5h"),
        (("--budget", "0m"), "--budget 0m: give a time"),
        (("--budget=-3m",), "--budget -3m: give a time"),
        (("--budget", "5m", "--items", "8"), "--budget and --items both say how many items are measured"),
        (("--budget", "5m", "--effort", "quick"), "--budget and --effort both say how many items are measured"),
        (("--budget", "5m", "--data", "suite=x.csv"), "--data is measured whole"),
        (("--budget", "5m", "--baseline", "base"), "cannot go with --baseline; give --effort"),
        (("--budget", "5m", "--shard", "1/2"), "cannot go with --shard; give --effort"),
        (("--budget", "5m", "--resume"), "cannot go with --resume; give --effort"),
        (("--budget", "5m", "-n", "2"), "cannot go with -n; give --effort"),
    ],
)
def test_what_a_budget_cannot_go_with(audits: Any, given: tuple[str, ...], said: str) -> None:
    ready(audits, 10)
    result = audits(*given)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{said}*"])


def test_the_speed_is_that_of_plain_batches(tiny_llama: Path) -> None:
    tiny = open_model(tiny_llama)
    before, began = tiny.meter.token_layers, time.perf_counter()
    rate = speed(tiny)
    work, seconds = tiny.meter.token_layers - before, time.perf_counter() - began
    assert work >= (64 + 1024) * tiny.layers, "batches grow, since this model is fast"
    assert work / seconds < 4 * rate, "the last and largest batch is not slower than all together by far"


def test_a_run_says_what_it_will_take_before_it_measures(audits: Any) -> None:
    ready(audits, 10)
    said = audits().stdout.str()
    assert said.index("this run: standard, about 1s (") < said.index("test_finding.py")
    assert "this run" not in audits("--items", "8").stdout.str(), "the suites' numbers are for their own items"
    (audits.suite / "test_other.py").write_text(SUITE.replace("test_sized", "test_other"))
    assert "this run: standard" in audits().stdout.str()
    assert "this run" not in audits("-k", "sized").stdout.str(), "they are for every claim, too"
    (audits.suite / "conftest.py").write_text(
        (audits.suite / "conftest.py").read_text().split("def pytest_audit_tokens")[0]
    )
    assert "this run" not in audits("--effort", "quick").stdout.str()
