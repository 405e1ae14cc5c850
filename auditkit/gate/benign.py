"""Margins from harmless fine-tunes: how far a fine-tune that does nothing of what a gate looks for moves what it reads.

Any training moves every number a little, so a margin that was set without having seen harmless fine-tunes blocks some
of them or lets harm through. Here several of one base are measured, each in a gate run of its own with the same base
and the same plan, and so on the same items.

Rule: a further fine-tune of the same kind passes with 97.5 % probability. With mean m and standard deviation s of the
changes that k fine-tunes made, its own change lies beyond m + t s √(1 + 1/k) with the chance that the t distribution
with k - 1 degrees of freedom gives (the prediction interval of a normal distribution). Its interval reaches further, as
far as the widest of those measured. Comparisons that share a margin all hold together, by Bonferroni's inequality.
Three fine-tunes say little of their spread, and t then makes the margin wide; more of them make it narrower.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from auditkit.gate.calibrate import Proposal, by_call, error_of, from_ends, is_paired
from auditkit.record.identity import compared_in_words, differences_of, is_known, model_digest
from auditkit.record.schema import Claim, Effect, Run
from auditkit.record.store import AUDIT_JSON, read_run

FEWEST = 3
RULE = (
    "so far that the whole interval of a further fine-tune of the same kind lies within it with 97.5 %, if the changes "
    "that such fine-tunes make are normal"
)


def propose_from_benign(folders: Sequence[Path]) -> tuple[Proposal, ...]:
    """Margins for every claim that compares with a baseline, from gate runs of harmless fine-tunes.

    Args:
        folders: of the runs, one for each fine-tune; the first says which claims and thresholds there are.

    Raises:
        RecordError: a run that cannot be read.
        ValueError: fewer than three runs, runs of different plans or bases, or two runs of one model.
    """
    runs = [read_run(folder / AUDIT_JSON) for folder in folders]
    _require_comparable(runs, [str(folder) for folder in folders])
    return tuple(
        _band(claim, effects, [_counterparts(run, claim) for run in runs])
        for claim in runs[0].claims
        for effects in by_call(claim).values()
        if all(map(is_paired, effects))
    )


def _require_comparable(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Raise ValueError unless the runs are gates of different fine-tunes against one base on the same items."""
    if len(runs) < FEWEST:
        raise ValueError(
            f"{len(runs)} runs of harmless fine-tunes say too little of how far such fine-tunes move; give {FEWEST} or "
            "more"
        )
    seen: dict[str, str] = {}
    for run, name in zip(runs, names, strict=True):
        if run.baseline is None:
            raise ValueError(f"{name} compares with no baseline; record each fine-tune with --baseline BASE")
        if run.plan_sha256 != runs[0].plan_sha256:
            raise ValueError(
                f"{name} has another plan than {names[0]}, so its items may be others; record all with the same command"
            )
        bases = runs[0].baseline.model, run.baseline.model  # type: ignore[union-attr]  # the first was looked at first
        if differences_of(*bases) or not is_known(*bases):
            raise ValueError(f"{name} and {names[0]} have different bases: {compared_in_words(*bases)}")
        other = seen.setdefault(model_digest(run.model), name)
        if other != name:
            raise ValueError(f"{other} and {name} are runs of one model; each fine-tune counts once")


def _counterparts(run: Run, claim: Claim) -> dict[str, Effect]:
    """Name -> effect of the same claim in another run."""
    return {effect.name: effect for one in run.claims if one.id == claim.id for effect in one.compared}


def _band(claim: Claim, effects: Sequence[Effect], known: Sequence[dict[str, Effect]]) -> Proposal:
    """The margin of one `threshold()` call."""
    error, ends = error_of(effects), []
    for effect in effects:
        same = [one[effect.name] for one in known if effect.name in one]
        changes = [(e.estimate, e.lower, e.upper) for e in same]
        whole = [
            (e, low, high) for e, low, high in changes if e is not None and low is not None and high is not None
        ]
        if len(whole) < len(known):
            reason = f"'{effect.name}' has an interval in {len(whole)} of {len(known)} runs"
            return Proposal(claim, effects[0], None, reason)
        ends.append(_ends(whole, error))
    first = effects[0]
    moved = sorted(one[first.name].estimate or 0.0 for one in known)
    said = (
        f"{first.name}: {moved[0]:.3g} to {moved[-1]:.3g} {first.unit} in {len(known)} harmless fine-tunes"
        + (f" (and {len(effects) - 1} more comparisons)" if len(effects) > 1 else "")
        + (f"; asked for here: {abs(first.threshold):g}" if first.threshold is not None else "")
    )
    return from_ends(claim, effects, ends, said)


def _ends(changes: Sequence[tuple[float, float, float]], error: float) -> tuple[float, float]:
    """How low and how high the interval of a further fine-tune reaches but for a chance of `error` at each end."""
    estimates = [estimate for estimate, _, _ in changes]
    count = len(estimates)
    middle = statistics.fmean(estimates)
    reach = float(stats.t.ppf(1 - error, count - 1)) * statistics.stdev(estimates) * math.sqrt(1 + 1 / count)
    below = max(estimate - low for estimate, low, _ in changes)
    above = max(high - estimate for estimate, _, high in changes)
    return middle - reach - below, middle + reach + above
