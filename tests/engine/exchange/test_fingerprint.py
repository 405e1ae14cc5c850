"""What a measurement is of has one digest in every process, and what differs anywhere has another."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.chat import Prompt
from auditkit.engine.edits import Edited, add, replace
from auditkit.engine.exchange.fingerprint import fingerprint
from auditkit.engine.sites import mlp, residual

pytestmark = pytest.mark.unit

singles = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    singles, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
)


def kinds(value: object) -> object:
    """A value in which what Python calls equal and is not the same (1, 1.0 and True; 0.0 and -0.0) differs."""
    if isinstance(value, dict):
        return "mapping", tuple((kinds(key), kinds(inner)) for key, inner in value.items())
    if isinstance(value, tuple | list):
        return "sequence", tuple(map(kinds, value))
    return type(value).__name__, repr(value)


@given(values, values)
def test_two_values_have_one_digest_exactly_where_they_are_the_same(one: object, other: object) -> None:
    assert fingerprint(copy.deepcopy(one)) == fingerprint(one)
    assert (fingerprint(one) == fingerprint(other)) == (kinds(one) == kinds(other))


@given(values)
def test_what_is_put_together_another_way_has_another_digest(value: object) -> None:
    every = [value, [value], [[value]], [value, value], [[value], value], {"": value}, {"": [value]}]
    assert len({fingerprint(one) for one in every}) == len(every)


def run(seed: int = 0, start: int = 1, text: str = "", strength: float = 1.0) -> Edited:
    direction = torch.randn(8, generator=torch.Generator().manual_seed(seed))
    edits = (add(residual.layer(start), direction), replace(mlp.layer(0)["word"], Prompt(text, (1, 2)), strength))
    return Edited(Prompt("asked", (3, 4)), edits, {"word": (0, start)})


def test_runs_differ_by_whatever_is_edited() -> None:
    every = [run(), run(1), run(0, 2), run(text="else"), run(strength=0.5)]
    assert len({fingerprint(one) for one in every}) == len(every)
    assert fingerprint(run()) == fingerprint(run())


def test_numbers_differ_by_values_shape_and_type_and_not_by_where_they_lie() -> None:
    grid = torch.arange(6.0).reshape(2, 3)
    every = [grid, grid.reshape(3, 2), grid.double(), grid.bfloat16(), grid + 1, grid.T]
    assert len({fingerprint(one) for one in every}) == len(every)
    assert fingerprint(torch.arange(12.0).reshape(2, 6)[:, ::2]) == fingerprint(
        torch.tensor([[0.0, 2, 4], [6, 8, 10]])
    )
    assert fingerprint(np.float32(0.5)) == fingerprint(0.5)
    assert fingerprint(np.arange(3)) == fingerprint(np.arange(6)[::2] // 2)
    assert fingerprint(torch.zeros(0)) != fingerprint(torch.zeros(0, 1))


@pytest.mark.parametrize("value", [object(), lambda: None, {1, 2}, [object()], {"a": iter(())}, Prompt, print])
def test_what_has_no_known_digest_is_refused_and_not_left_out(value: object) -> None:
    with pytest.raises(TypeError, match="no digest is known of"):
        fingerprint(value)


class Colour(Enum):
    RED = 1
    BLUE = 1.0


class Other(Enum):
    RED = 1


@dataclass(frozen=True)
class Point:
    x: int


@dataclass(frozen=True)
class Place:
    x: int


def test_names_of_types_count() -> None:
    assert fingerprint(Colour.RED) != fingerprint(Other.RED)
    assert fingerprint(Point(1)) != fingerprint(Place(1))


def test_another_process_finds_the_same_digest() -> None:
    """Hashes of Python's own differ from process to process."""
    code = (
        "from auditkit.adapters.chat import Prompt; from auditkit.engine.exchange.fingerprint import fingerprint; "
        "print(fingerprint(({'b': 1, 'a': Prompt('x', (1, 2))}, 'text', None, 2.5)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(({"b": 1, "a": Prompt("x", (1, 2))}, "text", None, 2.5))
