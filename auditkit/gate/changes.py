"""Changes since a baseline: the same effects of two models or two recorded runs, item by item.

A run keeps what each of its effects averages, item by item. Two runs that asked the same of the same items are then
compared in pairs, long after the models are gone: per item the difference is taken, and its mean has an interval from
the same statistics as every other. Whatever is not the same in both (the claim, data, thresholds, seed, version, an
item's content, an item that only one has) is said, and then nothing is subtracted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import msgspec
import numpy as np
import pandas as pd

from auditkit.claims.changed import judged_changes, one_interval
from auditkit.claims.outcomes import NotAsked
from auditkit.gate.lost import is_lost, loosened, lost_claims
from auditkit.gate.paired import other_content, paired
from auditkit.record.baseline import BASELINE_LABEL, NO_BASELINE, Recorded
from auditkit.record.differences import differences, not_comparable, other_threshold
from auditkit.record.identity import compared_in_words, differences_of, is_known
from auditkit.record.schema import (
    Baseline,
    Change,
    Claim,
    Effect,
    ItemRow,
    ModelInfo,
    Plan,
    Run,
    Untested,
    Verdict,
)
from auditkit.stats.effects.kept import Kept, cross_fitted, read_effects, read_rows
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import CrossFitted
from auditkit.stats.intervals import ALPHA
from auditkit.stats.measurement import Measurement, content_digest
from auditkit.stats.sensitivity import short_on_baseline

_CHANGES = "changes since the baseline"


@dataclass(frozen=True)
class Past:
    """A recorded run, as seen from a run with this plan on this model."""

    recorded: Recorded
    plan: Plan
    model: ModelInfo
    baseline: Baseline | None = None
    """The recorded run that the run's own verdicts are about, where it has one."""

    def why_not(self, claim: str, suite: str, *, chats: bool = True) -> str:
        """Why the claim was not asked in the same way of both; empty if it was.

        Args:
            chats: the claim's prompts are made by the chat template.
        """
        run = self.recorded.run
        if claim not in self._claims:
            return "the baseline holds no such claim"
        return not_comparable(claim, suite, run.plan, run.model, self.plan, self.model, chats=chats)

    def other_code(self, claim: str) -> bool:
        """Whether the claim's statement or code is another than on the baseline."""
        return self.recorded.run.plan.claims.get(claim) != self.plan.claims.get(claim)

    def other_change(self, claim: Claim) -> str:
        """Why the verdict of a claim on a change is not about the change since this recorded run; empty if it is."""
        if self.baseline is None or self.is_own or not judged_changes(claim):
            return ""
        theirs = self.recorded.run.baseline
        if theirs is not None and theirs.audit_sha256 == self.baseline.audit_sha256:
            return ""  # both runs judge the change since one and the same baseline
        return f"the claim judges the change since another baseline, {self.baseline.run}"

    @property
    def is_own(self) -> bool:
        """Whether the run's own verdicts on changes are about the change since this recorded run."""
        return self.baseline is None or self.baseline.audit_sha256 == self.recorded.audit_sha256

    def unreadable(self, claim: str) -> str:
        """Why no number of the claim on the baseline may be read; empty if they may."""
        then = self._claims.get(claim)
        if then is None or then.verdict is not Verdict.ERROR:
            return ""
        return f"an ERROR on the baseline, so no number of it may be read: {then.reason}"

    def claim(self, name: str) -> Claim | None:
        return self._claims.get(name)

    def effects(self, claim: str) -> dict[str, Kept]:
        """Effect -> what was recorded of it for this claim."""
        if claim not in self._effects:
            rows = self._rows.get(claim)
            kept = {} if rows is None else read_effects(rows)
            self._effects[claim] = {
                name: replace(one, estimate=replace(one.estimate, alike=self._alike)) for name, one in kept.items()
            }
        return self._effects[claim]

    def values(self, claim: str) -> str:
        """What the baseline measured for the claim, in words; empty where it has no value that may be read.

        A claim that only asks for a comparison does not apply on a baseline, whose run has none, and has values.
        """
        then = self._claims.get(claim)
        if then is None or then.verdict is Verdict.ERROR:
            return ""
        if then.verdict is Verdict.NOT_APPLICABLE and then.lack != "not asked":
            return ""
        if then.effect is not None and then.effect.estimate is not None:
            return _worded(then.effect)
        means = ((name, kept.estimate.describe()) for name, kept in self.effects(claim).items())
        return next((_worded(effect) for _, effect in means if effect.estimate is not None), "")

    @cached_property
    def _effects(self) -> dict[str, dict[str, Kept]]:
        """What was asked for already: a claim may ask for the past of every layer."""
        return {}

    @cached_property
    def _rows(self) -> dict[str, pd.DataFrame]:
        """Claim -> the values that its effects average; found once, since there may be thousands of claims."""
        items = self.recorded.items
        return {str(claim): rows for claim, rows in items[items["effect"] != ""].groupby("claim", sort=False)}

    @property
    def _alike(self) -> str:
        """What it can mean that no item differs: whether the models do."""
        there, here = self.recorded.run.model, self.model
        if differences_of(there, here):
            models = f"though {compared_in_words(there, here)}: did the change take effect?"
        else:
            itself = ": the model was compared with itself" if is_known(there, here) else ""
            models = f"and {compared_in_words(there, here)}{itself}"
        return f"candidate and baseline have the same value on every item, {models}"

    @cached_property
    def _claims(self) -> dict[str, Claim]:
        return {claim.id: claim for claim in self.recorded.run.claims}


