"""Where a suite's data come from when they are not the project's own: a file, a folder, or a hub data set.

A source is written `PATH`, `PATH#subject,subject` or `owner/name#subject`; a path that exists wins over a hub id of
the same spelling. What a file is, is told by its content; names only choose which files of a folder are data: those
that end as data do, without what `datasets` writes about itself. Subjects that files are named after choose those
files. Of a data set with several splits, the test split is used, or all that is there where none is a test. Where
multiple-choice answers are numbers, `#answers=0` or `#answers=1` says how the first option is counted, for files that
do not show it. `#language=german` says which language requests are in. `#name` alone is a part of what the suite itself
brings along, where that has names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from auditkit.data.choices import Choices, read_choices
from auditkit.data.errors import DataError
from auditkit.data.hub import snapshot
from auditkit.data.items import COLUMNS, CompletionItem, completion_items
from auditkit.data.tables import check_readable, read_rows

SUFFIXES = (".csv", ".jsonl", ".parquet", ".tsv", ".tab", ".json", ".ndjson", ".arrow")
"""How the names of tables end, in small letters."""
WRITTEN_BY_HAND = (".toml",)
"""Files that a suite reads in a shape of its own, such as grids of personas and tasks; they hold no questions."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_TEST = re.compile(r"(^|[._/-])test\b|(^|/)test/")
_HUB_TESTS = tuple(f"*test*{suffix}" for suffix in SUFFIXES)
_OTHER = re.compile(r"(^|[._/-])(dev|val|validation|train)\b")
_ANSWERS, _LANGUAGE = _OPTIONS = ("answers=", "language=")
_SPLITS = (".test", ".dev")
ANY = (*SUFFIXES, ".txt", *_SPLITS)
"""Files that a suite may read, in whatever layout; WinoBias ends in ".txt.test" and ".txt.dev"."""
_ABOUT = {
    *("dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json", "metadata.json"),
    *("readme.txt", "license.txt", "requirements.txt"),
}
"""What stands beside data and is none, in small letters."""


def read_questions(spec: str) -> tuple[CompletionItem, ...] | Choices:
    """The questions of a source: completion items, or multiple choice.

    A table with the columns of `CompletionItem` holds completion items; everything else is multiple choice.

    Raises:
        DataError: it cannot be found, fetched or read, or lacks a subject that is asked for.
    """
    files, subjects = source_files(spec), source_subjects(spec)
    if len(files) == 1 and set(read_rows(files[0]).names) >= set(COLUMNS):
        items = completion_items(files[0])
        topics = {item.topic for item in items}
        for subject in subjects:
            if subject not in topics:
                raise DataError(f"{spec}: no topic {subject!r}; there are {', '.join(sorted(topics))}")
        return tuple(item for item in items if not subjects or item.topic in subjects)
    return read_choices(files, subjects, source_first(spec))


@lru_cache(maxsize=32)
def source_sha256(spec: str) -> str:
    """SHA-256 over the names and contents of a source's files, and the subjects that are asked for.

    Raises:
        DataError: as `source_files`.
    """
    place = spec.partition("#")[0]
    path = Path(place).expanduser()
    if not place and source_subjects(spec):  # what the suite brings along is in the plan anyway
        files: tuple[Path, ...] = ()
    elif path.suffix in WRITTEN_BY_HAND and path.is_file():
        files = (path,)
    else:
        files = every_file(spec)
    lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    told, language = source_first(spec), source_language(spec)
    options = [] if told is None else [f"{_ANSWERS}{told}"]
    options += [f"{_LANGUAGE}{language}"] if language else []
    return hashlib.sha256("\n".join([*lines, *source_subjects(spec), *options]).encode()).hexdigest()


def check_source(spec: str) -> None:
    """Refuse a source that holds a table that cannot be read, before anything else is done.

    Raises:
        DataError: in one line.
    """
    place = spec.partition("#")[0]
    if not place or (Path(place).suffix in WRITTEN_BY_HAND and Path(place).expanduser().is_file()):
        return
    for path in every_file(spec):
        if path.suffix.lower() not in (".txt", *_SPLITS):
            read_rows(path)


def source_files(spec: str, suffixes: Sequence[str] = SUFFIXES) -> tuple[Path, ...]:
    """The files of questions of a source, fetched from the hub where it names a data set.

    Args:
        suffixes: how the files of a folder end that are data; a file that is named is taken whatever its name.

    Raises:
        DataError: there are none, or a file is of a kind that is not read here, in one line.
    """
    folder, found = _files(spec, suffixes)
    if folder is None or _chosen(spec, found):
        return _chosen(spec, found) or found
    tests = [file for file in found if _TEST.search(_within(folder, file))]
    # The hub's folder "all" holds every subject once more.
    apart = [file for file in tests or found if file.parent.name != "all"]
    return tuple(apart or tests or found)


