"""Digests of files: remembered only as long as a file cannot have changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from auditkit.adapters.errors import IntegrityError
from auditkit.adapters.loading import digests

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are really read, in their order; every file counts as settled."""
    read: list[Path] = []
    digest = digests.sha256_of
    monkeypatch.setattr(digests, "sha256_of", lambda path: read.append(path) or digest(path))
    monkeypatch.setattr(digests, "SETTLED", -(10**18))
    return read


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_digest_is_remembered_while_the_file_stays_as_it_is(file: Path, hashed: list[Path]) -> None:
    assert [digests.combined_sha256([file]) for _ in range(3)] == [sha256(b"one")] * 3
    assert len(hashed) == 1


def test_a_file_of_the_same_size_and_time_is_another_file(file: Path, hashed: list[Path], tmp_path: Path) -> None:
    """Overwritten in place, renamed onto it, or linked to another: the time of the entry or the inode tells."""
    digests.remembered_sha256(file)
    times = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert digests.remembered_sha256(file) == sha256(b"two")
    other = tmp_path / "other"
    other.write_bytes(b"six")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)
    assert digests.remembered_sha256(file) == sha256(b"six")
    linked = tmp_path / "linked"
    linked.write_bytes(b"ten")
    os.utime(linked, ns=(times.st_atime_ns, times.st_mtime_ns))
    file.unlink()
    file.symlink_to(linked)
    assert digests.remembered_sha256(file) == sha256(b"ten")


def test_a_file_that_was_changed_a_moment_ago_is_hashed_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests.remembered_sha256(file)
    assert not (digests.cache_root() / "digests").exists(), "a coarse clock would not show the next change"


def test_a_system_without_times_of_entries_remembers_nothing(
    file: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "stamp", lambda path: (1, 0, 3, 0, 0))  # no inode, as some file systems have it
    for content in (b"one", b"two"):
        file.write_bytes(content)
        assert digests.remembered_sha256(file) == sha256(content)
    assert not (digests.cache_root() / "digests").exists()


@pytest.mark.parametrize("text", ["half a dig", "z" * 64, "A" * 64, "0" * 65, "\x00", "é" * 64, ""])
def test_a_memory_that_is_no_digest_is_not_believed(file: Path, hashed: list[Path], text: str) -> None:
    digests.remembered_sha256(file)
    (memo,) = (digests.cache_root() / "digests").iterdir()
    memo.write_text(text, encoding="utf-8")
    assert digests.remembered_sha256(file) == sha256(b"one")
    assert memo.read_text() == sha256(b"one")


def test_the_digest_of_several_files_depends_on_names_and_not_on_order(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    assert digests.combined_sha256([one, two]) == digests.combined_sha256([two, one])
    before = digests.combined_sha256([one, two])
    one.rename(tmp_path / "3.safetensors")
    assert digests.combined_sha256([tmp_path / "3.safetensors", two]) != before


@pytest.mark.parametrize("change", ["overwritten", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_opened_is_refused(file: Path, change: str) -> None:
    before = digests.stamps([file])
    digests.require_unchanged(before, "directory m")
    if change == "overwritten":
        file.write_bytes(b"longer")
    elif change == "replaced":
        (file.parent / "other").write_bytes(b"one")
        (file.parent / "other").replace(file)
    else:
        file.unlink()
    with pytest.raises(IntegrityError, match=r"model\.safetensors of directory m was changed while it was opened"):
        digests.require_unchanged(before, "directory m")
