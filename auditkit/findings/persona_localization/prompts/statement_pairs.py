"""Pairs of statements on one matter, one for a persona and one against it.

Where statements for a persona speak of parties and those against it of books, a probe that detects these topics seems
to detect the persona. The two statements of a pair have the same subject, so only the stance differs. In exchange, a
pair must stay in one fold: if one statement is trained on and the other tested, their shared words point to the wrong
label, and a probe falls below chance. So every statement names its pair, and folds and permutations keep pairs whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from auditkit.data.errors import DataError
from auditkit.data.files import toml_of
from auditkit.findings.persona_localization.prompts.statements import Statement

TOPICS = ("personality", "ethics", "politics")
"""Topics of the packaged files."""


def packaged_statements() -> Mapping[str, Mapping[str, tuple[Statement, ...]]]:
    """Topic -> persona -> the project's own statements, the first of each pair positive.

    Topics and personas are those of Cintas et al. (2025, arXiv:2505.24539), and a persona is named as its published
    file is. The statements are not: they were written for this project.
    """
    folder = files("auditkit.findings.persona_localization").joinpath("data")
    return MappingProxyType({topic: paired_statements(folder / f"{topic}.toml") for topic in TOPICS})


def paired_statements(source: Path | Traversable) -> Mapping[str, tuple[Statement, ...]]:
    """Persona -> statements of a TOML file with one list of [positive, negative] pairs per persona.

    Statements come in the order of the file, the positive one of a pair first; `Statement.pair` is the same for both.
    Labels are the author's, so their confidence is 1.

    Raises:
        DataError: the file cannot be opened, is not TOML in UTF-8 or has no persona, a persona has no pairs, a pair is
            not two texts, a text is empty or has outer spaces, or a statement is already in the file (case and spacing
            do not count).
    """
    data = toml_of(source)
    if not data:
        raise DataError(
            f"{source}: no persona; it needs a list of [positive, negative] pairs under each persona's name"
        )
    seen: dict[str, str] = {}
    return MappingProxyType(
        {persona: tuple(_statements(str(source), persona, pairs, seen)) for persona, pairs in data.items()}
    )


def _statements(source: str, persona: str, pairs: Any, seen: dict[str, str]) -> Iterator[Statement]:
    if not isinstance(pairs, list) or not pairs:
        raise DataError(
            f"{source}, persona {persona}: must be a list of [positive, negative] pairs with at least one"
        )
    for number, pair in enumerate(pairs, start=1):
        name = f"{persona}-{number}"
        where = f"{source}, persona {persona}, pair {number}"
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise DataError(f"{where}: {pair!r} is not a list of two texts")
        for text, positive in zip(pair, (True, False), strict=True):
            if not text or text != text.strip():
                raise DataError(f"{where}: {text!r} is empty or has spaces around it")
            plain = " ".join(text.lower().split())
            if plain in seen:
                raise DataError(f"{where}: {text!r} is already in {seen[plain]}")
            seen[plain] = f"persona {persona}, pair {number}"
            kind = "positive" if positive else "negative"
            yield Statement(f"{name}-{kind}", persona, text, positive, 1.0, name)
