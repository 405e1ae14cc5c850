"""`auditkit diff`: the same numbers as a run with `--baseline`, long after both models are gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from auditkit.claims.changed import became
from auditkit.cli import main
from auditkit.gate.changes import compare
from auditkit.record.baseline import read_recorded
from auditkit.record.schema import SCHEMA_VERSION
from auditkit.record.store import AUDIT_JSON, ITEMS_PARQUET, item_rows, read_run
from auditkit.report import wording
from auditkit.report.compare import rows
from auditkit.report.compare_page import render_comparison
from auditkit.report.compare_terminal import comparison

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
    assert out.startswith("3 claims got worse: 2 fail now, 1 is no longer decided.\n")
    assert "  ✓ PASS            → ✗ FAIL            suite/once\n    lower: effect minus the baseline: " in out
    page = audits.folder / f"diff-{recorded.name}.html"
    assert f"page: {page}" in out
    assert "effect minus the baseline" not in page.read_text().split("Effects")[0].split("<main")[0]
    assert f"{effect.n}</span> items in" in page.read_text()
    assert main(["diff", "reports/latest", "reports/latest", "--out", "same.html"]) == 0
    assert capsys.readouterr().out.startswith("Nothing changed: all 3 effects are identical, item by item.\n")
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


ASKED_BY_DESIGN = '''"""A finding."""
from auditkit import NotAsked

def by_itself(baseline):
    if baseline.change_is_judged:
        raise NotAsked("with a baseline the change is judged")

def test_holds(estimate, baseline):
    """Is above a limit by itself, which only a run without a baseline asks."""
    by_itself(baseline)
    assert estimate("holds") > 0.5

def test_fails(estimate, baseline):
    """Is above a limit that no model reaches, which only a run without a baseline asks."""
    by_itself(baseline)
    assert estimate("fails") > 5

def test_change(estimate, baseline):
    """Is no worse than on the baseline, by 0.3."""
    now = estimate("change")
    assert now.no_worse_than(baseline(now), by=0.3, better="higher")

def test_unchanged(estimate, baseline):
    """Is that of the baseline within 0.3."""
    now = estimate("unchanged")
    assert now.change_from(baseline(now)).equals(0.0, within=0.3)
'''


@pytest.fixture
def alone(audits: Any, shelf: Any) -> Path:
    """A run without a baseline, of a suite with claims about one model and claims about a change."""
    (audits.suite / "test_finding.py").write_text(ASKED_BY_DESIGN)
    shelf.take("by design", audits.path / "reports", audits)
    return audits.folder


def kinds(audits: Any, was: Path, now: Path) -> dict[str, str | None]:
    """Claim -> what became of it from one recorded run to the other."""
    run = compare(
        read_recorded(now, "now").run, item_rows(read_recorded(now, "now").items), read_recorded(was, "was")
    )
    return {claim.id.removeprefix("suite/"): became(claim) for claim in run.claims}


def test_a_base_recorded_alone_and_a_gate_are_one_comparison(
    audits: Any, alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a gate does not ask by design is no loss, and no recovery either."""
    monkeypatch.chdir(audits.path)
    audits.plant(shift=0.02)
    assert audits("--baseline", str(alone), "--profile", "release").ret == 0
    asked = {claim.id.removeprefix("suite/"): became(claim) for claim in audits.run.claims}
    assert asked == {
        "holds": "is not asked",
        "fails": "is not asked",
        "change": "holds now",
        "unchanged": "holds now",
    }
    assert kinds(audits, alone, audits.folder) == asked, "the gate and diff have one rule"
    assert main(["diff", str(alone), str(audits.folder)]) == 0
    capsys.readouterr()
    audits.plant(shift=-0.8)
    assert audits("--baseline", str(alone)).ret == 1
    assert kinds(audits, alone, audits.folder)["change"] == "fails now"
    assert main(["diff", str(alone), str(audits.folder)]) == 1


def test_a_difference_has_one_interval(audits: Any, alone: Path) -> None:
    """The claim's own, where it judges the difference: a margin is tested more strictly than what is only shown."""
    audits.plant(shift=-0.8)
    audits("--baseline", str(alone))
    for name in ("change", "unchanged"):
        claim = audits.claim(name)
        assert claim.effect is not None
        assert claim.change is not None
        (shown,) = claim.change.effects
        assert shown.name == f"{name} minus the baseline"
        assert (shown.lower, shown.upper, shown.threshold) == (
            claim.effect.lower, claim.effect.upper, claim.effect.threshold,
        )  # fmt: skip
        assert not [line for line in wording.remarks(claim) if "minus the baseline" in line], "said once"
    was, now = read_run(alone), audits.run
    said = [wording.interval(audits.claim(name).effect) for name in ("change", "unchanged")]
    page = render_comparison(was, now).split("<main")[1].split("</main>")[0]
    for text in (page, "\n".join(comparison(was, now, rows(was, now)))):
        assert all(text.count(interval) == said.count(interval) for interval in said)


def test_equal_weights_are_identical(
    audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(audits.path)
    audits()
    run = compare(audits.run, item_rows(read_recorded(audits.folder, "x").items), read_recorded(recorded, "y"))
    changes = [effect for claim in run.claims for effect in claim.change.effects]
    assert len(changes) == 3
    assert {wording.moved(effect) for effect in changes} == {"identical"}
    assert "all 3 effects are identical" in wording.changes(run)
    capsys.readouterr()
    assert main(["diff", str(recorded), str(audits.folder)]) == 0
    assert "no interval" not in capsys.readouterr().out


def test_a_verdict_about_another_baseline_is_not_taken_for_this_one(audits: Any, alone: Path) -> None:
    audits.plant(shift=0.4)
    audits()
    other = audits.folder
    audits.plant(shift=0.4)
    audits("--baseline", str(other))
    run = compare(audits.run, item_rows(read_recorded(audits.folder, "x").items), read_recorded(alone, "alone"))
    claims = {claim.id.removeprefix("suite/"): claim for claim in run.claims}
    for name in ("change", "unchanged"):
        assert became(claims[name]) == "is not comparable"
        assert f"the change since another baseline, {other.name}" in claims[name].change.reason
    assert became(claims["holds"]) == "is not asked"


def test_two_candidates_of_one_baseline_are_compared_by_their_verdicts(audits: Any, alone: Path) -> None:
    """Each claim judges the change since the same base; the difference of the candidates is another one."""
    audits.plant(shift=0.02)
    audits("--baseline", str(alone))
    first = audits.folder
    audits.plant(shift=-0.8)
    audits("--baseline", str(alone))
    run = compare(audits.run, item_rows(read_recorded(audits.folder, "x").items), read_recorded(first, "first"))
    (claim,) = [claim for claim in run.claims if claim.id == "suite/change"]
    assert became(claim) == "fails now"
    (between,) = claim.change.effects
    assert (between.threshold, claim.effect.threshold) == (None, -0.3)
    assert between.estimate == pytest.approx(claim.effect.estimate - 0.02, abs=0.03)
    (row,) = [row for row in rows(read_run(first), run) if row.id == "suite/change"]
    names = [
        (pair.name, pair.was is not None, pair.now is not None, pair.change is not None) for pair in row.pairs
    ]
    assert names == [("change minus the baseline", True, True, False), ("change", False, False, True)]
