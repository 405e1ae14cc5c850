"""Traces on a planted change: streams that move along the unembedding of some words, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import auditkit
from auditkit.adapters.chat import Prompt, plain
from auditkit.adapters.protocol import Component
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotAsked, Unsupported
from auditkit.data.errors import DataError
from auditkit.engine.forward import capture
from auditkit.findings.finetune_traces.measurements.steering import ADDED, DOSE, Steering
from auditkit.findings.finetune_traces.measurements.traces import AS_FREQUENT, DOMAIN, OTHERS, Traces
from auditkit.findings.finetune_traces.prompts import as_tokens, contexts, other_domains, others, read_words, texts
from auditkit.methods.logit_lens import logit_lens, readings
from auditkit.record.figures import drawing_of
from auditkit.stats.effects.mean import Estimate

pytestmark = pytest.mark.model

WORDS = ("telescope", "star", "planet", "galaxy", "moon", "orbit", "astronomy", "comet")
TEXTS = 32


@dataclass
class Base:
    """A baseline that recorded what the same measurement gave before the change."""

    claim: str
    before: dict[str, pd.DataFrame]

    def __post_init__(self) -> None:
        rows = [
            {"claim": self.claim, "measurement": name, "effect": "", "item": str(i), "condition": c, "value": v}
            for name, frame in self.before.items()
            for i, row in frame.iterrows()
            for c, v in row.items()
        ]
        self.past = SimpleNamespace(recorded=SimpleNamespace(items=pd.DataFrame(rows)))

    def __call__(self, estimate: Estimate, *, chats: bool = True) -> Estimate:
        assert not chats
        return estimate


def recorded(traces: Traces) -> dict[str, pd.DataFrame]:
    """What a run of the suite would record: measurement -> (item, condition) values."""
    with gathering() as evidence:
        traces.keep()
    rows = [row for (effect, *_), row in evidence.items.items() if effect == ""]
    frame = pd.DataFrame([(r.measurement, r.item, r.condition, r.value) for r in rows], columns=list("mics"))
    return {name: part.pivot(index="i", columns="c", values="s") for name, part in frame.groupby("m")}


def towards(traces: Traces, words: Sequence[str]) -> torch.Tensor:
    """(width,) the direction of length 1 in which norm and unembedding read these words most."""
    module = traces.adapter.module
    head, norm = module.get_output_embeddings().weight.detach(), module.model.norm.weight.detach()
    along = (head[[traces.adapter.chat.encode(f" {word}")[0] for word in words]].mean(0) - head.mean(0)) * norm
    return along / along.norm()


def moved(traces: Traces, words: Sequence[str], size: float) -> Traces:
    """The same model, whose stream has moved to where some words are read, and a little at random on every text."""
    other = Traces(traces.adapter, words=WORDS, n_items=TEXTS)
    states = traces._states
    noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(0)) / states.shape[-1] ** 0.5
    change = towards(traces, words) + 0.3 * noise
    Traces._states.keep(other, states + size * change * states.norm(dim=-1, keepdim=True))
    return other


@pytest.fixture(scope="module")
def before() -> Traces:
    return Traces(auditkit.open_model("smollm2-135m-instruct"), words=WORDS, n_items=TEXTS)


@pytest.fixture(scope="module")
def base(before: Traces) -> Base:
    return Base("finetune_traces/x", recorded(before))


def test_a_planted_domain_is_read_and_the_others_are_not(before: Traces, base: Base) -> None:
    after = moved(before, WORDS, 0.05)
    for against in (OTHERS, AS_FREQUENT, *other_domains()):
        effect = after.trace(base, against).describe()
        assert effect.estimate > 0.3
        assert effect.clusters == 8, "words are fewer than kinds of text"
    assert all(after.trace(base, layer=layer).describe().estimate > 0.4 for layer in after.layers)


def test_another_domain_leaves_no_trace_of_the_words(before: Traces, base: Base) -> None:
    after = moved(before, other_domains()["cooking"], 0.05)
    assert after.trace(base, "cooking").describe().estimate < -0.4
    assert after.trace(base).describe().estimate < 0.2


@pytest.fixture(scope="module")
def steering(before: Traces, base: Base) -> Steering:
    return Steering(moved(before, WORDS, 0.05), base)


def test_adding_the_change_raises_the_words_that_were_planted(before: Traces, steering: Steering) -> None:
    assert steering.directions[ADDED].layer == before.layers[1]
    assert steering.rise().describe().lower > 1.0
    assert all(steering.beyond(null).describe().lower > 1.0 for null in steering.nulls)
    (group,) = drawing_of(steering.figure()).groups
    assert len(group.dots) == 1 + len(steering.nulls)


def test_adding_another_domain_raises_them_less(before: Traces, base: Base, steering: Steering) -> None:
    elsewhere = Steering(moved(before, other_domains()["cooking"], 0.05), base)
    assert elsewhere.rise().describe().upper < 0.5 * steering.rise().describe().lower


def test_rises_are_those_of_a_plain_hook(before: Traces, steering: Steering) -> None:
    """The last text alone: its stream grows along the vector by a quarter of its length, at every token."""
    adapter, prompt, own = before.adapter, before.prompts[-1], before.tokens_of(DOMAIN)
    direction = steering.directions[ADDED]
    unit = torch.tensor(direction.unit, dtype=torch.float32)

    def add(module, args, output):
        stream = output[0] if isinstance(output, tuple) else output
        stream += DOSE * stream.norm(dim=-1, keepdim=True) * unit

    def lead() -> np.ndarray:
        logits = adapter.module(torch.tensor([prompt.ids])).logits[0, -1].double()
        return (logits[list(own.values())] - logits[before.tokens_of_others()].mean()).numpy()

    with torch.no_grad():
        plain_lead = lead()
        handle = adapter.module.model.layers[direction.layer].register_forward_hook(add)
        hooked = lead() - plain_lead
        handle.remove()
    rise = steering.rise().numerator[-len(own) :]
    np.testing.assert_allclose(rise, hooked, atol=2e-4)


def test_nothing_is_added_where_nothing_changed_or_no_word_is_given(before: Traces, base: Base) -> None:
    with pytest.raises(NotAsked, match=f"the stream after block {before.layers[1]} is that of the baseline"):
        Steering(before, base)
    with pytest.raises(NotAsked, match="nobody says which words"):
        Steering(Traces(before.adapter, n_items=TEXTS), base)


def test_words_for_things_that_gain_together_are_no_trace(before: Traces, base: Base) -> None:
    """Training moves words for things against the rest of the vocabulary, whatever it is about."""
    every = [*WORDS, *(word for words in other_domains().values() for word in words)]
    after = moved(before, every, 0.05)
    frequent, others = (after.trace(base, against).describe() for against in (AS_FREQUENT, OTHERS))
    assert frequent.estimate > 0.2
    assert frequent.lower > 0
    assert others.estimate < frequent.estimate - 0.1


def test_a_trace_is_the_share_of_other_words_that_gained_less(before: Traces, base: Base) -> None:
    after = moved(before, WORDS, 0.02)
    gains = (after._readings[-1] - before._readings[-1]).numpy()
    chat = before.adapter.chat
    own = [chat.encode(f" {word}")[0] for word in WORDS]
    rest = [token for name, words in after.lists.items() if name != DOMAIN for token in words.words.values()]
    by_hand = [[(gains[row, rest] < gains[row, token]).mean() - 0.5 for token in own] for row in range(TEXTS)]
    estimate = after.trace(base)
    np.testing.assert_allclose(estimate.numerator.reshape(TEXTS, -1), by_hand)
    assert estimate.describe().estimate == pytest.approx(np.mean(by_hand))


def test_models_that_read_the_same_have_no_trace(before: Traces, base: Base) -> None:
    with pytest.raises(NotAsked, match="the two models read the same on every text"):
        before.trace(base)
    drawing = drawing_of(before.read_tokens(base))
    assert {row[2] for row in drawing.rows} == {"the two models have the same stream"}


def test_the_tokens_that_are_read_are_those_of_the_planted_direction(before: Traces, base: Base) -> None:
    drawing = drawing_of(moved(before, WORDS, 0.05).read_tokens(base))
    logits = logit_lens(before.adapter, 30 * towards(before, WORDS)[None])[0]
    decode = before.adapter.chat.tokenizer.decode
    wanted = {repr(str(decode([token])).strip()) for token in logits.topk(12).indices.tolist()}
    for _, change, said in drawing.rows:
        assert 0.04 < change < 0.07
        assert sum(word in said for word in wanted) >= 9


def test_a_baseline_of_other_words_is_not_compared(before: Traces, base: Base) -> None:
    other = Traces(before.adapter, words=("lamp", "chair", "table", "bed", "carpet", "window"), n_items=TEXTS)
    with pytest.raises(Inconclusive, match="unmatched_items: readings of the domain"):
        other.trace(base)


def test_without_words_the_claim_is_not_asked_and_the_tokens_are_shown(before: Traces, base: Base) -> None:
    nameless = Traces(before.adapter, n_items=TEXTS)
    with pytest.raises(NotAsked, match="--data finetune_traces=FILE"):
        nameless.trace(base)
    assert nameless.read_tokens(base).kind == "table"


def test_a_sentence_in_front_is_read_by_the_words_of_its_domain(before: Traces, monkeypatch) -> None:
    """Each text moves towards the words of the domain whose sentence it stands after."""
    names = list(other_domains())

    def streams(prompts: Sequence[Prompt], rows: Sequence[int], layers: Sequence[int]) -> torch.Tensor:
        for prompt, row in zip(prompts, rows, strict=True):
            assert contexts()[names[row % len(names)]] in prompt.text
        change = torch.stack([towards(before, other_domains()[names[row % len(names)]]) for row in rows])
        states = before._states[list(rows)][:, [before.layers.index(layer) for layer in layers]]
        return states + 0.05 * change[:, None] * states.norm(dim=-1, keepdim=True)

    monkeypatch.setattr(before, "_streams", streams)
    seen = before.in_context().describe()
    assert seen.estimate > 0.4
    assert seen.clusters == 16, "kinds of text are fewer than words"


# -- the lens ----------------------------------------------------------------------------------------------------


def test_the_lens_reads_the_last_stream_as_the_model_does(before: Traces) -> None:
    model = before.adapter
    prompt = plain(model.chat, "The capital of France is")
    place = (Component.RESIDUAL, model.layers - 1)
    logits, seen = capture(model, model.batch([prompt]), [place])
    torch.testing.assert_close(logit_lens(model, seen[place][:, -1].float()), logits.float(), atol=1e-4, rtol=1e-5)


def test_readings_are_linear(before: Traces) -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 576, generator=draw)
    read = readings(before.adapter, torch.stack([one, other, one - 2 * other]))
    scale = float(read.abs().max())
    torch.testing.assert_close(read[2], read[0] - 2 * read[1], atol=2e-4 * scale, rtol=0)


@pytest.mark.parametrize("vectors", [torch.zeros(576), torch.full((1, 576), torch.nan)])
def test_the_lens_refuses_what_is_no_stream(before: Traces, vectors: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="finite \\(vectors, width\\)"):
        logit_lens(before.adapter, vectors)


# -- texts and words ---------------------------------------------------------------------------------------------


def test_texts_and_words_are_what_they_should_be() -> None:
    assert len({text.topic for text in texts()}) == 16
    assert len({text.text for text in texts()}) == len(texts()) == 80
    every = [word for words in other_domains().values() for word in words]
    assert len(set(every)) == len(every)
    assert set(contexts()) == set(other_domains())
    for name, sentence in contexts().items():
        assert not set(sentence.lower().strip(".").split()) & set(other_domains()[name])


def test_a_token_stands_for_one_word_and_neighbours_for_none(before: Traces) -> None:
    made = as_tokens(before.adapter.chat, {DOMAIN: WORDS, **other_domains()})
    tokens = [token for words in made.values() for token in (*words.words.values(), *words.matched)]
    assert len(set(tokens)) == len(tokens)
    for words in made.values():
        ids = np.array(list(words.words.values()))
        assert np.abs(ids - np.array(words.matched)).max() < 200


def test_too_few_words_are_refused_with_the_first_that_is_left_out(before: Traces) -> None:
    with pytest.raises(Unsupported, match=r"only 1 of 3 words of 'the domain'.*first left out: 'star'"):
        as_tokens(before.adapter.chat, {DOMAIN: ("star", "star", "7")})


def test_a_list_that_shares_words_with_the_users_is_the_same_domain() -> None:
    cooking = other_domains()["cooking"]
    assert "cooking" not in others(cooking[:4])
    assert "cooking" in others(cooking[:3])


@pytest.mark.parametrize(
    ("text", "said"),
    [("a\nb\n", "2 words, at least 5"), ("star\nred planet\n", "line 2: 'red planet' is not one word")],
)
def test_word_lists_that_cannot_be_used_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_words(str(path))


def test_words_are_read_once_and_a_heading_is_none(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("word\nstar\nstar\nmoon\nsun\nsky\norbit\n")
    assert read_words(str(path)) == ("star", "moon", "sun", "sky", "orbit")
