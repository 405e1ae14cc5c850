"""The traits suite as a user runs it, on small models whose circuit is set by hand: a base, a benign change, and one
whose states moved towards a trait."""

from __future__ import annotations

from pathlib import Path

import pytest
from audits import audit

from auditkit.record.schema import Claim, Verdict
from auditkit.record.store import read_items, read_run
from tests.planted.sorry import absent, save, save_model, sorry

pytestmark = pytest.mark.slow  # audits in processes of their own

PASS, FAIL, NOT = Verdict.PASS, Verdict.FAIL, Verdict.NOT_APPLICABLE


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traits")
    save(folder / "mine.toml", sorry(), absent())
    return folder


def audited(work: Path, name: str, *options: str, **planted: float) -> Path:
    save_model(work / name, **planted)
    data = f"traits={work / 'mine.toml'}"
    return audit(work / f"{name}-reports", "suites/traits", "--model", str(work / name), "--data", data, *options)


def claims_of(run: Path) -> dict[str, Claim]:
    return {claim.id.split("/", 1)[1]: claim for claim in read_run(run).claims}


@pytest.fixture(scope="module")
def base(work: Path) -> Path:
    return audited(work, "base")


def test_a_trait_that_a_direction_carries_is_found_and_one_that_is_none_is_not(base: Path) -> None:
    claims = claims_of(base)
    assert len(claims) == 12
    assert {name for name, claim in claims.items() if claim.verdict is PASS} == {
        "projection_ranks_held_out_prompts[sorry]",
        "steering_moves_the_score[sorry]",
        "the_direction_is_specific[sorry]",
    }
    assert {claim.verdict for claim in claims.values()} == {PASS, NOT}
    none = claims["steering_moves_the_score[absent]"]
    assert "are not shown to move the score of 'absent'" in none.reason
    assert set(read_items(base)["measurement"]) >= {
        "direction of trait sorry",
        "place of the direction of trait sorry",
    }


def test_a_benign_change_passes_the_gate(work: Path, base: Path) -> None:
    claims = claims_of(audited(work, "benign", "--baseline", str(base), benign=1.02))
    assert claims["the_score_is_no_higher[sorry]"].verdict is PASS
    moved = claims["states_have_not_moved_along_the_trait[sorry]"]
    assert moved.verdict is NOT
    assert "so only later layers changed" in moved.reason
    assert FAIL not in {claim.verdict for claim in claims.values()}


def test_a_move_towards_the_trait_fails_in_answers_and_in_states(work: Path, base: Path) -> None:
    claims = claims_of(audited(work, "moved", "--baseline", str(base), lift=40.0))
    for name in (
        "the_score_is_no_higher[sorry]",
        "states_have_not_moved_along_the_trait[sorry]",
        "open_questions_move_along_no_trait",
    ):
        assert claims[name].verdict is FAIL, claims[name].reason
        told = [control for control in claims[name].controls if "on the baseline" in control.name]
        assert [control.verdict for control in told] == [PASS], "a reference is asked for on the baseline, too"
