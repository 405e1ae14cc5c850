"""Multiple-choice questions in the layouts in which MMLU is published, and in files like it.

Two layouts are usual: Hendrycks' folder of CSV files without header (question, four options, letter of the right
one), and the hub's Parquet (question, choices, answer as an index, subject). JSON lines with the hub's fields and CSV
files with a header are read too. Rows that cannot be asked are left out and counted, never repaired.

The right answer is a letter, or a number that counts the options from 0 (as the hub's MMLU does) or from 1 (as KMMLU
does). Which of the two is found over the whole file: a 0 says the one and a 4 the other. Where neither occurs, the
other files of the source decide; where they do not either, the file is refused, since every answer might be read as the
option beside the right one.

Source of the layout: Hendrycks et al. 2021, arXiv:2009.03300.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit.data.bounds import require_table
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
    """The questions of some files, and the rows that cannot be asked, with the reason.

    Attributes:
        key: how the files name the right answer, in words for the report: "letters", "numbers counted from 1", ...
    """

    kept: tuple[ChoiceItem, ...]
    dropped: tuple[Dropped, ...]
    key: str = ""


def read_choices(files: Sequence[Path], subjects: Sequence[str] = (), first: int | None = None) -> Choices:
    """The questions of MMLU-style files, in the order of files and rows.

    A row's subject is its own where it states one, else it is taken from the file's name, or its folder's.

    Args:
        files: `.csv`, `.jsonl` or `.parquet`.
        subjects: those wanted; all where empty.
        first: number of the first option where answers are numbers, 0 or 1; found in the files where None.

    Raises:
        DataError: a file that cannot be read, that holds no usable question, or whose numbers do not say which option
            is meant; or a subject that is not there.
    """
    tables = {path: list(_rows(path)) for path in files}
    for path, rows in tables.items():
        if not rows:
            raise DataError(f"{path}: holds no questions")
    firsts, key = _firsts(tables, first)
    kept: list[ChoiceItem] = []
    dropped: list[Dropped] = []
    seen: dict[str, None] = {}
    for path, rows in tables.items():
        before, lost = len(kept), len(dropped)
        for number, row in rows:
            subject = str(row.get("subject") or _subject(path))
            seen[subject] = None
            if subjects and subject not in subjects:
                continue
            item = _item(f"{subject}-{number}", subject, row, firsts[path])
            (kept if isinstance(item, ChoiceItem) else dropped).append(item)  # type: ignore[arg-type]
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
    return Choices(tuple(kept), tuple(dropped), key)


def shuffled(item: ChoiceItem, right: int, *, seed: int) -> tuple[str, ...]:
    """The item's options in an order fixed by seed and item, with the right one at place `right`."""
    wrong = [option for place, option in enumerate(item.options) if place != item.right]
    wrong.sort(key=lambda option: shuffle_key(seed, f"{item.id} {option}"))
    return (*wrong[:right], item.options[item.right], *wrong[right:])


