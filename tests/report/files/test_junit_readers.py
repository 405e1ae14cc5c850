"""The JUnit file fits a schema, and libraries that are not ours read from it what the record says."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
import xmlschema
from junit2htmlreport.parser import Junit
from junitparser import Error, Failure, JUnitXml, Properties, Skipped

from auditkit.claims.verdicts import exit_code
from auditkit.record.schema import Run, Verdict
from auditkit.report import render_junit
from auditkit.report.files.junit import GATES

pytestmark = pytest.mark.unit

SCHEMA = xmlschema.XMLSchema11(Path(__file__).with_name("junit.xsd"))
OUTCOMES = {Failure: "failed", Error: "broken", Skipped: "skipped"}


@pytest.fixture(params=["pr", "release"])
def run(request: pytest.FixtureRequest, sample_run: Run) -> Run:
    return msgspec.structs.replace(sample_run, profile=request.param)


@pytest.fixture
def file(run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "junit.xml"
    path.write_bytes(render_junit(run, "ab" * 32))
    return path


def expected(run: Run) -> dict[str, str]:
    """Claim -> what a build server shows of it."""
    undecided = "failed" if run.profile == "release" else "skipped"
    shown = {
        Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.ERROR: "broken",
        Verdict.INCONCLUSIVE: undecided, Verdict.NOT_APPLICABLE: "skipped",
    }  # fmt: skip
    return {claim.id: shown[claim.verdict] for claim in run.claims}


def test_it_fits_the_schema(file: Path) -> None:
    assert [str(error) for error in SCHEMA.iter_errors(str(file))] == []


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (' name="auditkit"', ""),
        ('classname="', 'class="'),
        ('time="', 'time="soon'),
        ("<property ", "<property x='' "),
    ],
)
def test_the_schema_finds_what_does_not_fit(file: Path, was: str, now: str) -> None:
    text = file.read_text()
    assert was in text
    assert not SCHEMA.is_valid(ElementTree.fromstring(text.replace(was, now, 1)))


def test_junitparser_reads_every_claim_with_its_outcome_and_properties(run: Run, file: Path) -> None:
    read = JUnitXml.fromfile(str(file))
    found, properties = {}, {}
    for suite in read:
        for case in suite:
            if suite.name != GATES:
                (outcome,) = [OUTCOMES[type(one)] for one in case.result] or ["passed"]
                found[f"{suite.name}/{case.name}"] = outcome
                properties[f"{suite.name}/{case.name}"] = {one.name: one.value for one in case.child(Properties)}
    assert found == expected(run)
    assert all(properties[claim.id]["verdict"] == claim.verdict for claim in run.claims)
    said = {one.name: one.value for one in next(iter(read)).properties()}
    assert int(said["exit_code"]) == exit_code(run.summary, run.profile)


def test_junit2html_reads_the_same_and_makes_a_page_of_it(run: Run, file: Path) -> None:
    read = Junit(str(file))
    cases = [case for suite in read.suites for one in suite.classes.values() for case in one.cases]
    found = {case.name: case.outcome() for case in cases}
    for claim, shown in expected(run).items():
        outcome = found[claim.split("/", 1)[1]]
        assert (str(outcome) == "passed") == (shown == "passed"), (claim, outcome)
        assert (str(outcome) == "skipped") == (shown == "skipped"), (claim, outcome)
    assert all(claim.id.split("/", 1)[1] in read.html() for claim in run.claims)
