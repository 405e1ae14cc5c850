"""What a run will be able to decide, before it is made: by the variances that an earlier run recorded.

The earlier run is the newest recorded one of the same model that measured the suite, and else the reference run that
the package holds, of the default model (`tools/reference_run.py` writes it). Another model varies otherwise, so a plan
by the reference is a guide, and it says whose variances it takes.

A claim that something is alike within a margin can never pass where half of its interval is wider than the margin. Its
power is stated for no difference at all; that of every other comparison for the effect of the earlier run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from auditkit.gate.forecast import chance, own_share, towards
from auditkit.record.plan import EFFORTS
from auditkit.record.schema import Effect, Run, Verdict
from auditkit.record.store import AUDIT_JSON, RecordError, read_run
from auditkit.stats.intervals import critical

ALIKE = "within"
"""The relation of a claim of no difference."""


class EarlierRun(msgspec.Struct, frozen=True):
    """The comparisons of a recorded run.

    Attributes:
        model: its name.
        run: of its folder; "" for the package's own.
        share: items of its measurements as a share of the suites' own.
        claims: claim -> its comparisons that have an interval and a threshold.
    """

    model: str
    run: str
    share: float
    claims: Mapping[str, tuple[Effect, ...]]

    @classmethod
    def of(cls, run: Run, name: str) -> EarlierRun:
        """What a plan needs of a run whose folder has this name.

        A claim that does not apply to its model, since its sensitivity reference falls short, has an interval too.
        """
        sound = (one for one in run.claims if one.verdict is not Verdict.ERROR)
        claims = {one.id: tuple(effect for effect in one.compared if towards(effect)) for one in sound}
        return cls(run.model.name, name, own_share(run), {claim: some for claim, some in claims.items() if some})

    def suites(self) -> set[str]:
        return {claim.split("/")[0] for claim in self.claims}

    def named(self) -> str:
        """The run in words."""
        where = f"run {self.run}" if self.run else "the reference run of the package"
        return f"{where} of {self.model}"


@dataclass(frozen=True)
class ClaimPlan:
    """The comparison of a claim that is hardest to decide.

    Attributes:
        half_width: effort -> half-width of its interval, in the effect's unit.
        power: effort -> chance that the interval decides, if there is no difference (`ALIKE`), or if the effect is that
            of the earlier run.
    """

    claim: str
    effect: Effect
    half_width: Mapping[str, float]
    power: Mapping[str, float]

    def hopeless(self, effort: str) -> bool:
        """Whether "no difference" cannot be shown at this effort, whatever the model does."""
        margin = self.effect.threshold
        return self.effect.relation == ALIKE and margin is not None and self.half_width[effort] >= margin


@cache
def reference() -> EarlierRun:
    """The package's own earlier run."""
    return msgspec.json.decode((files("auditkit.gate") / "reference.json").read_bytes(), type=EarlierRun)


def earlier(reports: Path, model: str, suite: str) -> EarlierRun | None:
    """The newest recorded run of a model by name that measured a suite, else the reference; None where neither did."""
    for folder in sorted(reports.glob(f"2*-{model}*/{AUDIT_JSON}"), reverse=True):
        try:
            run = read_run(folder.parent)
        except RecordError:  # of an earlier schema, or damaged: whoever asks for it by name is told
            continue
        if run.model.name == model and suite in (found := EarlierRun.of(run, folder.parent.name)).suites():
            return found
    return reference() if suite in reference().suites() else None


def planned(before: EarlierRun, suites: Collection[str]) -> Iterator[ClaimPlan]:
    """One plan for each claim of these suites that the earlier run compared by intervals."""
    for claim, effects in before.claims.items():
        if claim.split("/")[0] in suites:
            made = [_planned(claim, effect, before.share) for effect in effects]
            yield min(made, key=lambda one: (not one.hopeless("standard"), one.power["standard"]))


def _planned(claim: str, effect: Effect, share: float) -> ClaimPlan:
    there = towards(effect)
    assert there is not None  # `EarlierRun.of` keeps no others
    assert effect.threshold is not None
    distance, half = there
    times = {effort: own / share for effort, own in EFFORTS.items()}
    widths = {effort: _half_width(half, effect, by) for effort, by in times.items()}
    if effect.relation == ALIKE:  # both ends of the interval must lie inside, and either misses as often
        missed = {effort: 1 - chance(effect.threshold, half, effect, by) for effort, by in times.items()}
        power = {effort: max(0.0, 1 - 2 * miss) for effort, miss in missed.items()}
    else:
        power = {effort: chance(distance, half, effect, by) for effort, by in times.items()}
    return ClaimPlan(claim, effect, widths, power)


def _half_width(half: float, effect: Effect, times: float) -> float:
    """Half-width of an interval with `times` the items."""
    df = None if effect.df is None else max(1.0, effect.df * times)
    return half / critical(effect.df, effect.alpha) * critical(df, effect.alpha) / math.sqrt(times)


def hopeless(plans: Iterable[ClaimPlan], effort: str) -> Sequence[str]:
    """The claims whose "no difference" cannot be shown at this effort."""
    return [one.claim for one in plans if one.hopeless(effort)]
