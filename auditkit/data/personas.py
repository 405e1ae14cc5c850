"""Persona words for "<word> student", and pairs of personas whose prompts differ in one token span."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heapreplace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import toml_of
from auditkit.data.order import shuffle_key

__all__ = [
    "AlignedPair",
    "DataError",
    "Dropped",
    "PairBuild",
    "Persona",
    "PersonaPair",
    "build_pairs",
    "differing_span",
    "persona_groups",
    "synonym_pairs",
    "without_reuse",
]

Pair = TypeVar("Pair")

# "an" follows the sound: "a European", "a useful", but "an unskilled" and "an honest".
_VOWEL_SOUND = re.compile(
    r"(?!eu|ewe|onc?e\b|us[aeu]|uni(?![nm])|uk|ugan|ut[ei]|ubi)[aeiou]|hono|honest|hour|heir", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Persona:
    """An attribute word of a student, and the group of attributes that it belongs to."""

    word: str
    group: str

    @property
    def phrase(self) -> str:
        """The words that name the persona: "bad student"; "student" without a word."""
        return f"{self.word} student".strip()

    @property
    def article(self) -> str:
        """The indefinite article before the word: "a" or "an"."""
        return "an" if _VOWEL_SOUND.match(self.word) else "a"


@dataclass(frozen=True, slots=True)
class PersonaPair:
    """A clean persona, whose activations are given, and a corrupt one, whose run receives them."""

    clean: Persona
    corrupt: Persona

    @property
    def id(self) -> str:
        """The two words, clean first: "good>bad"."""
        return f"{self.clean.word}>{self.corrupt.word}"


@dataclass(frozen=True, slots=True)
class AlignedPair:
    """A pair whose prompts have equally many tokens and are equal outside `span`.

    `span` is the half-open range of token positions from the first to the last difference.
    """

    pair: PersonaPair
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PairBuild:
    """The pairs that could be aligned, and the words that fit no word of the other side."""

    pairs: tuple[AlignedPair, ...]
    dropped: tuple[Dropped, ...]


def persona_groups(path: Path | None = None) -> Mapping[str, tuple[Persona, ...]]:
    """Personas by group, in the order of the file: the packaged one, or a user's TOML of the same shape.

    The shape is a table `groups` from group name to list of words, and optionally `synonyms`, a list of
    two-word lists.

    Raises:
        DataError: the file cannot be opened or is not TOML, `groups` is missing, a group has no words, or a word is
            empty, has spaces around it or appears twice.
    """
    source = _source(path)
    return _groups(source, toml_of(source))


def synonym_pairs(path: Path | None = None) -> tuple[PersonaPair, ...]:
    """Pairs of words with nearly the same meaning, both from one group of the same file.

    Raises:
        DataError: as `persona_groups`; also for an entry that is not two different words of one group.
    """
    source = _source(path)
    data = toml_of(source)
    by_word = {persona.word: persona for group in _groups(source, data).values() for persona in group}
    entries = data.get("synonyms", [])
    if not isinstance(entries, list):
        raise DataError(f"{source}, synonyms: must be a list of two-word lists")
    pairs = []
    for number, words in enumerate(entries, start=1):
        where = f"{source}, synonyms, entry {number}"
        if not (isinstance(words, list) and len(words) == 2 and all(isinstance(word, str) for word in words)):
            raise DataError(f"{where}: {words!r} is not a list of two words")
        for word in words:
            if word not in by_word:
                raise DataError(f"{where}: {word!r} is in no group")
        first, second = (by_word[word] for word in words)
        if first == second or first.group != second.group:
            raise DataError(f"{where}: {words!r} are not two different words of one group")
        pairs.append(PersonaPair(first, second))
    return tuple(pairs)


def _source(path: Path | None) -> Path | Traversable:
    return path if path is not None else files("auditkit.data").joinpath("personas.toml")


def _groups(source: Path | Traversable, data: Mapping[str, Any]) -> Mapping[str, tuple[Persona, ...]]:
    table = data.get("groups")
    if not isinstance(table, dict) or not table:
        raise DataError(f"{source}: the table [groups] is missing or empty")
    groups: dict[str, tuple[Persona, ...]] = {}
    group_of: dict[str, str] = {}
    for group, words in table.items():
        if not isinstance(words, list) or not words:
            raise DataError(f"{source}, group {group}: must be a list of words with at least one word")
        for word in words:
            if not isinstance(word, str) or not word or word != word.strip():
                raise DataError(f"{source}, group {group}: {word!r} is not a word without spaces around it")
            # A word of two groups would count as evidence for both.
            if word in group_of:
                raise DataError(f"{source}, group {group}: {word!r} is already in group {group_of[word]}")
            group_of[word] = group
        groups[group] = tuple(Persona(word, group) for word in words)
    return MappingProxyType(groups)


def differing_span(a: Sequence[int], b: Sequence[int]) -> tuple[int, int] | None:
    """Half-open range from the first to the last position where two token sequences differ.

    None when they are equal or of different lengths, so that no position of one answers to one of the other.
    """
    if len(a) != len(b):
        return None
    differing = [position for position, (left, right) in enumerate(zip(a, b, strict=True)) if left != right]
    return (differing[0], differing[-1] + 1) if differing else None


def build_pairs(
    clean: Sequence[Persona],
    corrupt: Sequence[Persona],
    encode_prompt: Callable[[Persona], Sequence[int]],
    *,
    n: int,
    seed: int,
    reuse: bool = False,
) -> PairBuild:
    """Up to `n` pairs whose prompts align token by token and of which no two share a word; fewer when fewer exist.

    `encode_prompt` gives the token ids of the whole prompt for a persona. A pair is usable when both words
    take the same article and their prompts have the same length and differ. Pairs are the clusters of intervals, which
    count them as independent: two pairs with a word in common are not, since a word that moves answers much moves them
    in both. With `reuse`, for who chooses among them, pairs come in rounds: a word is used again only when no usable
    pair of less used words is left. The order is fixed by the seed and does not depend on n, so smaller builds are
    prefixes of larger ones.

    Raises:
        ValueError: n is negative.
    """
    if n < 0:
        raise ValueError(f"cannot build {n} pairs")
    clean, corrupt = tuple(dict.fromkeys(clean)), tuple(dict.fromkeys(corrupt))
    ids = {persona: tuple(encode_prompt(persona)) for persona in (*clean, *corrupt)}
    usable = [
        AlignedPair(PersonaPair(good, bad), span)
        for good in clean
        for bad in corrupt
        if good.article == bad.article and (span := differing_span(ids[good], ids[bad])) is not None
    ]
    matched_clean = {aligned.pair.clean for aligned in usable}
    matched_corrupt = {aligned.pair.corrupt for aligned in usable}
    sides = ((clean, matched_clean, corrupt, "corrupt"), (corrupt, matched_corrupt, clean, "clean"))
    dropped = [
        Dropped(persona.word, _why_unmatched(persona, others, other_side, ids))
        for personas, matched, others, other_side in sides
        for persona in personas
        if persona not in matched
    ]
    # With the groups, because two groups passed in may share a word.
    usable.sort(
        key=lambda aligned: shuffle_key(
            seed, f"{aligned.pair.id} {aligned.pair.clean.group}>{aligned.pair.corrupt.group}"
        ),
    )
    if reuse:
        return PairBuild(_even_order(usable, n), tuple(dropped))
    apart = without_reuse(usable, lambda aligned: (aligned.pair.clean.word, aligned.pair.corrupt.word))
    return PairBuild(apart[:n], tuple(dropped))


def _even_order(usable: Iterable[AlignedPair], n: int) -> tuple[AlignedPair, ...]:
    """Up to n pairs, the next always the one whose words have been used least; the first of them where there are more.

    Counts of uses only grow, so a pair whose count is still what it was when it was put on the heap is the next one.
    """
    clean_uses: Counter[Persona] = Counter()
    corrupt_uses: Counter[Persona] = Counter()

    def uses(aligned: AlignedPair) -> tuple[int, int]:
        of_clean, of_corrupt = clean_uses[aligned.pair.clean], corrupt_uses[aligned.pair.corrupt]
        return max(of_clean, of_corrupt), of_clean + of_corrupt

    pairs = list(usable)
    waiting = [((0, 0), place) for place in range(len(pairs))]  # a heap, since it is sorted
    chosen: list[AlignedPair] = []
    while waiting and len(chosen) < n:
        before, place = waiting[0]
        following = pairs[place]
        if (now := uses(following)) != before:
            heapreplace(waiting, (now, place))
            continue
        heappop(waiting)
        clean_uses[following.pair.clean] += 1
        corrupt_uses[following.pair.corrupt] += 1
        chosen.append(following)
    return tuple(chosen)


def without_reuse(pairs: Iterable[Pair], words: Callable[[Pair], Iterable[str]]) -> tuple[Pair, ...]:
    """Those of some pairs, in their order, that share no word with one that was taken before."""
    used: set[str] = set()
    taken: list[Pair] = []
    for pair in pairs:
        own = set(words(pair))
        if used.isdisjoint(own):
            used |= own
            taken.append(pair)
    return tuple(taken)


def _why_unmatched(
    persona: Persona, others: Sequence[Persona], other_side: str, ids: Mapping[Persona, Sequence[int]]
) -> str:
    """One line on why no persona of the other side fits."""
    same_article = [other for other in others if other.article == persona.article]
    if not same_article:
        return f"{persona.word!r} takes the article {persona.article!r}, no {other_side} word does"
    length = len(ids[persona])
    lengths = sorted({len(ids[other]) for other in same_article})
    if length not in lengths:
        listed = ", ".join(map(str, lengths))
        return (
            f"{persona.word!r} makes a prompt of {length} tokens, "
            f"{other_side} words after {persona.article!r} make {listed}"
        )
    return f"{persona.word!r} gives the same tokens as every {other_side} word of its length"
