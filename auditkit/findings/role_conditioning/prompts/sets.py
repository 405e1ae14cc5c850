"""Prompts by who is asked about: the model ("you"), the user ("I"), a third person, or no person at all.

Unmatched lists of prompts differ in topic, length and words. The project's own prompts are *sets*: four questions that
differ in the grammatical subject alone. Lists by category, such as the published ones, are read from a file; a prompt
of one list is matched with one of another by length alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from auditkit.data.errors import DataError
from auditkit.data.files import json_lines, text_of, texts_of, toml_of
from auditkit.data.order import shuffle_key
from auditkit.data.sources import source_files

SELF, CONFOUNDER, THIRD, NEUTRAL = CATEGORIES = ("self", "confounder", "third", "neutral")
"""About the one who is asked, the one who asks (first person), a third person, and no person."""

DEFAULT_SETS = 48
"""How many of the project's own sets are used by default: one of each frame, then a second one of some frames.
Much of the variance lies between frames, so a set of another frame says more than another set of the same one."""

NEEDED = (SELF, CONFOUNDER, NEUTRAL)
"""Categories that a file of lists must have; without THIRD what is asked of third persons is not measured."""


@dataclass(frozen=True, slots=True)
class RoleSet:
    """Prompts that belong together.

    Attributes:
        id: unique: frame and number.
        frame: what its sets share, their grammar.
        prompts: category -> text.
    """

    id: str
    frame: str
    prompts: Mapping[str, str]


def role_sets(path: Path | None = None) -> tuple[RoleSet, ...]:
    """The packaged sets, or those of a TOML file with, under `[frames]`, a list of four texts for every set.

    Raises:
        DataError: a file that cannot be opened or is not TOML in UTF-8, no frame, a set that is not four texts, or a
            text that is empty or has outer spaces or is twice in the file.
    """
    source = (
        path if path is not None else files("auditkit.findings.role_conditioning").joinpath("data", "prompts.toml")
    )
    frames = toml_of(source).get("frames")
    if not isinstance(frames, dict) or not frames:
        raise DataError(f"{source}: no frame; it needs [frames] with lists of four texts: {', '.join(CATEGORIES)}")
    seen: set[str] = set()
    return tuple(_sets(str(source), frames, seen))


def role_lists(source: str) -> Mapping[str, tuple[str, ...]]:
    """Category -> prompts, of a CSV file with the columns category and prompt, or of JSON lines with these fields.

    The lists may differ in length. A prompt that its category has already is read once.

    Args:
        source: a file, as after `--data role_conditioning=`.

    Raises:
        DataError: it cannot be found or read, has another category, an empty prompt, a prompt in two categories, or no
            prompt of a category in `NEEDED`.
    """
    found: dict[str, list[str]] = {}
    where_of: dict[str, str] = {}
    for path in source_files(source, (".csv", ".jsonl")):
        for line, fields in _rows(path):
            where = f"{path}, line {line}"
            category, prompt = (str(fields.get(name) or "").strip() for name in ("category", "prompt"))
            if category not in CATEGORIES:
                raise DataError(f"{where}, category: {category!r} is none of {', '.join(CATEGORIES)}")
            if not prompt:
                raise DataError(f"{where}, prompt: empty")
            other = where_of.setdefault(prompt, category)
            if other != category:
                raise DataError(f"{where}, prompt: {prompt!r} is already in category {other}")
            if prompt not in found.setdefault(category, []):
                found[category].append(prompt)
    for category in NEEDED:
        if category not in found:
            raise DataError(f"{source}: no prompt of category {category!r}; needed are {', '.join(NEEDED)}")
    return MappingProxyType({category: tuple(found[category]) for category in CATEGORIES if category in found})


def spread(sets: Sequence[RoleSet], seed: int) -> tuple[RoleSet, ...]:
    """Sets in an order fixed by the seed, of which any first few are spread evenly over their frames."""
    by_frame: dict[str, list[RoleSet]] = {}
    for each in sorted(sets, key=lambda each: shuffle_key(seed, each.id)):
        by_frame.setdefault(each.frame, []).append(each)
    frames = sorted(by_frame, key=lambda frame: shuffle_key(seed, frame))
    most = max(map(len, by_frame.values()), default=0)
    return tuple(by_frame[frame][i] for i in range(most) for frame in frames if i < len(by_frame[frame]))


def _sets(source: str, frames: Mapping[str, Any], seen: set[str]) -> Iterator[RoleSet]:
    for frame, sets in frames.items():
        for number, texts in enumerate(sets if isinstance(sets, list) else [sets], start=1):
            where = f"{source}, frame {frame}, set {number}"
            four = texts_of(where, texts, len(CATEGORIES), f"four texts: {', '.join(CATEGORIES)}", seen)
            yield RoleSet(f"{frame}-{number}", frame, MappingProxyType(dict(zip(CATEGORIES, four, strict=True))))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
        for column in ("category", "prompt"):
            if column not in (reader.fieldnames or ()):
                raise DataError(f"{path}, line 1, column {column}: missing column")
        for row in reader:
            yield reader.line_num, row
    elif path.suffix == ".jsonl":
        yield from json_lines(path)
    else:
        raise DataError(f"{path}: prompts by category are read from .csv and .jsonl files")
