"""`auditkit compare`: a page and a table of recorded runs, and one line for what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from following import coming_to

from auditkit.claims.verdicts import summarize
from auditkit.cli import main
from auditkit.record.manifest import write_manifest
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import AUDIT_JSON, write_run

pytestmark = pytest.mark.unit


@pytest.fixture
def runs(tmp_path: Path, a_run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of two run folders: a claim holds in the first, and does not in the second."""
    monkeypatch.chdir(tmp_path)
    for place, verdict in enumerate((Verdict.PASS, Verdict.FAIL)):
        claims = tuple(coming_to(claim, verdict) for claim in a_run.claims)
        folder = tmp_path / f"run{place}"
        folder.mkdir()
        run = msgspec.structs.replace(a_run, claims=claims, summary=summarize(claims), seed=place)
        write_run(folder, run, [])
        write_manifest(folder)
    return ["run0", "run1"]


def test_runs_are_compared_in_the_order_of_the_command(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs, "--out", "pages"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Of 2 claims, 2 stop holding from seed 0 to seed 1.\n")
    assert "page: pages/compare.html" in out
    page = Path("pages/compare.html").read_bytes()
    assert {path.name for path in Path("pages").iterdir()} == {"compare.html", "compare.csv"}
    assert main(["compare", *runs, "--out", "pages"]) == 0
    assert Path("pages/compare.html").read_bytes() == page
    assert main(["compare", *runs[::-1]]) == 0
    assert "2 begin to hold" in capsys.readouterr().out
    assert Path("reports/compare/compare.html").is_file()


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["run0"], 4, "compare needs at least two different runs; one run was named"),
        (["run0", "run1", "run0"], 4, "run0 is named twice"),
        (["run0", "nowhere"], 11, "no recorded run nowhere"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    runs: list[str], names: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *names]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert said in printed.err
    assert not Path("reports").exists()


def test_a_changed_record_is_not_compared(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("run1", AUDIT_JSON)
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 7'))
    assert main(["compare", *runs]) == 11
    assert "run1 does not hold" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("")
    assert main(["compare", *runs, "--out", "taken"]) == 4
    assert "cannot write to taken" in capsys.readouterr().err
