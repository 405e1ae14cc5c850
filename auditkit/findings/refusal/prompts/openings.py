"""What refusals and answers begin with, as phrases and as first tokens of a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from auditkit.adapters.chat import ChatEncoder
from auditkit.claims.outcomes import Unsupported
from auditkit.data.errors import DataError
from auditkit.data.files import toml_of
from auditkit.data.prompts import Chat

REFUSAL, ANSWER = KINDS = ("refusal", "answer")
ENGLISH = "english"
_ASKED = "Hello."


@dataclass(frozen=True)
class Openings:
    """Phrases with which answers to a request begin, in one language.

    Attributes:
        refusal: those of a refusal.
        answer: those of anything else.
    """

    language: str
    refusal: tuple[str, ...]
    answer: tuple[str, ...]

    def refuses(self, text: str) -> bool:
        """Whether a text begins with a phrase of a refusal, whatever its case, apostrophes and outer marks."""
        start = _plain(text)
        return any(start.startswith(_plain(phrase)) for phrase in self.refusal)


@dataclass(frozen=True)
class OpeningTokens:
    """Ids of the tokens that are read as the start of a refusal and of an answer; no id is in both."""

    refusal: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Those of refusals, then those of answers."""
        return self.refusal + self.answer


@cache
def openings() -> Mapping[str, Openings]:
    """Language -> the packaged openings."""
    source = files("auditkit.findings.refusal").joinpath("data", "openings.toml")
    return MappingProxyType({name: _openings(str(source), name, own) for name, own in toml_of(source).items()})


def of_language(name: str) -> Openings:
    """The packaged openings of a language.

    Raises:
        DataError: there are none, in one line.
    """
    known = openings()
    if name not in known:
        raise DataError(f"no openings of refusals in {name!r}; there are {', '.join(known)}")
    return known[name]


def first_tokens(chat: ChatEncoder, own: Openings) -> OpeningTokens:
    """The first tokens of the openings, as they stand behind the model's own prompt.

    Some templates leave it to the model to begin with a space, so an opening counts with and without one.

    Raises:
        Unsupported: an opening of a refusal shares its first token with one of an answer, or an opening changes the
            tokens of the prompt, in one line that names them.
    """
    prefix = chat.render(Chat(_ASKED))
    read = {kind: dict(_ids(chat, prefix, getattr(own, kind))) for kind in KINDS}
    for token, phrase in read[REFUSAL].items():
        if token in read[ANSWER]:
            tokenizer: Any = chat.tokenizer
            raise Unsupported(
                f"the refusal opening {phrase!r} and the answer opening {read[ANSWER][token]!r} ({own.language}) "
                f"begin with the same token {tokenizer.decode([token])!r} for this tokenizer, so the first token does "
                "not tell a refusal from an answer; leave one of them out"
            )
    return OpeningTokens(tuple(sorted(read[REFUSAL])), tuple(sorted(read[ANSWER])))


def _ids(chat: ChatEncoder, prefix: str, phrases: Sequence[str]) -> Iterator[tuple[int, str]]:
    """First token and phrase, each token with the first phrase that begins with it."""
    before = chat.encode(prefix)
    tokenizer: Any = chat.tokenizer
    seen: set[int] = set()
    for phrase in phrases:
        wholes = [chat.encode(prefix + spelling) for spelling in (phrase, f" {phrase}")]
        fitting = [whole for whole in wholes if whole[: len(before)] == before and len(whole) > len(before)]
        if not fitting:
            raise Unsupported(f"the opening {phrase!r} changes the tokens of the prompt before it")
        for token in (whole[len(before)] for whole in fitting):
            if tokenizer.decode([token]).strip() and token not in seen:
                seen.add(token)
                yield token, phrase


def _openings(source: str, name: str, own: Any) -> Openings:
    if not isinstance(own, dict) or set(own) != set(KINDS):
        raise DataError(f"{source}, {name}: needs the two lists {' and '.join(KINDS)}")
    for kind in KINDS:
        texts = own[kind]
        if not (isinstance(texts, list) and texts and all(isinstance(one, str) and one.strip() for one in texts)):
            raise DataError(f"{source}, {name}, {kind}: needs a list of texts, none of them empty")
    return Openings(name, tuple(own[REFUSAL]), tuple(own[ANSWER]))


def _plain(text: str) -> str:
    return re.sub(r"^[\s\"'*_#>]+", "", text.replace("’", "'")).lower()
