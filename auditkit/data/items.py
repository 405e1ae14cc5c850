"""Factual completion items: a question, the start of the answer, and a right and a wrong next word."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Protocol, TypeVar

from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import text_of
from auditkit.data.order import shuffle_key

__all__ = [
    "CompletionItem",
    "DataError",
    "Dropped",
    "TokenCheck",
    "TokenizedItem",
    "check_tokens",
    "completion_items",
    "select",
    "single_token",
]

COLUMNS = ("id", "topic", "question", "start", "right", "wrong")


@dataclass(frozen=True, slots=True)
class CompletionItem:
    """One fact to complete.

    The model sees `question` as the user turn and `start` as the beginning of its own turn. The next token
    is scored: the logit of `right` against the logit of `wrong`, each with one leading space.
    """

    id: str
    topic: str
    question: str
    start: str
    right: str
    wrong: str


@dataclass(frozen=True, slots=True)
class TokenizedItem:
    """An item with the ids of the single tokens " right" and " wrong" in one tokenizer."""

    item: CompletionItem
    right_id: int
    wrong_id: int


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """The items that a tokenizer can score, in the order given, and those it cannot with the reason."""

    kept: tuple[TokenizedItem, ...]
    dropped: tuple[Dropped, ...]


def completion_items(path: Path | None = None) -> tuple[CompletionItem, ...]:
    """The packaged items, or those of a UTF-8 CSV file with the columns of `CompletionItem`.

    Items come in the order of the file; further columns are ignored.

    Raises:
        DataError: a column is missing, a field is empty or has outer spaces, an id appears twice, the right
            answer is also the wrong one, or the file cannot be opened, has no items or is not CSV in UTF-8.
    """
    source = path if path is not None else files("auditkit.data").joinpath("completions.csv")
    items: list[CompletionItem] = []
    line_of_id: dict[str, int] = {}
    for line, fields in _rows(source):
        for column in COLUMNS:
            if not fields[column]:
                raise DataError(f"{source}, line {line}, column {column}: empty field")
            if fields[column] != fields[column].strip():
                raise DataError(f"{source}, line {line}, column {column}: leading or trailing space")
        item = CompletionItem(**fields)
        if item.id in line_of_id:
            raise DataError(
                f"{source}, line {line}, column id: {item.id!r} is already used in line {line_of_id[item.id]}"
            )
        if item.right == item.wrong:
            raise DataError(f"{source}, line {line}, column wrong: {item.wrong!r} is also the right answer")
        line_of_id[item.id] = line
        items.append(item)
    if not items:
        raise DataError(f"{source}, line 1: no items below the header")
    return tuple(items)


def _rows(source: Path | Traversable) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number of each record's last line, and its fields by column; absent fields are empty."""
    reader = csv.DictReader(io.StringIO(text_of(source), newline=""), restval="", strict=True)
    try:
        for column in COLUMNS:
            if column not in (reader.fieldnames or ()):
                raise DataError(f"{source}, line 1, column {column}: missing column")
        for row in reader:
            if None in row:
                raise DataError(f"{source}, line {reader.line_num}: more fields than columns (quote the commas)")
            yield reader.line_num, {column: row[column] for column in COLUMNS}
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: {error}") from error


class Topical(Protocol):
    """What can be spread over topics."""

    @property
    def id(self) -> str: ...

    @property
    def topic(self) -> str: ...


Item = TypeVar("Item", bound=Topical)


def select(items: Iterable[Item], n: int, *, seed: int) -> tuple[Item, ...]:
    """`n` items spread evenly over the topics, in an order fixed by the seed.

    Topic counts differ by at most one as long as no topic runs out. Selections are nested: the first n of a
    larger selection are this selection. The order of `items` has no influence.

    Raises:
        ValueError: n is negative or larger than the number of items.
    """
    by_topic: defaultdict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: shuffle_key(seed, item.id)):
        by_topic[item.topic].append(item)
    supply = sum(map(len, by_topic.values()))
    if not 0 <= n <= supply:
        raise ValueError(f"cannot select {n} items from {supply}")
    topics = sorted(by_topic, key=lambda topic: shuffle_key(seed, topic))
    rounds = max(map(len, by_topic.values()), default=0)
    dealt = [by_topic[topic][i] for i in range(rounds) for topic in topics if i < len(by_topic[topic])]
    return tuple(dealt[:n])


def check_tokens(
    items: Iterable[CompletionItem],
    encode: Callable[[str], Sequence[int]],
    prefix_of: Callable[[CompletionItem], str],
) -> TokenCheck:
    """Keep the items whose two answers are single, different tokens right after the prompt.

    `encode` maps text to token ids and adds no special tokens. `prefix_of` renders the whole prompt up to
    the answer, without the space before it.
    """
    kept: list[TokenizedItem] = []
    dropped: list[Dropped] = []
    for item in items:
        prefix = prefix_of(item)
        right, wrong = (single_token(encode, prefix, f" {answer}") for answer in (item.right, item.wrong))
        if isinstance(right, str) or isinstance(wrong, str):
            dropped.append(Dropped(item.id, right if isinstance(right, str) else str(wrong)))
        elif right == wrong:
            dropped.append(Dropped(item.id, f"' {item.right}' and ' {item.wrong}' are the same token"))
        else:
            kept.append(TokenizedItem(item, right, wrong))
    return TokenCheck(tuple(kept), tuple(dropped))


def single_token(encode: Callable[[str], Sequence[int]], prefix: str, answer: str) -> int | str:
    """Id of the one token that `answer` is right after `prefix`, or in words why it is none."""
    before = list(encode(prefix))
    whole = list(encode(f"{prefix}{answer}"))
    if whole[: len(before)] != before:
        return f"'{answer}' changes the tokens of the prompt before it"
    if len(whole) != len(before) + 1:
        return f"'{answer}' takes {len(whole) - len(before)} tokens, not 1"
    return whole[-1]
