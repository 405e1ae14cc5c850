"""Several runs by claim: what answers one question is joined, and nothing that is missing counts as holding."""

from __future__ import annotations

import csv
import io
import random

import msgspec
import pytest

from auditkit.record.schema import CrossCheck, Run, Verdict
from auditkit.report.several import words
from auditkit.report.several.drawing import plane, trend
from auditkit.report.several.matrix import ClaimInRuns, Scorecard, labels, scorecard
from auditkit.report.several.pareto import against
from auditkit.report.several.table import render_table
from auditkit.report.several.terminal import lines

pytestmark = pytest.mark.unit

replace = msgspec.structs.replace


def row_of(card: Scorecard, name: str) -> ClaimInRuns:
    return next(row for row in card.rows if row.id.endswith(name))


def with_settings(run: Run, **settings: str) -> Run:
    return replace(run, plan=replace(run.plan, settings=run.plan.settings | settings))


def test_what_changes_along_the_order_is_said_worst_first(ten: list[Run]) -> None:
    card = scorecard(ten)
    first, everywhere, most, missing = words.sentences(card)
    assert first == (
        "Of 8 claims, 1 stops holding, 1 is no longer shown and 1 goes back and forth from step-0 to step-4500."
    )
    assert everywhere == (
        "By verdict, 1 holds in all 10 runs, 2 hold in some and not in others, 2 are decided in some of the runs only "
        "and 3 are decided in no run."
    )
    assert most == "step-0 holds the most claims (4 of 8), step-3000 the fewest (1)."
    assert missing.startswith("24 of 80 answers are missing")
    said = {change.row.id.split("/")[1]: (change.course, change.sentence) for change in words.changed(card)}
    assert said["early_mlps_carry_the_persona"] == (
        "stops holding",
        "It holds up to step-2500 and does not hold from step-4000 on. The intervals of the first and the last number "
        "do not overlap.",
    )
    assert said["shown_early"] == (
        "is no longer shown",
        "It last holds in step-2500, and in step-4500 it is not applicable.",
    )
    assert said["attention_reads_identity_words"][0] == "goes back and forth"
    text = " ".join(lines(card))
    assert text.startswith(" ".join((first, everywhere)))
    assert max(map(len, lines(card))) <= 100


def test_the_order_reversed_tells_the_opposite(ten: list[Run]) -> None:
    changes = {change.row.id.split("/")[1]: change.course for change in words.changed(scorecard(ten[::-1]))}
    assert changes == {
        "early_mlps_carry_the_persona": "begins to hold",
        "attention_reads_identity_words": "goes back and forth",
    }, "a claim that did not apply before it held has not lost anything"


@pytest.mark.parametrize("verdict", [Verdict.NOT_APPLICABLE, Verdict.ERROR, None])
def test_what_is_missing_never_counts_as_holding(ten: list[Run], verdict: Verdict | None) -> None:
    name = "persona_patching/negative_personas_lower_the_answer"
    last = ten[-1]
    kept = tuple(claim for claim in last.claims if claim.id != name)
    if verdict is not None:
        kept += tuple(replace(claim, verdict=verdict) for claim in last.claims if claim.id == name)
    card = scorecard([*ten[:-1], replace(last, claims=kept)])
    row = row_of(card, "negative_personas_lower_the_answer")
    assert [cell.state for cell in row.cells[:-1]] == ["holds"] * 9
    assert row.cells[-1].state in ("does not apply", "not readable", "not in this run")
    assert row.cells[-1].effect is None, "a number that is recorded there is not shown either"
    assert row.cells[-1].why
    assert "in all 10 runs" not in " ".join(words.sentences(card))
    assert [change.course for change in words.changed(card) if change.row is row] == ["is no longer shown"]


def test_a_run_whose_adapters_disagree_has_no_number(ten: list[Run]) -> None:
    check = CrossCheck(
        adapter="nnterp", asked=1, offered=1, measured=1, missing={}, largest=1.0, where="mlp 1", allowed=0.1,
        agrees=False, reason="",
    )  # fmt: skip
    card = scorecard([*ten[:-1], replace(ten[-1], cross_check=check)])
    assert {row.cells[-1].state for row in card.rows} == {"not readable"}
    assert all(row.cells[-1].effect is None for row in card.rows)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: with_settings(run, items="30"), "items: 192 there, 30 here"),
        (lambda run: with_settings(run, effort="quick"), "effort: standard there, quick here"),
        (lambda run: replace(run, plan=replace(run.plan, data={"persona_patching/a.csv": "1"})), "other data: "),
        (
            lambda run: replace(run, plan=replace(run.plan, claims=dict.fromkeys(run.plan.claims, "00"))),
            "the claim's statement or code, or what its suite shares, has changed",
        ),
        (
            lambda run: replace(
                run,
                claims=tuple(
                    replace(c, effect=replace(c.effect, threshold=9.0)) if c.effect else c for c in run.claims
                ),
            ),
            "other threshold: ",
        ),
    ],
)
def test_what_was_asked_otherwise_is_said_and_not_joined(ten: list[Run], change, reason: str) -> None:
    runs = [*ten[:4], change(ten[4]), *ten[5:]]
    card = scorecard(runs)
    row = row_of(card, "early_mlps_carry_the_persona")
    assert row.cells[4].otherwise.startswith(reason)
    assert [cell.joined for cell in row.cells] == [place != 4 for place in range(10)]
    assert "answers of step-2000 were asked in another way" in " ".join(words.sentences(card))
    drawn = trend(row)
    assert drawn is not None
    assert drawn.line.count("M") == 2, "the line is broken there"
    assert [mark.joined for mark in drawn.marks].count(False) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_model_or_tokenizer_is_still_the_same_claim(ten: list[Run], seed: int) -> None:
    other = with_settings(replace(ten[3], seed=seed), seed=str(seed))
    other = replace(
        other, model=replace(other.model, tokenizer_sha256="7" * 64, parameters=7, rendered_sha256="9")
    )
    card = scorecard([*ten[:3], other, *ten[4:]])
    assert not words.not_joined(card)


