"""The page on gating works as written: its commands, in their order, on tiny models with planted numbers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from days import in_days

from auditkit.cli import main
from auditkit.record.baseline import read_names
from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[3] / "docs" / "gating.md"
RENAMED = {"test_once": "test_early_mlps_carry_the_persona"}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}[a-z ]*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(audits: Any, monkeypatch, capsys) -> None:
    monkeypatch.chdir(audits.path)
    for name in ("released", "candidate", "second"):
        audits.copy(name)
    suites = audits.path / "suites"
    suites.mkdir()
    audits.suite.rename(suites / "persona_patching")
    file = suites / "persona_patching" / "test_finding.py"
    file.write_text(re.sub("test_once", RENAMED["test_once"], file.read_text()))
    waivers, days = re.subn(
        r"(?<=^expires = )\d{4}-\d\d-\d\d$", str(in_days(90)), blocks("toml")[0], flags=re.MULTILINE
    )
    assert days == 1, "the day of the page has passed some day, or is too far away"
    (audits.path / "waivers.toml").write_text(waivers)
    audits.plant(shift=0.0, candidate={"shift": -0.4}, second={"shift": -0.1})
    codes, baselines = [], []
    for line in "".join(blocks("console")).splitlines():
        for name in read_names(audits.path / "reports").values():
            line = line.replace("20250711T000000Z-released#$DIGEST", f"{name.run}#{name.audit_sha256}")
        program, *args = shlex.split(line)
        if program == "auditkit":
            assert main(args) == 0, line
            continue
        result = audits.pytester.runpytest_inprocess(*args)
        codes.append(result.ret)
        baselines.append(audits.run.baseline and (audits.run.baseline.name, audits.run.baseline.plan_differences))
        last = audits.run
    # Recorded, recorded with thresholds, on other items for the margins, gated against the record, against its digest,
    # two at once, against the model, with a waiver.
    assert codes == [0, 0, 0, 1, 1, 1, 1, 1]
    recorded, measured = ("released", ()), ("./released", ())
    (name, (differs,)) = baselines.pop(2)
    assert (name, "seed" in differs) == ("released", True)
    assert baselines.pop(3) == (read_names(audits.path / "reports")["released"].run, ())
    assert baselines == [None, None, recorded, recorded, measured, recorded]
    assert (audits.path / "margins.toml").exists()
    claims = {claim.id.split("/")[1]: claim for claim in last.claims}
    early = claims["early_mlps_carry_the_persona"]
    assert early.threshold_source.startswith("calibration run ")
    assert (early.verdict, early.waiver.owner) == (Verdict.FAIL, "Jane Doe, model release")
    assert claims["kept"].verdict is Verdict.FAIL, "a drop of 0.4 where 0.3 is allowed, and nobody waived it"
    assert all(claim.change.comparable for claim in claims.values())
    assert "released is " in capsys.readouterr().out


def test_the_claim_of_the_page_is_the_one_that_the_fixture_serves(audits: Any) -> None:
    (text,) = blocks("python")
    text = text.replace("answers.compare(", "answers(").replace('"positive", against="negative"', '"shift"')
    (audits.suite / "test_page.py").write_text('"""A finding."""\n' + text.replace("answers", "estimate"))
    audits("-k", "positive")
    assert audits.claim("positive_personas_still_help").verdict is Verdict.NOT_APPLICABLE
    audits.plant(shift=0.3)
    audits("-k", "positive", "--baseline", "reports/latest")
    assert audits.claim("positive_personas_still_help").verdict is Verdict.PASS
