"""Ctrl-C and SIGTERM at every stage: `latest` stays, or moves to a whole run, and the run says what goes on."""

from __future__ import annotations

import errno
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from auditkit.cli import main
from auditkit.pytest_plugin import resume, session
from auditkit.pytest_plugin import run as runs
from auditkit.record.store import is_written, read_run

pytestmark = pytest.mark.unit

STOP = "    import os, signal; Path('stop').exists() and (Path('stop').unlink(), SIGNAL)\n    assert estimate() >"
SIGNALS = {"ctrl-c": "(_ for _ in ()).throw(KeyboardInterrupt)", "sigterm": "os.kill(os.getpid(), signal.SIGTERM)"}


def stopping(audits: Any, how: str) -> None:
    """Let the first claim stop the session once: Ctrl-C there, or a signal from outside."""
    text = (audits.suite / "test_finding.py").read_text()
    stop = "(_ for _ in ()).throw(KeyboardInterrupt)" if how == "ctrl-c" else SIGNALS[how]
    stop = "next(" + stop + ")" if how == "ctrl-c" else stop
    text = text.replace("    assert estimate() >", STOP.replace("SIGNAL", stop))
    (audits.suite / "test_finding.py").write_text(
        text.replace('finding."""', 'finding."""\nfrom pathlib import Path')
    )


def called(audits: Any, *args: str) -> pytest.RunResult:
    """A run in this process, whose interrupt pytester does not pass on to this test."""
    options = ("suite", "--model", str(audits.model), *args)
    result: pytest.RunResult = audits.pytester.runpytest_inprocess(*options, no_reraise_ctrlc=True)
    return result


def said_of(result: pytest.RunResult, start: str) -> str:
    (line,) = [line for line in result.outlines if line.startswith(start)]
    return line.removeprefix(start)


@pytest.mark.parametrize("how", SIGNALS)
def test_a_run_that_is_stopped_says_what_goes_on_and_leaves_latest(audits: Any, how: str) -> None:
    stopping(audits, how)
    assert called(audits).ret == 0
    whole, before = audits.folder, signal.getsignal(signal.SIGTERM)
    (audits.path / "stop").touch()
    result = called(audits, "--seed", "0")
    assert (result.ret, signal.getsignal(signal.SIGTERM)) == (2, before)
    assert audits.folder == whole
    (cut,) = [path for path in (audits.path / "reports").glob("2*") if path != whole]
    assert not is_written(cut)
    command = said_of(result, "to go on: ").partition(" (--resume alone")[0]
    args = shlex.split(command)[1:]
    assert args[-2:] == ["--resume", f"reports/{cut.name}"]
    again = audits.pytester.runpytest_inprocess(*(args if how == "ctrl-c" else [*args[:-1]]))
    assert again.ret == 0
    assert audits.folder == cut
    assert [c.verdict for c in read_run(cut).claims] == [c.verdict for c in read_run(whole).claims]
    assert not list((audits.path / "reports").glob(".begun*"))


@pytest.mark.parametrize("apart", [False, True])
def test_a_run_that_is_stopped_twice_is_not_taken_for_a_whole_one(
    audits: Any, recorded: Path, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second signal comes while pytest reports the first: with it (the system sends several), or later."""
    monkeypatch.setattr(resume, "_ONE_PRESS", 0.0 if apart else 100.0)
    stopping(audits, "sigterm")
    again = (
        "import os, signal\n\ndef pytest_keyboard_interrupt(excinfo):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    (audits.path / "conftest.py").write_text(again)
    (audits.path / "stop").touch()
    if apart:
        with pytest.raises(KeyboardInterrupt):
            called(audits, "--seed", "0")
    else:
        assert called(audits, "--seed", "0").ret == 2
    assert audits.folder == recorded
    (cut,) = [path for path in (audits.path / "reports").glob("2*") if path != recorded]
    assert not is_written(cut)
    assert called(audits, "--seed", "0", "--resume").ret == 0
    assert audits.folder == cut


def test_a_run_that_is_stopped_while_its_model_opens_has_nothing_to_resume(
    audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = audits.folders()
    with monkeypatch.context() as patched:
        patched.setattr(session, "open_model", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        result = called(audits)
    assert result.ret == 2
    said = "nothing was measured, so there is nothing to resume: run the same command again"
    assert said in result.outlines
    assert (audits.folder, audits.folders()) == (recorded, folders)
    result = called(audits, "--resume")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*a run that ends while its model is opened has measured nothing*"])
    monkeypatch.chdir(audits.path)
    capsys.readouterr()
    assert main(["github", "reports/latest"]) == 11
    assert capsys.readouterr().out == ""


def test_a_signal_while_the_record_is_written_lets_it_be_written_whole(
    audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = runs.write_folder

    def stopped(*args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return write(*args, **options)

    monkeypatch.setattr(runs, "write_folder", stopped)
    assert called(audits).ret == 0
    assert audits.folder != recorded
    assert is_written(audits.folder)


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(runs, "write_folder", full)
        result = called(audits)
    assert result.ret == 11
    said = "cannot write the record to reports: No space left on device; make room, and go on with --resume"
    (line,) = [line for line in (*result.outlines, *result.errlines) if "No space" in line]
    assert said in line
    assert audits.folder == recorded
    assert called(audits, "--resume").ret == 0
    assert audits.folder != recorded


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--collect-only",), "--collect-only measures nothing*"),
        (("--fixtures",), "--fixtures measures nothing*"),
        (("--markers",), "--markers measures nothing*"),
        (("--setup-only",), "--setup-only measures nothing*"),
        (("--version", "--version"), "--version measures nothing*"),
        (("-o", "addopts=--co"), "--collect-only measures nothing*"),
        (("nowhere",), "*nowhere*"),
        (("--audit-model=unheard-of",), "unknown model 'unheard-of'*"),
        (("--no-such-option",), "*unrecognized arguments*"),
        (("--seed", "many"), "*invalid int value*"),
        (("-k", "nothing_of_this_name"), "*no claim to measure*"),
    ],
)
def test_a_command_that_measures_nothing_does_not_pass_nor_report_the_run_before_it(
    audits: Any,
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    line: str,
) -> None:
    result = called(audits, *args)
    assert result.ret == 4
    assert audits.folder == recorded
    result.stderr.fnmatch_lines([f"ERROR: {line}"] if not line.startswith("*") else [line])
    monkeypatch.chdir(audits.path)
    capsys.readouterr()
    assert main(["github", "reports/latest"]) == 11
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (
        f"has written no whole record, so reports/latest is still the run before it, {recorded.name}"
        in printed.err
    )
    assert main(["show", "reports/latest"]) == 0
    assert "note: a run that began" in capsys.readouterr().err
    assert main(["github", str(recorded)]) == 0, "a run that is named by its folder is that run"


def test_a_whole_run_takes_the_marks_of_those_before_it_away(audits: Any, recorded: Path) -> None:
    reports = audits.path / "reports"
    (reports / ".begun-1").write_text("2026-01-01T00:00:00Z")
    assert called(audits).ret == 0
    assert not list(reports.glob(".begun*"))
