"""The search finds what is planted, within its budget, the same for the same seed, and shrinks it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.adapters import open_model
from auditkit.claims.evidence import gathering, present
from auditkit.claims.outcomes import Inconclusive
from auditkit.engine.continuation.shared_prefix import shared_head
from auditkit.findings.identity_bias import strategies
from auditkit.findings.identity_bias.measurements.worst import SwapDistance
from auditkit.findings.identity_bias.prompts.identities import identities
from auditkit.findings.identity_bias.prompts.items import IdentitySwap, decisions
from auditkit.methods.worst_case import search
from auditkit.pytest_plugin.settings import Settings
from auditkit.record.figures import drawing_of
from tests.planted.telling import Teller

pytestmark = pytest.mark.unit

PAIRS = st.tuples(st.integers(0, 1000), st.text("abc", max_size=6))


def texts(example) -> dict[str, str]:
    return {"number": str(example[0]), "word": example[1]}


def hill(example) -> float:
    """Highest at 700, where a word with a b is worse by 200."""
    return 1000.0 - abs(example[0] - 700) + 200 * ("b" in example[1])


def test_the_search_climbs_to_the_planted_place_within_its_budget(tmp_path) -> None:
    calls = []
    worst = search(PAIRS, lambda e: calls.append(e) or hill(e), texts, budget=300, epsilon=900, database=tmp_path)
    assert len(calls) == worst.evaluations <= 300
    assert worst.searched <= 225
    assert worst.worst[0].score > 1150
    assert [found.score for found in worst.worst] == sorted((f.score for f in worst.worst), reverse=True)
    assert worst.smallest is not None
    assert worst.smallest.score > 900
    assert hill((int(worst.smallest.prompts["number"]), worst.smallest.prompts["word"])) == worst.smallest.score
    assert len(worst.smallest.prompts["word"]) <= 1, "a shorter word does as well, so it was tried"
    assert any(path.is_file() for path in tmp_path.rglob("*")), (
        "the counterexample is kept in the example database"
    )


def test_the_seed_decides_and_the_database_does_not(tmp_path) -> None:
    first, again = (
        search(PAIRS, hill, texts, seed=3, budget=80, epsilon=500, database=tmp_path) for _ in range(2)
    )
    assert first == again
    other = search(PAIRS, hill, texts, seed=4, budget=80, epsilon=500, database=tmp_path)
    assert other.worst != first.worst


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("budget", [1, 2, 7, 40])
def test_the_budget_is_never_exceeded_and_the_worst_is_the_largest_scored(budget: int, seed: int) -> None:
    scored = []
    worst = search(PAIRS, lambda e: scored.append(hill(e)) or scored[-1], texts, budget=budget, seed=seed)
    assert 1 <= len(scored) == worst.evaluations <= budget
    assert worst.worst[0].score == max(scored)
    assert worst.smallest is not None
    assert worst.smallest.score >= max(scored[: worst.searched])


def test_the_claim_compares_the_largest_as_it_is_and_says_that_it_is_a_search(tmp_path) -> None:
    with gathering() as evidence:
        worst = Settings(7, None, {}).worst_case(
            PAIRS, hill, texts, name="pair", budget=60, epsilon=2000, database=tmp_path
        )
        present(worst)
        assert worst.largest() <= 2000
        sentence = f"the worst of {worst.evaluations} {worst.name}s moves the answer by {worst.worst[0].score:.3g}"
        assert evidence.decisions[0].reason == f"{sentence}, which is at or below 2000"
        assert not (worst.largest() <= 10)
    assert worst.seed == 7
    assert "not a proof" in evidence.notes[0]
    table = drawing_of(evidence.figures[0])
    assert table.rows[0][2:] == list(worst.worst[0].prompts.values())
    assert table.rows[-1][0] == "smallest as large"
    (decision, _) = evidence.decisions
    assert decision.effect.exact
    assert decision.effect.estimate == worst.worst[0].score


def test_what_cannot_be_searched_is_refused_in_a_line() -> None:
    with pytest.raises(ValueError, match="at least 1 evaluation, got 0"):
        search(PAIRS, hill, texts, budget=0)
    with pytest.raises(ValueError, match="the score of an example is nan"):
        search(PAIRS, lambda e: float("nan"), texts, budget=5)
    with pytest.raises(Inconclusive, match="no example"):
        search(PAIRS.filter(lambda e: False), hill, texts, budget=5)


def test_a_planted_swap_is_found_among_all_identities_cases_and_roles(tmp_path) -> None:
    """Only old people whose case a strict clerk decides are refused. One search in two meets them."""

    def says(text: str) -> dict[str, float]:
        refused = "is an old person" in text and "strict" in text
        return {" Yes": 12.0 - 24.0 * refused, " No": 12.0}

    distance = SwapDistance(Teller(says))
    swaps = strategies.identity_swaps()
    found = [
        search(swaps, distance, distance.prompts, budget=300, epsilon=0.3, database=tmp_path, seed=seed)
        for seed in range(6)
    ]
    worst = max(found, key=lambda one: one.worst[0].score)
    assert worst.worst[0].score == pytest.approx(0.5, abs=0.01)
    assert worst.smallest is not None
    shown = worst.smallest.prompts
    assert sum("is an old person" in text for text in shown.values()) == 1
    assert all("You are a strict clerk." in text for text in shown.values())


def test_what_the_prompts_of_a_case_begin_with_is_run_once_and_changes_no_distance(tiny_llama) -> None:
    model = open_model(str(tiny_llama))
    case, (one, other, third, fourth) = decisions().kept[0], identities("word")[:4]
    swaps = [IdentitySwap(case, *who, "You are a clerk.") for who in ((one, other), (one, third), (fourth, third))]
    distance, before = SwapDistance(model), model.meter.token_layers
    found = [distance(swap) for swap in swaps]
    prompts = {prompt.ids: prompt for swap in swaps for prompt in map(model.chat, swap.chats("Answer:"))}
    shared, whole = shared_head(list(prompts)), sum(map(len, prompts))
    spent = (model.meter.token_layers - before) / model.layers
    assert len(prompts) == 4
    assert spent < whole - 2 * shared, "once for four prompts"
    for swap, value in zip(swaps, found, strict=True):
        each = [
            model.run(model.batch([model.chat(chat)]))[0].double().softmax(-1) for chat in swap.chats("Answer:")
        ]
        assert value == pytest.approx(float((each[0] - each[1]).abs().sum() / 2), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(swap=strategies.identity_swaps(), chat=strategies.chats(), name=strategies.names())
def test_strategies_draw_what_they_say(swap, chat, name) -> None:
    assert swap.one.attribute == swap.other.attribute
    assert swap.one.group != swap.other.group
    one, other = swap.chats("Answer:")
    assert one.user.replace(swap.one.phrase, "X") == other.user.replace(swap.other.phrase, "X")
    assert one.system == other.system == swap.system
    assert chat.user
    assert name.how == "name"
