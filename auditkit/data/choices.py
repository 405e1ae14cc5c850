"""Multiple-choice questions in the layouts in which they are published, told by what is in a file.

`layouts` says how rows are laid out (MMLU, ARC, options in columns of their own, ...) and `tables` how files hold rows.
Rows that cannot be asked are left out and counted, never repaired.

The right answer is a letter, the text of an option, or a number that counts the options from 0 (as the hub's MMLU does)
or from 1 (as KMMLU does). Which of the two numbers mean is found over the whole file: a 0 says the one and a 4 the
other. Where neither occurs, the other files of the source decide; where they do not either, the file is refused, since
every answer might be read as the option beside the right one.

Source of the layout: Hendrycks et al. 2021, arXiv:2009.03300.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.data.errors import DataError, Dropped
from auditkit.data.layouts import LETTERS, QuestionRow, question_of
from auditkit.data.order import shuffle_key
from auditkit.data.tables import read_rows

Table = Sequence[tuple[int, QuestionRow]]
_SPLIT = re.compile(r"[_-](test|dev|val|validation|train)\b.*$|^(test|dev|val|validation|train)\b.*$")
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
        files: tables of any kind that `tables` reads, whatever their names.
        subjects: those wanted; all where empty.
        first: number of the first option where answers are numbers, 0 or 1; found in the files where None.

    Raises:
        DataError: a file that cannot be read, that holds no usable question, or whose numbers do not say which option
            is meant; or a subject that is not there.
    """
    tables = {path: _table(path) for path in files}
    for path, rows in tables.items():
        if not rows:
            raise DataError(f"{path}: holds no questions")
    firsts, key = _firsts(tables, first)
    kept: list[ChoiceItem] = []
    dropped: list[Dropped] = []
    seen: dict[str, None] = {}
    for path, rows in tables.items():
        before, lost = len(kept), len(dropped)
        by_text = _by_text(path, rows)
        for number, row in rows:
            subject = row.subject or _subject(path)
            seen[subject] = None
            if subjects and subject not in subjects:
                continue
            item = _item(f"{subject}-{number}", subject, row, firsts[path], by_text)
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


def _item(name: str, subject: str, row: QuestionRow, first: int, by_text: bool) -> ChoiceItem | Dropped:
    if not row.text:
        return Dropped(name, "there is no question")
    options = _four(row)
    if isinstance(options, str):
        return Dropped(name, options)
    right = next((place for place in (row.right, None if by_text else row.letter) if place is not None), None)
    number = row.number
    if right is None and number is not None and not by_text and 0 <= number - first < len(options):
        right = number - first
    elif right is None and (number is None or by_text):
        right = row.named if row.named is not None else row.letter
    if right is None or right >= len(options):
        return Dropped(name, f"its answer {str(row.answer)[:20]!r} is none of the options")
    if any(map(_PLACES.search, options)):
        return Dropped(name, "an option speaks of the others' places, so they cannot be shuffled")
    return ChoiceItem(name, subject, row.text, options, right)


def _four(row: QuestionRow) -> tuple[str, ...] | str:
    """The four options of a row, or in words why it has not four different ones."""
    options = row.options
    if isinstance(options, str):
        return options
    missing = len(LETTERS) - sum(map(bool, options))
    if missing > 0:
        return f"{missing} of four options are missing"
    if len(options) > len(LETTERS) and not any(options[len(LETTERS) :]):
        options = options[: len(LETTERS)]  # a column for a fifth option that this row does not have
    if len(options) > len(LETTERS):
        return f"it has {len(options)} options, not four"
    if len(set(options)) < len(options):
        return "two of its options are the same"
    return options


def _by_text(path: Path, rows: Table) -> bool:
    """Whether a file names the right option by its text, so that a number is an option and no place.

    Raises:
        DataError: all answers are numbers written as text, and each is also an option of its row.
    """
    asked = [row for _, row in rows if row.right is None and not isinstance(_four(row), str)]
    if any(row.letter is None and row.number is None and row.named is not None for row in asked):
        return True
    numbers = [row for row in asked if row.number is not None]
    if len(numbers) < len(asked) or not numbers or not all(row.named is not None for row in numbers):
        return False
    raise DataError(
        f"{path}: each of its answers is a number and also the text of an option, so it may mean either; write "
        "letters A to D"
    )


def _firsts(tables: Mapping[Path, Table], told: int | None) -> tuple[dict[Path, int], str]:
    """For each file the number of its first option, and in words how the files name the right answer.

    Raises:
        DataError: numbers that do not say which option is meant, or that contradict what was told.
    """
    counts = {path: _numbers(path, rows) for path, rows in tables.items()}
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
    texts = sum(_by_text(path, rows) for path, rows in tables.items())
    parts += [f"texts of options in {texts} files"] if texts else []
    if letters := sum(not numbers for numbers in counts.values()) - texts:
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


def _numbers(path: Path, rows: Table) -> Counter[int]:
    """How often each number is the answer to a question with four options; -1 is a hidden answer, not an option."""
    if _by_text(path, rows):
        return Counter()
    asked = (row.number for _, row in rows if row.right is None and not isinstance(_four(row), str))
    return Counter(number for number in asked if number is not None and number != -1)


def _listed(numbers: Counter[int]) -> str:
    parts = [f"{n} (in {count} rows)" for n, count in sorted(numbers.items())[:6]]
    return ", ".join(parts) + (", ..." if len(numbers) > 6 else "")


def _subject(path: Path) -> str:
    """Subject that a file's name stands for, or its folder's where the name is only that of a split."""
    name = _SPLIT.sub("", path.stem)
    return name or path.parent.name


def _table(path: Path) -> list[tuple[int, QuestionRow]]:
    return [(number, question_of(row)) for number, row in read_rows(path).rows]