def every_file(spec: str) -> tuple[Path, ...]:
    """The data files of a source in whatever layout; where there is a test split, other splits are left out.

    Raises:
        DataError: as `source_files`.
    """
    folder, found = _files(spec, ANY)
    if folder is None or _chosen(spec, found):
        return _chosen(spec, found) or found
    if not any(_TEST.search(_within(folder, file)) for file in found):
        return found
    return tuple(file for file in found if not _OTHER.search(_within(folder, file)))


def _chosen(spec: str, found: Sequence[Path]) -> tuple[Path, ...]:
    """The files that the subjects of a source are the names of; none where one of them is no file's name."""
    subjects = source_subjects(spec)
    named = {file.stem for file in found}
    return tuple(file for file in found if file.stem in subjects) if named >= set(subjects) else ()


def _within(folder: Path, file: Path) -> str:
    place = file.relative_to(folder)
    return (place if place.suffix in _SPLITS else place.with_suffix("")).as_posix()


def _files(spec: str, suffixes: Sequence[str]) -> tuple[Path | None, tuple[Path, ...]]:
    """The folder of a source, None where it is one file, and its files with one of these suffixes."""
    place, subjects = spec.partition("#")[0], source_subjects(spec)
    path = Path(place).expanduser()
    wanted: tuple[str, ...] = ("*",)
    if place and path.is_file():
        check_readable(path)
        return None, (path,)
    if place and path.is_dir():
        folder = path
    elif _HUB_ID.fullmatch(place):
        # What else an earlier call has left in the hub's cache is no part of this source.
        wanted = (*_HUB_TESTS, *(f"*{name}{suffix}" for name in subjects for suffix in SUFFIXES))
        folder = _from_hub(place, wanted)
    else:
        raise DataError(f"{place!r} is no file, no folder, and no hub data set of the form owner/name")
    found = _within_folder(folder, suffixes, wanted)
    if not found and folder is not path and not subjects and set(suffixes) >= set(SUFFIXES):  # no test split
        wanted = tuple(f"*{suffix}" for suffix in suffixes)
        found = _within_folder(_from_hub(place, wanted), suffixes, wanted)
    if not found:
        of = f" of {', '.join(subjects)}" if subjects else ""
        raise DataError(f"{place}: holds no {', '.join(suffixes)} file{of}")
    for file in found:
        check_readable(file)
    return folder, found


def _within_folder(folder: Path, suffixes: Sequence[str], patterns: Sequence[str]) -> tuple[Path, ...]:
    """The data files below a folder, in the order of their paths; hidden files and folders are left alone."""
    found = []
    for file in folder.rglob("*"):
        place = file.relative_to(folder)
        if (
            file.suffix.lower() in suffixes
            and file.name.lower() not in _ABOUT
            and not any(part.startswith(".") for part in place.parts)
            and file.is_file()
            and any(fnmatch(place.as_posix(), pattern) for pattern in patterns)
        ):
            found.append(file)
    return tuple(sorted(found))


def source_subjects(spec: str) -> tuple[str, ...]:
    """What is named behind the "#" of a source."""
    return tuple(name for name in _behind(spec) if not name.startswith(_OPTIONS))


def source_language(spec: str) -> str:
    """The language that a source says its texts are in, in small letters; empty where it does not say.

    Raises:
        DataError: more than one.
    """
    told = {name.removeprefix(_LANGUAGE).strip().lower() for name in _behind(spec) if name.startswith(_LANGUAGE)}
    if len(told) > 1:
        raise DataError(f"{spec}: it names {len(told)} languages; write one, such as #language=german")
    return told.pop() if told else ""


def source_first(spec: str) -> int | None:
    """How a source says that numbers count the options of its questions, 0 or 1; None where it does not say.

    Raises:
        DataError: another number, or both.
    """
    told = {name.removeprefix(_ANSWERS).strip() for name in _behind(spec) if name.startswith(_ANSWERS)}
    if not told:
        return None
    if told not in ({"0"}, {"1"}):
        raise DataError(f"{spec}: write #answers=0 where the first option is 0, or #answers=1 where it is 1")
    return int(told.pop())


def _behind(spec: str) -> list[str]:
    return [name.strip() for name in spec.partition("#")[2].split(",") if name.strip()]


def _from_hub(name: str, patterns: tuple[str, ...]) -> Path:
    return snapshot(
        name,
        DataError,
        kind=f"the data set {name}",
        terms="terms",
        missing=f"{name} is no file or folder here, and the hub has no such data set",
        instead="a file or folder",
        repo_type="dataset",
        allow_patterns=list(patterns),
    )