def right_places(n: int, *, seed: int) -> list[int]:
    """For each of n questions the place of its right option: all four equally often, in every four in another order."""
    blocks = (sorted(range(4), key=lambda k: shuffle_key(seed, f"right {b} {k}")) for b in range((n + 3) // 4))
    return [place for block in blocks for place in block][:n]


def _item(name: str, subject: str, row: Mapping[str, Any], first: int) -> ChoiceItem | Dropped:
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        return Dropped(name, "there is no question")
    options = _options(row)
    if isinstance(options, str):
        return Dropped(name, options)
    answer, number = row.get("answer"), _number(row.get("answer"))
    if isinstance(answer, str) and answer.strip().upper() in LETTERS:
        right = LETTERS.index(answer.strip().upper())
    elif number is not None and 0 <= number - first < len(options):
        right = number - first
    else:
        return Dropped(name, f"its answer {str(answer)[:20]!r} is none of the options")
    if any(map(_PLACES.search, options)):
        return Dropped(name, "an option speaks of the others' places, so they cannot be shuffled")
    return ChoiceItem(name, subject, question.strip(), options, right)


def _options(row: Mapping[str, Any]) -> tuple[str, ...] | str:
    """The four options of a row, or in words why it has not four different ones."""
    options = row.get("choices") or row.get("options") or ()
    if not isinstance(options, Sequence) or isinstance(options, str):
        return "the options are no list of texts"
    if not all(isinstance(option, str) for option in options):
        return "the options are no list of texts"
    options = tuple(option.strip() for option in options)
    missing = len(LETTERS) - sum(map(bool, options))
    if missing > 0:
        return f"{missing} of four options are missing"
    if len(options) > len(LETTERS):
        return f"it has {len(options)} options, not four"
    if len(set(options)) < len(options):
        return "two of its options are the same"
    return options


def _number(answer: object) -> int | None:
    """The number that an answer is, written as one or as text; None for letters and everything else."""
    if isinstance(answer, str) and re.fullmatch(r"-?[0-9]+", answer.strip()):
        return int(answer)
    return answer if isinstance(answer, int) and not isinstance(answer, bool) else None


def _firsts(
    tables: Mapping[Path, Sequence[tuple[int, Mapping[str, Any]]]], told: int | None
) -> tuple[dict[Path, int], str]:
    """For each file the number of its first option, and in words how the files name the right answer.

    Raises:
        DataError: numbers that do not say which option is meant, or that contradict what was told.
    """
    counts = {path: _numbers(rows) for path, rows in tables.items()}
    found = {path: _first(path, numbers, told) for path, numbers in counts.items()}
    clear = {first for path, first in found.items() if first is not None and counts[path]}
    firsts: dict[Path, int] = {}
    for path, first in found.items():
        if first is None and len(clear) != 1:
            raise DataError(
                f"{path}: its answers are the numbers {_listed(counts[path])} and nothing else, which may count the "
                "four options from 0 or from 1; write letters A to D in that column, or say which behind the source: "
                "#answers=0 or #answers=1"
            )
        firsts[path] = min(clear) if first is None else first
    by_first = {n: [path for path in firsts if counts[path] and firsts[path] == n] for n in (0, 1)}
    parts = [f"numbers counted from {n} in {len(paths)} files" for n, paths in by_first.items() if paths]
    if letters := sum(not numbers for numbers in counts.values()):
        parts.append(f"letters in {letters} files")
    why = "as told" if told is not None else "found over each whole file"
    key = ", ".join(parts).replace(" in 1 files", " in 1 file")
    return firsts, f"{key} ({why})" if any(counts.values()) else key


def _first(path: Path, numbers: Counter[int], told: int | None) -> int | None:
    """The number of the first option of a file; None where its numbers do not say it."""
    strange = {n for n in numbers if not 0 <= n <= len(LETTERS)}
    if strange or {0, len(LETTERS)} <= set(numbers):
        raise DataError(
            f"{path}: its answers are the numbers {_listed(numbers)}, and four options are counted from 0 to 3 or "
            "from 1 to 4; mend the rows that are wrong, or write letters A to D"
        )
    shown = 0 if 0 in numbers else 1 if len(LETTERS) in numbers else None
    if told is not None and shown is not None and told != shown:
        raise DataError(
            f"{path}: its answers are the numbers {_listed(numbers)}, so they do not count from {told} as #answers says"
        )
    return told if told is not None else shown if numbers else 0


def _numbers(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Counter[int]:
    """How often each number is the answer to a question with four options; -1 is a hidden answer, not an option."""
    asked = (_number(row.get("answer")) for _, row in rows if not isinstance(_options(row), str))
    return Counter(number for number in asked if number is not None and number != -1)


def _listed(numbers: Counter[int]) -> str:
    parts = [f"{n} (in {count} rows)" for n, count in sorted(numbers.items())[:6]]
    return ", ".join(parts) + (", ..." if len(numbers) > 6 else "")


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


def parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns.

    Raises:
        DataError: it is no Parquet file.
    """
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise DataError(f"{path}: no Parquet file ({str(error).splitlines()[0][:120]})") from error


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        require_table(path, pyarrow.parquet.read_metadata(path))
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except DataError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise DataError(f"{path}: no Parquet file ({str(error).splitlines()[0][:120]})") from error
    return rows
