"""Reading data files: whatever is wrong with a file is one line that names it and the place in it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from auditkit.data.bounds import require_size
from auditkit.data.errors import DataError


def text_of(source: Path | Traversable) -> str:
    """The text of a UTF-8 file, without the byte order mark that spreadsheets like to put before it.

    Raises:
        DataError: the file cannot be opened, is of absurd size, or is not UTF-8.
    """
    try:
        require_size(source)
        return source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}") from error


def toml_of(source: Path | Traversable) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        DataError: as `text_of`, or not TOML.
    """
    try:
        return tomllib.loads(text_of(source))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{source}: {error}") from error


def json_lines(source: Path | Traversable) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The number of each line that is not blank, from 1, and the fields of its object.

    Raises:
        DataError: as `text_of`, or a line that is not a JSON object.
    """
    for number, line in enumerate(text_of(source).split("\n"), start=1):  # texts may hold other line separators
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{source}, line {number}: not JSON ({error})") from error
        if not isinstance(fields, dict):
            raise DataError(f"{source}, line {number}: not an object of fields")
        yield number, fields


def texts_of(where: str, texts: object, needed: int, what: str, seen: set[str]) -> tuple[str, ...]:
    """The texts of one item that was written by hand, which no other item has.

    Args:
        where: file and item, in words.
        needed: how many texts an item has.
        what: they are, in words: "two texts: a harmful and a harmless request".
        seen: texts of the items before; these are added.

    Raises:
        DataError: another number of texts, one that is empty or has outer spaces, or one that was seen.
    """
    if not (isinstance(texts, list) and len(texts) == needed):
        raise DataError(f"{where}: needs {what}")
    for text in texts:
        if not isinstance(text, str) or not text or text != text.strip():
            raise DataError(f"{where}: {text!r} is no text, is empty or has outer spaces")
        if text in seen:
            raise DataError(f"{where}: {text!r} is already in the file")
        seen.add(text)
    return tuple(texts)
