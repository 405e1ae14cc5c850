"""Words of one gender by meaning and by stereotype, in sentences that a pronoun continues.

    The nurse said that ...     the stereotype says "she"
    The queen said that ...     the meaning says "she"

Twins are two such prompts with words of the two genders and equally many tokens, so that one can give the other its
activations position by position.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from auditkit.adapters.chat import ChatEncoder, Prompt
from auditkit.claims.outcomes import Unsupported
from auditkit.data.errors import DataError
from auditkit.data.files import toml_of
from auditkit.data.items import single_token
from auditkit.data.order import shuffle_key
from auditkit.findings.identity_bias.prompts import items as bias_items

SHE, HE = " she", " he"


@dataclass(frozen=True, slots=True)
class Gendered:
    """Words that are of one gender by what they mean.

    Attributes:
        pairs: (of women, of men).
        sentences: with `{word}` where a word or an occupation stands.
        validity: what a difference on these items means.
    """

    pairs: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    validity: str


@dataclass(frozen=True, slots=True)
class Twins:
    """One sentence about a word of women and a word of men, of equally many tokens.

    Attributes:
        words: that of women, then that of men.
    """

    id: str
    words: tuple[str, str]
    she: Prompt
    he: Prompt


def gendered(path: Path | None = None) -> Gendered:
    """The packaged words, or those of a TOML file of that layout.

    Raises:
        DataError: a file that cannot be read, lacks a field, has a pair of another size, a word twice, a sentence
            without its word, or a word that is an occupation, whose gender would be a stereotype.
    """
    source = files("auditkit.findings.identity_bias").joinpath("data", "gendered.toml") if path is None else path
    table = toml_of(source)
    pairs, sentences, validity = (table.get(name) for name in ("pairs", "sentences", "validity"))
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 and all(p) for p in pairs):
        raise DataError(f"{source}: pairs must be a list of two words each, that of women first")
    if not isinstance(sentences, list) or not sentences or not all("{word}" in str(text) for text in sentences):
        raise DataError(f"{source}: sentences must be a list of texts with {{word}} in each")
    if not isinstance(validity, str) or not validity:
        raise DataError(f"{source}: a text is needed as validity")
    words = [word for pair in pairs for word in pair]
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise DataError(f"{source}: the word '{twice}' occurs twice")
    if stray := next((word for word in words if word in occupations()), None):
        raise DataError(
            f"{source}: '{stray}' is an occupation of the sentences with pronouns, so it has no gender"
        )
    return Gendered(tuple((she, he) for she, he in pairs), tuple(map(str, sentences)), validity)


def occupations() -> Mapping[str, str]:
    """Occupation -> the pronoun that the stereotype gives it, of the project's own sentences with pronouns."""
    return {pair.right: _gender(pair.pronouns[0]) for pair in bias_items.pronouns().kept}


def _gender(pronoun: str) -> str:
    return next(name for name, forms in bias_items.PRONOUNS.items() if pronoun in forms.values())


def answer_ids(chat: ChatEncoder, prefix: str) -> tuple[int, int]:
    """Token ids of " she" and " he" after a prompt.

    Raises:
        Unsupported: they are no single tokens of this tokenizer, or the same.
    """
    she, he = (single_token(chat.encode, prefix, word) for word in (SHE, HE))
    if isinstance(she, str) or isinstance(he, str) or she == he:
        reason = next((one for one in (she, he) if isinstance(one, str)), "both are the same token")
        raise Unsupported(f'"she" and "he" cannot be compared as next tokens: {reason}')
    return she, he


def by_meaning(chat: ChatEncoder, words: Gendered) -> tuple[Twins, ...]:
    """Twins of words that are of one gender by meaning; those of unequal length in tokens are left out."""
    return _twins(chat, words.pairs, words.sentences)


def by_stereotype(chat: ChatEncoder, words: Gendered, seed: int) -> tuple[Twins, ...]:
    """Twins of occupations that stereotypes give to women and to men, drawn among those of equally many tokens.

    No occupation is in two couples, so that couples are independent.
    """
    of: dict[tuple[str, int], list[str]] = defaultdict(list)
    for word, gender in sorted(occupations().items(), key=lambda item: shuffle_key(seed, item[0])):
        of[gender, len(chat.encode(f" {word}"))].append(word)
    lengths = sorted({length for _, length in of})
    couples = [pair for n in lengths for pair in zip(of["she", n], of["he", n], strict=False)]
    return _twins(chat, couples, words.sentences)


def _twins(chat: ChatEncoder, couples: Sequence[tuple[str, str]], sentences: Sequence[str]) -> tuple[Twins, ...]:
    out = []
    for couple in couples:
        for number, text in enumerate(sentences, 1):
            she, he = (_prompt(chat, text.format(word=word)) for word in couple)
            if len(she) == len(he):
                out.append(Twins(f"{'/'.join(couple)} {number}", couple, she, he))
    return tuple(out)


def _prompt(chat: ChatEncoder, text: str) -> Prompt:
    first = getattr(chat.tokenizer, "bos_token_id", None)
    ids = tuple(chat.encode(text))
    return Prompt(text, ids if first is None else (int(first), *ids))
