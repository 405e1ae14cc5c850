"""What the comparisons of a recorded run would decide with more items or fewer: half-widths, power, cost.

Clusters are taken to grow with the items, as the designs of the suites let them while there are new ones. The variance
then falls as one over the items, and the degrees of freedom rise with them. Power is the chance to decide as the
estimate lies, were the recorded estimate and its variance the true ones; both are uncertain, so it is a guide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from auditkit.record.plan import EFFORTS, LOOKS, STEPWISE, share_of
from auditkit.record.schema import Claim, Effect, Run, Verdict
from auditkit.stats.intervals import critical
from auditkit.stats.quantiles import chance_below


@dataclass(frozen=True)
class ClaimForecast:
    """The comparison of a claim that is hardest to decide.

    Attributes:
        distance: of the estimate from the threshold, or from the nearer margin; in the effect's unit.
        half_width: of the interval, towards the threshold, in that unit.
        power: effort -> chance that the interval would not hold the threshold; for a run with `--items`, the efforts
            stand for a quarter, as many and twice as many items as it had.
    """

    claim: Claim
    effect: Effect
    distance: float
    half_width: float
    power: Mapping[str, float]


def forecasts(run: Run) -> Iterator[ClaimForecast]:
    """One forecast for each claim that was compared with a threshold by intervals, in the order of the record."""
    for claim in run.claims:
        if claim.verdict in (Verdict.NOT_APPLICABLE, Verdict.ERROR):
            continue
        made = (_forecast(claim, effect, own_share(run, claim.suite, effect)) for effect in claim.compared)
        found = [one for one in made if one is not None]
        if found:
            yield min(found, key=lambda one: one.power["standard"])


def own_share(run: Run, suite: str, effect: Effect | None = None) -> float:
    """Items of a suite's measurements as a share of its own; 1 where `--items` set their number.

    Args:
        effect: whose measurement is meant, where claims were looked at more than once.
    """
    effort = run.plan.settings.get("effort", "standard")
    if effort == STEPWISE and effect is not None:
        return next((look.share for look in LOOKS if look.spends == effect.spent), 1.0)
    return share_of(effort, suite)


def _forecast(claim: Claim, effect: Effect, own: float) -> ClaimForecast | None:
    there = towards(effect)
    if there is None:
        return None
    distance, half = there
    power = {effort: chance(distance, half, effect, share / own) for effort, share in EFFORTS.items()}
    return ClaimForecast(claim, effect, distance, half, power)


def towards(effect: Effect) -> tuple[float, float] | None:
    """Distance of the estimate from the threshold, and the half-width on that side; None without an interval."""
    threshold, estimate, lower, upper = effect.threshold, effect.estimate, effect.lower, effect.upper
    if effect.exact or threshold is None or estimate is None or lower is None or upper is None:
        return None
    if effect.relation == "within":  # the nearer margin
        threshold = math.copysign(threshold, estimate)
    half = estimate - lower if estimate >= threshold else upper - estimate
    return (abs(estimate - threshold), half) if half > 0 else None


def chance(distance: float, half: float, effect: Effect, times: float) -> float:
    """Chance that an interval does not hold the threshold, with `times` the items.

    Args:
        distance: of the truth from the threshold.
        half: half-width of the interval now.
        times: items as a multiple of what there are.
    """
    df = None if effect.df is None else max(1.0, effect.df * times)
    ask = critical(df, effect.alpha)
    error = half / critical(effect.df, effect.alpha) / math.sqrt(times)
    return chance_below(distance / error - ask, df)
