"""Merging: shards of one plan, measured on several machines, as the run that one machine would have made.

A shard decides over its own claims only. What is decided over many (families, waivers, the verdict) is therefore
decided again over all of them. Shards that did not ask the same of the same model, or that contradict each other, are
refused: a run pieced together from two questions answers neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from auditkit.claims.verdicts import summarize
from auditkit.gate.changes import with_untested_changes
from auditkit.gate.lost import is_lost
from auditkit.gate.waivers import settled, waived
from auditkit.record.baseline import Recorded
from auditkit.record.differences import differences
from auditkit.record.identity import differing_parts, is_known, unknown_in_words
from auditkit.record.plan import OTHER_SHARDS
from auditkit.record.schema import Claim, Cost, CrossCheck, Environment, ItemRow, ModelInfo, Run, Struct, Waiver
from auditkit.record.store import RecordError, item_rows
from auditkit.stats.families import alone, holm

_OWN_TO_A_MACHINE = {"spec", "source", "device", "parity_max_abs", "cpu", "threads", "workers", "identity"}
"""Fields in which two machines may differ while measuring the same: where the weights lie, and what they ran on. The
identity is compared by its parts."""

_NOTHING = Cost(seconds=0.0, token_layers=0, share_of_minimum=None)


class _Shard:
    """A recorded run with its claims and items by claim."""

    def __init__(self, recorded: Recorded) -> None:
        self.name, self.run = recorded.name, recorded.run
        self.claims = {claim.id: claim for claim in recorded.run.claims if not is_lost(claim)}
        self.lost = {claim.id: claim for claim in recorded.run.claims if is_lost(claim)}
        self._tables = {str(claim): rows for claim, rows in recorded.items.groupby("claim", sort=False)}

    def rows(self, claim: str) -> list[ItemRow]:
        return item_rows(self._tables[claim]) if claim in self._tables else []


def merge(
    runs: Sequence[Recorded],
    distrust: Callable[[CrossCheck | None], str],
    unmeasured: Mapping[str, Claim] | None = None,
) -> tuple[Run, list[ItemRow]]:
    """The run of all shards, in the order of their plan, and its items.

    Args:
        distrust: puts into words why a cross-check lets no number of the run be read; empty if it does not
            (`auditkit.report.wording.distrust`).
        unmeasured: claim -> what stands for it where no shard measured it; without one, a missing claim is refused.

    Raises:
        RecordError: another plan, model, setting or baseline, a claim with two results, or one that no shard measured.
    """
    shards = [_Shard(recorded) for recorded in runs]
    first = shards[0].run
    for other in shards[1:]:
        _require_same(shards[0], other)
    owners, absent = _owners(shards), unmeasured or {}
    missing = [claim for claim in first.plan.claims if claim not in owners and claim not in absent]
    if missing:
        raise RecordError(
            f"cannot merge: {len(missing)} of {len(first.plan.claims)} planned claims are in none of these runs "
            f"(first: {missing[0]}); name the run of every shard"
        )
    waivers = _waivers(shards)
    order = list(first.plan.claims)
    lost = {name: claim for shard in shards for name, claim in shard.lost.items() if name not in owners}
    measured = holm(owners[name].claims[name] if name in owners else absent[name] for name in order)
    claims = tuple(waived(claim, waivers) for claim in (*measured, *lost.values()))
    check = _cross_check([shard.run.cross_check for shard in shards])
    untested = {entry: None for shard in shards for entry in shard.run.untested if entry.what != OTHER_SHARDS}
    baseline = first.baseline
    if baseline is not None:
        gone = {name: verdict for name, verdict in baseline.absent.items() if name not in owners}
        looser = tuple(dict.fromkeys(line for s in shards if s.run.baseline for line in s.run.baseline.loosened))
        baseline = msgspec.structs.replace(baseline, absent=gone, loosened=looser)
    run = msgspec.structs.replace(
        first,
        created=min(shard.run.created for shard in shards),
        command=("auditkit", "merge", *(shard.name for shard in shards)),
        items_sha256="",
        model=_model([shard.run.model for shard in shards]),
        baseline=baseline,
        environment=_environment([shard.run.environment for shard in shards]),
        summary=summarize(claims, distrust(check)),
        claims=claims,
        untested=with_untested_changes(untested, claims),
        cross_check=check,
        waivers=settled(waivers, claims),
    )
    return run, [row for name in order if name in owners for row in owners[name].rows(name)]


def _require_same(first: _Shard, other: _Shard) -> None:
    """Refuse two runs that are not shards of one plan.

    Raises:
        RecordError: naming what differs.
    """
    was, now = first.run, other.run
    said = [f"another plan: {line}" for line in differences(was.plan, now.plan)[:3]]
    if not said and was.plan_sha256 != now.plan_sha256:
        said.append("another plan")
    said += [f"another model: {line}" for line in _differing(was.model, now.model)]
    said += [f"another model: {part}" for part in differing_parts(was.model.identity, now.model.identity)]
    if not is_known(was.model, now.model):
        said.append(
            f"whether both measured one model is not known, since {unknown_in_words(was.model, now.model)}"
        )
    devices = [run.model.device.partition(":")[0] for run in (was, now)]
    said += [f"another device: {devices[0]} there, {devices[1]} here"] if devices[0] != devices[1] else []
    said += [f"another environment: {line}" for line in _differing(was.environment, now.environment)]
    said += [f"another auditkit: {line}" for line in _differing(was.tool, now.tool)]
    said += [f"another {name}" for name in ("seed", "profile") if getattr(was, name) != getattr(now, name)]
    digests = [run.baseline.audit_sha256 if run.baseline else None for run in (was, now)]
    if digests[0] != digests[1]:
        said.append("another baseline: record it once and give its name to every shard")
    if {_asked(waiver) for waiver in was.waivers} != {_asked(waiver) for waiver in now.waivers}:
        said.append("other waivers")
    if said:
        raise RecordError(f"cannot merge {first.name} and {other.name}: {'; '.join(said)}")


def _differing(was: Struct, now: Struct) -> list[str]:
    values = [msgspec.structs.asdict(record) for record in (was, now)]
    return [
        f"{name} {str(values[0][name])[:100]} there, {str(values[1][name])[:100]} here"
        for name in values[0]
        if name not in _OWN_TO_A_MACHINE and values[0][name] != values[1][name]
    ]


def _owners(shards: Sequence[_Shard]) -> dict[str, _Shard]:
    """Claim -> the first shard that holds it.

    Raises:
        RecordError: a claim that is not planned, is there twice in a run, or came out differently in another.
    """
    owners: dict[str, _Shard] = {}
    for shard in shards:
        if len(shard.claims) + len(shard.lost) < len(shard.run.claims):
            raise RecordError(f"cannot merge: {shard.name} holds a claim twice")
        for claim in shard.claims.values():
            if claim.id not in shard.run.plan.claims:
                raise RecordError(f"cannot merge: {shard.name} has a result of {claim.id}, which it did not plan")
            owner = owners.setdefault(claim.id, shard)
            if owner is not shard:
                _require_agreement(owner, shard, claim.id)
    return owners


def _require_agreement(one: _Shard, other: _Shard, name: str) -> None:
    mine, theirs = one.claims[name], other.claims[name]
    if _result(mine) == _result(theirs) and sorted(map(str, one.rows(name))) == sorted(map(str, other.rows(name))):
        return
    said = "with other numbers"
    if mine.verdict is not theirs.verdict:
        said = f"as {mine.verdict} and as {theirs.verdict}; --resume FOLDER measures what a run was cut off from"
    raise RecordError(f"cannot merge: claim {name} is in {one.name} and in {other.name}, {said}")


def _result(claim: Claim) -> Claim:
    """What was measured of a claim, without what depends on the other claims of its run or on the machine."""
    return msgspec.structs.replace(alone(claim), family=None, cost=_NOTHING, rerun="", waiver=None, made_with={})


def _asked(waiver: Waiver) -> tuple[str, ...]:
    return waiver.claim, waiver.owner, waiver.reason, waiver.expires


def _waivers(shards: Iterable[_Shard]) -> dict[str, Waiver]:
    """Claim -> waiver as it was before the claims were known; one that had expired in a shard has expired."""
    every = [waiver for shard in shards for waiver in shard.run.waivers]
    expired = {waiver.claim for waiver in every if waiver.state == "expired"}
    return {
        waiver.claim: msgspec.structs.replace(waiver, state="expired" if waiver.claim in expired else "applied")
        for waiver in every
    }


def _model(models: Sequence[ModelInfo]) -> ModelInfo:
    devices = " / ".join(sorted({model.device for model in models}))
    return msgspec.structs.replace(
        models[0], device=devices, parity_max_abs=max(model.parity_max_abs for model in models)
    )


def _environment(machines: Sequence[Environment]) -> Environment:
    return msgspec.structs.replace(
        machines[0],
        cpu=" / ".join(dict.fromkeys(machine.cpu for machine in machines)),
        threads=min(machine.threads for machine in machines),
        workers=sum(machine.workers for machine in machines),
    )


def _cross_check(checks: Sequence[CrossCheck | None]) -> CrossCheck | None:
    """The samples of all shards as one; what disagrees, or else the largest difference, stands for it."""
    made = [check for check in checks if check is not None]
    if not made:
        return None
    worst = max(made, key=lambda check: (check.agrees is False, check.agrees is True, check.largest or 0.0))
    return msgspec.structs.replace(
        worst,
        asked=sum(check.asked for check in made),
        offered=sum(check.offered for check in made),
        measured=sum(check.measured for check in made),
        missing=dict(sum((Counter(check.missing) for check in made), Counter[str]())),
        claims_taken_over=sum(check.claims_taken_over for check in made),
    )
