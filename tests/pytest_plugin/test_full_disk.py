"""A disk that fills while a run is written: one line, exit code 11, a journal that holds, and a run to go on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded import content

from auditkit.cli import main
from auditkit.pytest_plugin import run as runs
from auditkit.record.journal import read_journal
from auditkit.record.store import is_written

pytestmark = pytest.mark.unit
resource = pytest.importorskip("resource", reason="the size of a file is limited by the system")

FULL = '''

import os, resource

def full(size):
    """Let no file of this process grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    here = report.when == "call" and report.nodeid.endswith(("test_share", "test_share[second]"))
    if here and Path("full-journal").exists() and "PYTEST_XDIST_WORKER" not in os.environ:
        journals = Path("reports").glob("2*/journal.jsonl")
        full(max(journals, key=lambda path: path.stat().st_mtime_ns).stat().st_size + 50)

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    if Path("full-record").exists():
        full(int(Path("full-record").read_text()))
    if Path("room-again").exists():
        full(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
'''


@pytest.fixture
def filling(audits: Any, recorded: Path) -> Iterator[Any]:
    """Audits whose disk can be full: `full-journal` for the second claim, `full-record` for a file beyond a size."""
    with (audits.suite / "conftest.py").open("a") as stream:
        stream.write(FULL)
    audits()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield audits
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def with_room(path: Path) -> None:
    for name in ("full-journal", "full-record"):
        (path / name).unlink(missing_ok=True)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def only_line(result: pytest.RunResult, start: str) -> str:
    """The line that says why; nothing else may say it, and no traceback stands beside it."""
    lines = [*result.outlines, *result.errlines]
    assert not [line for line in lines if "INTERNALERROR" in line or "Traceback" in line]
    (line,) = [line for line in lines if "make room" in line]
    assert f"cannot write {start}" in line
    return line


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["serial", "workers"]
)
def test_a_claim_that_does_not_fit_ends_the_run_and_the_others_stay(
    filling: Any, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    whole = filling.folder
    (filling.path / "full-journal").touch()
    before = filling.folders()
    result = filling(*workers)
    with_room(filling.path)
    assert result.ret == 11
    (name,) = filling.folders() - before
    folder = filling.path / "reports" / name
    said = f"the journal in reports/{name}: File too large; make room, and go on with --resume"
    assert said in only_line(result, "the journal")
    there = [entry.claim.id for entry in read_journal(folder / "journal.jsonl")[1]]
    assert "suite/share" not in there
    assert workers or there == ["suite/once"], "two workers have claims of one suite, in whichever order they end"
    assert (folder / "journal.jsonl").read_bytes().endswith(b"\n"), "nothing is left of the line that did not fit"
    assert filling.folder == whole
    assert not is_written(folder)
    monkeypatch.chdir(filling.path)
    assert main(["github", "reports/latest"]) == 11, "it is not taken for the present run's"
    result = filling("--resume", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"resuming *{name}: {len(there)} of 3 claims are taken over"])
    assert filling.folder == folder
    assert content(folder, processes=False) == content(whole, processes=False)


@pytest.mark.parametrize("file", ["items.parquet", "audit.json", "audit.html"])
def test_a_record_that_does_not_fit_is_written_when_there_is_room(filling: Any, file: str) -> None:
    whole = filling.folder
    (filling.path / "full-record").write_text(str((whole / file).stat().st_size - 500))
    before = filling.folders()
    result = filling()
    with_room(filling.path)
    assert result.ret == 11
    only_line(result, "the record to reports: File too large")
    (name,) = filling.folders() - before
    folder = filling.path / "reports" / name
    assert not (folder / file).exists()
    assert not is_written(folder)
    assert not list(folder.glob(".*.*.????????")), "nothing is left of the file that did not fit"
    assert len(read_journal(folder / "journal.jsonl")[1]) == 3
    assert filling.folder == whole
    result = filling("--resume")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"resuming *{name}: 3 of 3 claims are taken over"])
    assert filling.folder == folder
    assert content(folder, processes=False) == content(whole, processes=False)


def test_the_last_claim_that_does_not_fit_makes_no_whole_record(filling: Any) -> None:
    """Also where there is room for the record again, which would then hold a claim that the journal lacks."""
    whole, before = filling.folder, filling.folders()
    (filling.path / "full-journal").touch()
    (filling.path / "room-again").touch()
    result = filling("-k", "share")
    with_room(filling.path)
    assert result.ret == 11
    (name,) = filling.folders() - before
    assert not (filling.path / "reports" / name / "audit.json").exists()
    assert filling.folder == whole
    assert filling("-k", "share", "--resume").ret == 0


def test_a_journal_that_cannot_begin_ends_the_run_before_a_claim(
    audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "Journal", full)
        result = audits()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: cannot begin a journal in reports: No space left on device; *"])
    assert audits.folder == recorded
    assert audits("--resume").ret == 4
    assert audits().ret == 0


@pytest.mark.slow
def test_several_models_are_continued_one_by_one(filling: Any) -> None:
    second, before = filling.copy("second"), filling.folders()
    (filling.path / "full-journal").touch()
    result = filling("--model", str(second))
    with_room(filling.path)
    assert result.ret == 11
    assert "go on with each model alone and --resume FOLDER" in only_line(result, "the journal")
    folders = {name.partition("-")[2]: name for name in filling.folders() - before}
    assert len(folders) == 2
    result = filling("--resume", f"reports/{folders['second']}", model=second)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["resuming *: 1 of 3 claims are taken over"])
