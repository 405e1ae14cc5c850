"""Unrelated texts, and the words of a domain that are looked for, beside words that are as frequent.

Vocabularies list tokens by frequency (byte-pair merges in the order in which they were learned, unigram pieces by
score), so the tokens next to a word's in the vocabulary are about as frequent. They are the comparison: a model that
reads frequent words in everything reads both alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from auditkit.adapters.chat import ChatEncoder
from auditkit.claims.outcomes import Unsupported
from auditkit.data.errors import DataError
from auditkit.data.files import text_of, toml_of
from auditkit.data.sources import source_files

LEAST_WORDS = 5
"""Words of a list that must be tokens: with fewer, a few odd ones make the answer."""
SHORTEST = 3
"""Letters of a token that stands for a word."""
SHARED = 3
"""Words that another domain's list may share with the user's; one that shares more is the same domain."""


@dataclass(frozen=True)
class Text:
    """The beginning of a text that has nothing to do with any fine-tune, and what kind of text it is."""

    id: str
    topic: str
    text: str


@dataclass(frozen=True)
class WordTokens:
    """Words of one domain as tokens.

    Attributes:
        words: word -> the token that stands for it: the first one, written with a space before it.
        matched: for each of them, the token of another word that is about as frequent.
        left_out: words that no token of three letters or more begins, or whose token another word has.
    """

    name: str
    words: Mapping[str, int]
    matched: tuple[int, ...]
    left_out: tuple[str, ...]


@cache
def texts() -> tuple[Text, ...]:
    """The project's texts, kind by kind."""
    kinds: dict[str, list[str]] = toml_of(files(__package__).joinpath("data/texts.toml"))["texts"]
    return tuple(
        Text(f"{kind} {n}", kind, text) for kind, several in kinds.items() for n, text in enumerate(several, 1)
    )


@cache
def other_domains() -> Mapping[str, tuple[str, ...]]:
    """Name of a domain -> its words, of the project's own lists."""
    found = toml_of(files(__package__).joinpath("data/words.toml"))["words"]
    return MappingProxyType({name: tuple(words) for name, words in found.items()})


@cache
def contexts() -> Mapping[str, str]:
    """Name of a domain -> a sentence of it that has none of its list's words."""
    found: dict[str, str] = toml_of(files(__package__).joinpath("data/words.toml"))["contexts"]
    return MappingProxyType(found)


def read_words(source: str) -> tuple[str, ...]:
    """The words of a domain, one in a line, of the file after `--data finetune_traces=`; repeated ones once.

    Raises:
        DataError: it cannot be found or read, has fewer than five words, or a line that is not one word.
    """
    words: dict[str, None] = {}
    for path in source_files(source, (".txt", ".csv")):
        for number, line in enumerate(text_of(path).splitlines(), 1):
            word = line.strip().strip(",")
            if not word or (number == 1 and word.lower() in ("word", "words")):
                continue
            if len(word.split()) > 1:
                raise DataError(f"{path}, line {number}: {word[:40]!r} is not one word; write one word in a line")
            words[word] = None
    if len(words) < LEAST_WORDS:
        raise DataError(f"{source}: {len(words)} words, at least {LEAST_WORDS} are needed, one in a line")
    return tuple(words)


def others(words: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """The project's lists that share no more than three words with these."""
    own = {word.lower() for word in words}
    return {name: some for name, some in other_domains().items() if len(own & set(some)) <= SHARED}


def as_tokens(chat: ChatEncoder, lists: Mapping[str, Sequence[str]]) -> dict[str, WordTokens]:
    """The words of each list as tokens; a token stands for one word of one list only, and matched tokens for none.

    Raises:
        Unsupported: fewer than five words of a list can be tokens.
    """
    found: dict[str, dict[str, int]] = {}
    left: dict[str, list[str]] = {}
    taken: set[int] = set()
    for name, words in lists.items():
        found[name], left[name] = {}, []
        for word in words:
            token = chat.encode(f" {word}")[0]
            if token in taken or not _is_word(chat, token):
                left[name].append(word)
            else:
                found[name][word] = token
                taken.add(token)
        if len(found[name]) < LEAST_WORDS:
            raise Unsupported(
                f"only {len(found[name])} of {len(words)} words of {name!r} begin with a token of {SHORTEST} letters "
                f"or more that no other word has, {LEAST_WORDS} are needed (first left out: {left[name][0]!r})"
            )
    made = {}
    for name, words_of in found.items():
        matched: list[int] = []
        for token in words_of.values():
            matched.append(next(_neighbours(chat, token, taken)))
            taken.add(matched[-1])
        made[name] = WordTokens(name, words_of, tuple(matched), tuple(left[name]))
    return made


def _neighbours(chat: ChatEncoder, token: int, taken: Collection[int]) -> Iterator[int]:
    """Tokens of other words, the nearest in the vocabulary first."""
    size = len(chat.tokenizer)
    for step in range(1, size):
        for other in (token - step, token + step):
            if 0 <= other < size and other not in taken and _is_word(chat, other):
                yield other


def _is_word(chat: ChatEncoder, token: int) -> bool:
    """Whether a token is a space and then at least three letters."""
    text = chat.tokenizer.convert_ids_to_tokens(token)
    return re.fullmatch(rf"[\u0120\u2581 ][^\W\d_]{{{SHORTEST},}}", str(text)) is not None
