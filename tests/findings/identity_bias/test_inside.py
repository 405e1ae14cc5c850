"""Answers under identities, and the inside of a model with a planted circuit, against references written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_samples

from auditkit.claims.outcomes import Inconclusive
from auditkit.engine.attention import probabilities
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.identity_bias.measurements import mechanism as bias_mechanism
from auditkit.findings.identity_bias.measurements.decisions import Decisions
from auditkit.findings.identity_bias.measurements.mechanism import IdentityMechanism
from auditkit.findings.identity_bias.measurements.personas import ACCURACY, NOBODY, IdentityAnswers
from auditkit.findings.identity_bias.prompts.identities import Identity
from auditkit.findings.identity_bias.prompts.items import DecisionCase
from auditkit.record.figures import drawing_of
from tests.planted.circuits import items

pytestmark = pytest.mark.unit

WORDS = {"valence": ("good", "bad", "blue")}
PEOPLE = [Identity("valence", word, f"a {word} student", "word") for word in ("good", "bad", "blue")]
CASES = [
    DecisionCase(
        f"c{k}", f"d{k}", " ".join(f"word{(7 * k + j) % 40}" for j in range(4 + k % 3)), "word1", "word2 ?"
    )
    for k in range(8)
]


@pytest.fixture(scope="module")
def answers(circuit) -> IdentityAnswers:
    return IdentityAnswers(PersonaQuestions(circuit, items=items(), n_items=16), words=WORDS)


def test_the_identity_with_worse_answers_is_found_and_so_is_who_gains(answers) -> None:
    good, bad, blue = (effect.describe() for effect in answers.shifts())
    assert bad.upper < -0.5
    assert good.lower > 0.5
    assert good.estimate + bad.estimate + blue.estimate == pytest.approx(0, abs=1e-6)


def test_the_table_has_a_row_for_everybody_and_distances_are_shares(answers) -> None:
    rows = {row[0]: row for row in drawing_of(answers.figures()[0]).rows}
    assert list(rows) == ["no persona", "a student", "good", "bad", "blue"]
    assert rows["no persona"][4:] == [None] * 4
    distance = answers.distance()
    assert 0 < distance.describe().estimate < 1
    assert any(text.startswith("validity: ") for text in answers.notes())
    accuracy = answers.against(NOBODY, ACCURACY)
    assert accuracy.measurement.unit == "1"
    assert (np.abs(accuracy.numerator) <= 1).all()


def test_the_distance_is_the_total_variation_from_the_mean(circuit, answers) -> None:
    question = answers.asked[0]
    spread = []
    for word in answers.words:
        prompt = answers.questions.prompt(answers._personas[word], question)
        spread.append(circuit.module(torch.tensor([prompt.ids])).logits[0, -1].softmax(0))
    mean = torch.stack(spread).mean(0)
    expected = np.mean([float((one - mean).abs().sum() / 2) for one in spread])
    assert math.exp(answers.distance().logs.numerator[0]) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def mechanism(circuit) -> IdentityMechanism:
    return IdentityMechanism(Decisions(circuit, cases=CASES, people=PEOPLE, n_items=12), ["valence"])


def test_attention_is_the_share_of_the_identity_without_the_first_token(circuit, mechanism) -> None:
    effect = mechanism.attention()
    prompts = [mechanism.decisions.prompt(case, one) for case in mechanism.cases for one in PEOPLE]
    for value, prompt, read in zip(effect.numerator, prompts, probabilities(circuit, prompts), strict=True):
        words = circuit.tokenizer.convert_ids_to_tokens(list(prompt.ids))
        start = words.index("a", len(words) - 6)
        shares = read[:, :, 0, start : start + 2].sum(-1) / read[:, :, 0, 1:].sum(-1)
        # "student." ends the sentence, so its token is the identity's too
        longer = read[:, :, 0, start : start + 3].sum(-1) / read[:, :, 0, 1:].sum(-1)
        assert min(abs(value - float(s.mean())) for s in (shares, longer)) < 1e-5


def test_the_silhouette_is_that_of_prompts_by_identity_after_their_case(circuit, mechanism) -> None:
    effect = mechanism.separability()
    layers = sorted({round(depth * (circuit.layers - 1)) for depth in (0.5, 0.75, 1.0)})
    prompts = [mechanism.decisions.prompt(case, one) for case in mechanism.cases for one in PEOPLE]
    labels = [one.id for _ in mechanism.cases for one in PEOPLE]
    expected = []
    for layer in layers:
        seen: list[torch.Tensor] = []
        hook = circuit.module.model.layers[layer].register_forward_hook(
            lambda *out, seen=seen: seen.append(out[-1])
        )
        for prompt in prompts:
            circuit.module(torch.tensor([prompt.ids]))
        hook.remove()
        rows = [(hidden := out[0, -1].double()) / hidden.norm() for out in seen]
        points = torch.stack(rows).reshape(len(mechanism.cases), len(PEOPLE), -1)
        points = (points - points.mean(1, keepdim=True)).reshape(len(rows), -1)
        expected.append(silhouette_samples(points.numpy(), labels))
    expected = np.mean(expected, axis=0)
    np.testing.assert_allclose(effect.numerator, expected, atol=1e-3)


def test_the_band_with_the_planted_mlp_carries_the_swap_and_another_place_does_not(mechanism, monkeypatch) -> None:
    monkeypatch.setattr(bias_mechanism, "BAND", (0.1, 0.3))
    own, elsewhere = mechanism.swaps()
    table = own.measurement
    whole = table.condition("swapped") - table.condition("before")
    np.testing.assert_allclose(own.numerator, whole, atol=1e-3)
    assert np.abs(whole).min() > 0.1
    np.testing.assert_allclose(elsewhere.numerator, 0, atol=1e-3)


def test_few_cases_are_undecided(circuit) -> None:
    with pytest.raises(Inconclusive, match="too_few_clusters: 4 cases"):
        IdentityMechanism(Decisions(circuit, cases=CASES[:4], people=PEOPLE), ["valence"])
