"""Margins from harmless fine-tunes: another one passes as often as promised, and runs that do not fit are refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from auditkit.gate.benign import _band, propose_from_benign
from auditkit.record.schema import Baseline, Claim, Cost, Effect, Relation, Run, Verdict
from auditkit.record.store import write_run

pytestmark = pytest.mark.unit

PAIRED = "paired non-inferiority"
Change = tuple[float, float]


def change(
    relation: Relation, estimate: float, half: float | None, name: str = "score", method: str = PAIRED
) -> Effect:
    """A change since a baseline, whose interval reaches `half` to either side."""
    ends = (None, None) if half is None else (estimate - half, estimate + half)
    return Effect(
        name=f"{name} minus the baseline", estimate=estimate, lower=ends[0], upper=ends[1], unit="logit",
        relation=relation, threshold=0.5, alpha=0.05, n=9, clusters=9, standardized=None, mde=None, items_needed=None,
        method=method, threshold_call=1,
    )  # fmt: skip


def claim_of(*effects: Effect) -> Claim:
    return Claim(
        id="suite/one", suite="suite", statement="s", source="", verdict=Verdict.PASS, reason="because",
        threshold_source="", effect=effects[0], also=effects[1:],
        cost=Cost(seconds=0.0, token_layers=0, share_of_minimum=None),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("relation", "method"), [("<", PAIRED), (">", PAIRED), ("within", "mean"), ("<=", "mean")]
)
@pytest.mark.parametrize(("count", "groups"), [(3, 1), (8, 1), (8, 4)])
def test_another_harmless_fine_tune_passes_as_often_as_promised(
    relation: Relation, method: str, count: int, groups: int
) -> None:
    """Simulated: fine-tunes move each effect by a normal change around one that all of them make."""
    rng, half, draws = np.random.default_rng(count * 10 + groups), 0.05, 600

    def tuned() -> list[Effect]:
        moved = rng.normal(1.0 if relation in ("<", "<=") else -1.0, 0.3, groups)
        return [change(relation, float(value), half, f"group {n}", method) for n, value in enumerate(moved)]

    passed = 0
    for _ in range(draws):
        known = [tuned() for _ in range(count)]
        named = [{effect.name: effect for effect in effects} for effects in known]
        value = _band(claim_of(*known[0]), known[0], named).value
        assert value is not None
        assert value > 0
        low, high = (end(effect.estimate for effect in tuned()) for end in (min, max))
        fits = {"<": high + half < value, ">": low - half > -value, "within": max(-low, high) + half < value}
        passed += fits["<" if relation == "<=" else relation]
    assert passed / draws >= 0.975 - 3 * math.sqrt(0.975 * 0.025 / draws)


def test_the_margin_is_the_prediction_interval_of_the_changes() -> None:
    """By hand: changes 1, 2 and 3 have mean 2 and standard deviation 1; t with 2 degrees of freedom is 4.303."""
    known = [change("<", value, half) for value, half in ((1.0, 0.1), (2.0, 0.3), (3.0, 0.2))]
    proposal = _band(claim_of(known[0]), known[:1], [{each.name: each} for each in known])
    assert proposal.value == pytest.approx(2 + 4.3027 * math.sqrt(4 / 3) + 0.3, rel=0.005)
    assert "1 to 3 logit in 3 harmless fine-tunes; asked for here: 0.5" in proposal.reason


def test_a_change_without_an_interval_in_one_run_gives_no_margin() -> None:
    whole, bare = change("<", 1.0, 0.1), change("<", 2.0, None)
    proposal = _band(claim_of(whole), [whole], [{whole.name: whole}, {bare.name: bare}, {}])
    assert proposal.value is None
    assert proposal.reason == "'score minus the baseline' has an interval in 1 of 3 runs"


@dataclasses.dataclass
class Recorder:
    """Writes gate runs of fine-tunes that differ as they are told to."""

    folder: Path
    run: Run

    def __call__(self, name: str, weights: str, base: str | None = "base", plan: str | None = None) -> Path:
        model = msgspec.structs.replace(self.run.model, weights_sha256=weights)
        before = msgspec.structs.replace(self.run.model, weights_sha256=base or "")
        baseline = Baseline(
            name="base", run="base", created=self.run.created, audit_sha256="0" * 64, plan_sha256="0" * 64,
            plan_differences=(), model=before, summary=self.run.summary, absent={},
        )  # fmt: skip
        moved = change("<", float(len(name)), 0.1)
        alone = change("<", 1.0, 0.1)
        alone = msgspec.structs.replace(alone, name="score", threshold_call=2)
        made = msgspec.structs.replace(
            self.run,
            model=model,
            baseline=None if base is None else baseline,
            claims=(claim_of(moved, alone),),
            plan_sha256=plan or self.run.plan_sha256,
        )
        (self.folder / name).mkdir()
        write_run(self.folder / name, made, [])
        return self.folder / name


@pytest.fixture
def recorded(a_run: Run, tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, a_run)


def test_margins_are_of_comparisons_with_the_baseline_alone(recorded: Recorder) -> None:
    (proposal,) = propose_from_benign([recorded("a" * n, f"weights {n}") for n in (1, 2, 3)])
    assert proposal.key == "suite/one"
    assert proposal.value == pytest.approx(2 + 4.3027 * math.sqrt(4 / 3) + 0.1, rel=0.005)


@pytest.mark.parametrize(
    ("third", "words"),
    [
        ({"weights": "two"}, "are runs of one model; each fine-tune counts once"),
        ({"weights": "three", "base": "other"}, "have different bases: the models differ in: weights"),
        ({"weights": "three", "base": None}, "third compares with no baseline"),
        ({"weights": "three", "plan": "f" * 64}, "third has another plan than"),
    ],
)
def test_runs_that_show_no_spread_of_fine_tunes_are_refused(
    recorded: Recorder, third: dict[str, str | None], words: str
) -> None:
    runs = [recorded("first", "one"), recorded("second", "two"), recorded("third", **third)]  # type: ignore[arg-type]  # by name
    with pytest.raises(ValueError, match=words):
        propose_from_benign(runs)


def test_two_fine_tunes_are_too_few(recorded: Recorder) -> None:
    with pytest.raises(ValueError, match="give 3 or more"):
        propose_from_benign([recorded("first", "one"), recorded("second", "two")])
