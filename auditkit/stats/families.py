"""Corrections for many claims (Holm) and for many sites (Benjamini and Hochberg).

A family of claims that all must hold needs no correction of PASS (an intersection-union test), but the more claims
it has, the likelier one of them FAILs by chance. Holm's (1979) procedure over the family's claims keeps the chance of
any false FAIL at that of a single claim. A FAIL that does not survive it becomes INCONCLUSIVE. The same holds inside a
claim that makes several comparisons and fails with any of them.

Looking over a grid of sites is exploration: Benjamini & Hochberg's (1995) procedure bounds the expected share of false
discoveries among those found, and what is found is a candidate for a claim, on other items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
import numpy as np
from scipy.special import stdtr

from auditkit.claims.evidence import Decision, current
from auditkit.claims.verdicts import unvouched
from auditkit.record.schema import Cell, Claim, Effect, FamilyPlace, Grid, Verdict
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import ALPHA
from auditkit.stats.quantiles import quantiles


def claim_p(claim: Claim) -> float:
    """One-sided p-value of "the claim holds": Bonferroni over the comparisons that it made; 1 without evidence, which
    is also where a control vouches for nothing."""
    if claim.verdict in (Verdict.ERROR, Verdict.NOT_APPLICABLE) or unvouched(claim.controls):
        return 1.0
    p = [_effect_p(effect) for effect in claim.compared]
    return min(1.0, len(p) * min(p)) if p else 1.0


def _effect_p(effect: Effect) -> float:
    """One-sided p-value of "the comparison holds", with the caution of `cautious`; 1 where none is known.

    A look that may spend a share of the error has so much larger a p-value, as Bonferroni's rule asks.
    """
    if effect.p_fail is None:
        return 1.0
    p = effect.p_fail if effect.df is None else float(cautious(np.float64(effect.p_fail), effect.df))
    return min(1.0, p / effect.spent)


def cautious(p: Any, df: float) -> Any:
    """One-sided p-values of t statistics, from a t distribution with half the degrees of freedom, at most 10.

    A correction for many claims asks for chances of one in a thousand, and so far out the tail of t is wrong for
    skewed clusters: at 40 claims Holm on the plain p-values blocks up to 15 % of faultless runs instead of 2.5 %.
    """
    return stdtr(min(df / 2, 10), quantiles(p, df))


def adjusted_by_holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm (1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is below the one before it or above 1.

    statsmodels' `multipletests` gives the same numbers and collects garbage at every call, which takes a tenth of a
    second and more in a process that holds a model.
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def adjusted_by_benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p-values of Benjamini & Hochberg (1995), the same numbers as scipy.stats' `false_discovery_control`.

    The one of rank r of m is multiplied by m / r; none is above the one after it or above 1.
    """
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] * (len(p) / np.arange(1, len(p) + 1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return [float(value) for value in adjusted]


def fail_within_claim(decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """The comparisons of one claim in their order, with every FAIL judged among all of them.

    A claim fails when any of its comparisons does, so with 13 of them at their thresholds one in four such claims would
    fail by chance. Holm's procedure at half of alpha goes over all comparisons that were made; a FAIL that does not
    survive it becomes INCONCLUSIVE ("holm"). PASS needs every comparison to hold and is not corrected. A single
    comparison, and an exact one (p = 0), stay as they are, and doing it twice changes nothing.
    """
    failing = any(decision.verdict is Verdict.FAIL for decision in decisions)
    if len(decisions) < 2 or not failing:
        return tuple(decisions)
    p = [_effect_p(decision.effect) for decision in decisions]
    return tuple(
        _among(decision, len(decisions), mine, adjusted)
        for decision, mine, adjusted in zip(decisions, p, adjusted_by_holm(p), strict=True)
    )


def _among(decision: Decision, count: int, p: float, adjusted: float) -> Decision:
    if decision.verdict is not Verdict.FAIL or adjusted <= ALPHA / 2:
        return decision
    reason = (
        f"holm: {decision.reason}, but among {count} comparisons of this claim this can be chance "
        f"(p = {p:.2g}, {adjusted:.2g} by Holm, {ALPHA / 2:g} needed)"
    )
    return replace(decision, verdict=Verdict.INCONCLUSIVE, reason=reason)


def holm(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """The claims with every FAIL of a family judged within it; claims without a family are as they were.

    Every declared claim of a family counts, measured or not. Each side of an interval errs at half of alpha, so
    that is the level of the family too. A family of one decides as a claim alone. What was judged already is judged
    anew from its verdict alone, so that doing it twice changes nothing. Of a family that has grown since the baseline,
    the claims that the baseline had are judged among themselves, and so are the others (`in_families_of`).
    """
    claims = list(claims)
    members: dict[tuple[str, bool], list[int]] = {}
    for index, claim in enumerate(claims):
        if claim.family is not None:
            members.setdefault((claim.family.name, claim.family.of_baseline), []).append(index)
    for indices in members.values():
        p = [claim_p(claims[i]) for i in indices]
        for i, mine, adjusted in zip(indices, p, adjusted_by_holm(p), strict=True):
            claims[i] = placed(claims[i], len(indices), mine, adjusted)
    return tuple(claims)


def in_families_of(claims: Iterable[Claim], baseline: Iterable[Claim]) -> tuple[Claim, ...]:
    """The claims, each in the family in which the baseline judged it, for `holm`.

    The more claims a family has, the more is needed for a FAIL to stand. So claims that are added to a family must not
    soften a FAIL of those that were in it, and neither must a family that a claim was moved into.
    """
    then = {claim.id: claim.family for claim in baseline}
    return tuple(_in_family_of(claim, then) for claim in claims)


def _in_family_of(claim: Claim, then: Mapping[str, FamilyPlace | None]) -> Claim:
    if claim.family is None or claim.id not in then:
        return claim
    before = then[claim.id]
    family = None if before is None else FamilyPlace(name=before.name, of_baseline=True)
    return msgspec.structs.replace(alone(claim), family=family)


def alone(claim: Claim) -> Claim:
    """The claim with the verdict that it has without its family."""
    before = claim.family
    if before is not None and before.alone is Verdict.FAIL and claim.verdict is Verdict.INCONCLUSIVE:
        return msgspec.structs.replace(claim, verdict=Verdict.FAIL, reason=before.alone_reason)
    return claim


def placed(claim: Claim, size: int, p: float, adjusted: float) -> Claim:
    """`claim` in its family of `size` claims, from its own p-value and the one that is adjusted for the family."""
    claim = alone(claim)
    assert claim.family is not None
    name, of_baseline = claim.family.name, claim.family.of_baseline
    place = FamilyPlace(
        name=name,
        size=size,
        p=p,
        p_adjusted=adjusted,
        alone=claim.verdict,
        alone_reason=claim.reason,
        of_baseline=of_baseline,
    )
    claim = msgspec.structs.replace(claim, family=place)
    if claim.verdict is not Verdict.FAIL or claim.lack is not None or adjusted <= ALPHA / 2 or size == 1:
        return claim
    where = f"family '{name}'{' on the baseline' if of_baseline else ''}"
    reason = (
        f"holm: {claim.reason}, but among {size} claims of {where} this can be chance "
        f"(p = {p:.2g}, {adjusted:.2g} by Holm, {ALPHA / 2:g} needed)"
    )
    return msgspec.structs.replace(claim, verdict=Verdict.INCONCLUSIVE, reason=reason)


def explore(
    name: str, estimates: Sequence[Estimate], relation: Literal[">", "<", "!="], threshold: float = 0.0,
    *, rate: float = 0.05,
) -> list[Estimate]:  # fmt: skip
    """The estimates of a grid that stand in `relation` to `threshold`, at a false discovery rate of `rate`.

    This decides no claim. The grid enters the claim's record, labelled exploratory. Estimates without an interval
    count as p = 1. The procedure holds its rate for independent and for positively dependent estimates.

    Raises:
        ValueError: an empty grid, a relation other than ">", "<", "!=", or a rate outside (0, 1).
    """
    if not estimates or relation not in (">", "<", "!=") or not 0 < rate < 1:
        raise ValueError("exploring needs estimates, a relation '>', '<' or '!=', and a rate between 0 and 1")
    tails = [estimate.tail(threshold) for estimate in estimates]
    p = [1.0 if tail is None else _p(relation, tail) for tail in tails]
    q = adjusted_by_benjamini_hochberg(p)
    found = [tail is not None and value <= rate for tail, value in zip(tails, q, strict=True)]
    evidence = current()
    if evidence is not None:
        cells = tuple(
            Cell(effect=estimate.describe(), p=one, q=many, found=hit)
            for estimate, one, many, hit in zip(estimates, p, q, found, strict=True)
        )
        evidence.grids.append(
            Grid(name=name, relation=relation, threshold=float(threshold), rate=rate, cells=cells)
        )
    return [estimate for estimate, hit in zip(estimates, found, strict=True) if hit]


def _p(relation: str, tail: float) -> float:
    return {"<": tail, ">": 1 - tail}.get(relation, min(1.0, 2 * min(tail, 1 - tail)))
