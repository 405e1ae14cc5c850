"""The identity bias suite as a user runs it, in both of its modes, on models that can be asked only some of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from audits import audit

from auditkit.gate.verify import verify
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_items, read_run

pytestmark = pytest.mark.slow  # audits in processes of their own

SUITE = ("suites/identity_bias", "--items", "6", "--model")


@pytest.fixture(scope="module")
def released(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    reports = tmp_path_factory.mktemp("released")
    return read_run(audit(reports, *SUITE, str(tiny_llama))), reports


@pytest.fixture(scope="module")
def retrained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models") / "candidate"
    shutil.copytree(tiny_llama, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.3.mlp.down_proj.weight"] *= 1.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def gated(retrained: Path, released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    baseline = (released[1] / "latest").resolve()
    return audit(tmp_path_factory.mktemp("candidate"), *SUITE, str(retrained), "--baseline", str(baseline))


@pytest.fixture(scope="module")
def candidate(gated: Path) -> Run:
    return read_run(gated)


def test_alone_no_claim_is_an_error_and_the_paired_ones_say_what_they_lack(released) -> None:
    run, _ = released
    assert not [claim.id for claim in run.claims if claim.verdict is Verdict.ERROR]
    claims = {claim.id.split("/", 1)[1]: claim for claim in run.claims}
    paired = claims["sentences_are_no_likelier_with_a_stereotype"]
    assert paired.verdict is Verdict.NOT_APPLICABLE
    assert "there is no baseline to compare with" in paired.reason
    alone = claims["sentences_are_not_likelier_with_a_stereotype"]
    assert alone.verdict is Verdict.NOT_APPLICABLE, "the weights are random"
    assert "tell a sentence from its words shuffled: sentence minus its words shuffled is " in alone.reason
    assert alone.effect is not None
    assert [figure.kind for figure in alone.figures] == ["table"]
    assert any(text.startswith("validity: ") for text in alone.notes)
    unable = claims["decisions_do_not_depend_on[gender]"]
    assert unable.verdict is Verdict.NOT_APPLICABLE
    assert "no single token" in unable.reason


def test_with_a_baseline_the_change_is_judged_and_only_that(candidate: Run) -> None:
    assert not [claim.id for claim in candidate.claims if claim.verdict is Verdict.ERROR]
    claims = {claim.id.split("/", 1)[1]: claim for claim in candidate.claims}
    alone = claims["sentences_are_not_likelier_with_a_stereotype"]
    assert alone.verdict is Verdict.NOT_APPLICABLE
    assert "with a baseline the change is judged" in alone.reason
    assert [control.name for control in alone.controls] == ["preference"], "its value stands beside it"
    paired = claims["sentences_are_no_likelier_with_a_stereotype"]
    assert paired.verdict is Verdict.NOT_APPLICABLE, "the weights of both are random"
    assert "tell a sentence from its words shuffled" in paired.reason
    assert [control.name for control in paired.controls] == [
        "sensitivity: tells a sentence from its words shuffled",
        "sensitivity: tells a sentence from its words shuffled on the baseline",
    ]
    assert paired.effect is not None
    assert "paired non-inferiority" in paired.effect.method
    assert paired.effect.lower is not None


def test_the_record_of_a_gate_holds_with_references_that_the_baseline_was_measured_by(gated: Path) -> None:
    """Their items lie in the baseline's record, and those of the candidate by the same name say another number."""
    run = read_run(gated)
    assert any(control.name.endswith(" on the baseline") for claim in run.claims for control in claim.controls)
    assert verify(run, read_items(gated)).problems == ()


def test_with_a_baseline_and_few_items_no_claim_about_the_model_by_itself_blocks(released, candidate: Run) -> None:
    """Six questions have two templates of a condition, too few for the values beside two of these claims."""
    before, _ = released
    alone = [claim for claim in before.claims if "/test_alone.py:" in claim.location]
    undecided = [claim for claim in alone if claim.reason.startswith("too_few_clusters: 2 templates")]
    assert {claim.id.split("/", 1)[1] for claim in undecided} == {
        "ambiguous_questions_are_not_answered_by_stereotype",
        "disambiguated_questions_are_not_answered_by_stereotype",
    }
    claims = {claim.id: claim for claim in candidate.claims}
    for claim in undecided:
        assert claims[claim.id].verdict is Verdict.NOT_APPLICABLE
        assert "with a baseline the change is judged" in claims[claim.id].reason
        assert any("too_few_clusters: 2 templates" in text for text in claims[claim.id].notes)


def test_a_model_that_is_measured_as_a_baseline_is_not_asked_about_by_itself(
    tiny_llama: Path, released, tmp_path: Path
) -> None:
    """What a comparison takes from its record is what a whole run records."""
    whole, reports = released
    folder = audit(tmp_path, *SUITE, str(tiny_llama), "--audit-as-baseline", "-k", "sentences or pronouns")
    claims = {claim.id.split("/")[1]: claim for claim in read_run(folder).claims}
    asked = {claim.id.split("/")[1]: claim for claim in whole.claims}
    for name in ("pronouns_are_resolved_without_the_stereotype", "sentences_are_not_likelier_with_a_stereotype"):
        assert asked[name].effect is not None
        assert claims[name].effect is None
        assert "this run is a baseline" in claims[name].reason
    rows, others = read_items(folder), read_items((reports / "latest").resolve())
    paired = {claim.id for claim in read_run(folder).claims if "/test_against_baseline.py:" in claim.location}
    kept, expected = (table[table["claim"].isin(paired)].reset_index(drop=True) for table in (rows, others))
    assert len(kept) > 10
    pd.testing.assert_frame_equal(kept, expected)
