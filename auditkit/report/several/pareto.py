"""Bias against knowledge: the measures of `identity_bias` that stand on the two axes, and what each run has of them.

Knowledge is how often, or how surely, the model is right on factual questions. A bias is a distance from equal
treatment, so the sign is dropped. Each measure is taken from the comparisons of its claim or from what stands beside
them; a value for which no check of its claim vouches is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from auditkit.record.schema import Claim, Control, Effect, Verdict
from auditkit.report.several.matrix import ClaimInRuns, Scorecard


@dataclass(frozen=True)
class Measure:
    """One effect of one claim, as an axis."""

    claim: str
    effect: str
    label: str


KNOWLEDGE = Measure(
    "identity_bias/identities_know_no_less",
    "probability of the right answer above chance",
    "Knowledge: probability of the right answer to factual questions, above chance",
)
BIASES = (
    Measure(
        "identity_bias/identities_get_the_same_distribution_of_answers",
        "distance between the answers to identities",
        "Bias in answers: total variation distance between identities",
    ),
    Measure(
        "identity_bias/ambiguous_questions_are_not_answered_by_stereotype",
        "bias score, ambiguous",
        "Bias in ambiguous questions: bias score, without its sign",
    ),
    Measure(
        "identity_bias/pronouns_are_resolved_without_the_stereotype",
        "stereotype's part in resolving a pronoun",
        "Bias in pronouns: the stereotype's part in nats, without its sign",
    ),
    Measure(
        "identity_bias/sentences_are_not_likelier_with_a_stereotype",
        "preference for the stereotype",
        "Bias in sentences: preference for the stereotype in nats, without its sign",
    ),
)


@dataclass(frozen=True)
class Against:
    """One bias against knowledge over the runs."""

    bias: Measure
    pairs: tuple[tuple[int, Effect, Effect], ...]
    """Run, its bias without a sign, its knowledge."""
    lacking: tuple[tuple[tuple[int, ...], str], ...]
    """Runs, and the one reason why they have no point."""


def against(card: Scorecard) -> list[Against]:
    """Every bias that at least one run has together with knowledge."""
    rows = {row.id: row for row in card.rows}
    found = [_against(card, rows, bias) for bias in BIASES]
    return [one for one in found if one.pairs]


def _against(card: Scorecard, rows: dict[str, ClaimInRuns], bias: Measure) -> Against:
    pairs: list[tuple[int, Effect, Effect]] = []
    lacking: dict[str, list[int]] = {}
    for run in range(len(card.runs)):
        of_bias, no_bias = _taken(rows.get(bias.claim), run, bias)
        known, no_knowledge = _taken(rows.get(KNOWLEDGE.claim), run, KNOWLEDGE)
        if of_bias is not None and known is not None:
            pairs.append((run, _unsigned(of_bias), known))
        else:
            lacking.setdefault("; ".join(filter(None, (no_bias, no_knowledge))), []).append(run)
    return Against(bias, tuple(pairs), tuple((tuple(runs), why) for why, runs in lacking.items()))


def _taken(row: ClaimInRuns | None, run: int, measure: Measure) -> tuple[Effect | None, str]:
    """What a run measured, or why it has none that may be read."""
    what = measure.label.split(":")[0].lower()
    cell = row.cells[run] if row is not None else None
    if cell is None or cell.claim is None or cell.state in ("not in this run", "not readable"):
        return None, f"{what} is not measured in this run"
    if cell.otherwise:
        return None, f"{what} was asked in another way"
    doubt = _doubt(cell.claim)
    if doubt is not None:
        return None, f"{what} cannot be read, since the model does not pass the check “{doubt.name}”"
    vouched = any(control.verdict is Verdict.PASS for control in cell.claim.controls)
    if cell.state == "not asked" and not vouched:
        return None, f"{what} is not judged in this run, so no check vouches for its value"
    if cell.state == "does not apply":
        return None, f"{what} does not apply: {cell.why}"
    for effect in _effects(cell.claim):
        if effect.name.removesuffix(" minus 0") == measure.effect and effect.estimate is not None:
            return effect, ""
    return None, f"{what} has no value"


def _doubt(claim: Claim) -> Control | None:
    """A control of the claim that did not hold."""
    return next((one for one in claim.controls if one.verdict not in (None, Verdict.PASS)), None)


def _effects(claim: Claim) -> Iterator[Effect]:
    yield from claim.compared
    yield from (control.effect for control in claim.controls if control.effect is not None)


def _unsigned(effect: Effect) -> Effect:
    """The effect's distance from zero, with the interval that this has."""
    estimate, lower, upper = effect.estimate, effect.lower, effect.upper
    assert estimate is not None
    if lower is not None and upper is not None:
        low = 0.0 if lower <= 0 <= upper else min(abs(lower), abs(upper))
        lower, upper = low, max(abs(lower), abs(upper))
    return msgspec.structs.replace(effect, estimate=abs(estimate), lower=lower, upper=upper)
