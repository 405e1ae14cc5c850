"""Prompts of several categories, matched in their number of tokens.

Entropy of attention grows with the number of keys, so prompts of unequal length differ in it whatever they say. Every
comparison here is between prompts with the same number of tokens: the four of a set, or prompts of equal length from
several lists. Prompts that have no match under a tokenizer are left out, and a note counts them.

Heads that contribute nothing put their attention on the first token (an attention sink), so the first token must be of
one kind in all model families: plain text always begins with the tokenizer's own beginning-of-text token or, where it
has none, with another special token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import pandas as pd

from auditkit.adapters.chat import ChatEncoder, Prompt, plain
from auditkit.claims.outcomes import Unsupported
from auditkit.data.order import shuffle_key
from auditkit.data.prompts import Chat
from auditkit.findings.role_conditioning.prompts.sets import CATEGORIES, RoleSet

PLAIN, CHAT = FORMATS = ("plain text", "chat template")
FRAME = "frame"
"""Cluster factor: what sets share, their grammar."""


@dataclass(frozen=True)
class Matched:
    """Prompts by category, one of each per item and all of an item equally long.

    Attributes:
        format: one of `FORMATS`.
        table: (item x factor) cluster labels.
        prompts: category -> one prompt per item.
        firsts: per item the position of the first token that is not the format's own.
        left_out: a sentence that counts the prompts without a match; empty if there is none.
        every: category -> all prompts, matched or not, each with its cluster.
    """

    format: str
    table: pd.DataFrame
    prompts: Mapping[str, tuple[Prompt, ...]]
    firsts: tuple[int, ...]
    left_out: str = ""
    every: Mapping[str, tuple[tuple[Prompt, str], ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each item's prompts."""
        return tuple(len(prompt) for prompt in next(iter(self.prompts.values())))

    def texts(self) -> dict[str, dict[str, str]]:
        """Item -> category -> text of the prompt."""
        return {
            str(item): {category: prompts[row].text for category, prompts in self.prompts.items()}
            for row, item in enumerate(self.table.index)
        }

    def only(self, rows: Sequence[int]) -> Matched:
        """The items in these rows."""
        return Matched(
            self.format,
            self.table.iloc[list(rows)],
            {category: tuple(prompts[i] for i in rows) for category, prompts in self.prompts.items()},
            tuple(self.firsts[i] for i in rows),
            self.left_out,
            self.every,
        )


def writer(chat: ChatEncoder, format: str) -> Callable[[str], Prompt]:
    """Text -> prompt, in one of `FORMATS`.

    Raises:
        NotApplicable: a chat template is asked for and the model has none.
    """
    if format == PLAIN:
        return lambda text: plain(chat, text)
    if chat.template is None:
        raise Unsupported("the model has no chat template")
    return lambda text: chat(Chat(user=text))


def first_own(write: Callable[[str], Prompt], prompt: Prompt) -> int:
    """Position of the first token that depends on the text; everything before is the format's own."""
    columns = zip(write("a").ids, write("7").ids, prompt.ids, strict=False)
    return sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, columns))


def enough(chat: ChatEncoder, sets: Sequence[RoleSet], n: int | None) -> tuple[RoleSet, ...]:
    """The first sets, as many as it takes for n of them to match in plain text; all where n is None or too many."""
    matching = 0
    for stop, each in enumerate(sets, start=1):
        matching += len({len(plain(chat, text)) for text in each.prompts.values()}) == 1
        if matching == n:
            return tuple(sets[:stop])
    return tuple(sets)


def matched(chat: ChatEncoder, sets: Sequence[RoleSet], format: str = PLAIN) -> Matched:
    """Sets whose prompts have equally many tokens, in their order; clustered by frame.

    Raises:
        NotApplicable: no set can be matched, or there is no chat template.
    """
    write = writer(chat, format)
    rows = [{category: write(text) for category, text in each.prompts.items()} for each in sets]
    equal = [i for i, row in enumerate(rows) if len({len(prompt) for prompt in row.values()}) == 1]
    if not equal:
        raise Unsupported(
            f"none of {len(rows)} sets of prompts has equally many tokens in every category ({format})"
        )
    out = len(rows) - len(equal)
    every = {
        category: tuple((row[category], each.frame) for row, each in zip(rows, sets, strict=True))
        for category in rows[0]
    }
    return Matched(
        format,
        pd.DataFrame(
            {FRAME: [sets[i].frame for i in equal]}, index=pd.Index([sets[i].id for i in equal], name="item")
        ),
        {category: tuple(prompts[i][0] for i in equal) for category, prompts in every.items()},
        tuple(first_own(write, next(iter(rows[i].values()))) for i in equal),
        f"{out} of {len(rows)} sets are left out ({format}): this tokenizer gives their prompts unequal lengths"
        if out
        else "",
        every,
    )


def matched_by_length(
    chat: ChatEncoder, lists: Mapping[str, Sequence[str]], seed: int, format: str = PLAIN
) -> Matched:
    """Prompts of several lists, put together at random with others of as many tokens; each item is a cluster.

    Raises:
        NotApplicable: no length occurs in every list, or there is no chat template.
    """
    write = writer(chat, format)
    every = {
        category: tuple(write(text) for text in lists[category]) for category in CATEGORIES if category in lists
    }
    strata: dict[int, dict[str, list[Prompt]]] = defaultdict(lambda: {category: [] for category in every})
    for category, prompts in every.items():
        for prompt in sorted(prompts, key=lambda prompt: shuffle_key(seed, prompt.text)):
            strata[len(prompt)][category].append(prompt)
    rows = [
        dict(zip(every, each, strict=True))
        for _, stratum in sorted(strata.items())
        for each in zip(*stratum.values(), strict=False)  # as many as the shortest list has
    ]
    if not rows:
        sizes = ", ".join(f"{category} {sorted({len(p) for p in ps})}" for category, ps in every.items())
        raise Unsupported(f"no number of tokens occurs in every category ({format}): {sizes}")
    total = sum(map(len, every.values()))
    out = total - len(rows) * len(every)
    counts = ", ".join(f"{len(prompts)} {category}" for category, prompts in every.items())
    names = [f"{len(next(iter(row.values())))} tokens, {i}" for i, row in enumerate(rows)]
    return Matched(
        format,
        pd.DataFrame({"prompt": names}, index=pd.Index(names, name="item")),
        {category: tuple(row[category] for row in rows) for category in every},
        tuple(first_own(write, next(iter(row.values()))) for row in rows),
        f"{out} of {total} prompts ({counts}) are left out ({format}): the other categories have none of as many "
        "tokens left"
        if out
        else "",
        {category: tuple((prompt, prompt.text) for prompt in prompts) for category, prompts in every.items()},
    )
