"""Known answers: an adapter whose persona effect, and the place it acts at, are planted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Batch, Component, Meter, Support
from auditkit.analyses.persona_patching import PersonaPatching
from auditkit.analyses.persona_questions import PersonaQuestions
from auditkit.data.personas import persona_groups
from auditkit.data.prompts import Chat
from auditkit.engine.sites import attention, mlp
from auditkit.record.evidence import gathering
from auditkit.record.schema import ModelInfo
from auditkit.stats.verdicts import Inconclusive, NotApplicable

pytestmark = pytest.mark.unit

VOCABULARY = 8192
LAYERS = 16


class Words:
    """A tokenizer of one token per word, and a chat format of one line per turn."""

    format = "chat template"

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [self.ids.setdefault(word, len(self.ids) + 1) for word in text.split()]

    def render(self, chat: Chat) -> str:
        return f"system: {chat.system} user: {chat.user} assistant: {chat.assistant}"

    def __call__(self, chat: Chat) -> Prompt:
        text = self.render(chat)
        return Prompt(text, tuple(self.encode(text)))


class Planted:
    """Reads a word's valence at its own position in one MLP and carries it to the last token in one attention layer.

    Right answers get `knowledge` logits more than wrong ones, plus `effect` times the valence, plus noise that
    depends on question and persona alone.
    """

    heads, groups, width, layers = 1, 1, 4, LAYERS

    def __init__(
        self, *, mlp_layer: int = 2, effect: float = 0.5, knowledge: float = 3.0, noise: float = 0.2
    ) -> None:
        self.chat, self.meter = Words(), Meter()
        self.mlp_layer, self.effect, self.knowledge, self.noise = mlp_layer, effect, knowledge, noise
        groups = persona_groups()
        self.valence = {p.word: 1.0 for p in groups["positive"]} | {p.word: -1.0 for p in groups["negative"]}
        digest = "0" * 64
        self.info = ModelInfo(
            spec="planted", name="planted", source="test", weights_sha256=digest, tokenizer_sha256=digest,
            chat_template_sha256=None, prompt_format="chat template", family="planted", parameters=0, layers=LAYERS,
            heads=1, dtype="float32", device="cpu", adapter="planted", parity_max_abs=1e-6,
        )  # fmt: skip

    def support(self):
        return {component: Support(True) for component in Component}

    def batch(self, prompts):
        longest = max(map(len, prompts))
        pads = tuple(longest - len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * pad + list(prompt.ids) for pad, prompt in zip(pads, prompts, strict=True)])
        return Batch(ids, (ids > 0).long(), pads)

    def run(self, batch, touches=None):
        def touched(component, layer, value):
            touch = (touches or {}).get((component, layer))
            new = touch(value) if touch else None
            return value if new is None else new

        words = {number: word for word, number in self.chat.ids.items()}
        valence = torch.tensor([[self.valence.get(words.get(int(i), ""), 0.0) for i in row] for row in batch.ids])
        # The noise travels with the embeddings, as everything that a full patch restores must.
        noise = torch.tensor([self._noise([words[int(i)] for i in row if i]) for row in batch.ids])
        stream = torch.zeros(*batch.ids.shape, self.width)
        stream[..., 0], stream[..., 3] = valence, noise[:, None]
        for layer in range(LAYERS):
            stream = touched(Component.BLOCK_INPUT, layer, stream)
            added = torch.zeros_like(stream)
            if layer == 9:
                added[:, -1, 2] = stream[..., 1].sum(dim=1)
            stream = stream + touched(Component.ATTENTION, layer, added)
            added = torch.zeros_like(stream)
            if layer == self.mlp_layer:
                added[..., 1] = stream[..., 0]
            stream = touched(Component.RESIDUAL, layer, stream + touched(Component.MLP, layer, added))
        logits = torch.zeros(len(batch), VOCABULARY)
        rights = {self.chat.encode(item.right)[0] for item in self._items}
        margin = self.knowledge + self.effect * stream[:, -1, 2] + stream[:, -1, 3]
        logits[:, sorted(rights)] = 0.0
        for row, ids in enumerate(batch.ids):
            logits[row, self._right(ids)] = margin[row]
        self.meter.runs += 1
        self.meter.token_layers += int(batch.mask.sum()) * LAYERS
        return logits

    def _noise(self, words: list[str]) -> float:
        digest = hashlib.sha256(" ".join(words).encode()).digest()
        return self.noise * (int.from_bytes(digest[:4], "big") / 2**31 - 1)

    @property
    def _items(self):
        from auditkit.data.items import completion_items

        return completion_items()

    def _right(self, ids: torch.Tensor) -> int:
        words = {number: word for word, number in self.chat.ids.items()}
        text = " ".join(words[int(i)] for i in ids if i)
        if not hasattr(self, "_answers"):
            self._answers = {
                (" ".join(item.question.split()), " ".join(item.start.split())): self.chat.encode(item.right)[0]
                for item in self._items
            }
        question, start = text.split("user: ")[1].split(" assistant: ")
        return self._answers[question, start]


def _patching(adapter, **settings) -> PersonaPatching:
    return PersonaPatching(PersonaQuestions(adapter, **settings))


@pytest.fixture(scope="module")
def patching() -> PersonaPatching:
    return _patching(Planted(), n_items=10, n_pairs=8)


def test_the_planted_shift_is_measured(patching: PersonaPatching) -> None:
    effect = patching.shift("negative", against="positive").describe("<", 0.0)
    assert effect.lower < -1.0 < effect.upper, "valence -1 against +1 at half a logit each"
    assert patching.shift("negative", against="positive") < 0
    assert effect.n == 80
    assert effect.clusters == 8


def test_a_group_that_does_nothing_does_not_pass(patching: PersonaPatching) -> None:
    nonsense = patching.shift("nonsense", against="neutral")
    with pytest.raises(Inconclusive):
        _ = nonsense < 0
    assert nonsense.equals(0.0, within=0.5)


def test_the_band_that_holds_the_planted_layer_recovers_the_effect(patching: PersonaPatching) -> None:
    early = mlp.at_depth(0.06, 0.19)
    recovered, elsewhere = patching.recoveries(early, patching.random_bands(early))
    assert recovered >= 0.8
    assert recovered > elsewhere


def test_random_bands_without_the_planted_layer_recover_nothing(patching: PersonaPatching) -> None:
    early = mlp.at_depth(0.06, 0.19)
    elsewhere = patching.recovery(patching.random_bands(early))
    effect = elsewhere.describe()
    assert effect.estimate == pytest.approx(0.0, abs=1e-6)


def test_identity_position_equals_all_positions_and_another_position_recovers_nothing(patching) -> None:
    layer = mlp.layer(2)
    at_word, everywhere, elsewhere = patching.recoveries(layer["identity"], layer, layer["elsewhere"])
    np.testing.assert_allclose(at_word.numerator, everywhere.numerator, atol=1e-6)
    assert elsewhere.describe().estimate == pytest.approx(0.0, abs=1e-6)


def test_the_carrier_at_the_last_token_recovers_the_same(patching: PersonaPatching) -> None:
    carried, written = patching.recoveries(attention.layer(9)["last"], mlp.layer(2)["identity"])
    np.testing.assert_allclose(carried.numerator, written.numerator, atol=1e-6)


def test_the_layer_curve_peaks_at_the_planted_layer_alone(patching: PersonaPatching) -> None:
    with gathering() as evidence:
        patching.layer_curve(mlp.everywhere(), bands={"early": mlp.at_depth(0.06, 0.19)})
    (figure,) = evidence.figures
    (series,) = figure.data["series"]
    heights = np.array(series["y"])
    assert heights.argmax() == 2
    assert np.abs(np.delete(heights, 2)).max() < 1e-6
    assert figure.data["bands"] == [{"name": "early", "start": 1, "stop": 3}]
    assert figure.data["reference"] == pytest.approx(1.0, abs=0.3)


def test_what_was_measured_once_is_not_measured_again(patching: PersonaPatching) -> None:
    patching.recovery(mlp.layer(2))
    runs = patching.adapter.meter.runs
    patching.recovery(mlp.layer(2))
    assert patching.adapter.meter.runs == runs


def test_the_base_run_of_a_shift_serves_the_patching_too() -> None:
    def runs(*, shift_first: bool) -> int:
        patching = _patching(Planted(), n_items=10, n_pairs=8)
        if shift_first:
            patching.shift("negative", against="positive")
        before = patching.adapter.meter.runs
        patching.recovery(mlp.layer(2))
        return patching.adapter.meter.runs - before

    assert runs(shift_first=True) < runs(shift_first=False)


def test_a_model_without_the_effect_is_not_applicable() -> None:
    patching = _patching(Planted(effect=0.001), n_items=10, n_pairs=8)
    with pytest.raises(NotApplicable, match="does not show the behaviour"):
        _ = patching.recovery(mlp.layer(2)) >= 0.3


def test_a_model_with_the_opposite_effect_is_not_applicable() -> None:
    patching = _patching(Planted(effect=-0.5), n_items=10, n_pairs=8)
    with pytest.raises(NotApplicable, match="opposite sign"):
        _ = patching.recovery(mlp.layer(2)) >= 0.3


def test_a_model_at_chance_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match=r"in \d+ of 60 items; chance plus three standard errors is 0.69"):
        _patching(Planted(knowledge=0.0), n_items=10, n_pairs=8)


def test_the_reader_is_told_what_was_dropped_and_how_prompts_were_made(patching: PersonaPatching) -> None:
    with gathering() as evidence:
        patching.recovery(mlp.layer(2))
    assert "prompts: chat template" in evidence.notes
    assert any("right answer beats the wrong one in 60 of 60 items" in note for note in evidence.notes)


def test_same_seed_same_numbers_other_seed_other_items() -> None:
    def items(seed: int) -> list[str]:
        patching = _patching(Planted(), seed=seed, n_items=10, n_pairs=5)
        return list(patching.shift("negative", against="positive").measurement.values.index)

    assert items(3) == items(3)
    assert items(3) != items(4)


def test_more_items_than_there_are_measures_all_and_says_so() -> None:
    patching = _patching(Planted(), n_items=10_000, n_pairs=5)
    assert any(note.startswith("10000 items were asked for; all") for note in patching.questions._notes)


def test_a_network_too_shallow_for_another_band_is_not_applicable(patching: PersonaPatching) -> None:
    with pytest.raises(NotApplicable, match="hold no other band as wide"):
        patching.random_bands(mlp.layers(0, 9))
