"""Data files of absurd size or depth are refused in one line before they are read."""

from __future__ import annotations

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
