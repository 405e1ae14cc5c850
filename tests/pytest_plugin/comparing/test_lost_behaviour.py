"""A behaviour that the baseline shows and the candidate does not blocks: it is not left out as NOT APPLICABLE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditkit.cli import main
from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit

SUITE = '''"""A finding."""
import json
from dataclasses import replace
from pathlib import Path
import numpy as np
import pytest
from auditkit import Inconclusive, NotApplicable, NotAsked, Unsupported

def planted(name, model=""):
    world = json.loads(Path("world.json").read_text())
    return {**world, **world.get(model, {})}.get(name)

@pytest.fixture
def require(model):
    """Raises what the test has planted in place of the behaviour, for this model or for every one."""
    def check():
        match planted("gone", model.info.name):
            case "behaviour":
                raise NotApplicable("the model is at chance")
            case "capability":
                raise Unsupported("attention cannot be read on this model")
            case "skipped":
                pytest.skip("no accelerator")
            case "undecided":
                raise Inconclusive("no_items: no item was left")
            case "broken":
                raise RuntimeError("out of memory")
    return check

def test_still(estimate):
    """Is still above a limit."""
    assert estimate("still") > -5

def test_shown(estimate, require):
    """Shows a behaviour that is above a limit."""
    require()
    assert estimate("shown") > 0.5

def test_alone(estimate, baseline):
    """Is above a limit by itself, which only a run without a baseline asks."""
    if baseline.past is not None:
        raise NotAsked("with a baseline the change is judged")
    assert estimate("alone") > 0.5

def test_change(estimate, baseline, require):
    """Is no worse than it was, by 5."""
    require()
    now = estimate("change")
    assert now.no_worse_than(baseline(now), by=5, better="higher")

def test_never(estimate):
    """Shows what no model shows."""
    raise NotApplicable("no model shows this")

def of_a_total(estimate, name, seed, mean):
    """A share of a total whose mean is planted; its deviation is 1 over 60 items."""
    seed, mean = planted(name) or (seed, mean)
    noise = np.random.default_rng(seed).normal(0, 1, (2, 60))
    total, more = noise - noise.mean(axis=1, keepdims=True) + [[mean], [0]]
    return replace(estimate(name, share=True), numerator=0.9 * total + 0.1 * more, denominator=total)

def test_of_a_total(estimate):
    """Is at least a tenth of a large effect."""
    assert of_a_total(estimate, "large", 3, 1.5) >= 0.1

def test_of_a_small_total(estimate):
    """Is at least a tenth of a small effect."""
    assert of_a_total(estimate, "small", 3, 0.5) >= 0.1
'''

TOLD = '''"""A finding."""
from auditkit import sensitivity

def test_still(estimate):
    """Is still above a limit."""
    assert estimate("still") > -5

def test_told(estimate, baseline, threshold):
    """Is no worse than it was, where the measurement is shown to move."""
    margin = threshold(0.5)
    with sensitivity("two apart", estimate("apart"), by=margin, baseline=baseline):
        now = estimate("told")
        assert now.no_worse_than(baseline(now), by=margin, better="higher")
'''


@pytest.fixture
def base(audits: Any, shelf: Any) -> Path:
    """A run that shows every behaviour, to be the baseline."""
    (audits.suite / "test_finding.py").write_text(SUITE)
    audits.plant(shift=0.0)
    shelf.take("lost", audits.path / "reports", audits)
    return audits.folder


def verdicts(audits: Any) -> dict[str, Verdict]:
    return {claim.id.removeprefix("suite/"): claim.verdict for claim in audits.run.claims}


def test_a_lost_behaviour_fails_and_says_what_the_baseline_shows(audits: Any, base: Path) -> None:
    assert set(verdicts(audits).values()) == {Verdict.PASS, Verdict.NOT_APPLICABLE}
    value = audits.claim("shown").effect
    audits.plant(shift=-0.1, gone="behaviour")
    result = audits("--baseline", str(base))
    assert result.ret == 1
    assert verdicts(audits) == {
        "still": Verdict.PASS,
        "shown": Verdict.FAIL,
        "alone": Verdict.NOT_APPLICABLE,
        "change": Verdict.FAIL,
        "never": Verdict.NOT_APPLICABLE,
        "of_a_total": Verdict.PASS,
        "of_a_small_total": Verdict.PASS,
    }
    claim = audits.claim("shown")
    assert claim.reason.startswith(f"the baseline shows this behaviour (shown: {value.estimate:.3g} [")
    assert claim.reason.endswith("logit), the candidate does not: the model is at chance")
    assert claim.lack == "behaviour"
    result.stdout.fnmatch_lines(["FAIL  suite/shown", " * the baseline shows this behaviour*"])
    result.stdout.no_fnmatch_line("*raise NotApplicable*")
    assert "the baseline shows this behaviour (change: " in audits.claim("change").reason


@pytest.mark.parametrize(
    ("gone", "verdict", "pr", "release"),
    [
        ("capability", Verdict.INCONCLUSIVE, 0, 10),
        ("skipped", Verdict.INCONCLUSIVE, 0, 10),
        ("undecided", Verdict.INCONCLUSIVE, 0, 10),
        ("broken", Verdict.ERROR, 11, 11),
    ],
)
def test_missing_evidence_of_other_kinds_is_undecided_and_blocks_a_release(
    audits: Any, base: Path, gone: str, verdict: Verdict, pr: int, release: int
) -> None:
    audits.plant(shift=-0.1, gone=gone)
    assert audits("--baseline", str(base)).ret == pr
    assert audits("--baseline", str(base), "--profile", "release").ret == release
    assert (verdicts(audits)["shown"], verdicts(audits)["change"]) == (verdict, verdict)
    if gone in ("capability", "skipped"):
        assert "the baseline has values for this claim (shown: " in audits.claim("shown").reason
        assert "the candidate has none: " in audits.claim("shown").reason


def test_what_was_asked_differently_is_undecided_and_says_why(audits: Any, base: Path) -> None:
    audits.plant(shift=-0.1, gone="behaviour")
    assert audits("--baseline", str(base), "--seed", "1", "--profile", "release").ret == 10
    claim = audits.claim("shown")
    assert claim.verdict is Verdict.INCONCLUSIVE
    assert (
        "whether a behaviour was lost cannot be told, since the two runs differ (seed: 0 there, 1 here)"
        in claim.reason
    )


def test_an_effect_that_is_no_longer_clear_of_zero_fails_only_if_it_became_smaller(
    audits: Any, base: Path
) -> None:
    """The totals of the two runs are paired: 0 after 1.5 is no chance over 60 items, and 0.25 after 0.5 can be."""
    audits.plant(shift=-0.1, large=[4, 0.0], small=[8, 0.25])
    assert audits("--baseline", str(base)).ret == 1
    large, small = audits.claim("of_a_total"), audits.claim("of_a_small_total")
    assert (large.verdict, large.lack) == (Verdict.FAIL, "behaviour")
    assert (small.verdict, small.lack) == (Verdict.INCONCLUSIVE, "behaviour")
    assert (
        "its total effect did not become smaller beyond chance (total effect minus the baseline: -0."
        in small.reason
    )


@pytest.mark.parametrize(("margin", "verdict"), [(0.5, Verdict.PASS), (3.0, Verdict.NOT_APPLICABLE)])
def test_what_the_baseline_is_not_shown_to_tell_at_a_wider_margin_is_not_lost(
    audits: Any, margin: float, verdict: Verdict
) -> None:
    """The reference is 1 on both, and the baseline was recorded with a margin that it reaches."""
    (audits.suite / "test_finding.py").write_text(TOLD)
    (audits.path / "limits.toml").write_text(f'[default]\n"suite/told" = {{ threshold = {margin} }}\n')
    audits.plant(shift=0.0)
    audits()
    recorded = audits.folder
    audits.plant(shift=-0.1)
    assert audits("--baseline", str(recorded), "--thresholds", "limits.toml").ret == 0
    assert verdicts(audits) == {"still": Verdict.PASS, "told": verdict}


def test_two_recorded_runs_say_the_same_as_a_gate(
    audits: Any, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audits.plant(shift=-0.1, gone="behaviour")
    audits()
    monkeypatch.chdir(audits.path)
    capsys.readouterr()
    assert main(["diff", str(base), "reports/latest"]) == 1
    assert "→ ✗ FAIL            suite/shown" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_and_a_continued_run_say_the_same(audits: Any, base: Path) -> None:
    audits.plant(shift=-0.1, gone="behaviour")
    assert audits("--baseline", str(base), "-n", "2").ret == 1
    folder, whole = audits.folder, audits.run
    assert verdicts(audits)["shown"] is Verdict.FAIL
    (folder / "audit.json").unlink()
    assert audits("--baseline", str(base), "--resume", str(folder)).ret == 1
    assert audits.folder == folder
    assert [(c.id, c.verdict, c.reason) for c in audits.run.claims] == [
        (c.id, c.verdict, c.reason) for c in whole.claims
    ]


@pytest.mark.slow
def test_a_baseline_that_is_measured_first_counts_like_a_recorded_one(audits: Any, base: Path) -> None:
    candidate = audits.copy("candidate")
    audits.plant(shift=-0.1, candidate={"gone": "behaviour"})
    assert audits("--baseline", str(audits.model), model=candidate).ret == 1
    assert verdicts(audits)["shown"] is Verdict.FAIL


def test_a_family_does_not_explain_a_lost_behaviour_by_chance(audits: Any, base: Path) -> None:
    """Holm's correction is for FAILs of intervals; here there is no interval that could be wrong by chance."""
    file = audits.suite / "test_finding.py"
    file.write_text(
        file.read_text().replace("def planted(", 'pytestmark = pytest.mark.claim(family="all")\n\ndef planted(')
    )
    audits.plant(shift=0.0)
    audits()
    base = audits.folder
    audits.plant(shift=-0.1, gone="behaviour")
    assert audits("--baseline", str(base)).ret == 1
    assert verdicts(audits)["shown"] is Verdict.FAIL
    assert audits.claim("shown").family.size == 7
