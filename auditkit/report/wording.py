"""The words for verdicts, numbers and comparisons, defined once for every output.

A report that rounds differently in two places, or calls one thing by two names, cannot be checked against
itself. So the page, the Markdown summary and the JUnit file take every word about a number from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from auditkit.claims.changed import became, difference, is_identical
from auditkit.record.baseline import BASELINE_LABEL
from auditkit.record.identity import compared_in_words, has_digest, is_known, model_digest, unknown_in_words
from auditkit.record.needed import needed
from auditkit.record.schema import Claim, CrossCheck, Effect, ModelInfo, Relation, Run, Verdict, Waiver
from auditkit.report.figures.numbers import MINUS as MINUS
from auditkit.report.figures.numbers import MISSING as MISSING
from auditkit.report.figures.numbers import number as number

AT_ONCE = 8
"""Changes of one claim that are shown one by one; a claim about every layer has a hundred, which are summed up."""

WORDS = {verdict: verdict.value.replace("_", " ") for verdict in Verdict}

GLYPHS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_APPLICABLE: "–",
    Verdict.ERROR: "!",
}

MEANINGS = {
    Verdict.PASS: "the whole interval lies on the claimed side of the threshold",
    Verdict.FAIL: "the whole interval lies on the other side",
    Verdict.INCONCLUSIVE: "the interval includes the threshold, or the data do not support an interval",
    Verdict.NOT_APPLICABLE: "the model lacks something that the claim needs, or does not show the behaviour",
    Verdict.ERROR: "a control, a guard or the measurement itself failed; nothing is known",
}

_MOVED = ("higher", "lower", "no change shown", "identical", "no interval")
"""How an effect can have moved since a baseline, in words."""

ATTENTION = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE)

_RELATIONS: dict[Relation, str] = {">=": "≥", ">": ">", "<=": "≤", "<": "<", "within": "within ±"}


def interval(effect: Effect) -> str:
    """ "[0.51, 0.65]", "exact" where there is nothing uncertain, or an em dash where the effect has no interval."""
    if effect.exact:
        return "exact"
    if effect.lower is None and effect.upper is None:
        return MISSING
    return f"[{number(effect.lower)}, {number(effect.upper)}]"


def threshold(effect: Effect) -> str:
    """What the effect is compared with: "≥ 0.3", "within ±0.1"; an em dash where it is only shown."""
    if effect.relation is None or effect.threshold is None:
        return MISSING
    space = "" if effect.relation == "within" else " "
    counts = f", counts from {number(effect.counts_from)}" if effect.counts_from else ""
    return f"{_RELATIONS[effect.relation]}{space}{number(effect.threshold)}{counts}"


def distance(effect: Effect) -> str:
    """The distance of the estimate from its threshold, in half-widths of its interval; a distance of one decides."""
    if effect.relation is None or effect.threshold is None or effect.estimate is None:
        return ""
    if effect.lower is None or effect.upper is None or not effect.upper > effect.lower:
        return ""
    beyond = {
        ">=": effect.estimate - effect.threshold,
        ">": effect.estimate - effect.threshold,
        "<=": effect.threshold - effect.estimate,
        "<": effect.threshold - effect.estimate,
        "within": effect.threshold - abs(effect.estimate),
    }[effect.relation]
    widths = number(round(abs(beyond) / ((effect.upper - effect.lower) / 2), 1))
    times = "" if widths == "1" else f"{widths} of " if widths.startswith("0") else f"{widths} times "
    return f"{'clear of' if beyond > 0 else 'short of'} the threshold by {times}the interval's half-width"


def unit(text: str) -> str:
    """The unit as it follows a number; the dimensionless unit "1" is not written."""
    return "" if text == "1" else text


def effect_text(effect: Effect | None) -> str:
    """ "0.58 [0.51, 0.65] logit": estimate, interval and unit in one line."""
    if effect is None or effect.estimate is None:
        return MISSING
    return " ".join(part for part in (number(effect.estimate), interval(effect), unit(effect.unit)) if part)


def level(effect: Effect) -> str:
    """The level of the effect's interval: "95 %"; an em dash where it has none by nature."""
    if effect.exact:
        return MISSING
    return f"{number(round(100 * (1 - effect.alpha), 10))} %"


def items_needed(effect: Effect) -> str:
    """What would decide: "needs 4 to 11 times the clusters of topic ..."; an em dash where that is not known."""
    return needed(effect) or MISSING


def population(effect: Effect) -> str:
    """How many items stand behind an effect: "n=96, clusters=12", or "n=40, the whole population"."""
    return f"n={effect.n}, the whole population" if effect.exact else f"n={effect.n}, clusters={effect.clusters}"


