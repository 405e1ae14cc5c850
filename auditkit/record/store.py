"""Run folders on disk: written whole or not at all, read back validated.

A file is written under a temporary name in its own folder and moved into place, so a reader never sees half of
it and a full disk or a kill leaves the previous file as it was.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from auditkit.record.canonical import canonical, without_surrogates
from auditkit.record.escaping import path_part, plain
from auditkit.record.schema import SCHEMA_VERSION, ItemRow, Run

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

AUDIT_JSON = "audit.json"
ITEMS_PARQUET = "items.parquet"
JOURNAL = "journal.jsonl"
_WRITING = ".writing"


class RecordError(Exception):
    """A run folder that cannot be written or read; the message is one line that says what to do."""


class NotVerified(RecordError):
    """A record or journal that was read and does not hold."""


def atomic_write(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that it appears there whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes 0600; a report is meant to be passed on
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def require_writable(reports: Path) -> None:
    """Refuse a report folder that cannot be written, before anything is measured.

    Raises:
        RecordError: naming the folder and the system's reason.
    """
    try:
        reports.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=reports):
            pass
    except OSError as error:
        raise RecordError(
            f"cannot write reports to {reports}: {error.strerror or error}; name another folder with --audit-dir"
        ) from None


def new_run_folder(reports: Path, model: str, now: datetime | None = None) -> Path:
    """Create `reports/<UTC time>-<model>`; a second run in the same second gets a counter."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    name = f"{stamp}-{path_part(model, 'model')}"
    for attempt in range(1, 1000):
        folder = reports / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise RecordError(f"{reports} already holds 1000 runs named {name}")


def write_run(folder: Path, run: Run, items: Iterable[ItemRow]) -> Run:
    """Write audit.json and items.parquet into `folder`; the run as written, with the digest of its items."""
    table = _parquet(items)
    run = msgspec.structs.replace(run, items_sha256=hashlib.sha256(table).hexdigest())
    atomic_write(folder / ITEMS_PARQUET, table)
    atomic_write(folder / AUDIT_JSON, msgspec.json.format(msgspec.json.encode(canonical(run)), indent=1) + b"\n")
    return run


@contextmanager
def writing(folder: Path, done: bool = True) -> Iterator[None]:
    """Mark `folder` as unfinished while its outputs are written one after the other and `latest` is moved.

    Args:
        done: False leaves the mark: the run was cut off, and is to be continued.

    Each file appears whole, but a kill may come between two of them; the mark then says that the run is to be
    continued although its `audit.json` is there. What a kill left of a file under way is removed.
    """
    mark = folder / _WRITING
    mark.touch()
    for rest in folder.glob(".*.*.????????"):
        rest.unlink(missing_ok=True)
    yield
    if done:
        mark.unlink()


def is_written(folder: Path) -> bool:
    """Whether the run in `folder` has come to its end: the record, its outputs, and `latest`."""
    return (folder / AUDIT_JSON).exists() and not (folder / _WRITING).exists()


def point_latest(folder: Path) -> None:
    """Make `reports/latest` point at `folder`, in one step and relative, so that reports/ can be moved.

    Raises:
        RecordError: `latest` is a folder of its own, or the file system has no links.
    """
    link = folder.parent / "latest"
    temporary = folder.parent / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(folder.name, target_is_directory=True)
        os.replace(temporary, link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RecordError(f"cannot make {link} point at {folder.name}: {error.strerror or error}") from None


def read_run(path: Path | str) -> Run:
    """Read and validate a run; `path` is a run folder or its audit.json.

    Raises:
        RecordError: absent, truncated, another schema version, or a field that does not fit (with its path).
    """
    path = Path(path)
    file = path / AUDIT_JSON if path.is_dir() else path
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise RecordError(f"cannot read {file}: {error.strerror or error}") from None
    try:
        version = msgspec.json.decode(raw, type=_Versioned).schema_version
        if version != SCHEMA_VERSION:
            raise RecordError(
                f"{file} has schema version {version}; this auditkit reads version {SCHEMA_VERSION}: "
                "open it with the auditkit version that wrote it (see tool.version in the file)"
            )
        return msgspec.json.decode(raw, type=Run)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{file} is not a whole audit record: {plain(str(error))}") from None


def read_items(path: Path | str) -> pd.DataFrame:
    """The items of a run, one row per claim, measurement, condition and item (columns of `ItemRow`).

    Raises:
        RecordError: absent, damaged, or with other columns than a run writes.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    file = path / ITEMS_PARQUET if path.is_dir() else path
    try:
        if not pq.read_schema(file).equals(_item_schema()):
            raise RecordError(f"cannot read the items in {file}: the columns are not those that a run writes")
        items = pd.read_parquet(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RecordError(f"cannot read the items in {file}: {' '.join(str(error).split())}") from None
    if items.drop(columns="value").isna().to_numpy().any():
        raise RecordError(f"cannot read the items in {file}: a row has no name where a run writes one")
    return items


def item_rows(items: pd.DataFrame) -> list[ItemRow]:
    """The rows of a table of items as they were written."""
    values = items.astype(object).where(items.notna(), None)
    return msgspec.convert(values.to_dict("records"), list[ItemRow])


def item_table(rows: Iterable[ItemRow]) -> pd.DataFrame:
    """Rows as `read_items` gives them back."""
    import pandas as pd

    return pd.DataFrame(msgspec.to_builtins(list(rows)), columns=list(ItemRow.__struct_fields__)).astype(
        {"value": float}
    )


class _Versioned(msgspec.Struct):
    schema_version: int


def _item_schema() -> pa.Schema:
    """The columns of items.parquet: text, and one number that may be missing."""
    import pyarrow as pa

    columns = dict.fromkeys(ItemRow.__struct_fields__, pa.string()) | {"value": pa.float64()}
    return pa.schema(list(columns.items()))


def _parquet(items: Iterable[ItemRow]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, schema = msgspec.to_builtins(list(items)), _item_schema()
    try:
        table = pa.Table.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:
        table = pa.Table.from_pylist(without_surrogates(rows), schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
