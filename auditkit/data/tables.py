"""Rows of a data file, whatever its name: the layout is told by the file's content.

Read are Parquet, Arrow (files and the streams that `datasets.save_to_disk` writes), JSON arrays, JSON objects that hold
their rows under one name or column by column, JSON lines, and delimited text with comma, tab, semicolon or bar. A byte
order mark is no text. What is none of these is refused in one line that says what the file is.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit.data.bounds import require_arrow, require_file, require_size, require_table
from auditkit.data.errors import DataError
from auditkit.data.files import json_lines, text_of

PARQUET, ARROW, JSON, LINES, TEXT = "Parquet", "Arrow", "JSON", "JSON lines", "text"
DELIMITERS = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons", "|": "CSV with bars"}
NAMES = frozenset(
    (
        *("question", "question_stem", "stem", "query", "problem", "prompt"),
        *("choices", "options", "answer", "answerkey"),
        *("answer_key", "answer_idx", "answer_index", "cop", "correct", "correct_answer", "correct_option"),
        *("right_answer", "gold", "target", "label", "subject", "category", "tokens", "coreference_clusters"),
        *("context", "question_polarity", "context_condition", "answer_info", "ans0", "ans1", "ans2"),
        *("sent_more", "sent_less", "bias_type", "stereo_antistereo", "sentid", "sentence", "occupation"),
        *("bls_pct_female", "template", "group", "favourable", "unfavourable", "favorable", "unfavorable"),
        *("attribute", "case", "domain", "id", "topic", "start", "right", "wrong"),
        *("goal", "behavior", "forbidden_prompt", "instruction", "request", "kind", "index", "harmful"),
        *("harmless", "semanticcategory", "contextstring"),
    )
)
"""Names of columns in layouts known here, in small letters: two of them in a first row make it a header."""
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; save the sheet as 'CSV UTF-8', or unpack the archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as 'CSV UTF-8'",
    b"\x1f\x8b": "packed with gzip; unpack it",
    b"BZh": "packed with bzip2; unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it",
    b"\xfd7zXZ": "packed with xz; unpack it",
    b"\x80\x04": "a Python pickle, which is never opened; save the table as CSV or Parquet",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"%PDF": "a PDF document",
    b"<!DO": "a web page, so the download went wrong; fetch the file itself",
    b"<htm": "a web page, so the download went wrong; fetch the file itself",
    b"version https://git-lfs": "a pointer of Git LFS and not the file; fetch it with 'git lfs pull'",
    b"\xff\xfe": "not UTF-8 but UTF-16, as Excel's 'Unicode text' is; save it as 'CSV UTF-8'",
    b"\xfe\xff": "not UTF-8 but UTF-16, as Excel's 'Unicode text' is; save it as 'CSV UTF-8'",
}
_LOOKED_AT = 50
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


@dataclass(frozen=True)
class Rows:
    """The rows of a file.

    Attributes:
        format: what the file is: "CSV", "JSON lines", "Parquet", ...
        rows: number of each row, and its fields by name; by position where the file has no header.
        names: the names of the fields, empty without a header.
    """

    format: str
    rows: tuple[tuple[int, Mapping[str, Any] | Sequence[str]], ...]
    names: tuple[str, ...]

    @property
    def named(self) -> list[tuple[int, Mapping[str, Any]]]:
        """The rows that have their fields by name."""
        return [(number, row) for number, row in self.rows if isinstance(row, Mapping)]


def read_rows(path: Path) -> Rows:
    """The rows of a file.

    Rows of delimited text and of tables are numbered from 1, a header included; rows of JSON lines by their line.

    Raises:
        DataError: it cannot be opened or read, or is of no kind that is read here; in one line that says what it is.
    """
    start = _start(path)
    if start.startswith(b"PAR1"):
        return _columns(path, PARQUET)
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return _columns(path, ARROW)
    require_size(path)
    if b"\0" in start:
        raise DataError(f"{path}: it is a binary file of no kind that is read here; save it as CSV or Parquet")
    text = text_of(path)
    if not text.strip():
        raise DataError(f"{path}: holds no questions, since it is empty")
    head = text.lstrip()[0]
    named = path.suffix.lower() in (".json", ".jsonl", ".ndjson")
    if head in "{[" or named:
        whole = _loaded(path, text)
        if head == "{" or named or isinstance(whole, list):
            return _json(path, text, whole)
    return _delimited(path, text)


def check_readable(path: Path) -> None:
    """Refuse a file of a kind that is not read here, by its first bytes.

    Raises:
        DataError: in one line that says what the file is.
    """
    _start(path)


def _start(path: Path) -> bytes:
    try:
        require_file(path)
        with path.open("rb") as stream:
            start = stream.read(4096)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise DataError(f"{path}: it is {what}")
    if path.suffix.lower() == ".parquet" and not start.startswith(b"PAR1"):
        raise DataError(f"{path}: no Parquet file (it does not begin as one)")
    return start


def _loaded(path: Path, text: str) -> object:
    """What the text is as one JSON document; the error that says where it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: its lists or objects are nested too deeply") from None
    except ValueError as error:
        return error


