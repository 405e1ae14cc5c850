"""What a tracker is given of a run: every number of the record under a name that all trackers take."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import msgspec
import pytest
from hostile import HOSTILE

from auditkit.record.manifest import record_digest
from auditkit.record.schema import Run
from auditkit.record.store import write_run
from auditkit.report import wording, write_outputs
from auditkit.report.trackers.entry import FILES, numbers, tracked

pytestmark = pytest.mark.unit

MLFLOW = re.compile(r"[/\w.\- :]+", re.ASCII)
"""What MLflow takes as a name, by its messages; it refuses names that are no plain path, too."""


def written(run: Run, folder: Path) -> Path:
    folder.mkdir()
    write_run(folder, run, [])
    write_outputs(folder, run)
    return folder


def test_numbers_are_those_of_the_record(sample_run: Run) -> None:
    found = numbers(sample_run)
    for claim in sample_run.claims:
        effect = claim.effect
        got = [found.get(f"{claim.id}{end}") for end in ("", ".lower", ".upper")]
        assert got == ([None] * 3 if effect is None else [effect.estimate, effect.lower, effect.upper])
    counts = {name: found[f"audit/{name}"] for name in ("pass", "fail", "inconclusive", "not_applicable", "error")}
    assert sum(counts.values()) == len(sample_run.claims)
    assert found["audit/exit_code"] == 1
    assert not [name for name in found if name.endswith(".change")]


def test_changes_since_a_baseline_are_logged(gated_run: Run) -> None:
    claim = gated_run.claims[0]
    change = wording.change_of(claim, claim.effect)
    found = numbers(gated_run)
    assert found.get(f"{claim.id}.change") == (None if change is None else change.estimate)


def test_effects_beside_are_logged_where_they_are_asked_for(sample_run: Run) -> None:
    more = numbers(sample_run, beside=True).keys() - numbers(sample_run).keys()
    assert {name.rpartition(".")[0] or name for name in more} >= {
        "persona_patching/early_mlps_carry_the_persona/recovery by MLP layers 2-5"
    }


@pytest.mark.parametrize("text", [*HOSTILE, "suite/claim[a and b]", "../x", "a//b", ".", "x" * 400, "Größe"])
def test_every_name_is_taken_by_every_tracker(sample_run: Run, text: str) -> None:
    claims = tuple(msgspec.structs.replace(claim, id=text) for claim in sample_run.claims)
    run = msgspec.structs.replace(sample_run, claims=claims)
    found = numbers(run, beside=True)
    for name in found:
        assert MLFLOW.fullmatch(name)
        assert len(name) <= 250
        assert posixpath.normpath(name) == name
    measured = [claim for claim in claims if claim.effect is not None and claim.effect.estimate is not None]
    points = [n for n in found if not n.startswith("audit/") and not n.endswith((".lower", ".upper"))]
    assert len(points) >= len(measured), "two claims with one name are two numbers"


def test_the_entry_names_model_plan_and_digests_and_holds_page_and_record(sample_run: Run, tmp_path: Path) -> None:
    folder = written(sample_run, tmp_path / "run")
    entry = tracked(folder, sample_run)
    assert [file.name for file in entry.files] == list(FILES)
    assert entry.name == "run"
    assert entry.tags["record_sha256"] == record_digest(folder)
    assert entry.tags["model.weights_sha256"] == sample_run.model.weights_sha256
    assert (entry.tags["seed"], entry.tags["items"], entry.tags["verdict"]) == ("20250711", "192", "FAIL")
    assert set(entry.verdicts.values()) == {wording.WORDS[claim.verdict] for claim in sample_run.claims}
    assert "model.revision" not in entry.tags, "what the record does not hold is left out"