@dataclass(frozen=True)
class Counterpart:
    """What a claim asks for the past of its estimates: `baseline(estimate)` is the same estimate on the baseline.

    The present values are recorded in any case, so that a run without a baseline can be one.

    Attributes:
        past: None where the run has no baseline.
        is_baseline: the run is measured only for others to be compared with it.
    """

    claim: str
    suite: str
    past: Past | None
    is_baseline: bool = False

    @property
    def change_is_judged(self) -> bool:
        """Whether the change between two models is what this run is about, and not its model by itself."""
        return self.past is not None or self.is_baseline

    @property
    def items(self) -> pd.DataFrame | None:
        """What the baseline recorded, item by item; None where the run has no baseline."""
        return None if self.past is None else self.past.recorded.items

    def __call__(self, estimate: Estimate, *, chats: bool = True) -> Estimate:
        """The same estimate on the baseline, for `no_worse_than` and `change_from`.

        What is not comparable comes back as an estimate that decides nothing and says why.

        Args:
            chats: its prompts are made by the chat template. False for plain text: two models whose templates differ
                are then asked the same.

        Raises:
            NotAsked: the run has no baseline.
        """
        estimate.keep_items()
        estimate.keep_effect()
        if self.past is None:
            raise NotAsked(f"{NO_BASELINE} (--baseline); the values are recorded, so this run can be one")
        reason = self.past.why_not(self.claim, self.suite, chats=chats) or self.past.unreadable(self.claim)
        kept = None if reason else self.past.effects(self.claim).get(estimate.name)
        if kept is None:
            return _undecidable(estimate, reason or f"'{estimate.name}' was not measured on the baseline")
        reason = other_content(_digests(estimate.measurement), kept.digests)
        if reason:
            return _undecidable(estimate, reason)
        ids = {str(item): item for item in estimate.measurement.values.index}
        own = kept.estimate.measurement
        index = pd.Index([ids.get(item, item) for item in own.values.index], name="item")
        values, clusters = own.values.set_axis(index), own.clusters.set_axis(index)
        strata = None if own.strata is None else own.strata.set_axis(index)
        measurement = Measurement(own.name, own.unit, values, clusters, strata=strata)
        then = replace(kept.estimate, measurement=measurement)
        return CrossFitted.of(then) if isinstance(estimate, CrossFitted) else then


