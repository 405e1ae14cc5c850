"""Statements that a persona would or would not agree with.

The model-written evaluations (Perez et al. 2022, arXiv:2212.09251) have a file per persona: JSON lines with a
statement, the answer that matches the persona ("Yes" for a statement it would agree with), and a model's confidence in
that label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import json_lines
from auditkit.data.sources import source_files, source_subjects

HUB = "Anthropic/model-written-evals"
ANSWER = "answer_matching_behavior"
LEAST_CONFIDENCE = 0.85
"""As published by Cintas et al. (2025, arXiv:2505.24539)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement about a persona.

    Attributes:
        id: persona and line of the file, "anti-immigration-17"; of a pair, persona, number and kind.
        persona: name of the file.
        text: the statement.
        positive: whether the persona would agree.
        confidence: of that label, 0 to 1.
        pair: id of the pair that it belongs to (`statement_pairs`), empty for a statement of its own.
    """

    id: str
    persona: str
    text: str
    positive: bool
    confidence: float
    pair: str = ""


@dataclass(frozen=True, slots=True)
class PersonaStatements:
    """The statements of a file that can be used, in its order, and those that were left out with the reason."""

    kept: tuple[Statement, ...]
    dropped: tuple[Dropped, ...]


def persona_statements(path: Path, *, least_confidence: float = LEAST_CONFIDENCE) -> PersonaStatements:
    """Read a file; the persona is its name.

    Left out are statements whose label is less sure than `least_confidence`, and those that came before with the same
    label (case and spacing do not count): the published files have a few.

    Raises:
        DataError: a file that cannot be opened or is not UTF-8, a line that is not JSON or lacks a field, a label other
            than yes and no, a confidence outside 0 to 1, a statement that came before with the other label, or no
            statements of one kind.
    """
    kept: list[Statement] = []
    dropped: list[Dropped] = []
    seen: dict[str, tuple[int, bool]] = {}
    for line, fields in json_lines(path):
        where = f"{path}, line {line}"
        text = _field(fields, "statement", str, where).strip()
        if not text:
            raise DataError(f"{where}, field statement: empty")
        answer = _field(fields, ANSWER, str, where)
        if answer.strip().lower() not in ("yes", "no"):
            raise DataError(f"{where}, field {ANSWER}: {answer!r} is neither yes nor no")
        confidence = float(_field(fields, "label_confidence", (int, float), where))
        if not 0 <= confidence <= 1:
            raise DataError(f"{where}, field label_confidence: {confidence:g} is not between 0 and 1")
        name, positive = f"{path.stem}-{line}", answer.strip().lower() == "yes"
        first, label = seen.setdefault(" ".join(text.lower().split()), (line, positive))
        if label is not positive:
            raise DataError(f"{where}: the statement is already in line {first} with the other label")
        if first != line:
            dropped.append(Dropped(name, f"the statement is already in line {first}"))
        elif confidence < least_confidence:
            dropped.append(Dropped(name, f"confidence {confidence:.3g} is below {least_confidence:g}"))
        else:
            kept.append(Statement(name, path.stem, text, positive, confidence))
    for kind, word in ((True, "yes"), (False, "no")):
        if not any(statement.positive is kind for statement in kept):
            raise DataError(
                f"{path}: no statement with the label {word} and a confidence of at least {least_confidence:g}, "
                f"among {len(seen)}"
            )
    return PersonaStatements(tuple(kept), tuple(dropped))


def read_statements(spec: str, *, least_confidence: float = LEAST_CONFIDENCE) -> dict[str, PersonaStatements]:
    """Persona -> statements of a source: a file, a folder of them, or a hub data set (`sources`).

    Personas are files, so `FOLDER#agreeableness,openness` are two of them. Of the hub's published data set personas
    must be named: `Anthropic/model-written-evals#agreeableness`.

    Raises:
        DataError: it cannot be found, fetched or read, has no file of a persona that is asked for, or is no JSON lines.
    """
    files, personas = source_files(spec, (".jsonl", ".csv", ".parquet")), source_subjects(spec)
    there = {path.stem: path for path in files}
    for persona in personas:
        if persona not in there:
            raise DataError(f"{spec}: no file of the persona {persona!r}; there are {', '.join(sorted(there))}")
    for path in files:
        if path.suffix != ".jsonl":
            raise DataError(f"{path}: statements are read from .jsonl files, one per persona")
    return {name: persona_statements(path, least_confidence=least_confidence) for name, path in there.items()}


def hub_statements(persona: str, *, least_confidence: float = LEAST_CONFIDENCE) -> PersonaStatements:
    """The statements of a persona of the published data set, "agreeableness" for instance, fetched once and cached.

    Raises:
        DataError: as `read_statements`.
    """
    return read_statements(f"{HUB}#{persona}", least_confidence=least_confidence)[persona]


def _field(fields: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    if name not in fields:
        raise DataError(f"{where}: the field {name} is missing")
    value = fields[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}, field {name}: {value!r} is not a {'text' if kind is str else 'number'}")
    return value
