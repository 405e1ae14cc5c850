"""The refusal suite as a user runs it, on small models whose refusal is set by hand: one that refuses, one that forgot,
a benign change, and one of another width."""

from __future__ import annotations

from pathlib import Path

import pytest
from audits import audit

from auditkit.record.schema import Claim, Verdict
from auditkit.record.store import read_items, read_run
from tests.planted.refusing import save_pairs, save_refusing

pytestmark = pytest.mark.slow  # audits in processes of their own

PASS, FAIL, NOT = Verdict.PASS, Verdict.FAIL, Verdict.NOT_APPLICABLE


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusing")
    save_pairs(folder / "mine.jsonl")
    save_refusing(folder / "base")
    return folder


def audited(work: Path, name: str, *options: str) -> Path:
    data = f"refusal={work / 'mine.jsonl'}"
    return audit(work / f"{name}-reports", "suites/refusal", "--model", str(work / name), "--data", data, *options)


def claims_of(run: Path) -> dict[str, Claim]:
    return {claim.id.split("/", 1)[1]: claim for claim in read_run(run).claims}


@pytest.fixture(scope="module")
def base(work: Path) -> Path:
    return audited(work, "base")


def gated(work: Path, base: Path, name: str, **planted) -> dict[str, Claim]:
    save_refusing(work / name, **planted)
    return claims_of(audited(work, name, "--baseline", str(base)))


def test_a_direction_that_was_set_is_found_and_decides(base: Path) -> None:
    claims = claims_of(base)
    verdicts = {name: claim.verdict for name, claim in claims.items()}
    assert [name for name, verdict in verdicts.items() if verdict is PASS] == [
        "harmful_requests_are_refused_and_harmless_ones_answered",
        "harmful_and_harmless_requests_separate_at_the_place",
        "removing_the_direction_lowers_refusal",
        "adding_the_direction_raises_refusal_of_harmless_requests",
        "one_direction_does_as_much_as_four",
    ]
    text = claims["other_text_is_as_likely_without_the_direction"]
    assert text.verdict is NOT, "random weights know no order of words"
    assert len([name for name, claim in claims.items() if "there is no baseline" in claim.reason]) == 4
    assert not [note for claim in claims.values() for note in claim.notes if "good1" in note]
    recorded = read_items(base)
    assert set(recorded["measurement"]) >= {"direction of refusal", "place of the direction of refusal"}


def test_a_benign_change_passes_the_gate(work: Path, base: Path) -> None:
    claims = gated(work, base, "benign", benign=1.02)
    assert claims["harmful_requests_are_refused_as_before"].verdict is PASS
    assert claims["harmless_requests_are_answered_as_before"].verdict is PASS
    assert claims["the_direction_of_the_baseline_still_decides"].verdict is PASS
    moved = claims["states_have_not_moved_along_the_direction"]
    assert moved.verdict is NOT
    assert "so only later layers changed" in moved.reason
    assert [control.verdict for control in moved.controls if "on the baseline" in control.name] == [PASS]


def test_a_model_that_forgot_to_refuse_fails(work: Path, base: Path) -> None:
    claims = gated(work, base, "forgets", strength=0.0)
    assert claims["harmful_requests_are_refused_as_before"].verdict is FAIL
    lost = claims["harmful_requests_are_refused_and_harmless_ones_answered"]
    assert lost.verdict is FAIL
    assert "so it has no refusal to look for" in lost.reason


def test_a_baseline_of_another_width_is_compared_by_behaviour_only(work: Path, base: Path) -> None:
    claims = gated(work, base, "wide", width=48)
    assert claims["harmful_requests_are_refused_as_before"].verdict is not NOT
    for name in ("the_direction_of_the_baseline_still_decides", "states_have_not_moved_along_the_direction"):
        assert claims[name].verdict is NOT, claims[name].reason
        assert "compared by behaviour only" in claims[name].reason
