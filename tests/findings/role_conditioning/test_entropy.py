"""Entropy of attention against known answers, against eager attention, and what no pattern can do to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from auditkit.adapters.chat import plain
from auditkit.engine.attention import entropy, probabilities
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.findings.role_conditioning.measurements import entropy as role_entropy
from auditkit.findings.role_conditioning.measurements.entropy import (
    FIRST_KEYS,
    LAST_KEYS,
    MAGNITUDE,
    MEASURES,
    PUBLISHED,
    REPAIRED,
    SINK,
    WITH_FIRST,
    by_query,
    even_spread,
    measures,
    published_entropies,
    read,
    repaired_entropies,
    uniform_pattern,
)
from tests.planted.roles import HEADS, open_random

pytestmark = pytest.mark.unit


def random_pattern(length: int, seed: int, sharp: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = sharp * torch.randn(length, length, generator=generator, dtype=torch.float64)
    return scores.masked_fill(~torch.tril(torch.ones(length, length)).bool(), -torch.inf).softmax(-1)


@pytest.mark.parametrize("length", [3, 7, 40])
def test_even_attention_has_the_entropy_of_its_keys(length: int) -> None:
    even = uniform_pattern(length)
    for q, nats in enumerate(entropy(even.double()).tolist()):
        assert nats == pytest.approx(math.log(q + 1), abs=1e-6)
    published = published_entropies(even).mean().item()
    assert published == pytest.approx(even_spread(length), abs=1e-5)  # 1e-8 lies on future keys too
    assert repaired_entropies(even)[2:].tolist() == pytest.approx([1.0] * (length - 2), abs=1e-6)
    assert repaired_entropies(even, 0)[1:].tolist() == pytest.approx([1.0] * (length - 1), abs=1e-6)
    assert even_spread(length) == pytest.approx(sum(math.log(i) for i in range(1, length + 1)) / length)


def test_attention_to_one_key_has_none() -> None:
    one = torch.eye(9)
    assert published_entropies(one).max() < 1e-5 * 9
    assert repaired_entropies(one)[2:].abs().max() == 0


def test_queries_without_two_keys_left_are_not_defined() -> None:
    assert torch.isnan(repaired_entropies(uniform_pattern(5))).tolist() == [True, True, False, False, False]
    assert torch.isnan(repaired_entropies(uniform_pattern(5), 0)).tolist() == [True, False, False, False, False]


@settings(max_examples=40)
@given(st.integers(3, 12), st.integers(0, 10**6), st.floats(0, 0.999))
def test_how_much_rests_on_the_first_token_moves_the_published_entropy_only(
    length: int, seed: int, rest: float
) -> None:
    pattern = random_pattern(length, seed)
    resting = pattern * (1 - rest)
    resting[:, 0] += rest
    before, after = (repaired_entropies(p)[2:] for p in (pattern, resting))
    assert torch.allclose(before, after, atol=1e-9)
    assert ((before >= 0) & (before <= 1 + 1e-12)).all()


@settings(max_examples=30)
@given(st.integers(3, 10), st.integers(0, 10**6))
def test_the_mean_of_a_pattern_is_one_over_its_length(length: int, seed: int) -> None:
    assert random_pattern(length, seed).mean().item() == pytest.approx(1 / length, abs=1e-12)


def test_published_entropy_as_its_formula_says() -> None:
    pattern = random_pattern(6, 1)
    for q in range(6):
        row = [p + 1e-8 for p in pattern[q].tolist()]
        nats = -sum(p / sum(row) * math.log(p / sum(row)) for p in row)
        assert published_entropies(pattern)[q].item() == pytest.approx(nats, abs=1e-12)


def test_measures_as_loops_say() -> None:
    pattern, first = random_pattern(8, 2), 4
    got = dict(zip(MEASURES, measures(pattern, first).tolist(), strict=True))
    a = pattern.tolist()

    def repaired(q: int, left_out: int) -> float:
        row = a[q][left_out : q + 1]
        return -sum(p / sum(row) * math.log(p / sum(row)) for p in row) / math.log(len(row))

    assert got[REPAIRED] == pytest.approx(np.mean([repaired(q, 1) for q in range(4, 8)]))
    assert got[WITH_FIRST] == pytest.approx(np.mean([repaired(q, 0) for q in range(4, 8)]))
    assert got[SINK] == pytest.approx(np.mean([a[q][0] for q in range(4, 8)]))
    assert got[FIRST_KEYS] == pytest.approx(np.mean([sum(a[q][:3]) for q in range(1, 8)]))
    assert got[LAST_KEYS] == pytest.approx(np.mean([sum(a[q][-3:]) for q in range(1, 8)]))
    assert got[MAGNITUDE] == pytest.approx(1 / 8)
    assert got[PUBLISHED] == pytest.approx(published_entropies(pattern).mean().item())


def test_read_is_what_eager_attention_gives_whatever_shares_its_batch() -> None:
    adapter = open_random()
    prompts = [plain(adapter.chat, text) for text in ("w1 w2 w3 w4 w5 w6", "w7 w8", "w3 w9 w1")]
    values = read(adapter, prompts, [1, 1, 1])
    adapter.module.set_attn_implementation("eager")
    for prompt, got in zip(prompts, values, strict=True):
        with torch.no_grad():
            out = adapter.module(torch.tensor([prompt.ids]), output_attentions=True)
        for layer, pattern in enumerate(out.attentions):
            expected = measures(pattern[0].double(), 1).numpy()
            assert np.abs(got[:, layer] - expected).max() < 1e-5


def test_queries_of_one_prompt_average_to_what_is_read() -> None:
    adapter = open_random()
    prompt = plain(adapter.chat, "w1 w2 w3 w4 w5")
    queries, (values,) = by_query(adapter, prompt), read(adapter, [prompt], [1])
    assert queries[REPAIRED].shape == (4, 4, 6)
    for measure, first in ((REPAIRED, 2), (WITH_FIRST, 1), (PUBLISHED, 0), (SINK, 1)):
        mean = queries[measure][..., first:].mean(-1).numpy()
        assert mean == pytest.approx(values[MEASURES.index(measure)], abs=1e-9)


def test_patterns_of_one_batch_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, held = open_random(layers=1), []

    def counting(model, prompts, queries):
        held.append(sum(map(len, prompts)))
        return probabilities(model, prompts, queries)

    monkeypatch.setattr(role_entropy, "probabilities", counting)
    prompts = [plain(adapter.chat, f"w{n % 20} w{n // 20} " + "w1 " * (n % 7 + 1)) for n in range(300)]
    values = read(adapter, prompts, [1] * 300)
    assert values.shape == (300, len(MEASURES), 1, 4)
    assert np.isfinite(values).all()
    assert max(held) <= TOKEN_BUDGET
    assert sum(held) == sum(map(len, prompts))


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once; `most` is the largest count seen."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self.held = 0, dict[int, tuple[StorageWeakRef, int]]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.held = {key: (ref, size) for key, (ref, size) in self.held.items() if not ref.expired()}
        self.most = max(self.most, sum(size for _, size in self.held.values()))
        return out


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_prompts() -> None:
    """Four times as many prompts, the same tensors alive at once, but for the values that are returned."""
    adapter, most = open_random(layers=2), []
    for count in (100, 400):
        prompts = [plain(adapter.chat, "w1 " * 9) for _ in range(count)]
        with Alive() as alive:
            values = read(adapter, prompts, [1] * count)
        most.append(alive.most - values.nbytes)
    patterns = TOKEN_BUDGET // 10 * 2 * HEADS * 10 * 10 * 4  # bytes, of one batch
    assert patterns < most[0] < 10 * patterns
    assert most[1] < 1.05 * most[0]


def test_a_prompt_without_two_keys_is_refused() -> None:
    adapter = open_random()
    with pytest.raises(ValueError, match="has 2 tokens; entropy needs three"):
        read(adapter, [plain(adapter.chat, "w1")], [1])
