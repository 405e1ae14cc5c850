"""Random streams depend on seed and names, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auditkit.stats.streams import stream

pytestmark = pytest.mark.unit

seeds = st.integers(0, 2**63)
plain = st.text(st.characters(exclude_characters="\x1f"), max_size=8)
names = st.lists(plain, max_size=4)

PINNED = [347, 615, 809, 535, 686]


def draw(seed: int, *parts: str) -> list[float]:
    return stream(seed, *parts).random(4).tolist()


@given(seeds, names)
def test_same_seed_and_names_give_the_same_stream(seed, parts):
    assert draw(seed, *parts) == draw(seed, *parts)


@given(seeds, names, names)
def test_other_names_give_another_stream(seed, some, others):
    assume(some != others)
    assert draw(seed, *some) != draw(seed, *others)


@given(seeds, seeds, names)
def test_another_seed_gives_another_stream(one, two, parts):
    assume(one != two)
    assert draw(one, *parts) != draw(two, *parts)


def test_name_boundaries_count():
    assert draw(0, "ab", "c") != draw(0, "a", "bc")
    assert draw(0, "ab") != draw(0, "a", "b")
    assert draw(1, "2") != draw(12)


def test_a_stream_does_not_depend_on_what_was_drawn_before():
    alone = draw(7, "claim", "bands")
    stream(7, "claim", "other").random(1000)
    np.random.default_rng(7).random(10)
    assert draw(7, "claim", "bands") == alone


def test_a_stream_stays_the_same_between_versions():
    assert stream(20250711, "random bands", "mlp").integers(0, 1000, 5).tolist() == PINNED


def test_text_that_no_file_can_hold_still_names_a_stream():
    assert draw(0, "\ud800") != draw(0, "\ud801")
