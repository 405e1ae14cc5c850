"""Scores of heads: those of transformers' eager attention, read off by their definition."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.outcomes import Unsupported
from auditkit.engine.edits import Edited
from auditkit.findings.induction.measurements.scores import KEYS, readers
from auditkit.findings.induction.prompts import another_order, passages, sequences
from auditkit.methods.sequences import read_sequences
from auditkit.stats.streams import stream
from tests.planted.inducing import Inducing, open_inducing, plant

pytestmark = pytest.mark.unit

N, LENGTH = 12, 13


@torch.no_grad()
def test_scores_and_losses_are_those_of_eager_attention(inducing: HFAdapter) -> None:
    """Every measure is the mean over the queries and keys that its definition names, in attention that transformers
    gives when it is asked for it."""
    plant(inducing, Inducing(noise=0.3))  # all heads attend to something
    made = sequences(inducing.chat, 1, N, LENGTH)
    twin = copy.deepcopy(inducing.module)
    twin.set_attn_implementation("eager")
    for shuffled, prompts, read in zip((False, True), (made.repeated, made.shuffled), readers(made), strict=True):
        got = read_sequences(inducing, [Edited(prompt) for prompt in prompts], read)
        for row, prompt in enumerate(prompts):
            out = twin(torch.tensor([prompt.ids]), output_attentions=True)
            pattern = torch.cat(out.attentions)  # (layer, head, query, key)
            order = made.orders[row] if shuffled else None
            expected = torch.tensor(_scores(pattern.double().numpy(), order))
            torch.testing.assert_close(got.attention[row].double(), expected, rtol=0, atol=1e-5)
            losses = torch.nn.functional.cross_entropy(
                out.logits[0, :-1], torch.tensor(prompt.ids[1:]), reduction="none"
            )
            torch.testing.assert_close(got.losses[row].float(), losses, rtol=0, atol=1e-4)
        late = read_sequences(inducing, [Edited(prompt) for prompt in prompts], read, losses_from=LENGTH).losses
        assert late[:, :LENGTH].isnan().all()
        torch.testing.assert_close(late[:, LENGTH:], got.losses[:, LENGTH:], rtol=0, atol=1e-5)


def test_losses_from_a_position_that_has_none_are_refused(inducing: HFAdapter) -> None:
    made = sequences(inducing.chat, 1, N, LENGTH)
    runs = [Edited(prompt) for prompt in made.repeated]
    for position in (-1, len(runs[0].prompt) - 1):
        with pytest.raises(ValueError, match=f"no loss at position {position}"):
            read_sequences(inducing, runs, readers(made)[0], losses_from=position)


def _scores(pattern: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """(measure, layer, head) by loops over queries and keys; position 0 is the beginning-of-text token."""

    def mean(pairs: list[tuple[int, int]]) -> np.ndarray:
        return np.mean([pattern[:, :, query, key] for query, key in pairs], axis=0)

    second = 1 + LENGTH
    if order is not None:
        distance = mean([(second + i, 1 + i + 1) for i in range(LENGTH - 1)])
        match = mean([(second + i, 1 + token + 1) for i, token in enumerate(order) if token < LENGTH - 1])
        return np.stack([distance, match])
    own = range(LENGTH - 1)
    text = range(3, 1 + 2 * LENGTH)  # from the third random token on
    scores = [
        mean([(second + i, 1 + i + 1) for i in own]),
        mean([(second + i, 1 + i) for i in own]),
        mean([(second + i, 1 + i - 1) for i in own if i]),
        mean([(query, query - 1) for query in text]),
        mean([(query, query - 2) for query in text]),
    ]
    rests = [np.mean(pattern[:, :, key + 4 : second, key] > 0.3, axis=-1) for key in range(KEYS)]
    return np.stack([*scores, *rests])


def test_the_shuffled_control_shares_tokens_and_no_successor() -> None:
    order = another_order(25, stream(3, "order"))
    assert sorted(order) == list(range(25))
    assert not set(np.diff(order)) & {1}
    assert not any(token in (place, place + 1) for place, token in enumerate(order))


def test_no_token_is_in_two_sequences_and_none_is_special(inducing: HFAdapter) -> None:
    made = sequences(inducing.chat, 0)
    assert made.tokens.shape == (16, 25)
    assert len(set(made.tokens.ravel().tolist())) == made.tokens.size
    assert not set(made.tokens.ravel().tolist()) & set(inducing.tokenizer.all_special_ids)
    assert [len(prompt) for prompt in made.repeated + made.shuffled] == [51] * 32
    again = sequences(inducing.chat, 0)
    assert again.repeated == made.repeated
    assert again.shuffled == made.shuffled


@pytest.mark.parametrize(
    ("words", "context", "reason"),
    [
        (200, 128, "the vocabulary has 2"),
        (1300, 40, "a repeated sequence of 51 tokens is longer than the model's context of 40 tokens"),
    ],
)
def test_a_small_vocabulary_or_context_is_refused_in_one_line(words: int, context: int, reason: str) -> None:
    adapter = open_inducing(words=words, context=context)
    with pytest.raises(Unsupported, match=reason) as refused:
        sequences(adapter.chat, 0)
    assert "\n" not in str(refused.value)


def test_a_vocabulary_for_fewer_sequences_gives_as_many_and_says_so() -> None:
    made = sequences(open_inducing(words=300).chat, 0)
    assert 10 <= len(made) < 16
    assert f"tokens for {len(made)} of 16 sequences" in made.note


def test_passages_have_equally_many_tokens_with_and_without_a_beginning(inducing: HFAdapter) -> None:
    read = passages(inducing.chat, 0, 6)
    assert len(read.ids) == 6
    assert {len(prompt) for prompt in read.plain} == {32}
    assert [prompt.ids[1:] for prompt in read.begun] == [prompt.ids for prompt in read.plain]
    assert {prompt.ids[0] for prompt in read.begun} == {inducing.tokenizer.bos_token_id}