def _json(path: Path, text: str, whole: object) -> Rows:
    if isinstance(whole, ValueError):
        # Many objects, one a line; one object over several lines is broken JSON, and its own error says where.
        if text.lstrip()[0] == "[":
            raise DataError(f"{path}: not JSON ({whole})") from whole
        return _of_objects(LINES, list(json_lines(path)))
    objects = whole if isinstance(whole, list) else _unwrapped(path, whole)
    if objects == [whole] and "\n" not in text.strip():
        return _of_objects(LINES, list(json_lines(path)))
    for number, row in enumerate(objects, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, entry {number}: not an object of fields")
    if not objects:
        raise DataError(f"{path}: holds no questions, since it has no entries")
    return _of_objects(JSON, list(enumerate(objects, 1)))


def _tables_in(whole: Mapping[str, Any]) -> list[str]:
    """The names under which an object holds rows."""
    return [k for k, v in whole.items() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]


def _unwrapped(path: Path, whole: object) -> list[Any]:
    """The rows of a JSON object: those under the one name that holds rows, those of its columns, or the object."""
    if not isinstance(whole, dict):
        raise DataError(f"{path}: not an object of fields, and no list of them")
    if len(tables := [name for name in _tables_in(whole) if name.lower() not in NAMES]) == 1:
        rows: list[Any] = whole[tables[0]]
        return rows
    columns = {name: list(v.values()) if isinstance(v, dict) else v for name, v in whole.items()}
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns.values()}
    by_column = len(lengths) == 1 and min(lengths) > 0 and len(whole.keys() & NAMES) > 1
    if by_column and isinstance(columns.get("question", [""])[0], str):
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [whole]


def _of_objects(format: str, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Rows:
    return Rows(
        format, tuple(rows), tuple(dict.fromkeys(str(name) for _, row in rows[:_LOOKED_AT] for name in row))
    )


def _columns(path: Path, format: str) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        if format == PARQUET:
            require_table(path, pyarrow.parquet.read_metadata(path))
            table = pyarrow.parquet.read_table(path)
        else:
            require_arrow(path)
            with pyarrow.memory_map(str(path)) as source:
                stream = path.read_bytes()[:6] != b"ARROW1"
                table = (pyarrow.ipc.open_stream if stream else pyarrow.ipc.open_file)(source).read_all()
                return _of_table(format, table)
        return _of_table(format, table)
    except DataError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: no {format} file ({' '.join(str(error).split())})") from error


def _of_table(format: str, table: Any) -> Rows:
    table.validate(full=True)  # a file may name places outside its own buffers, which to_pylist would read
    rows = table.to_pylist()
    for column, names in _classes(table.schema).items():
        for row in rows:
            if isinstance(place := row.get(column), int) and 0 <= place < len(names):
                row[column] = names[place]
    return Rows(format, tuple(enumerate(rows, 1)), tuple(table.column_names))


def _classes(schema: Any) -> dict[str, list[str]]:
    """Column -> the names that its numbers stand for, as the library `datasets` writes them into a table's schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            k: list(v["names"])
            for k, v in features.items()
            if isinstance(v, dict) and v.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError):
        return {}


def _delimited(path: Path, text: str) -> Rows:
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, Mapping[str, Any] | Sequence[str]]] = []
    header: list[str] | None = None
    try:
        for number, fields in enumerate(reader, 1):
            if not any(field.strip() for field in fields):
                continue
            if not rows and header is None and (found := _header(fields)) is not None:
                header = found
            elif header is None:
                rows.append((number, fields))
            elif len(fields) == len(header):
                rows.append((number, dict(zip(header, fields, strict=True))))
            else:  # fields too few or too many: which is which cannot be told by name
                rows.append((number, fields))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    # pandas writes the numbers of the columns above a table without header, and those of the rows before it.
    if rows and header is None:
        first = [field for field in rows[0][1] if field]
        if len(first) > 1 and first == [str(n) for n in range(len(first))]:
            rows = [(number, list(row)[-len(first) :]) for number, row in rows[1:]]
    return Rows(DELIMITERS[delimiter], tuple(rows), tuple(header or ()))


def _header(fields: Sequence[str]) -> list[str] | None:
    """The names of the columns, where the first row holds them."""
    names = [field.strip() for field in fields]
    known = {name.lower() for name in names} & NAMES
    return names if len(known) > 1 or (known and len(names) == 1) else None


def _delimiter(text: str) -> str:
    """What stands between the fields: what gives a header that is known, else as many fields in most rows."""
    ranked = []
    for place, delimiter in enumerate(DELIMITERS):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            rows = [fields for _, fields in zip(range(_LOOKED_AT), reader, strict=False) if fields]
        except csv.Error:
            continue
        widths = [len(fields) for fields in rows]
        usual = max(set(widths), key=lambda width: (widths.count(width), width), default=0)
        known = len({field.strip().lower() for field in rows[0]} & NAMES) if rows else 0
        same = widths.count(usual) / len(widths) if usual > 1 else 0.0
        ranked.append((known if known > 1 else 0, round(same, 1), usual == 6, -place, delimiter))
    return max(ranked)[-1] if ranked else ","