def family(claim: Claim) -> str:
    """A claim's place in its family; empty where it has none."""
    place = claim.family
    if place is None:
        return ""
    text = f"{place.name}: FAIL corrected by Holm over {number(place.size)} claims"
    text += " of the baseline's family" if place.of_baseline else ""
    if place.p is not None:
        text += f"; p = {number(place.p)} if the claim holds, {number(place.p_adjusted)} corrected"
    if place.alone is not None and place.alone is not claim.verdict:
        text += f"; {WORDS[place.alone]} if judged alone"
    return text


def by_chance(claim: Claim) -> bool:
    """Whether the claim failed alone and is undecided in its family, where that can be chance."""
    alone = claim.family.alone if claim.family is not None else None
    return alone is Verdict.FAIL and claim.verdict is not Verdict.FAIL


def line(effect: Effect) -> str:
    """An effect and its comparison in one line, for a terminal: estimate, interval, threshold, n and power."""
    parts = [f"{effect.name}: {effect_text(effect)}"]
    if effect.relation is not None:
        parts.append(f"to be {threshold(effect)}")
    parts.append(population(effect))
    if effect.mde is not None:
        parts.append(f"minimum detectable effect {number(effect.mde)}")
    if effect.items_range is not None:
        parts.append(items_needed(effect))
    return ", ".join(parts)


def cross_check(check: CrossCheck) -> str:
    """What a cross-check found, in one line for every output."""
    if check.agrees is None:
        text = f"the cross-check through {check.adapter} compared nothing: {check.reason}"
    else:
        text = (
            f"{number(check.measured)} of {number(check.offered)} sites were measured again through {check.adapter}: "
            f"the largest difference is {number(check.largest)} logits at {check.where}, "
            f"and rounding explains up to {number(check.allowed)}"
        )
        if not check.agrees:
            text = f"the two adapters do not agree, so the numbers cannot be trusted: {text}"
    text += "".join(f"; {number(count)} were not measured again: {why}" for why, count in check.missing.items())
    if check.claims_taken_over:
        text += f"; {number(check.claims_taken_over)} claims were measured by an earlier process and not sampled"
    return text


def distrust(check: CrossCheck | None) -> str:
    """Why no number of the run may be read, whatever its claims came to; empty if they may."""
    return cross_check(check) if check is not None and check.agrees is False else ""


def moved(change: Effect) -> str:
    """The direction in which an effect changed since the baseline, by its whole interval."""
    if is_identical(change):
        return "identical"
    if change.lower is None or change.upper is None:
        return "no interval"
    if change.lower > 0:
        return "higher"
    if change.upper < 0:
        return "lower"
    return "no change shown"


def _directions(changes: Sequence[Effect]) -> str:
    """ "2 higher, 1 lower, 40 no change shown"; the words that count nothing are left out."""
    words = [moved(change) for change in changes]
    return ", ".join(f"{words.count(word)} {word}" for word in _MOVED if word in words)


def directions(changes: Sequence[Effect]) -> str:
    """ "of 5 effects 1 higher, 4 no change shown", "all 3 effects are identical"."""
    words = {moved(change) for change in changes}
    if words == {"identical"}:
        return "the one effect is identical" if len(changes) == 1 else f"all {len(changes)} effects are identical"
    return f"of {len(changes)} effects {_directions(changes)}" if changes else "no effect could be subtracted"


def further(changes: Sequence[Effect]) -> str:
    """A sentence that counts the changes of one claim that are not listed."""
    return f"{len(changes)} further effects of this claim: {_directions(changes)}"


def change_of(claim: Claim, effect: Effect | None) -> Effect | None:
    """The change of one effect of a claim since the baseline, where the two could be subtracted."""
    if claim.change is None or effect is None:
        return None
    return next((e for e in claim.change.effects if e.name == f"{effect.name} minus {BASELINE_LABEL}"), None)


def changed(claim: Claim, change: Effect) -> Effect | None:
    """The effect of a claim of which `change` is the difference from the baseline; None where the claim has none."""
    return next((e for e in effects_of(claim) if f"{e.name} minus {BASELINE_LABEL}" == change.name), None)


def lost(claim: Claim) -> bool:
    """Whether a claim was decided on the baseline and is not decided now, or was not measured."""
    return became(claim) in ("is no longer decided", "is gone")


