"""What a run will be able to decide, before it is made: by the variances that an earlier run recorded.

The earlier run is a recorded one of the same model, and else the reference run that the package holds, of the default
model (`tools/reference_run.py` writes it). Another model varies otherwise, so a plan by the reference is a guide, and
it says whose variances it takes.

A claim that something is alike within a margin can never pass where half of its interval is wider than the margin. Its
power is stated for no difference at all; that of every other comparison for the effect of the earlier run.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from glob import escape
from importlib.resources import files
from pathlib import Path

import msgspec

from auditkit.gate.forecast import chance, towards
from auditkit.record.escaping import path_part
from auditkit.record.plan import EFFORTS, STEPWISE, share_of
from auditkit.record.schema import Effect, Run, Verdict
from auditkit.record.store import AUDIT_JSON, RecordError, read_run
from auditkit.stats.intervals import critical

LOOKED_AT = 10
"""Recorded runs of a model that are read for its variances."""

ALIKE = "within"
"""The relation of a claim of no difference."""


class EarlierRun(msgspec.Struct, frozen=True):
    """The comparisons of a recorded run.

    Attributes:
        model: its name.
        run: of its folder; "" for the package's own.
        effort: as `--effort` named it; that of a run with `--items` stands for nothing.
        claims: claim -> its comparisons that have an interval and a threshold.
    """

    model: str
    run: str
    effort: str
    claims: Mapping[str, tuple[Effect, ...]]

    @classmethod
    def of(cls, run: Run, name: str) -> EarlierRun:
        """What a plan needs of a run whose folder has this name.

        A claim that does not apply to its model, since its sensitivity reference falls short, has an interval too.
        """
        sound = (one for one in run.claims if one.verdict is not Verdict.ERROR)
        claims = {one.id: tuple(effect for effect in one.compared if towards(effect)) for one in sound}
        effort = run.plan.settings.get("effort", "standard")
        return cls(run.model.name, name, effort, {claim: some for claim, some in claims.items() if some})

    def suites(self) -> set[str]:
        return {claim.split("/")[0] for claim in self.claims}

    def of_suite(self, suite: str) -> Mapping[str, tuple[Effect, ...]]:
        """Its claims of one suite."""
        return {claim: effects for claim, effects in self.claims.items() if claim.split("/")[0] == suite}

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

    def cannot_pass(self, effort: str) -> bool:
        """Whether "no difference" cannot be shown at this effort, whatever the model does."""
        margin = self.effect.threshold
        return self.effect.relation == ALIKE and margin is not None and self.half_width[effort] >= margin


@cache
def reference() -> EarlierRun:
    """The package's own earlier run."""
    return msgspec.json.decode((files("auditkit.gate") / "reference.json").read_bytes(), type=EarlierRun)


def earlier(reports: Path, model: str, suites: Iterable[str], *, but: int | None = None) -> dict[str, EarlierRun]:
    """Suite -> the recorded run of a model by name that compared most of its claims, the newest of several and one of
    the last `LOOKED_AT`; else the reference, and nothing for a suite that it does not have.

    Runs with `--items` or with a user's data for the suite do not count, since their number of items is no share of its
    own, and neither do those of `--effort stepwise`, whose claims have different shares.

    Args:
        but: a seed whose runs do not count. Whoever chooses a number of items by what a run decided must not have
            looked at the same items.
    """
    newest = sorted(reports.glob(f"2*-{escape(path_part(model, 'model'))}*/{AUDIT_JSON}"), reverse=True)
    runs = [one for path in newest[:LOOKED_AT] if (one := _usable(path, model, but)) is not None]
    found = {}
    for suite in suites:
        of_suite = [one for one, given in runs if suite not in given and one.of_suite(suite)]
        if reference().of_suite(suite):
            of_suite.append(reference())
        if of_suite:
            found[suite] = max(of_suite, key=lambda one: len(one.of_suite(suite)) if one.run else 0)
    return found


def _usable(path: Path, model: str, but: int | None) -> tuple[EarlierRun, set[str]] | None:
    """The recorded run, if it is of that model and not of the seed, and says how suites' own items vary; and the suites
    with a user's."""
    try:
        run = read_run(path)
    except RecordError:  # of an earlier schema, or damaged: whoever asks for it by name is told
        return None
    settings = run.plan.settings
    if run.seed == but:
        return None
    if run.model.name != model or settings.get("items", "None") != "None" or settings.get("effort") == STEPWISE:
        return None
    given = {name.removesuffix("/--data") for name in run.plan.data if name.endswith("/--data")}
    return EarlierRun.of(run, path.parent.name), given


def planned(before: EarlierRun, suite: str) -> Iterator[ClaimPlan]:
    """One plan for each claim of a suite that the earlier run compared by intervals."""
    for claim, effects in before.of_suite(suite).items():
        made = [_planned(claim, effect, share_of(before.effort, suite)) for effect in effects]
        yield min(made, key=lambda one: (not one.cannot_pass("standard"), one.power["standard"]))


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


def decided(before: Mapping[str, EarlierRun], claims: Container[str]) -> dict[str, dict[str, float]]:
    """Suite -> effort -> how many of these claims can be expected to be decided.

    Args:
        before: the earlier run of each suite, from `earlier`.
    """
    plans = {suite: [one for one in planned(run, suite) if one.claim in claims] for suite, run in before.items()}
    return {
        suite: {effort: sum(one.power[effort] for one in some) for effort in EFFORTS}
        for suite, some in plans.items()
    }


def cannot_pass(plans: Iterable[ClaimPlan], effort: str) -> Sequence[str]:
    """The claims whose "no difference" cannot be shown at this effort."""
    return [one.claim for one in plans if one.cannot_pass(effort)]


def cannot_pass_in_words(claims: Sequence[str], effort: str) -> str:
    """The same in a sentence without its end."""
    what = "1 claim" if len(claims) == 1 else f"{len(claims)} claims"
    wide = (
        "its interval is wider than its margin"
        if len(claims) == 1
        else "their intervals are wider than their margins"
    )
    return f"at {effort}, {what} of no difference cannot pass, since {wide}: {', '.join(claims)}"
