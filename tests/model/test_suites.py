"""The suites on the small real model, as a user runs them, in a process of their own.

A short audit of all suites takes minutes. `AUDITKIT_SHORT_AUDIT` names the folder of one that was made already, as
`.ci/run` makes one, so that a build makes no second. Deprecations are errors in it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from audits import ROOT
from audits import audit as audited
from recorded import said

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.protocol import Capability
from auditkit.record.schema import Verdict
from auditkit.record.store import read_items, read_run

pytestmark = pytest.mark.slow

EVERY_SUITE = ("suites/", "--model", DEFAULT_MODEL)
SHORT = (*EVERY_SUITE, "--items", "6")
DEPRECATIONS = ("-W", "error::FutureWarning")


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = os.environ.get("AUDITKIT_SHORT_AUDIT")
    if made:
        return ROOT / made
    return audited(tmp_path_factory.mktemp("reports"), *SHORT, *DEPRECATIONS, python=DEPRECATIONS)


@pytest.fixture(scope="module")
def default_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audited(tmp_path_factory.mktemp("reports"), *EVERY_SUITE)


def test_no_capability_is_lost_where_deprecations_are_errors(audit: Path) -> None:
    assert not [one for one in read_run(audit).untested if one.what in set(Capability)]


def test_every_claim_says_the_same_whichever_claims_ran_before(audit: Path, tmp_path: Path) -> None:
    """In the reverse order, what two claims share is measured for the other one of them first."""
    backwards = {claim.id: claim for claim in read_run(audited(tmp_path, *SHORT, "-p", "reverse_order")).claims}
    for claim in read_run(audit).claims:
        assert said(backwards[claim.id]) == said(claim), claim.id


def test_every_claim_is_measured_with_an_interval_or_says_why_not(audit: Path) -> None:
    run = read_run(audit)
    assert len(run.claims) >= 3
    assert not [claim.id for claim in run.claims if claim.verdict is Verdict.ERROR]
    for claim in run.claims:
        if claim.suite != "persona_patching":
            undecided = claim.verdict in (Verdict.NOT_APPLICABLE, Verdict.INCONCLUSIVE)
            assert claim.reason if claim.effect is None else claim.effect.n, claim.id
            assert claim.effect is not None or undecided, claim.id
            continue
        if claim.reason.startswith("too_few_clusters: 6 topics"):  # two halves share no topic
            assert claim.verdict is Verdict.INCONCLUSIVE
            continue
        if claim.effect is None:
            assert claim.verdict is Verdict.NOT_APPLICABLE
            assert "persona effect" in claim.reason or "no head qualified" in claim.reason
            continue
        assert claim.effect.n >= 6
        assert claim.effect.clusters >= 5
        undecidable = claim.verdict is Verdict.NOT_APPLICABLE or claim.reason.startswith("constant: ")
        assert undecidable or claim.effect.lower < claim.effect.upper
        assert claim.examples
        assert all(any("student" in text for text in example.prompts.values()) for example in claim.examples)


def test_controls_and_what_is_shown_beside_stand_in_the_record(audit: Path) -> None:
    claims = {claim.id: claim for claim in read_run(audit).claims}
    shift = claims["persona_patching/negative_personas_lower_the_answer"]
    assert [(control.name, control.verdict) for control in shift.controls] == [
        ("invented words against positive ones", None),
        ("invented words against negative ones", None),
        ("log probability of the right answer", None),
    ]
    assert [figure.kind for figure in shift.figures] == ["table", "dots"]
    racial = claims["persona_patching/racial_personas_answer_like_neutral_ones"]
    (judged,) = [control for control in racial.controls if control.verdict is not None]
    assert judged.name == "sensitivity: tells positive words from negative ones"


def test_a_state_in_its_own_place_changes_nothing(audit: Path) -> None:
    claims = {claim.id: claim for claim in read_run(audit).claims}
    plumbing = claims["persona_composition/a_state_in_its_own_place_changes_nothing"]
    assert plumbing.effect is not None
    assert plumbing.effect.estimate == 1.0
    note = next(note for note in plumbing.notes if note.startswith("largest divergence"))
    assert float(note.split()[9]) <= 1e-4


def test_a_short_audit_of_roles_measures_and_does_not_pretend_to_decide(audit: Path) -> None:
    run = read_run(audit)
    claims = {claim.id.split("/")[1]: claim for claim in run.claims if claim.suite == "role_conditioning"}
    assert len(claims) == 10
    halved = [claim for claim in claims.values() if "to discover and to confirm on others" in claim.reason]
    assert len(halved) == 2  # heads, and what they do; a difference in either direction needs no halves
    assert {claim.verdict for claim in halved} == {Verdict.INCONCLUSIVE}
    bands = claims["bands_stay_within_limits"]
    assert [control.effect.clusters for control in bands.controls] == [6] * 12
    assert [control.name.startswith("sensitivity: tells ") for control in bands.controls] == [False] * 8 + [
        True
    ] * 4
    without = [name for name, claim in claims.items() if "there is no baseline" in claim.reason]
    assert len(without) == 3
    assert {claims[name].verdict for name in without} == {Verdict.NOT_APPLICABLE}


def test_a_short_audit_of_induction_decides_what_needs_no_halves(audit: Path) -> None:
    run = read_run(audit)
    claims = {claim.id.split("/")[1]: claim for claim in run.claims if claim.suite == "induction"}
    assert len(claims) == 10
    halved = [claim for claim in claims.values() if "to discover and to confirm on others" in claim.reason]
    assert {claim.verdict for claim in halved} == {Verdict.INCONCLUSIVE}
    assert len(halved) == 4  # heads, what they do, where their keys come from, and whether they are kept
    assert claims["a_repeat_is_predicted"].verdict is Verdict.PASS
    rests = [claim for name, claim in claims.items() if name.startswith("heads_rest_on_the_first_token[")]
    assert [claim.verdict for claim in rests] == [Verdict.PASS] * 3


def test_a_model_that_answers_harmful_requests_has_no_refusal_and_says_how_many_it_answers(audit: Path) -> None:
    claims = [claim for claim in read_run(audit).claims if claim.suite == "refusal"]
    assert len(claims) == 10
    assert {claim.verdict for claim in claims} == {Verdict.NOT_APPLICABLE}
    told = [claim for claim in claims if "there is no baseline" not in claim.reason]
    assert len(told) == 8
    assert all("the model answers 6 of 6 harmful requests (100%" in claim.reason for claim in told)


def test_by_default_there_are_enough_items_to_look_for_the_places(default_audit: Path) -> None:
    claims = {claim.id: claim for claim in read_run(default_audit).claims}
    first = claims["persona_patching/first_mlp_acts_at_the_identity_word"]
    assert [control.name for control in first.controls if control.verdict is not None] == [
        "the word's own embedding brings back at least 99 %",
        "the embedding at another position brings back at most 5 %",
        "the same patch at another position does not",
        "sensitivity: tells one persona from another by its first MLP",
    ]
    pooled, by_pair = claims["persona_patching/early_mlps_carry_the_persona"].figures
    assert len(pooled.data["columns"]) == len(by_pair.data["columns"]) == 30
    assert len(pooled.data["rows"]) == 5
    middle = claims["persona_patching/middle_attention_carries_the_persona"]
    assert [figure.title for figure in middle.figures] == [
        "Restoring layers from the first one on",
        "Direct and indirect effect",
    ]
    items = read_items(default_audit)
    assert items["value"].notna().all()
    conditions = set(items.loc[items["claim"].str.endswith("first_mlp_acts_at_the_identity_word"), "condition"])
    assert {"corrupt", "MLP of layer 0", "MLP of layer 0 at the identity span"} <= conditions