def remarks(claim: Claim) -> list[str]:
    """What the terminal says under a claim besides its effect: changes since the baseline, and a waiver."""
    lines = []
    if claim.change is not None:
        decides = difference(claim.effect) if claim.effect is not None else ""
        effects = [effect for effect in claim.change.effects if effect.name != decides]
        said = [f"{moved(effect)}: {line(effect)}" for effect in effects[:AT_ONCE]]
        said += [further(effects[AT_ONCE:])] if effects[AT_ONCE:] else []
        if claim.change.reason:
            word = "" if claim.change.comparable else "not comparable: "
            said.append(f"{word}{claim.change.reason}")
        if claim.change.verdict not in (None, claim.verdict):
            said.insert(0, f"{WORDS[claim.change.verdict]} on the baseline")
        lines += [f"since baseline: {text}" for text in said]
    if claim.waiver is not None:
        lines.append(waiver(claim.waiver))
    return lines


def waiver(entry: Waiver) -> str:
    """A waiver and its state (applied, expired, not needed, ...), in one line for every output."""
    said = {
        "applied": f"waived until {entry.expires}",
        "expired": f"EXPIRED on {entry.expires} and ignored",
        "not needed": f"not needed (until {entry.expires})",
        "cannot be waived": f"an ERROR cannot be waived (until {entry.expires})",
        "not measured": f"not measured in this run (until {entry.expires})",
    }[entry.state]
    return f"waiver of {entry.claim} by {entry.owner}: {said}; {entry.reason}"


def transitions(run: Run) -> dict[Verdict, dict[Verdict, int]]:
    """Verdict on the baseline -> verdict here -> number of claims that were asked the same in both.

    A verdict that none of them had, or has, is left out.
    """
    pairs = Counter(
        (claim.change.verdict, claim.verdict)
        for claim in run.claims
        if claim.change is not None and claim.change.comparable and claim.change.verdict is not None
    )
    before, now = ({pair[place] for pair in pairs} for place in (0, 1))
    return {was: {here: pairs[was, here] for here in Verdict if here in now} for was in Verdict if was in before}


def changes(run: Run) -> str:
    """The changes of verdicts and effects since the baseline, in one line for every output."""
    assert run.baseline is not None
    changes = [claim.change for claim in run.claims if claim.change is not None]
    effects = [effect for change in changes for effect in change.effects]
    compared = sum(change.comparable for change in changes)
    same = "the same plan" if not run.baseline.plan_differences else "another plan"
    text = (
        f"baseline {run.baseline.run} ({run.baseline.model.name}, {run.baseline.created}, {same}): "
        f"{compared} of {len(run.claims)} claims comparable; {directions(effects)}"
    )
    if run.baseline.absent:
        gone = len(run.baseline.absent)
        text += f"; {gone} of its claims {'was' if gone == 1 else 'were'} not asked here"
    return f"{text}; {compared_in_words(run.baseline.model, run.model)}"


NO_DIGEST = "no digest known"


def weights(model: ModelInfo) -> str:
    """The beginning of the digest of a model's weights, or that none is known."""
    return model.weights_sha256[:12] or NO_DIGEST


def no_identity(model: ModelInfo) -> str:
    """Why the record does not hold all of a model's identity, where it does not."""
    return f"not known: {unknown_in_words(model) if not has_digest(model) else 'the record holds no config'}"


def identity(model: ModelInfo) -> str:
    """The digest of a model's whole identity; empty where the record does not hold all of it."""
    return model_digest(model) if is_known(model) else ""


def looser(run: Run) -> list[str]:
    """One line for each threshold or waiver that makes the gate easier to pass than the baseline was."""
    return [] if run.baseline is None else [f"looser than the baseline: {line}" for line in run.baseline.loosened]


def needing_attention(run: Run) -> list[Claim]:
    """Claims that a reader has to act on: failed, broken, undecided, in this order; then those that are waived."""
    claims = [claim for claim in run.claims if claim.verdict in ATTENTION]
    return sorted(claims, key=lambda claim: (claim.waiver is not None, ATTENTION.index(claim.verdict)))


def suites(run: Run) -> dict[str, list[Claim]]:
    """The run's claims by suite, in the order in which they ran."""
    grouped: dict[str, list[Claim]] = {}
    for claim in run.claims:
        grouped.setdefault(claim.suite, []).append(claim)
    return grouped


def effects_of(claim: Claim) -> list[Effect]:
    """Every effect of a claim: the deciding one, the further comparisons, the controls', the alternatives'."""
    others = [effect for one in claim.alternatives for effect in one.effects]
    controls = (*claim.controls, *(control for one in claim.alternatives for control in one.controls))
    return [*claim.compared, *(c.effect for c in controls if c.effect is not None), *others]
