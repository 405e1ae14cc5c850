"""The shape of arguments: what a function of the engine was given, against what it expects.

Every public function of the engine checks its arguments here before the model runs, so that a site where a list is
meant, a flat list where a nested one is meant, or a NumPy array where a tensor is meant gets one line that says which
argument it was, what was given, and what to give. Values (a layer that the model does not have, a tensor of another
shape) are checked where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from numbers import Integral
from typing import Any

from torch import Tensor

from auditkit.adapters.chat import Prompt

SITES = "a list of sites, such as [mlp.layer(1)]"
PROMPTS = "a list of prompts, such as [model.chat(chat)]"
PAIRS = "a list of PatchPair, such as [pair]"
EDITED = "a dict from names to edits by row, such as {'patched': [[edit]]}"
BY_ROW = "a list with one list of edits for each row, such as [[replace(block_input.layer(2)[0], state)]]"
BY_PROMPT = "a list with one list of edits for each prompt, such as [[project_out(residual.layer(2), r)]]"
TOKENS = "a list with one list of token ids for each prompt, such as [model.chat.encode(' is blue')]"


def given(value: object) -> str:
    """What a value is, in a few words, for an error message."""
    if value is None:
        return "None"
    if is_site(value):
        return f"the site '{value}'"
    site = getattr(value, "site", None)
    if is_site(site):
        return f"the edit at '{site}'"
    if hasattr(value, "at_depth"):
        return f"{value}, which names no layer,"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 30 else value[:30] + '...'}'"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in islice(value, 3))
        return f"a dict with the keys {keys}{', ...' if len(value) > 3 else ''}" if value else "an empty dict"
    if isinstance(value, Prompt):
        return f"a prompt of {len(value)} tokens"
    if isinstance(value, Tensor) or hasattr(value, "__array__"):
        what = "a tensor" if isinstance(value, Tensor) else "a NumPy array" if _is_array(value) else "an array"
        return f"{what} of shape {tuple(getattr(value, 'shape', ()))}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (bool, int, float)):
        return f"the number {value}"
    return f"an object of type {type(value).__name__}"


def is_site(value: object) -> bool:
    """Whether it is a `Site`, whose module checks its own arguments here."""
    return hasattr(value, "layer_indices")


def _is_array(value: object) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray"


def refused(argument: str, value: object, expected: str) -> TypeError:
    """The error for an argument of the wrong shape."""
    return TypeError(f"{argument}: {given(value)} was given; give {expected}")


def one(argument: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """The value is of one of these kinds.

    Raises:
        TypeError: it is not, in one line.
    """
    if not isinstance(value, kinds):
        raise refused(argument, value, expected)


def several(
    argument: str, values: object, kinds: type | tuple[type, ...], expected: str, each: str | None = None
) -> None:
    """The value is a list, a tuple or another sequence of these kinds.

    Args:
        expected: what to give for the whole.
        each: what to give for an element; the same where None.

    Raises:
        TypeError: it is not, in one line that names the first element which is wrong.
    """
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise refused(argument, values, expected)
    for i, value in enumerate(values):
        if not isinstance(value, kinds):
            raise refused(f"{argument}[{i}]", value, each or expected)


def nested(argument: str, rows: object, kinds: type | tuple[type, ...], expected: str, each: str) -> None:
    """The value is a list of lists of these kinds.

    Raises:
        TypeError: it is not, in one line.
    """
    several(argument, rows, object, expected)
    assert isinstance(rows, Sequence)  # checked in the line above
    for i, row in enumerate(rows):
        several(f"{argument}[{i}]", row, kinds, expected, each)


def named(argument: str, values: object, expected: str) -> None:
    """The value is a mapping from names.

    Raises:
        TypeError: it is not, or a name is not a text, in one line.
    """
    one(argument, values, Mapping, expected)
    assert isinstance(values, Mapping)  # checked in the line above
    for name in values:
        one(f"a name in {argument}", name, str, "a text")


def model(value: object) -> None:
    """The value is an opened model, or anything that runs batches of prompts as one does.

    Raises:
        TypeError: it is not, in one line.
    """
    if not hasattr(value, "batch"):
        raise refused("the model", value, "what open_model(...) returned")


def pairs(values: object) -> None:
    """The value is a list of `PatchPair`; anything with a base, a source and answers.

    Raises:
        TypeError: it is not, in one line.
    """
    several("pairs", values, object, PAIRS)
    assert isinstance(values, Sequence)
    for i, pair in enumerate(values):
        if not (hasattr(pair, "base") and hasattr(pair, "source") and hasattr(pair, "answers")):
            raise refused(f"pairs[{i}]", pair, "a PatchPair")


def continuations(values: object) -> None:
    """The value is a list of lists of token ids.

    Raises:
        TypeError: it is not, in one line.
    """
    nested("continuations", values, Integral, TOKENS, "a token id")


def spans(argument: str, value: object) -> None:
    """The value maps names to half-open spans of tokens.

    Raises:
        TypeError: it does not, in one line.
    """
    named(argument, value, "a dict from names to spans, such as {'identity': (2, 5)}")
    assert isinstance(value, Mapping)
    for name, span in value.items():
        if not _is_span(span):
            raise refused(f"{argument}['{name}']", span, "a half-open span of tokens, such as (2, 5)")


def _is_span(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(end, Integral) for end in value)


def position(argument: str, value: object) -> None:
    """The value says where in a prompt.

    Raises:
        TypeError: it does not, in one line.
    """
    span = isinstance(value, tuple) and _is_span(value)
    if isinstance(value, bool) or not (span or isinstance(value, (str, Integral))):
        raise refused(argument, value, "a span's name, an index, or a half-open span such as (2, 5)")


def indices(argument: str, values: object, what: str) -> None:
    """The value is None or a list of indices.

    Raises:
        TypeError: it is not, in one line.
    """
    if values is not None:
        expected = f"a list of {what} counted from 0, such as [0, 3], or None for all"
        several(argument, values, Integral, expected, "an index")


def places(argument: str, values: object) -> None:
    """The value is a collection of (component, layer).

    Raises:
        TypeError: it is not, in one line.
    """
    expected = "a list of (component, layer), such as [(Component.MLP, 1)]"
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)) or is_site(values):
        raise refused(argument, values, expected)
    for value in values:
        if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Integral)):
            raise refused(f"an element of {argument}", value, "(component, layer)")