def test_a_change_since_another_baseline_is_another_question(ten: list[Run], gated_run: Run) -> None:
    from auditkit.record.schema import Recipe

    def gated(run: Run, digest: str) -> Run:
        first = run.claims[0]
        assert first.effect is not None
        effect = replace(first.effect, recipe=Recipe(kind="change", rows="x"))
        baseline = replace(gated_run.baseline, audit_sha256=digest)
        return replace(run, claims=(replace(first, effect=effect), *run.claims[1:]), baseline=baseline)

    card = scorecard([gated(ten[0], "a"), gated(ten[1], "a"), gated(ten[2], "b")])
    assert [row.id for rows in words.not_joined(card).values() for row in rows] == [card.rows[0].id]


def test_runs_of_one_model_are_told_apart(ten: list[Run]) -> None:
    one = replace(ten[0], seed=1)
    assert labels([one, ten[1]]) == ("step-0", "step-500")
    assert labels([one, replace(one, seed=2)]) == ("seed 1", "seed 2"), "the model is the same"
    assert labels([one, replace(one, seed=2), ten[1]]) == ("step-0, seed 1", "step-0, seed 2", "step-500")
    later = replace(one, created="2026-01-01T00:00:00Z")
    assert labels([one, later])[1] == "seed 1, 2026-01-01T00:00:00Z"
    assert len(set(labels([one, one, one]))) == 3


def test_bias_by_knowledge_says_which_runs_are_beaten_and_which_have_no_point(ten: list[Run]) -> None:
    def without_knowledge(run: Run) -> Run:
        return replace(run, claims=tuple(c for c in run.claims if not c.id.endswith("identities_know_no_less")))

    (found,) = against(scorecard([*ten[:4], without_knowledge(ten[4]), *ten[5:]]))
    assert [runs for runs, _ in found.lacking] == [(4,)]
    assert "knowledge is not measured in this run" in found.lacking[0][1]
    drawn = plane(found.pairs)
    assert drawn is not None
    front = {point.number for point in drawn.points if point.front}
    values = {run + 1: (bias.estimate, known.estimate) for run, bias, known in found.pairs}
    beaten = {
        run
        for run, (bias, known) in values.items()
        for other, (less, more) in values.items()
        if other != run and less <= bias and more >= known
    }
    assert front == values.keys() - beaten
    assert {9, 10} <= beaten, "bias grew and knowledge did not"


def test_a_measure_that_no_check_vouches_for_has_no_point(ten: list[Run]) -> None:
    def doubtful(run: Run) -> Run:
        claims = [
            replace(c, controls=tuple(replace(k, verdict=Verdict.NOT_APPLICABLE) for k in c.controls))
            if c.suite == "identity_bias"
            else c
            for c in run.claims
        ]
        return replace(run, claims=tuple(claims))

    assert against(scorecard([doubtful(run) for run in ten])) == []


def test_the_table_has_a_row_for_each_claim_and_run_and_no_formula(ten: list[Run]) -> None:
    first = replace(ten[0], model=replace(ten[0].model, name="=1+1"))
    table = list(csv.DictReader(io.StringIO(render_table([first, *ten[1:]]))))
    assert len(table) == 80
    assert {entry["label"][:1] for entry in table} == {"'", "s"}
    shown = [entry for entry in table if entry["claim"].endswith("shown_early")]
    assert [entry["estimate"] != "" for entry in shown] == [True] * 6 + [False] * 4
    assert {entry["state"] for entry in shown[6:]} == {"does not apply"}


def test_the_order_of_claims_in_the_records_does_not_matter_for_what_is_said(ten: list[Run]) -> None:
    def shuffled(run: Run, place: int) -> Run:
        claims = list(run.claims)
        random.Random(place).shuffle(claims)
        return replace(run, claims=tuple(claims))

    mixed = scorecard([ten[0], *(shuffled(run, place) for place, run in enumerate(ten[1:]))])
    assert words.sentences(mixed) == words.sentences(scorecard(ten))
