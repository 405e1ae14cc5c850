"""The folder of evidence: it verifies, lists every claim, and states no compliance."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from pathlib import Path

import pytest
from hostile import HOSTILE
from msgspec.structs import replace

from auditkit.claims.suites import packaged
from auditkit.record.manifest import manifest_problems
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import RecordError, write_run
from auditkit.report import write_outputs
from auditkit.report.evidence import texts
from auditkit.report.evidence.folder import NotEvidence, write_evidence
from auditkit.report.evidence.frameworks import (
    EVERY,
    NOTHING,
    cited,
    known,
    render_correspondence,
    render_correspondence_csv,
)

pytestmark = pytest.mark.unit

COMPLIANCE = re.compile(r"\b(compli\w+|conform\w+|satisf\w+|fulfil\w*|adequate|certif\w+)", re.IGNORECASE)
DENIED = "no statement of compliance"


def recorded(run: Run, folder: Path) -> Path:
    folder.mkdir()
    write_run(folder, run, [])
    write_outputs(folder, run)
    return folder


def test_the_folder_holds_the_record_and_digests_of_every_file(a_run: Run, tmp_path: Path) -> None:
    source, folder = recorded(a_run, tmp_path / "run"), tmp_path / "evidence"
    write_evidence(source, a_run, folder)
    assert manifest_problems(folder) == []
    assert (folder / "audit.json").read_bytes() == (source / "audit.json").read_bytes()
    index = (folder / "README.md").read_text()
    for path in folder.iterdir():
        if path.name not in ("README.md", "manifest.json"):
            assert f"| `{path.name}` |" in index
            assert hashlib.sha256(path.read_bytes()).hexdigest() in index
    write_evidence(source, a_run, folder)  # the same run again


def test_claims_that_were_not_measured_are_evidence_of_nothing(sample_run: Run) -> None:
    """A suite that does not apply has claims in the table, and they say nothing of the model."""
    (safety,) = (item for item in known().items if item.item == "MEASURE 2.6")
    for verdict, found in ((Verdict.NOT_APPLICABLE, False), (Verdict.ERROR, False), (Verdict.FAIL, True)):
        claims = (replace(sample_run.claims[0], suite="refusal", verdict=verdict),)
        run = replace(sample_run, claims=claims)
        (row,) = (line for line in render_correspondence(run).splitlines() if line.startswith("| MEASURE 2.6"))
        assert (NOTHING in row, safety.speaks in row) == (not found, found)
        rows = csv.DictReader(io.StringIO(render_correspondence_csv(run)))
        assert [row["evidence of"] != "" for row in rows if row["item"] == "MEASURE 2.6"] == [found]


def test_another_runs_folder_is_not_overwritten(a_run: Run, tmp_path: Path) -> None:
    source, folder = recorded(a_run, tmp_path / "run"), tmp_path / "evidence"
    other = recorded(replace(a_run, seed=8), tmp_path / "other")
    write_evidence(other, a_run, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(NotEvidence, match="holds the evidence of another run"):
        write_evidence(source, a_run, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(NotEvidence, match=r"it holds comment\.md"):
        write_evidence(source, a_run, source)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(NotEvidence, match=r"it holds notes\.txt"):
        write_evidence(source, a_run, tmp_path / "mine")
    with pytest.raises(NotEvidence, match="is no folder"):
        write_evidence(source, a_run, tmp_path / "mine" / "notes.txt")


def test_every_claim_stands_there_with_its_controls_and_its_reason(sample_run: Run) -> None:
    page = " ".join(texts.render_claims(sample_run).split())
    for claim in sample_run.claims:
        assert texts.text(claim.id) in page
        for one in claim.controls:
            assert texts.text(one.name) in page
    limits = texts.render_limits(sample_run)
    for entry in sample_run.untested:
        assert texts.text(entry.what) in limits
    undecided = [claim for claim in sample_run.claims if claim.verdict.value in ("FAIL", "ERROR", "INCONCLUSIVE")]
    assert undecided
    for claim in undecided:
        assert texts.text(claim.id) in limits


def test_no_page_states_compliance(gated_run: Run) -> None:
    pages = [texts.render_index(gated_run, "ab" * 32, {}), *(render(gated_run) for render in (
        texts.render_claims, texts.render_methods, texts.render_limits, render_correspondence,
    ))]  # fmt: skip
    said = "\n".join(pages)
    assert said.count(DENIED) == 2
    assert not COMPLIANCE.findall(said.replace(DENIED, ""))
    for item in known().items:
        assert not COMPLIANCE.findall(item.asks + item.speaks)


def test_the_suites_of_the_table_exist_and_each_is_named() -> None:
    named = {suite for item in known().items for suite in item.suites} - {EVERY}
    assert named == set(packaged())
    assert {item.framework for item in known().items} == set(known().frameworks)


def test_failed_and_undecided_claims_are_cited_as_those_that_pass(sample_run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(render_correspondence_csv(sample_run))))
    tests = [row for row in rows if row["item"] == "2(g)"]
    assert [(row["claim"], row["verdict"]) for row in tests] == [
        (claim.id, claim.verdict.value.replace("_", " ")) for claim in sample_run.claims
    ]
    empty = [row for row in rows if row["item"] == "MEASURE 2.11"]
    assert [(row["claim"], row["verdict"]) for row in empty] == [("", "")]
    assert "Of these suites only the rows for every claim are known: composition." in render_correspondence(
        sample_run
    )


def test_changes_are_evidence_only_where_a_baseline_was_compared_with(sample_run: Run, gated_run: Run) -> None:
    (change,) = (item for item in known().items if item.needs == "baseline")
    assert cited(sample_run, change) == []
    assert cited(gated_run, change) == list(gated_run.claims)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_of_a_run_adds_no_markup(sample_run: Run, text: str) -> None:
    claims = tuple(
        replace(one, id=text, statement=text, reason=text, notes=(text,), suite=text) for one in sample_run.claims
    )
    run = replace(sample_run, claims=claims, model=replace(sample_run.model, spec=text, name=text))
    for page in (
        texts.render_index(run, "ab", {}),
        texts.render_claims(run),
        texts.render_limits(run),
        render_correspondence(run),
    ):
        assert "<script" not in page
        assert "<img" not in page
        assert not [line for line in page.splitlines() if line.startswith(("::", "##["))]


def test_a_run_without_its_page_is_refused_with_what_to_do(a_run: Run, tmp_path: Path) -> None:
    source = recorded(a_run, tmp_path / "run")
    (source / "audit.html").unlink()
    with pytest.raises(RecordError, match=r"has no audit\.html; write its outputs again with: auditkit report "):
        write_evidence(source, a_run, tmp_path / "evidence")
    assert not (tmp_path / "evidence").exists()
