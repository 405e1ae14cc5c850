"""Bounds on data files, checked before a file is read."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError

LONGEST_TEXT = 512
"""Most MiB of a text file: CSV, JSON lines, TOML. MMLU takes 10."""

LONGEST_TABLE = 4096
"""Most MiB of a Parquet file's columns once they are unpacked, which may be many times the size of the file."""

MOST_ROWS = 20_000_000
"""Of a Parquet file."""


def require_size(source: Path | Traversable) -> None:
    """Refuse a text file of absurd size, and what is no file at all, such as a device that never ends.

    Raises:
        DataError: in one line.
        OSError: it is not there, or cannot be looked at.
    """
    if not isinstance(source, Path):
        return
    size = source.stat().st_size
    require_file(source)
    if size > LONGEST_TEXT * 1024**2:
        raise DataError(
            f"{source}: has {size / 1024**2:,.0f} MiB; at most {LONGEST_TEXT} MiB are read, so split it"
        )


def require_table(path: Path, metadata: Any) -> None:
    """Refuse a Parquet file by what its footer says: its rows, and its columns once unpacked.

    Args:
        metadata: pyarrow's `FileMetaData`.

    Raises:
        DataError: in one line.
    """
    size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    if metadata.num_rows > MOST_ROWS or size > LONGEST_TABLE * 1024**2:
        raise DataError(
            f"{path}: has {metadata.num_rows:,} rows in {size / 1024**2:,.0f} MiB; at most {MOST_ROWS:,} rows in "
            f"{LONGEST_TABLE:,} MiB are read, so split it"
        )


def require_file(path: Path) -> None:
    """Refuse what is no file, such as a device that never ends.

    Raises:
        DataError: in one line.
        OSError: it is not there, or cannot be looked at.
    """
    path.stat()
    if not path.is_file():
        raise DataError(f"{path}: is no regular file")


def require_arrow(path: Path) -> None:
    """Refuse an Arrow file of absurd size.

    Raises:
        DataError: in one line.
    """
    size = path.stat().st_size
    if size > LONGEST_TABLE * 1024**2:
        raise DataError(
            f"{path}: has {size / 1024**2:,.0f} MiB; at most {LONGEST_TABLE:,} MiB are read, so split it"
        )