def judged(claim: Claim, rows: Iterable[ItemRow], past: Past) -> Claim:
    """The claim; where it does not apply to the candidate and the baseline has values for it, as what that means.

    A behaviour that the baseline shows and the candidate does not is lost, and that is a FAIL: otherwise a candidate
    damaged so far that nothing can be asked of it would pass. It stays undecided where the two were recorded in a way
    that shows whether the loss can be chance, and it can be; where the candidate lacks a capability or its test was
    skipped, since that says nothing of a behaviour; and where the two runs asked different things. A claim that a run
    does not ask by design is left as it is, unless its code is another than on the baseline. So is one whose
    sensitivity reference falls short on the baseline too, as under a margin that is wider than the baseline was
    recorded with. Judging twice changes nothing.

    Args:
        rows: the values that the claim's effects average.
    """
    by_design = claim.lack == "not asked" and not past.other_code(claim.id)
    value = past.values(claim.id) if claim.verdict is Verdict.NOT_APPLICABLE and not by_design else ""
    if not value or short_on_baseline(claim):
        return claim
    verdict = Verdict.INCONCLUSIVE
    reason = f"the baseline has values for this claim ({value}), the candidate has none: {claim.reason}"
    why_not = past.why_not(claim.id, claim.suite)
    if why_not:
        reason += f"; whether a behaviour was lost cannot be told, since the two runs differ ({why_not})"
    elif claim.lack in (None, "behaviour"):
        reason = f"the baseline shows this behaviour ({value}), the candidate does not: {claim.reason}"
        chance = _loss_by_chance(*_of_both(claim, rows, past))
        verdict = Verdict.INCONCLUSIVE if chance else Verdict.FAIL
        reason += f"; {chance}" if chance else ""
    return msgspec.structs.replace(claim, verdict=verdict, reason=reason)


def _loss_by_chance(here: Mapping[str, Kept], there: Mapping[str, Kept]) -> str:
    """What says that the loss of a behaviour can be chance; empty where nothing does.

    A share does not apply where the effect that it is a share of touches zero. Whether that effect really became
    smaller is asked of its paired difference, at half of alpha per claim as every FAIL (Bonferroni over the shares).
    """
    shares = [name for name, kept in here.items() if kept.estimate.denominator is not None and name in there]
    changes = []
    for name in shares:
        now, then = (_total(kept[name].estimate) for kept in (here, there))
        if then is None or now is None or other_content(here[name].digests, there[name].digests):
            continue
        change = now.change_from(then, label=BASELINE_LABEL)
        tail, effect = change.tail(0.0), change.describe()
        if not change.refused and tail is not None:
            sign = float(np.sign(then.describe().estimate or 0.0))
            changes.append((tail if sign > 0 else 1 - tail, effect))
    if not changes or any(p * len(changes) <= ALPHA / 2 for p, _ in changes):
        return ""
    return f"its total effect did not become smaller beyond chance ({_worded(changes[0][1])})"


def _total(estimate: Estimate) -> Estimate | None:
    if estimate.denominator is None:
        return None
    return replace(estimate, name="total effect", numerator=estimate.denominator, denominator=None)


def _worded(effect: Effect) -> str:
    span = "" if effect.lower is None or effect.upper is None else f" [{effect.lower:.3g}, {effect.upper:.3g}]"
    unit = "" if effect.unit == "1" else f" {effect.unit}"
    return f"{effect.name}: {effect.estimate:.3g}{span}{unit}"


