"""`--waivers FILE`: a waived claim does not block, and every output says that it was waived."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import Any

import pytest
from days import in_days

from auditkit.cli import main
from auditkit.gate import waivers
from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit

WAIVER = """
[[waiver]]
claim = "suite/{claim}"
owner = "Jane Doe"
reason = "ticket 12"
expires = {expires}
"""
DAY = str(in_days(30))


def waive(audits: Any, claim: str = "once", expires: str = DAY) -> list[str]:
    (audits.path / "waivers.toml").write_text(WAIVER.format(claim=claim, expires=expires))
    return ["--waivers", "waivers.toml"]


def test_a_waived_claim_does_not_block_and_is_seen_everywhere(audits: Any) -> None:
    audits.plant(shift=-0.6)
    assert audits("-k", "once").ret == 1
    result = audits(*waive(audits), "--profile", "release", "-x", "-v", "--junitxml", "pytest.xml")
    assert result.ret == 0
    said = f"waiver of suite/once by Jane Doe: waived until {DAY}; ticket 12"
    result.stdout.fnmatch_lines(
        [
            "FAIL * suite/once",
            f"*{said}",
            "verdict: PASS (1 of 3 claims passed; FAIL of suite/once waived by Jane Doe *",
            said,
            "*1 waived*",
        ]
    )
    once = audits.claim("once")
    assert (once.verdict, once.waiver.owner) == (Verdict.FAIL, "Jane Doe")
    assert (audits.run.summary.failed, audits.run.summary.waived) == (1, 1)
    assert [waiver.state for waiver in audits.run.waivers] == ["applied"]
    assert "--waivers waivers.toml" in once.rerun
    page, summary = ((audits.folder / name).read_text() for name in ("audit.html", "summary.md"))
    assert page.count("ticket 12") >= 3
    assert said in summary
    cases = {case.get("name"): case for case in ET.parse(audits.folder / "junit.xml").iter("testcase")}
    assert said in cases["once"].find("skipped").get("message")
    assert cases["once"].find("failure") is None
    cases = {case.get("name"): case for case in ET.parse(audits.path / "pytest.xml").iter("testcase")}
    assert cases["test_once"].find("failure") is None, "pytest's own file does not call it failed either"
    assert cases["test_once"].find("skipped") is not None


def test_an_expired_waiver_is_ignored_loudly(audits: Any) -> None:
    audits.plant(shift=-0.9)
    result = audits(*waive(audits, expires="2020-01-31"), "-k", "once")
    assert result.ret == 1
    said = "waiver of suite/once by Jane Doe: EXPIRED on 2020-01-31 and ignored; ticket 12"
    result.stdout.fnmatch_lines([said])
    assert said in (audits.folder / "summary.md").read_text()
    assert "expired, so ignored" in (audits.folder / "audit.html").read_text()
    assert said in (audits.folder / "junit.xml").read_text()
    assert audits.claim("once").waiver is None


def test_a_recorded_run_keeps_a_waiver_of_a_day_that_is_refused_now(
    audits: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audits.plant(shift=-0.6)
    with monkeypatch.context() as earlier:
        earlier.setattr(waivers, "LONGEST", timedelta(days=10**6))
        assert audits(*waive(audits, expires="2999-12-31"), "--profile", "release").ret == 0
    assert audits(*waive(audits, expires="2999-12-31")).ret == 4
    monkeypatch.chdir(audits.path)
    run = str(audits.folder)
    assert audits.claim("once").waiver.expires == "2999-12-31"
    for command in (["show", run], ["verify", run], ["report", run], ["baseline", "set", "old", run]):
        assert main(command) == 0, command
    assert "waived until 2999-12-31" in capsys.readouterr().out
    assert audits("--baseline", "old", *waive(audits)).ret == 0


def test_a_claim_taken_over_from_a_cut_off_run_can_be_waived(audits: Any) -> None:
    audits.plant(shift=-0.9)
    audits("-k", "once")
    whole = audits.folder
    cut = whole.parent / "20990101T000000Z-cut"
    cut.mkdir()
    (cut / "journal.jsonl").write_bytes((whole / "journal.jsonl").read_bytes())
    result = audits("-k", "once", "--resume", *waive(audits))
    assert result.ret == 10, "nothing is left that passed"
    assert audits.folder == cut
    assert audits.claim("once").waiver is not None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (WAIVER.format(claim="once", expires="2999-12-31"), "*expires 2999-12-31 is more than 365 days *"),
        (WAIVER.format(claim="onec", expires=DAY), "*no claim 'suite/onec' *did you mean 'suite/once'?"),
        (WAIVER.replace("owner", "# owner").format(claim="once", expires=DAY), "*no owner; a waiver needs *"),
        (WAIVER.replace("reason", "# reason").format(claim="once", expires=DAY), "*no reason; *"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_line_and_exit_code_4(audits: Any, text: str, line: str) -> None:
    (audits.path / "waivers.toml").write_text(text)
    result = audits("--waivers", "waivers.toml")
    assert result.ret == 4
    assert len([text for text in result.errlines if text.startswith("ERROR: ")]) == 1
    result.stderr.fnmatch_lines([line])
    assert not (audits.path / "reports").exists()
