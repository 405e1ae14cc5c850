"""Sequences of random tokens that repeat, the same tokens in another order, and passages of ordinary text.

A *repeated* sequence is `x x`: the first-copy tokens x_0 ... x_{L-1} are all different, and the second copy has them
again in the same order. Its *shuffled* control is `x y`, where y has the same tokens in another order: every token
occurs once again, as often as in the repeated sequence, but what followed it before says nothing of what follows it
now. In both, the tokenizer's beginning-of-text token comes first where it has one.

No token occurs in two sequences, so that sequences are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditkit.adapters.chat import ChatEncoder, Prompt, require_room
from auditkit.claims.outcomes import Unsupported
from auditkit.data.errors import DataError
from auditkit.data.files import toml_of
from auditkit.data.order import shuffle_key
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.streams import stream

TOKENS = 25
"""Different tokens of a sequence, as in the published evaluation of heads."""
SEQUENCES = 16
"""By default: eight to find heads on and eight to confirm them on; see docs/decisions/induction.md."""
LEAST = 2 * MIN_CLUSTERS
"""Sequences below which heads cannot be found on one half and confirmed on the other."""
WINDOW = 32
"""Tokens of a passage that are read."""


@dataclass(frozen=True)
class Sequences:
    """Repeated sequences of one tokenizer, each with its shuffled control.

    Attributes:
        tokens: (sequence, TOKENS) ids of the first copies.
        orders: (sequence, TOKENS) which token of the first copy stands at each place of the shuffled second copy.
        start: position of the first random token: 1 behind a beginning-of-text token, else 0.
        repeated: every sequence with its tokens twice in the same order.
        shuffled: every sequence with its tokens a second time in another order.
        wanted: how many sequences were asked for.
    """

    tokens: NDArray[np.intp]
    orders: NDArray[np.intp]
    start: int
    repeated: tuple[Prompt, ...]
    shuffled: tuple[Prompt, ...]
    wanted: int

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens of a copy."""
        return int(self.tokens.shape[1])

    @property
    def ids(self) -> list[str]:
        """Item ids, in order."""
        return [f"sequence {number}" for number in range(len(self))]

    @property
    def note(self) -> str:
        """What was read, and whether the vocabulary has too few tokens for as many sequences as were asked for."""
        begun = "after the beginning-of-text token" if self.start else "without a beginning-of-text token"
        fewer = (
            f"; the vocabulary has tokens for {len(self)} of {self.wanted} sequences"
            if len(self) < self.wanted
            else ""
        )
        return f"{len(self)} sequences of {self.length} different random tokens, {begun}{fewer}"


def sequences(chat: ChatEncoder, seed: int, n: int = SEQUENCES, length: int = TOKENS) -> Sequences:
    """Sequences of random ordinary tokens of this tokenizer: no special or added token, and no part of a character.

    Raises:
        Unsupported: the vocabulary has too few such tokens, or the model's context does not hold two copies.
    """
    first = beginning(chat)
    require_room(len(first) + 2 * length, chat.context, "a repeated sequence of")
    drawn = _ordinary(chat, seed, n * length)
    fit = len(drawn) // length
    if fit < min(n, LEAST):
        raise Unsupported(
            f"the vocabulary has {len(drawn)} usable tokens, and {min(n, LEAST)} sequences of {length} tokens need "
            f"{min(n, LEAST) * length}"
        )
    rows = min(n, fit)
    tokens = np.array(drawn[: rows * length], dtype=np.intp).reshape(rows, length)
    orders = np.stack([another_order(length, stream(seed, "order", str(row))) for row in range(rows)])
    repeated, shuffled = (
        tuple(_prompt(chat, (*first, *row)) for row in np.hstack([tokens, second]).tolist())
        for second in (tokens, np.take_along_axis(tokens, orders, 1))
    )
    return Sequences(tokens, orders, len(first), repeated, shuffled, n)


def _prompt(chat: ChatEncoder, ids: tuple[int, ...]) -> Prompt:
    return Prompt(str(chat.tokenizer.decode(list(ids))), ids)


def beginning(chat: ChatEncoder) -> tuple[int, ...]:
    """The id of the tokenizer's beginning-of-text token; none where it has none."""
    first = getattr(chat.tokenizer, "bos_token_id", None)
    return () if first is None else (int(first),)


def another_order(length: int, draw: np.random.Generator) -> NDArray[np.intp]:
    """A random order in which no token has its old successor, and none stands at its own place or one further on.

    So the key that a head meets at a fixed distance never is the token itself or the one that followed it.
    """
    places = np.arange(length)
    while True:
        order: NDArray[np.intp] = draw.permutation(length)
        if not ((order == places) | (order == places + 1)).any() and not (np.diff(order) == 1).any():
            return order


def _ordinary(chat: ChatEncoder, seed: int, most: int) -> list[int]:
    """Ids of ordinary tokens in random order, as many as are wanted and there are."""
    tokenizer = chat.tokenizer
    left_out = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", ())}
    ids = sorted({int(token) for token in tokenizer.get_vocab().values()} - left_out)
    found: list[int] = []
    for place in stream(seed, "random tokens").permutation(len(ids)):
        if len(found) == most:
            break
        text = str(tokenizer.decode([ids[place]]))
        if text.strip() and "�" not in text:
            found.append(ids[place])
    return found


@dataclass(frozen=True)
class Passages:
    """Ordinary text, cut to equally many tokens.

    Attributes:
        ids: item id of each passage, its subject.
        plain: the passages alone.
        begun: the same after the beginning-of-text token; empty where the tokenizer has none.
    """

    ids: tuple[str, ...]
    plain: tuple[Prompt, ...]
    begun: tuple[Prompt, ...]


def passages(chat: ChatEncoder, seed: int, n: int | None = None, path: Path | None = None) -> Passages:
    """The packaged passages, or those of a TOML file with a text for every subject under `[passages]`.

    Args:
        n: how many, chosen by the seed; all where None.

    Raises:
        DataError: a file that cannot be read, or has no text under `[passages]`.
        Unsupported: the model's context, or a passage in this tokenizer, is shorter than `WINDOW` tokens.
    """
    source = files("auditkit.findings.induction").joinpath("data", "passages.toml") if path is None else path
    table = toml_of(source).get("passages")
    if not isinstance(table, dict) or not table or not all(isinstance(text, str) for text in table.values()):
        raise DataError(f"{source}: a text for every subject is needed under [passages]")
    names = sorted(table, key=lambda name: shuffle_key(seed, name))[:n]
    first = beginning(chat)
    require_room(len(first) + WINDOW, chat.context, "a passage of")
    rows = {name: tuple(chat.encode(table[name]))[:WINDOW] for name in names}
    if short := next((name for name, row in rows.items() if len(row) < WINDOW), None):
        raise Unsupported(
            f"the passage '{short}' has {len(rows[short])} tokens in this tokenizer, {WINDOW} are needed"
        )
    plain = tuple(_prompt(chat, row) for row in rows.values())
    begun = tuple(Prompt(prompt.text, (*first, *prompt.ids)) for prompt in plain) if first else ()
    return Passages(tuple(names), plain, begun)