def compare(
    run: Run,
    rows: Iterable[ItemRow],
    recorded: Recorded,
    elsewhere: Collection[str] = (),
    why: Mapping[str, str] = MappingProxyType({}),
) -> Run:
    """`run` with its baseline, with the change of each claim, and with the claims that were lost since the baseline.

    Args:
        rows: the items of `run`.
        recorded: the run to compare with.
        elsewhere: claims that other shards of the run measure.
        why: claim -> why the run did not measure it, where that is known.
    """
    past = Past(recorded, run.plan, run.model, run.baseline)
    kept: dict[str, list[ItemRow]] = {}
    for row in rows:
        if row.effect:
            kept.setdefault(row.claim, []).append(row)
    claims = tuple(
        msgspec.structs.replace(
            judged(claim, kept.get(claim.id, ()), past), change=change_of(claim, kept.get(claim.id, ()), past)
        )
        for claim in run.claims
        if not is_lost(claim)
    )
    then, here = recorded.run, {claim.id for claim in claims}
    lost = lost_claims(then.claims, {*here, *elsewhere}, past.values, why)
    baseline = Baseline(
        name=recorded.name,
        run=recorded.folder.name,
        created=then.created,
        audit_sha256=recorded.audit_sha256,
        plan_sha256=then.plan_sha256,
        plan_differences=differences(then.plan, run.plan),
        model=then.model,
        summary=then.summary,
        absent={claim.id: claim.verdict for claim in then.claims if claim.id not in here},
        loosened=loosened(run, then),
    )
    untested = with_untested_changes(run.untested, claims)
    return msgspec.structs.replace(run, claims=(*claims, *lost), baseline=baseline, untested=untested)


def with_untested_changes(untested: Iterable[Untested], claims: Iterable[Claim]) -> tuple[Untested, ...]:
    """`untested` with what `claims` say of comparing them, in place of what it said of that before."""
    kept = tuple(entry for entry in untested if entry.what != _CHANGES)
    changes = [claim.change for claim in claims if claim.change is not None]
    without = sum(not change.comparable for change in changes)
    if not without:
        return kept
    reason = f"not comparable for {without} of {len(changes)} claims; each claim says why"
    return (*kept, Untested(what=_CHANGES, reason=reason))


def change_of(claim: Claim, rows: Iterable[ItemRow], past: Past) -> Change:
    """What became of one claim; `rows` are the values that its effects average."""
    then = past.claim(claim.id)
    verdict = then.verdict if then is not None else None
    reason = past.why_not(claim.id, claim.suite) or past.other_change(claim)
    reason = reason or (other_threshold(then, claim) if then is not None else "")
    if reason:
        return Change(verdict=verdict, comparable=False, effects=(), reason=reason)
    unread = past.unreadable(claim.id)
    if claim.verdict is Verdict.ERROR:
        unread = f"an ERROR here, so no number of it may be read: {claim.reason}"
    if unread:
        return Change(verdict=verdict, comparable=True, effects=(), reason=unread)
    here, there = _of_both(claim, rows, past)
    effects, problems, comparable = paired(here, there)
    if not here and not there:
        kept = "exact values and contrasts of rates are not paired"
        problems.append("no effect was measured" if claim.effect is None else kept)
    return Change(
        verdict=verdict,
        comparable=comparable,
        effects=one_interval(effects, claim) if past.is_own else tuple(effects),
        reason="; ".join(problems),
    )


def _of_both(claim: Claim, rows: Iterable[ItemRow], past: Past) -> tuple[dict[str, Kept], dict[str, Kept]]:
    """What the run and the baseline recorded of the claim's effects.

    An effect is cross-fitted in both where one of the two says so: a run that did not judge it recorded its rows only.
    """
    then = past.claim(claim.id)
    compared = (*claim.compared, *(() if then is None else then.compared))
    return cross_fitted(read_rows(rows), compared), cross_fitted(past.effects(claim.id), compared)


def _digests(measurement: Measurement) -> dict[str, str]:
    return {
        str(item): content_digest(label, measurement.prompts.get(item, {}))
        for item, label in zip(measurement.values.index, measurement.labels(), strict=True)
    }


def _undecidable(estimate: Estimate, reason: str) -> Estimate:
    """An estimate without values: a difference from it decides nothing and says why."""
    nothing = np.full_like(estimate.numerator, np.nan)
    return replace(estimate, numerator=nothing, refused=f"not_comparable: {reason}")
