"""`--shard I/N` and `auditkit merge`: the record of all shards is that of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from days import in_days

from auditkit.cli import main
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.record.store import read_items, read_run

pytestmark = pytest.mark.unit

SUITE = '''"""A finding."""
import pytest

pytestmark = pytest.mark.claim(family="release")

def test_barely(estimate):
    """Is above a number that the whole interval is just below."""
    assert estimate() > {barely}

def test_clearly(estimate):
    """Is above zero."""
    assert estimate("clear") > 0
'''


@pytest.fixture
def suites(audits: Any) -> Any:
    """Two suites with one family; the interval of each effect is about 1 ± 0.1. Runs with `suites(*args)`."""
    for name, barely in (("alpha", 1.09), ("beta", 0.5)):
        folder = audits.path / "suites" / name
        folder.mkdir(parents=True)
        (folder / "conftest.py").write_text((audits.suite / "conftest.py").read_text())
        (folder / f"test_{name}.py").write_text(SUITE.format(barely=barely))

    def run(*args: str) -> pytest.RunResult:
        return audits.pytester.runpytest_inprocess("suites", "--model", str(audits.model), *args)

    return run


def comparable(run: Run) -> Any:
    """The record without times, and without which command measured it."""

    def timeless(claim: Claim) -> Claim:
        return msgspec.structs.replace(claim, cost=msgspec.structs.replace(claim.cost, seconds=0.0))

    environment = msgspec.structs.replace(run.environment, workers=1)
    return msgspec.structs.replace(
        run,
        created="",
        command=(),
        items_sha256="",
        environment=environment,
        claims=tuple(map(timeless, run.claims)),
    )


def test_merged_shards_are_the_run_that_was_never_split(
    audits: Any, suites: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(audits.path)
    assert suites("--audit-dir", "whole").ret == 0, "among four claims the failure can be chance"
    first = suites("--shard", "1/2", "--audit-dir", "shards/1")
    first.assert_outcomes(failed=0, passed=1, deselected=2)
    first.stdout.fnmatch_lines(["*pytest showed it as F*", "*1 passed, 2 deselected, 1 inconclusive*"])
    assert suites("--shard", "2/2", "--audit-dir", "shards/2").ret == 0
    runs = {name: read_run(Path(name) / "latest") for name in ("whole", "shards/1", "shards/2")}
    assert {run.plan_sha256 for run in runs.values()} == {runs["whole"].plan_sha256}
    assert runs["shards/1"].untested[0].what == "claims of other shards"
    capsys.readouterr()
    assert main(["merge", "shards/2/latest", "shards/1/latest"]) == 0
    assert "? INCONCLUSIVE" in capsys.readouterr().out
    merged = read_run(Path("reports/latest"))
    assert comparable(merged) == comparable(runs["whole"])
    assert [claim.family.size for claim in merged.claims] == [4, 4, 4, 4]
    assert merged.claims[0].verdict is Verdict.INCONCLUSIVE
    whole, items = read_items(Path("whole/latest")), read_items(Path("reports/latest"))
    assert items.equals(whole)
    assert {path.name for path in Path("reports/latest").iterdir()} >= {"audit.html", "junit.xml", "summary.md"}

    before = sorted(path.name for path in Path("reports").iterdir())
    assert main(["merge", "shards/1/latest"]) == 11
    printed = capsys.readouterr()
    assert "2 of 4 planned claims are in none of these runs" in printed.err
    assert len(printed.err.splitlines()) == 1
    assert sorted(path.name for path in Path("reports").iterdir()) == before, "nothing is written"

    other = suites("--shard", "2/2", "--audit-dir", "shards/1", "--resume", "shards/1/latest")
    assert other.ret == 4
    other.stderr.fnmatch_lines(["*cannot resume*--shard was 1/2, is 2/2*"])


@pytest.mark.parametrize(
    ("shard", "said"),
    [
        ("0/2", "--shard 0/2: write I/N, from 1/N to N/N"),
        ("3/2", "--shard 3/2: write I/N"),
        ("two", "--shard two: write I/N"),
        (
            "1/5",
            "--shard 1/5: claims that share *consist of 4 such parts; use at most 4 shards",
        ),
    ],
)
def test_a_shard_that_cannot_be_is_one_line_and_exit_code_4(suites: Any, shard: str, said: str) -> None:
    result = suites("--shard", shard)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: *{said}*"])


def test_claims_that_waivers_and_thresholds_name_may_be_in_another_shard(audits: Any, suites: Any) -> None:
    (audits.path / "waivers.toml").write_text(
        f'[[waiver]]\nclaim = "alpha/barely"\nowner = "o"\nreason = "r"\nexpires = {in_days(30)}\n'
    )
    assert suites("--shard", "2/2", "--waivers", "waivers.toml").ret == 0
    assert audits.run.waivers[0].state == "not measured"
