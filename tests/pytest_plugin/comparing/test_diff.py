"""`auditkit diff`: the same numbers as a run with `--baseline`, long after both models are gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from auditkit.cli import main
from auditkit.gate.changes import compare
from auditkit.record.baseline import read_recorded
from auditkit.record.schema import SCHEMA_VERSION
from auditkit.record.store import AUDIT_JSON, ITEMS_PARQUET, item_rows

pytestmark = pytest.mark.unit


def test_two_recorded_runs_are_compared_as_a_run_compares_itself(
    audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audits.plant(shift=-0.8)
    audits()
    alone = audits.folder
    audits("--baseline", str(recorded))
    monkeypatch.chdir(audits.path)
    was, now, gated = (read_recorded(folder, "x") for folder in (recorded, alone, audits.folder))
    run = compare(now.run, item_rows(now.items), was)
    kept = {
        "suite/once",
        "suite/share",
    }  # the third asks for the baseline, so a run without one is no match for it
    assert {c.id: c.change for c in run.claims if c.id in kept} == {
        c.id: c.change for c in gated.run.claims if c.id in kept
    }
    again = compare(gated.run, item_rows(gated.items), was)
    assert again.claims == gated.run.claims
    assert again.untested == gated.run.untested, "said once, however often it is compared"

    capsys.readouterr()
    assert main(["diff", str(recorded), "reports/latest"]) == 1
    out = capsys.readouterr().out
    (effect,) = audits.claim("once").change.effects
    assert (
        "Fails now\n  ✓ PASS            → ✗ FAIL            suite/once\n    lower: effect minus the baseline: "
        in out
    )
    page = audits.folder / f"diff-{recorded.name}.html"
    assert f"page: {page}" in out
    assert "effect minus the baseline" not in page.read_text().split("Effects")[0].split("<main")[0]
    assert f"{effect.n}</span> items in" in page.read_text()
    assert main(["diff", "reports/latest", "reports/latest", "--out", "same.html"]) == 0
    assert "0 lower" in capsys.readouterr().out
    assert main(["baseline", "set", "released", str(recorded)]) == 0
    assert main(["diff", "released", str(alone)]) == 1, "a name will do"
    assert main(["show", "released"]) == 0


def damaged(folder: Path) -> None:
    (folder / ITEMS_PARQUET).write_bytes(b"PAR1")


def truncated(folder: Path) -> None:
    text = (folder / AUDIT_JSON).read_text()
    (folder / AUDIT_JSON).write_text(text[: len(text) // 2])


def other_version(folder: Path) -> None:
    text = (folder / AUDIT_JSON).read_text()
    (folder / AUDIT_JSON).write_text(text.replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 99'))


def test_what_cannot_be_compared_or_merged_is_one_line_and_nothing_is_written(
    audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(audits.path)
    bad = audits.path / "bad"
    for spoil, said in (
        (damaged, "is not the file that audit.json was written with"),
        (truncated, "is not a whole audit record"),
        (other_version, "has schema version 99; this auditkit reads version"),
    ):
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(recorded, bad)
        spoil(bad)
        before = {path: path.stat().st_mtime_ns for path in audits.path.rglob("*")}
        for args in (
            ["diff", str(recorded), "bad"],
            ["diff", "bad", str(recorded)],
            ["merge", "bad", str(recorded)],
        ):
            capsys.readouterr()
            assert main(args) == 11
            printed = capsys.readouterr()
            assert (printed.out, len(printed.err.splitlines())) == ("", 1)
            assert said in printed.err
        assert {path: path.stat().st_mtime_ns for path in audits.path.rglob("*")} == before
    assert main(["diff", str(recorded), str(recorded), "--out", "no/such/folder.html"]) == 4
    assert "cannot write no/such/folder.html" in capsys.readouterr().err
