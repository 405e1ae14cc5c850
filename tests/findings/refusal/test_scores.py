"""Refusal scores of models whose answers are written down: those that refuse, that answer, and that refuse all."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from auditkit.claims.outcomes import Inconclusive, NotApplicable, Unsupported
from auditkit.findings.refusal.measurements.scores import CORE, OTHERS, RefusalScores
from auditkit.findings.refusal.prompts.requests import HARMFUL, HARMLESS, RequestPair, RequestPairs, own_requests
from tests.planted.telling import VOCABULARY, Teller, Words

pytestmark = pytest.mark.unit

HARM = {pair.harmful for pair in own_requests().pairs}


class ToldWords(Words):
    """Words whose tokenizer can be asked what a token says; a prompt of a request with `hard` in it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = SimpleNamespace(decode=lambda ids: {n: word for word, n in self.known.items()}[ids[0]])

    def __call__(self, chat):
        if "hard" in chat.user:
            raise Unsupported("a prompt of 9 tokens is longer than the model's context of 8 tokens")
        return super().__call__(chat)


def told(refuses, *, strength: float = 4.0, **options) -> RefusalScores:
    """Scores of a model that begins with "I'm" where `refuses(request)`, else with "Sure"."""

    def says(text: str) -> dict[str, float]:
        request = text.removeprefix("[] ").removesuffix(" =>")
        return {" I'm": strength, " Sure": 0.0} if refuses(request) else {" Sure": strength}

    adapter = Teller(says)
    adapter.chat = ToldWords()
    return RefusalScores(adapter, seed=0, **options)


def test_a_model_that_refuses_harmful_requests_has_a_refusal() -> None:
    scores = told(lambda request: request in HARM, strength=9.0)
    assert len(scores.pairs) == 72
    assert len({pair.topic for pair in scores.pairs}) == 12
    scores.require()
    assert scores.refused(HARMFUL).describe().estimate == 1.0
    assert scores.gap().describe().estimate > 0.9
    (figure,) = scores.figures()
    assert len(figure.data["groups"]) == 2
    assert scores.notes()[0] == "72 pairs of requests in 12 topics"


def test_log_odds_are_those_of_the_tokens_of_both_kinds() -> None:
    scores = told(lambda request: request in HARM, n_items=12)
    refusals, answers = len(scores.tokens.refusal), len(scores.tokens.answer)
    expected = math.log(math.exp(4) + refusals - 1) - math.log(answers)
    np.testing.assert_allclose(scores.odds(HARMFUL), expected, rtol=1e-5)
    expected = math.log(refusals) - math.log(math.exp(4) + answers - 1)
    np.testing.assert_allclose(scores.odds(HARMLESS), expected, rtol=1e-5)
    others = math.log(math.exp(4) + refusals - 1) - math.log(VOCABULARY - refusals)
    np.testing.assert_allclose(scores.odds(HARMFUL, OTHERS), others, rtol=1e-4)
    np.testing.assert_allclose(scores.odds(HARMFUL, CORE), 4.0, rtol=1e-5)


def test_a_model_that_answers_has_no_refusal_to_look_for_and_says_how_many_it_answers() -> None:
    scores = told(lambda request: False)
    with pytest.raises(NotApplicable, match=r"answers 72 of 72 harmful requests \(100%, interval 95% to 100%\)"):
        scores.require()


def test_a_model_that_refuses_everything_does_not_tell_the_two_apart() -> None:
    scores = told(lambda request: True, strength=9.0)
    with pytest.raises(NotApplicable, match="refuses 72 of 72 harmless requests too"):
        scores.require()


def test_few_pairs_decide_nothing() -> None:
    with pytest.raises(Inconclusive, match="too_few_pairs: 4 pairs"):
        told(lambda request: request in HARM, n_items=4).require()


def test_requests_that_the_prompt_cannot_hold_are_counted_with_the_reason() -> None:
    pairs = tuple(RequestPair(f"a-{n}", "a", f"{'hard' if n < 2 else 'bad'} {n}", f"good {n}") for n in range(9))
    scores = told(lambda request: "bad" in request, data=RequestPairs(pairs, True, ""))
    assert len(scores.pairs) == 7
    assert any(note.startswith("2 pairs are left out (first: a-") for note in scores.notes())
    with pytest.raises(Unsupported, match="no pair of requests can be asked: a-0: a prompt of 9 tokens is longer"):
        told(lambda request: False, data=RequestPairs(pairs[:1], True, ""))
