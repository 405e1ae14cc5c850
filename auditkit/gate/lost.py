"""What a run has less than its baseline: claims that it did not measure, thresholds and waivers that are looser.

With a baseline the claims of a gate are the baseline's. A claim that the baseline has values for and that the run did
not measure, whether its test was deleted, renamed, deselected or no longer uses the model, stands in the run's record
as INCONCLUSIVE: it blocks a release under its name, and can be waived like any other. `auditkit.gate.changes.judged`
decides on a claim that was asked and does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from auditkit.record.schema import Change, Claim, Cost, Run, Verdict

NOT_COLLECTED = "no such claim was collected: its test was deleted, renamed, or no longer uses the model"

_NO_COST = Cost(seconds=0.0, token_layers=0, share_of_minimum=None)


def is_lost(claim: Claim) -> bool:
    """Whether a claim stands in a run by its baseline's record alone."""
    return claim.lack == "not measured"


def lost_claims(
    then: Iterable[Claim], here: Collection[str], values: Callable[[str], str], why: Mapping[str, str]
) -> tuple[Claim, ...]:
    """The claims of the baseline that it has values for and that the run did not measure, as undecided.

    Args:
        then: the baseline's claims.
        here: claims that the run measured, and those that other shards of it measure.
        values: what the baseline measured for a claim, in words; empty where it has no value that may be read.
        why: claim -> why the run did not measure it, where that is known.
    """
    missing = ((claim, values(claim.id)) for claim in then if claim.id not in here)
    return tuple(_lost(claim, value, why.get(claim.id, NOT_COLLECTED)) for claim, value in missing if value)


def _lost(then: Claim, value: str, why: str) -> Claim:
    reason = f"the baseline has values for this claim ({value}), and this run did not measure it: {why}"
    change = Change(
        verdict=then.verdict, comparable=False, effects=(), reason="this run did not measure the claim"
    )
    return Claim(
        id=then.id,
        suite=then.suite,
        statement=then.statement,
        source=then.source,
        verdict=Verdict.INCONCLUSIVE,
        reason=reason,
        threshold_source="",
        effect=None,
        cost=_NO_COST,
        change=change,
        lack="not measured",
    )


def loosened(run: Run, then: Run) -> tuple[str, ...]:
    """What makes `run` easier to pass than the baseline `then` was, one line each: thresholds, and waivers."""
    before = {claim.id: claim for claim in then.claims}
    said = [line for claim in run.claims if claim.id in before for line in _looser(claim, before[claim.id])]
    known = {(waiver.claim, waiver.owner, waiver.reason, waiver.expires) for waiver in then.waivers}
    said += [
        f"{waiver.claim}: a waiver that the baseline did not have, by {waiver.owner} until {waiver.expires}"
        for waiver in run.waivers
        if waiver.state == "applied" and (waiver.claim, waiver.owner, waiver.reason, waiver.expires) not in known
    ]
    return tuple(said)


def _looser(claim: Claim, then: Claim) -> Iterator[str]:
    was = {(effect.name, effect.relation): effect for effect in then.compared}
    for effect in claim.compared:
        before = was.get((effect.name, effect.relation))
        if before is None or effect.threshold is None or before.threshold is None:
            continue
        lower = effect.relation in (">=", ">")
        if (effect.threshold < before.threshold) if lower else (effect.threshold > before.threshold):
            source = f" ({claim.threshold_source})" if claim.threshold_source else ""
            yield (
                f"{claim.id}: '{effect.name}' {effect.relation} {effect.threshold:g}{source}, on the baseline "
                f"{before.relation} {before.threshold:g}"
            )
