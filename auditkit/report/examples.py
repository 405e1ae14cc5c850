"""One measured item with its prompts side by side, and the words marked in which they differ.

The record keeps an item's prompts by condition, and the values of the conditions that the effect is made of. Prompts
that have a value stand beside each other; the others follow, folded. Where prompts differ in marked words alone, the
first stands in full, and "…" in the others for what they share with it: an item may have twenty prompts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from markupsafe import Markup, escape

from auditkit.record.schema import Example

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_BREAK = re.compile(r"(?<!\r)\n")
MOST_PAIRS = 400_000
"""Pairs of words, of the first prompt's differing middle by those of the others, that are compared; where there are
more, the middles are marked as a whole. So many take 0.2 s."""
_SHARED = 24
"""Characters of a part that all prompts share, up to which it is written in each of them."""
_OPEN, _FIRST = 4, 2
"""Where no condition with a value has a prompt: so many are shown together, and of more only the first."""


@dataclass(frozen=True)
class Piece:
    """A part of a prompt."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Side:
    """A condition of an item."""

    condition: str
    value: float | None
    pieces: tuple[Piece, ...] | None
    """The prompt in parts; None: the record holds none for this condition."""

    @property
    def markup(self) -> Markup:
        """The prompt with its differences marked, line breaks as references: the page drops those between elements.

        One after a carriage return stays, since a browser reads the two as one break. One that begins the prompt stands
        twice, since a browser drops the first of a `pre`.
        """
        parts = ((Markup(_BREAK.sub("&#10;", escape(piece.text))), piece.differs) for piece in self.pieces or ())
        said = Markup("").join(
            Markup("<mark>{}</mark>").format(text) if differs else text for text, differs in parts
        )
        return Markup("&#10;") + said if said.startswith("&#10;") else said


@dataclass(frozen=True)
class Shown:
    """An item as the page shows it."""

    sides: tuple[Side, ...]
    """Conditions with a value; where none of them has a prompt, some of the prompts too."""
    others: tuple[Side, ...]
    """Prompts of further conditions."""
    differ: bool
    """Whether some words of the first are marked."""


def shown(example: Example) -> Shown:
    """The prompts of an item: those with a value compared with each other, the further ones with all."""
    with_value = {name: example.prompts[name] for name in example.values if name in example.prompts}
    first = next(iter(with_value or example.prompts), "")
    among_all, measured = _by_condition(example.prompts, first), _by_condition(with_value, first)
    sides = [Side(name, value, measured.get(name)) for name, value in example.values.items()]
    others = [Side(name, None, pieces) for name, pieces in among_all.items() if name not in example.values]
    if not measured and len(sides) + len(others) > _OPEN:
        sides, others = [*sides, *others[:_FIRST]], others[_FIRST:]
    elif not measured:
        sides, others = [*sides, *others], []
    marked = any(piece.differs for side in sides for piece in side.pieces or ())
    return Shown(tuple(sides), tuple(others), marked)


def _by_condition(prompts: dict[str, str], first: str) -> dict[str, tuple[Piece, ...]]:
    """The parts of each prompt; of those that differ from the `first` in marked words alone, what they do not share."""
    parts = dict(zip(prompts, differing(list(prompts.values())), strict=True))
    shared = {tuple(piece.text for piece in pieces if not piece.differs) for pieces in parts.values()}
    if len(shared) != 1 or not any(piece.differs for piece in parts[first]):
        return parts
    return {name: pieces if name == first else _elided(pieces) for name, pieces in parts.items()}


def _elided(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Long parts that all prompts share as "…"."""
    last = len(pieces) - 1
    return tuple(
        piece
        if piece.differs or len(piece.text) <= _SHARED
        else Piece(f"{' ' if place else ''}…{' ' if place < last else ''}", False)
        for place, piece in enumerate(pieces)
    )


def differing(texts: Sequence[str]) -> list[tuple[Piece, ...]]:
    """The parts of each text; those that are not in all of the others are marked. Joined, the parts are the text."""
    words = [_WORD.findall(text) for text in texts]
    if len(set(texts)) < 2:
        return [(Piece(text, False),) if text else () for text in texts]
    start, end = _alike(words)
    middles = [tokens[start : len(tokens) - end] for tokens in words]
    common = _common(middles)
    return [
        _pieces(tokens, [True] * start + kept + [True] * end) for tokens, kept in zip(words, common, strict=True)
    ]


def _alike(words: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many words all texts begin with, and how many further ones they end with."""
    shortest = min(map(len, words))
    start = next((i for i in range(shortest) if len({tokens[i] for tokens in words}) > 1), shortest)
    left = shortest - start
    end = next((i for i in range(left) if len({tokens[-1 - i] for tokens in words}) > 1), left)
    return start, end


def _common(middles: Sequence[Sequence[str]]) -> list[list[bool]]:
    """For each word of each text whether all texts have it there, by the first text."""
    first = middles[0]
    if len(first) * sum(map(len, middles[1:])) > MOST_PAIRS:
        return [[False] * len(tokens) for tokens in middles]
    places = [_places(first, tokens) for tokens in middles]
    everywhere = [i for i in range(len(first)) if all(i in found for found in places)]
    kept = [{found[i] for i in everywhere} for found in places]
    return [[i in own for i in range(len(tokens))] for tokens, own in zip(middles, kept, strict=True)]


def _places(first: Sequence[str], other: Sequence[str]) -> dict[int, int]:
    """Word of the first text -> the same word of the other."""
    blocks = SequenceMatcher(None, first, other, autojunk=False).get_matching_blocks()
    return {block.a + i: block.b + i for block in blocks for i in range(block.size)}


def _pieces(words: Sequence[str], common: Sequence[bool]) -> tuple[Piece, ...]:
    """Neighbours joined; a space between two marked words is marked with them."""
    kept = list(common)
    for i in range(1, len(words) - 1):
        if words[i].isspace() and not kept[i - 1] and not kept[i + 1]:
            kept[i] = False
    pieces: list[Piece] = []
    for word, same in zip(words, kept, strict=True):
        if pieces and pieces[-1].differs is not same:  # as the one before
            pieces[-1] = Piece(pieces[-1].text + word, not same)
        else:
            pieces.append(Piece(word, not same))
    return tuple(pieces)
