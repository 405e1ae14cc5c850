"""WinoBias (Zhao et al. 2018, arXiv:1804.06876): `1 [The nurse] asked the surgeon because [she] ...`.

The file's name says whether the pronoun is the stereotype's ("pro") or not ("anti"). Give both, so that swaps are the
authors'. The hub's tables of tokens and coreference clusters are read too; there a folder's name may say it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import text_of
from auditkit.data.tables import read_rows
from auditkit.findings.identity_bias.prompts.items import Items, PronounPair

VALIDITY = (
    "WinoBias takes occupations by United States labour statistics and only 'he' and 'she'. A model that does not "
    "understand the sentence guesses, and then the difference is about a guess."
)
COLUMNS = ("tokens", "coreference_clusters")
_PRONOUNS = ("he", "she", "him", "his", "her")
_SWAPS = {"he": "she", "she": "he", "him": "her", "his": "her"}
_LINE = re.compile(r"\[[^\]]+\][^\[\]]*\[(he|she|him|his|her)\]", re.IGNORECASE)
_SIDE = re.compile(r"(?<![a-z])(pro|anti)(?![a-z])")


def is_winobias(text: str) -> bool:
    """Whether a text is no JSON, and one of its lines holds a person and a pronoun in brackets."""
    return not text.lstrip().startswith("{") and any(map(_LINE.search, text.splitlines()))


def read_winobias(paths: Sequence[Path]) -> Items[PronounPair]:
    """Sentences of WinoBias files, paired with the same sentence under the other pronoun.

    Where the other file is not given, the pronoun is swapped; "her" alone cannot be, since it may be him or his.

    Raises:
        DataError: a file whose name does not say "pro" or "anti", or files without a usable sentence.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    dropped: list[Dropped] = []
    for path in paths:
        side = _side(path)
        for number, line in _lines(path):
            marked = re.findall(r"\[([^\]]+)\]", line)
            if len(marked) != 2 or marked[1].lower() not in _PRONOUNS:
                dropped.append(Dropped(f"{path.name} line {number}", "not one person and one pronoun in brackets"))
                continue
            frame = line.replace(f"[{marked[1]}]", "{}").replace("[", "").replace("]", "")
            sides = found.setdefault((re.sub(r"^\s*\d+\s+", "", frame).strip(), _person(marked[0])), {})
            sides["usual" if side == "pro" else "unusual"] = marked[1].lower()
    kept = _pairs(found, dropped)
    if not kept:
        raise DataError(f"{paths[0]}: no usable sentence" + (f" (first: {dropped[0].reason})" if dropped else ""))
    return Items(tuple(kept), tuple(dropped), VALIDITY)


def _side(path: Path) -> str:
    """Whether a file's pronouns are "pro" or "anti" the stereotype: its name says it, or that of its folder."""
    for name in (path.name.lower(), path.parent.name.lower()):
        if len(sides := set(_SIDE.findall(name))) == 1:
            return str(sides.pop())
    raise DataError(f"{path}: the name must say whether its pronouns are 'pro' or 'anti' the stereotype")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each sentence, the person and the pronoun in brackets."""
    if path.read_bytes()[:4] in (b"PAR1", b"ARRO", b"\xff\xff\xff\xff"):
        yield from ((number, _bracketed(row)) for number, row in read_rows(path).named)
        return
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.strip():
            yield number, line


def _bracketed(row: Mapping[str, Any]) -> str:
    """A row of the hub's table as its authors write it; `coreference_clusters` are first and last tokens by turns."""
    words, ends = list(row["tokens"]), [int(at) for at in row["coreference_clusters"]]
    for first, last in zip(ends[::2], ends[1::2], strict=False):
        words[first], words[last] = f"[{words[first]}", f"{words[last]}]" if last != first else f"[{words[last]}]"
    return re.sub(r" ([.,;:!?])", r"\1", " ".join(words))


def _pairs(found: Mapping[tuple[str, str], Mapping[str, str]], dropped: list[Dropped]) -> list[PronounPair]:
    """(sentence, right person) -> its pronouns, made into pairs; what cannot be one is added to `dropped`."""
    people = {person for _, person in found}
    kept: list[PronounPair] = []
    for number, ((frame, right), sides) in enumerate(found.items(), 1):
        others = [
            p for p in people if p != right and re.search(rf"\b(the|an?) {re.escape(p)}\b", frame, re.IGNORECASE)
        ]
        known = next(iter(sides.values()))
        swapped = _SWAPS.get(known)
        if len(others) != 1 or frame.count("{}") != 1:
            dropped.append(Dropped(f"sentence {number}", "the second person cannot be told"))
        elif len(sides) < 2 and swapped is None:
            dropped.append(
                Dropped(f"sentence {number}", '"her" may be him or his, and the other file is not given')
            )
        else:
            usual, unusual = sides.get("usual", swapped or ""), sides.get("unusual", swapped or "")
            texts = frame.format(usual), frame.format(unusual)
            kept.append(
                PronounPair(
                    f"winobias-{number}", f"{right}/{others[0]}", *texts, (usual, unusual), right, others[0]
                )
            )
    return kept


def _person(text: str) -> str:
    return re.sub(r"^(the|an?) ", "", text.strip(), flags=re.IGNORECASE).lower()
