"""Waivers: signed, dated, and never able to hide anything."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from auditkit.claims.verdicts import exit_code, summarize
from auditkit.gate.waivers import WaiversError, read_waivers, settled, waived
from auditkit.record.schema import Claim, Cost, Verdict

pytestmark = pytest.mark.unit

TODAY = date(2026, 11, 21)
CLAIMS = ["suite/one", "suite/two"]
GOOD = {"claim": '"suite/one"', "owner": '"Jane Doe"', "reason": '"known"', "expires": "2026-11-21"}


def written(path: Path, **fields: str | None) -> Path:
    given = {name: value for name, value in (GOOD | fields).items() if value is not None}
    text = "[[waiver]]\n" + "".join(f"{name} = {value}\n" for name, value in given.items())
    (path / "waivers.toml").write_text(text)
    return path / "waivers.toml"


def claim(name: str, verdict: Verdict) -> Claim:
    return Claim(
        id=f"suite/{name}", suite="suite", statement="s", source="", verdict=verdict, reason="because",
        threshold_source="", effect=None, cost=Cost(seconds=0.0, token_layers=0, share_of_minimum=None),
    )  # fmt: skip


def test_a_waiver_holds_until_the_end_of_its_last_day(tmp_path: Path) -> None:
    assert read_waivers(written(tmp_path), CLAIMS, TODAY)["suite/one"].state == "applied"
    assert read_waivers(written(tmp_path), CLAIMS, date(2026, 11, 22))["suite/one"].state == "expired"
    assert (
        read_waivers(written(tmp_path, expires='"2026-12-01"'), CLAIMS, TODAY)["suite/one"].expires == "2026-12-01"
    )


@pytest.mark.parametrize("today", [TODAY, date(2027, 3, 1), date(2028, 2, 29)])
def test_a_waiver_may_end_365_days_from_today_and_no_later(tmp_path: Path, today: date) -> None:
    last = today + timedelta(days=365)
    assert read_waivers(written(tmp_path, expires=str(last)), CLAIMS, today)["suite/one"].state == "applied"
    with pytest.raises(WaiversError, match="more than 365 days"):
        read_waivers(written(tmp_path, expires=str(last)), CLAIMS, today - timedelta(days=1))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"claim": '"suite/onee"'}, "waiver 1: no claim 'suite/onee' was collected; did you mean 'suite/one'?"),
        ({"claim": None}, "waiver 1: no claim; a waiver needs claim, owner, reason, expires"),
        ({"owner": None}, "waiver 1: no owner; "),
        ({"owner": '" "'}, "waiver 1: no owner; "),
        ({"owner": '"\\u200b\\u2060"'}, "waiver 1: no owner; "),
        ({"owner": '"\\u3164 -"'}, "waiver 1: no owner; "),
        ({"reason": '"..."'}, "waiver 1: no reason; "),
        ({"owner": "7"}, "waiver 1: no owner; "),
        ({"reason": None}, "waiver 1: no reason; "),
        ({"reason": '""'}, "waiver 1: no reason; "),
        ({"expires": None}, "waiver 1: no day of expiry; write expires = 2027-11-21, or a day before"),
        ({"expires": '"soon"'}, "no day of expiry"),
        ({"expires": "2026-12-31T10:00:00Z"}, "no day of expiry"),
        (
            {"expires": "2027-11-22"},
            "waiver 1: expires 2027-11-22 is more than 365 days from today; write a day until 2027-11-21",
        ),
        ({"expires": '"9999-12-31"'}, "waiver 1: expires 9999-12-31 is more than 365 days from today"),
        ({"verdict": '"PASS"'}, "waiver 1: 'verdict' is unknown; use claim, owner, reason, expires"),
    ],
)
def test_an_entry_that_is_not_whole_is_refused(tmp_path: Path, fields: dict[str, str | None], line: str) -> None:
    with pytest.raises(WaiversError) as raised:
        read_waivers(written(tmp_path, **fields), CLAIMS, TODAY)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[[waiver", "is not TOML: "),
        ("[waiver]\nclaim = 1", "only [[waiver]] entries are known"),
        ("[[waivers]]\nclaim = 1", "only [[waiver]] entries are known"),
        ("waiver = [1]", "must be a table with"),
        ("\xff", "is not TOML: "),
    ],
)
def test_what_is_no_file_of_waivers_is_refused(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "w.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(WaiversError, match=line.replace("[", "\\[")):
        read_waivers(tmp_path / "w.toml", CLAIMS, TODAY)
    with pytest.raises(WaiversError, match="cannot read waivers from "):
        read_waivers(tmp_path / "absent.toml", CLAIMS, TODAY)


def test_a_claim_has_one_waiver(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text(file.read_text() * 2)
    with pytest.raises(WaiversError, match="waiver 2: 'suite/one' has a waiver already"):
        read_waivers(file, CLAIMS, TODAY)


@pytest.mark.parametrize(
    ("verdict", "day", "state", "code"),
    [
        (Verdict.FAIL, TODAY, "applied", 0),
        (Verdict.INCONCLUSIVE, TODAY, "applied", 0),
        (Verdict.ERROR, TODAY, "cannot be waived", 11),
        (Verdict.PASS, TODAY, "not needed", 0),
        (Verdict.NOT_APPLICABLE, TODAY, "not needed", 0),
        (Verdict.FAIL, date(2027, 1, 1), "expired", 1),
        (Verdict.INCONCLUSIVE, date(2027, 1, 1), "expired", 10),
        (Verdict.ERROR, date(2027, 1, 1), "expired", 11),
    ],
)
def test_a_waiver_changes_what_a_verdict_does_and_not_the_verdict(
    tmp_path: Path, verdict: Verdict, day: date, state: str, code: int
) -> None:
    waivers = read_waivers(written(tmp_path), CLAIMS, day)
    claims = [waived(one, waivers) for one in (claim("one", verdict), claim("two", Verdict.PASS))]
    assert [one.verdict for one in claims] == [verdict, Verdict.PASS]
    assert settled(waivers, claims)[0].state == state
    summary = summarize(claims)
    assert exit_code(summary, "release") == code
    assert summary.waived == (state == "applied")
    assert summary.failed == (verdict is Verdict.FAIL)
    assert ("waived by Jane Doe until 2026-11-21" in summary.reason) == (state == "applied")


def test_waiving_everything_is_no_pass(tmp_path: Path) -> None:
    waivers = read_waivers(written(tmp_path), CLAIMS, TODAY)
    summary = summarize([waived(claim("one", Verdict.FAIL), waivers)])
    assert summary.verdict is Verdict.INCONCLUSIVE
    assert exit_code(summary, "pr") == exit_code(summary, "release") == 10


def test_a_waiver_of_a_claim_that_was_not_measured_says_so(tmp_path: Path) -> None:
    waivers = read_waivers(written(tmp_path), CLAIMS, TODAY)
    assert settled(waivers, [claim("two", Verdict.PASS)])[0].state == "not measured"
