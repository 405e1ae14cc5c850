"""Batches hold similar lengths under a budget, and half as much where memory runs out, with the same results."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.chat import Prompt
from auditkit.engine.batching import batches, in_batches

pytestmark = pytest.mark.unit

LENGTHS = st.lists(st.integers(1, 40), max_size=30)


@given(LENGTHS, st.integers(1, 200))
def test_every_row_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    made = batches(lengths, budget)
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(LENGTHS, st.integers(1, 200), st.integers(1, 6))
def test_all_work_is_done_once_however_small_the_memory(lengths: list[int], budget: int, most: int) -> None:
    done: list[int] = []

    def work(rows: list[int]) -> None:
        if len(rows) > most:
            raise torch.OutOfMemoryError
        done.extend(rows)

    in_batches(work, lengths, "rows", budget)
    assert sorted(done) == list(range(len(lengths)))


def test_the_budget_halves_once_and_stays_there() -> None:
    tried: list[int] = []

    def work(rows: list[int]) -> None:
        tried.append(len(rows))
        if len(rows) > 4:
            raise torch.OutOfMemoryError

    assert in_batches(work, [10] * 16, "rows", 80) == 40
    assert tried == [8, 4, 4, 4, 4]


def test_a_row_that_does_not_fit_alone_is_an_error() -> None:
    def work(rows: list[int]) -> None:
        raise torch.OutOfMemoryError("one row is too much")

    with pytest.raises(torch.OutOfMemoryError, match="one row is too much"):
        in_batches(work, [3, 3], "rows")


def test_other_errors_are_not_swallowed() -> None:
    def work(rows: list[int]) -> None:
        raise RuntimeError("not about memory")

    with pytest.raises(RuntimeError, match="not about memory"):
        in_batches(work, [3, 3], "rows")


def test_logits_of_a_small_device_are_those_of_a_large_one(tiny) -> None:
    """A device with room for two rows gives every prompt the logits that a roomy one gives."""
    prompts = [Prompt("", tuple(range(10, 10 + length))) for length in (3, 9, 5, 7, 4)]

    def logits(room: int) -> torch.Tensor:
        out = torch.full((len(prompts), 400), float("nan"))

        def work(rows: list[int]) -> None:
            if len(rows) > room:
                raise torch.OutOfMemoryError
            got = tiny.run(tiny.batch([prompts[i] for i in rows]))
            out[rows, : got.shape[1]] = got

        in_batches(work, [len(prompt) for prompt in prompts], "prompts")
        return out[:, : tiny.module.config.vocab_size]

    torch.testing.assert_close(logits(2), logits(99), rtol=0, atol=1e-5)
