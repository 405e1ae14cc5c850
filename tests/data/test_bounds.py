"""Data files of absurd size or depth are refused in one line before they are read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditkit.data import bounds
from auditkit.data.choices import read_choices
from auditkit.data.errors import DataError
from auditkit.data.files import json_lines, text_of, toml_of
from auditkit.data.items import completion_items
from auditkit.data.tables import read_rows

pytestmark = pytest.mark.unit

READERS: dict[str, Callable[[Path], Any]] = {
    "text": text_of,
    "toml": toml_of,
    "json lines": lambda path: list(json_lines(path)),
    "items": completion_items,
    "choices": lambda path: read_choices([path]),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_a_terabyte_is_refused_before_it_is_read(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "big.csv"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(DataError, match="has 1,048,576 MiB; at most 512 MiB are read"):
        READERS[reader](path)


def test_a_device_is_no_data_file() -> None:
    with pytest.raises(DataError, match="/dev/zero: is no regular file"):
        text_of(Path("/dev/zero"))


@pytest.mark.parametrize(("reader", "text"), [("toml", "a = " + "[" * 100_000), ("json lines", "[" * 100_000)])
def test_a_file_nested_without_end_is_one_line(tmp_path: Path, reader: str, text: str) -> None:
    path = tmp_path / "deep"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        READERS[reader](path)
    assert len(str(refused.value).splitlines()) == 1


def test_a_table_is_refused_by_what_its_footer_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.parquet"  # a small file whose columns are large once they are unpacked
    pq.write_table(pa.table({"question": ["a" * 1000] * 20_000}), path, compression="zstd")
    monkeypatch.setattr(bounds, "LONGEST_TABLE", 0)
    with pytest.raises(DataError, match=r"has 20,000 rows in .* MiB; at most"):
        read_choices([path])
    rows = SimpleNamespace(num_row_groups=0, num_rows=10**12)
    with pytest.raises(DataError, match="has 1,000,000,000,000 rows"):
        bounds.require_table(path, rows)


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_an_arrow_file_that_points_outside_its_own_bytes_is_one_line(tmp_path: Path, kind: str) -> None:
    """pyarrow reads where the offsets of a column say, and ended the process before they were checked."""
    path = tmp_path / "rows.arrow"
    table = pa.table({"question": ["aa", "bbb"], "answer": ["yes", "no"]})
    with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(str(path), table.schema) as stream:
        stream.write_table(table)
    right, offsets = path.read_bytes(), struct.pack("<3i", 0, 2, 5)
    assert right.count(offsets) == 1
    path.write_bytes(right.replace(offsets, struct.pack("<3i", 0, 2**30, 2**30 + 5)))
    with pytest.raises(DataError, match=r"rows.arrow: no Arrow file \(.*\)$"):
        read_rows(path)
