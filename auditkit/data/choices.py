"""Multiple-choice questions in the layouts in which MMLU is published, and in files like it.

Two layouts are usual: Hendrycks' folder of CSV files without header (question, four options, letter of the right
one), and the hub's Parquet (question, choices, answer as an index, subject). JSON lines with the hub's fields and CSV
files with a header are read too. Rows that cannot be asked are left out and counted, never repaired.

Source of the layout: Hendrycks et al. 2021, arXiv:2009.03300.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import json_lines, text_of
from auditkit.data.order import shuffle_key

LETTERS = ("A", "B", "C", "D")
SUFFIXES = (".csv", ".jsonl", ".parquet")
_SPLIT = re.compile(r"[_-](test|dev|val|validation|train)\b.*$|^(test|dev|val|validation|train)\b.*$")
_HEADER = ("question", "a", "b", "c", "d", "answer")
# An option that speaks of the others' places has no meaning once they are shuffled.
_PLACES = re.compile(
    r"\b(above|below|(first|last|preceding|previous|following) (two|three|options?|answers?|choices?))\b"
    r"|(?-i:\b(both )?\(?[A-D]\)? (and|or|&) \(?[A-D]\)?(?![\w']))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with four options, of which `options[right]` is the right one."""

    id: str
    topic: str
    question: str
    options: tuple[str, ...]
    right: int


@dataclass(frozen=True, slots=True)
class Choices:
    """The questions of some files, and the rows that cannot be asked, with the reason."""

    kept: tuple[ChoiceItem, ...]
    dropped: tuple[Dropped, ...]


def read_choices(files: Sequence[Path], subjects: Sequence[str] = ()) -> Choices:
    """The questions of MMLU-style files, in the order of files and rows.

    A row's subject is its own where it states one, else it is taken from the file's name, or its folder's.

    Args:
        files: `.csv`, `.jsonl` or `.parquet`.
        subjects: those wanted; all where empty.

    Raises:
        DataError: a file that cannot be read, that holds no usable question, or a subject that is not there.
    """
    kept: list[ChoiceItem] = []
    dropped: list[Dropped] = []
    seen: dict[str, None] = {}
    for path in files:
        rows, before, lost = 0, len(kept), len(dropped)
        for number, row in _rows(path):
            rows += 1
            subject = str(row.get("subject") or _subject(path))
            seen[subject] = None
            if subjects and subject not in subjects:
                continue
            item = _item(f"{subject}-{number}", subject, row)
            (kept if isinstance(item, ChoiceItem) else dropped).append(item)  # type: ignore[arg-type]
        if not rows:
            raise DataError(f"{path}: holds no questions")
        if len(kept) == before and len(dropped) > lost:
            raise DataError(
                f"{path}: none of its rows is a question with four options (first: {dropped[lost].reason}); "
                "expected are question, four options and the right letter, or the fields question, choices and answer"
            )
    for subject in subjects:
        if subject not in seen:
            near = difflib.get_close_matches(subject.lower().replace(" ", "_"), seen, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(sorted(seen)[:8])}, ..."
            raise DataError(f"no subject {subject!r} among the {len(seen)} of the data: {hint}")
    return Choices(tuple(kept), tuple(dropped))


def shuffled(item: ChoiceItem, right: int, *, seed: int) -> tuple[str, ...]:
    """The item's options in an order fixed by seed and item, with the right one at place `right`."""
    wrong = [option for place, option in enumerate(item.options) if place != item.right]
    wrong.sort(key=lambda option: shuffle_key(seed, f"{item.id} {option}"))
    return (*wrong[:right], item.options[item.right], *wrong[right:])


def right_places(n: int, *, seed: int) -> list[int]:
    """For each of n questions the place of its right option: all four equally often, in every four in another order."""
    blocks = (sorted(range(4), key=lambda k: shuffle_key(seed, f"right {b} {k}")) for b in range((n + 3) // 4))
    return [place for block in blocks for place in block][:n]


def _item(name: str, subject: str, row: Mapping[str, Any]) -> ChoiceItem | Dropped:
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        return Dropped(name, "there is no question")
    options = row.get("choices") or row.get("options") or ()
    if isinstance(options, str) or not all(isinstance(option, str) for option in options):
        return Dropped(name, "the options are no list of texts")
    options = tuple(option.strip() for option in options)
    missing = len(LETTERS) - sum(map(bool, options))
    if missing > 0:
        return Dropped(name, f"{missing} of four options are missing")
    if len(options) > len(LETTERS):
        return Dropped(name, f"it has {len(options)} options, not four")
    if len(set(options)) < len(options):
        return Dropped(name, "two of its options are the same")
    answer = row.get("answer")
    if isinstance(answer, str) and answer.strip().upper() in LETTERS:
        answer = LETTERS.index(answer.strip().upper())
    elif isinstance(answer, str) and answer.strip() in ("0", "1", "2", "3"):
        answer = int(answer)
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(options):
        return Dropped(name, f"its answer {str(answer)[:20]!r} is none of the options")
    if any(map(_PLACES.search, options)):
        return Dropped(name, "an option speaks of the others' places, so they cannot be shuffled")
    return ChoiceItem(name, subject, question.strip(), options, answer)


def _subject(path: Path) -> str:
    """Subject that a file's name stands for, or its folder's where the name is only that of a split."""
    name = _SPLIT.sub("", path.stem)
    return name or path.parent.name


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and fields of each row: question, choices, answer, and perhaps subject."""
    if path.suffix == ".parquet":
        yield from enumerate(_parquet(path), 1)
        return
    yield from _csv(path, text_of(path)) if path.suffix == ".csv" else json_lines(path)


def _csv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: Sequence[str] = _HEADER
    try:
        for number, fields in enumerate(reader, 1):
            lowered = [field.strip().lower() for field in fields]
            if number == 1 and {"question", "answer"} <= set(lowered):
                names = lowered
            elif fields:
                row = dict(zip(names, fields, strict=False))
                # Fields too few or too many: which one is the answer cannot be told.
                whole = len(fields) == len(names)
                choices = [row.get(letter.lower(), "") for letter in LETTERS] if whole else fields[1:-1]
                yield number, {**row, "choices": choices, "answer": row.get("answer") if whole else fields[-1]}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise DataError(f"{path}: no Parquet file ({str(error).splitlines()[0][:120]})") from error
    return rows
