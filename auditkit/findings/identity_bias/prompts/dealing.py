"""In which order the packaged items are asked: the first n of an order are what a run with `--items n` asks.

Every order goes through all clusters (templates, couples of occupations, wordings and pairs of groups) before one comes
again, and stays balanced in what could pass for a stereotype: who of two people comes first or is likelier in any
sentence, and which pronoun is usual. Orders are drawn by seed and name. A longer run repeats a shorter one and adds
to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from auditkit.data.items import select
from auditkit.data.order import shuffle_key
from auditkit.findings.identity_bias.prompts.items import PRONOUNS, BiasQuestion, PronounPair, SentencePair
from auditkit.stats.design import incomplete_crossing

Item = TypeVar("Item")
SHE = frozenset(PRONOUNS["she"].values())


@dataclass(frozen=True, slots=True)
class _Topical:
    id: str
    topic: str


def question_order(questions: Sequence[BiasQuestion], seed: int) -> tuple[BiasQuestion, ...]:
    """Questions block by block: one block of every template, then a second one of every template.

    Templates take turns by attribute. The two questions of a block stand side by side: what the two people differ by
    in any sentence cancels in a block, so one question of a template would tell far less than half of what two do.
    """
    blocks: dict[str, dict[str, list[BiasQuestion]]] = {}
    attributes: dict[str, str] = {}
    for question in questions:
        blocks.setdefault(question.template, {}).setdefault(question.block, []).append(question)
        attributes[question.template] = question.attribute
    turns = [
        [blocks[name][block] for block in sorted(blocks[name], key=lambda block: shuffle_key(seed, block))]
        for name in _spread(attributes, seed)
    ]
    return tuple(question for block in _in_turn(turns) for question in block)


def pronoun_order(pairs: Sequence[PronounPair], seed: int) -> tuple[PronounPair, ...]:
    """Sentences with one of every couple of occupations first, then a second one, and so on.

    Couples begin with one or the other of their two usual pronouns in turn, and each of them changes from one sentence
    to the next.
    """
    couples: dict[str, dict[str, list[PronounPair]]] = {}
    for pair in sorted(pairs, key=lambda pair: shuffle_key(seed, pair.id)):
        couple = "/".join(sorted((pair.right, pair.other)))
        couples.setdefault(couple, {}).setdefault(pair.template, []).append(pair)
    turns = []
    for number, couple in enumerate(sorted(couples, key=lambda couple: shuffle_key(seed, couple))):
        directions = sorted(couples[couple].values(), key=lambda own: own[0].pronouns[0] in SHE)
        if number % 2:
            directions.reverse()
        turns.append(list(_in_turn(directions)))
    return tuple(_in_turn(turns))


def sentence_order(pairs: Sequence[SentencePair], seed: int) -> tuple[SentencePair, ...]:
    """Sentences crossed with the pairs of groups of their attribute: each wording meets one, then a second one.

    Attributes take turns.
    """
    known: dict[str, dict[tuple[str, str], SentencePair]] = {}
    for pair in pairs:
        known.setdefault(pair.group, {})[pair.template, pair.id.removeprefix(f"{pair.template}-")] = pair
    turns = []
    for group in sorted(known, key=lambda group: shuffle_key(seed, group)):
        rows, columns = (
            sorted({key[k] for key in known[group]}, key=lambda one: shuffle_key(seed, one)) for k in (0, 1)
        )
        cells = incomplete_crossing(rows, columns, len(columns), seed=seed, name=f"sentences, {group}")
        turns.append([known[group][cell] for cell in cells])
    return tuple(_in_turn(turns))


def _spread(topics: dict[str, str], seed: int) -> list[str]:
    """Names in an order in which topics take turns."""
    named = [_Topical(name, topic) for name, topic in topics.items()]
    return [one.id for one in select(named, len(named), seed=seed)]


def _in_turn(lists: Sequence[Sequence[Item]]) -> Iterator[Item]:
    """The first of every list, then the second of every list, and so on."""
    for k in range(max(map(len, lists), default=0)):
        yield from (one[k] for one in lists if k < len(one))
