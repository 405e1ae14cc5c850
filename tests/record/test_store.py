"""Run folders: written whole or not at all, and read back only when whole."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditkit.record.schema import (
    SCHEMA_VERSION,
    ItemRow,
)
from auditkit.record.store import (
    AUDIT_JSON,
    ITEMS_PARQUET,
    RecordError,
    atomic_write,
    new_run_folder,
    point_latest,
    read_items,
    read_run,
    require_writable,
    write_run,
)

pytestmark = pytest.mark.unit

NOW = datetime(2025, 7, 11, 12, 30, 5, tzinfo=UTC)
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def row(number: int, value: float | None, item: str = "item") -> ItemRow:
    return ItemRow(
        claim="c",
        measurement="m",
        condition="clean",
        item=f"{item}{number}",
        clusters="t=a",
        value=value,
        unit="logit",
    )


def refused(path: Path) -> str:
    with pytest.raises(RecordError) as raised:
        read_run(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- atomic_write ----------------------------------------------------------------------------------------------


def test_a_file_appears_whole_with_the_permissions_of_any_file(tmp_path):
    atomic_write(tmp_path / "new", b"content")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "new").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "plain"]


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, error):
    def fail(*args: object) -> None:
        raise error

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        atomic_write(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# -- folders ---------------------------------------------------------------------------------------------------


def test_a_report_folder_is_made_and_left_empty(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(("below", "why"), [("", "File exists"), ("/reports", "Not a directory")])
def test_a_report_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path, below, why):
    (tmp_path / "file").write_bytes(b"")
    folder = Path(f"{tmp_path}/file{below}")
    with pytest.raises(RecordError) as raised:
        require_writable(folder)
    assert str(raised.value) == f"cannot write reports to {folder}: {why}; name another folder with --audit-dir"


def test_runs_within_one_second_have_folders_of_their_own(tmp_path):
    names = [new_run_folder(tmp_path / "reports", "smollm2", NOW).name for _ in range(3)]
    stem = "20250711T123005Z-smollm2"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


@given(st.text(st.characters(), max_size=300))
@quick
def test_a_folder_name_holds_nothing_that_a_shell_or_a_path_reads(tmp_path, model):
    folder = new_run_folder(tmp_path, model, NOW)
    assert folder.parent == tmp_path
    assert re.fullmatch(r"20250711T123005Z-[A-Za-z0-9_][A-Za-z0-9._-]*", folder.name)
    folder.rmdir()


@pytest.mark.parametrize(
    ("model", "name"),
    [("../../etc", "etc"), ("org/model", "org-model"), ("ö", "model"), ("", "model"), ("x" * 400, "x" * 100)],
)
def test_a_model_name_becomes_part_of_a_folder_name(tmp_path, model, name):
    assert new_run_folder(tmp_path, model, NOW).name == f"20250711T123005Z-{name}"


def test_latest_points_at_the_newest_run_and_moves_with_its_folder(tmp_path):
    reports = tmp_path / "reports"
    for name in ("one", "two"):
        (reports / name).mkdir(parents=True)
        point_latest(reports / name)
    assert os.readlink(reports / "latest") == "two"
    moved = reports.rename(tmp_path / "elsewhere")
    assert (moved / "latest").resolve() == (moved / "two").resolve()
    assert sorted(p.name for p in moved.iterdir()) == ["latest", "one", "two"]


def test_a_folder_named_latest_is_left_alone(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "one").mkdir()
    with pytest.raises(RecordError, match=r"cannot make .*latest point at one"):
        point_latest(tmp_path / "one")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "one"]


# -- runs ------------------------------------------------------------------------------------------------------


@given(st.data())
@quick
def test_a_run_is_read_back_as_it_was_written(records, tmp_path, data):
    run = write_run(tmp_path, data.draw(records["run"]), [])
    assert run.items_sha256 == hashlib.sha256((tmp_path / ITEMS_PARQUET).read_bytes()).hexdigest()
    assert read_run(tmp_path) == read_run(tmp_path / AUDIT_JSON) == run


def test_writing_the_same_run_gives_the_same_bytes(a_run, tmp_path):
    contents = []
    for _ in range(2):
        write_run(tmp_path, read_run(tmp_path) if contents else a_run, [row(0, 0.5)])
        contents.append([(tmp_path / name).read_bytes() for name in (AUDIT_JSON, ITEMS_PARQUET)])
    assert contents[0] == contents[1]


def test_a_record_cut_anywhere_is_refused_in_one_line(a_run, tmp_path):
    write_run(tmp_path, a_run, [])
    file = tmp_path / AUDIT_JSON
    whole = file.read_bytes()
    assert len(whole) > 97 * 10
    for cut in (*range(0, len(whole) - 1, 97), len(whole) - 2):
        file.write_bytes(whole[:cut])
        assert refused(tmp_path).startswith(f"{file} is not a whole audit record: "), cut


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b'{"schema_version": %d, "created": "\xff"}' % SCHEMA_VERSION,
        b"[]",
        b"null",
        b"[" * 100_000,
        b'"x"',
    ],
)
def test_what_is_no_record_is_refused_in_one_line(tmp_path, content):
    (tmp_path / AUDIT_JSON).write_bytes(content)
    assert "is not a whole audit record" in refused(tmp_path)


@pytest.mark.parametrize("version", [0, 1, SCHEMA_VERSION + 1, -1, 10**6])
def test_another_schema_version_is_said_in_one_line(a_run, tmp_path, version):
    document = msgspec.to_builtins(a_run) | {"schema_version": version, "added_later": {}}
    (tmp_path / AUDIT_JSON).write_bytes(msgspec.json.encode(document))
    said = refused(tmp_path)
    assert f"has schema version {version}; this auditkit reads version {SCHEMA_VERSION}" in said


def test_an_unknown_field_is_refused_with_its_path(a_run, tmp_path):
    document = msgspec.to_builtins(a_run)
    document["claims"][1]["effect"]["p_value"] = 0.01
    (tmp_path / AUDIT_JSON).write_bytes(msgspec.json.encode(document))
    said = refused(tmp_path)
    assert "unknown field `p_value`" in said
    assert "$.claims[1].effect" in said


@pytest.mark.parametrize("name", ["", AUDIT_JSON, "absent/audit.json"])
def test_a_record_that_is_not_there_is_said_in_one_line(tmp_path, name):
    assert refused(tmp_path / name).startswith("cannot read ")


# -- items -----------------------------------------------------------------------------------------------------


def test_items_are_read_back_with_missing_values(a_run, tmp_path):
    write_run(tmp_path, a_run, [row(0, 0.5), row(1, None), row(2, -1e300)])
    for path in (tmp_path, tmp_path / ITEMS_PARQUET):
        table = read_items(path)
        assert tuple(table.columns) == ItemRow.__struct_fields__
        assert list(table["item"]) == ["item0", "item1", "item2"]
        np.testing.assert_array_equal(table["value"], [0.5, np.nan, -1e300])


def test_no_items_are_a_table_with_all_columns(a_run, tmp_path):
    write_run(tmp_path, a_run, iter(()))
    table = read_items(tmp_path)
    assert (len(table), tuple(table.columns)) == (0, ItemRow.__struct_fields__)
    assert table["value"].dtype == np.float64


@given(st.data())
@quick
def test_any_items_survive_their_file(a_run, records, tmp_path, data):
    rows = data.draw(st.lists(records["row"], max_size=5))
    write_run(tmp_path, a_run, rows)
    table = read_items(tmp_path)
    for name in ItemRow.__struct_fields__:
        back = [None if value != value else value for value in table[name]]
        assert back == [getattr(r, name) for r in rows]


def test_text_that_no_file_can_hold_does_not_lose_the_run(a_run, tmp_path):
    write_run(tmp_path, msgspec.structs.replace(a_run, created="\ud83d"), [row(0, 1.0, "half \ud83d")])
    assert read_run(tmp_path).created == "\ufffd"
    assert list(read_items(tmp_path)["item"]) == ["half \ufffd0"]


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_items_that_are_missing_or_damaged_are_said_in_words(tmp_path, content):
    if content is not None:
        (tmp_path / ITEMS_PARQUET).write_bytes(content)
    with pytest.raises(RecordError, match="cannot read the items in ") as raised:
        read_items(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["unit"]),
        lambda table: table.rename_columns([f"{name}s" for name in table.column_names]),
        lambda table: table.set_column(0, "claim", pa.nulls(len(table), pa.string())),
        lambda table: table.set_column(0, "claim", pa.array([1] * len(table))),
        lambda table: table.append_column("more", pa.nulls(len(table))),
    ],
    ids=["gone", "renamed", "nothing", "numbers", "more"],
)
def test_items_with_other_columns_are_refused_in_one_line(tmp_path, a_run, change):
    row = ItemRow(claim="c", measurement="m", condition="c", item="i", clusters="t=a", value=None, unit="u")
    write_run(tmp_path, a_run, [row])
    assert read_items(tmp_path)["value"].isna().all()
    pq.write_table(change(pq.read_table(tmp_path / ITEMS_PARQUET)), tmp_path / ITEMS_PARQUET)
    with pytest.raises(RecordError, match="cannot read the items in"):
        read_items(tmp_path)
