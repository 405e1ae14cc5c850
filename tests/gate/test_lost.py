"""What a run has less than its baseline: looser thresholds, new waivers, and families that were padded."""

from __future__ import annotations

import msgspec
import pytest

from auditkit.gate.lost import NOT_COLLECTED, loosened, lost_claims
from auditkit.record.schema import Claim, Effect, FamilyPlace, Relation, Run, Verdict, Waiver
from auditkit.report.files.markdown import render_comment
from auditkit.report.terminal import overview
from auditkit.stats.families import holm, in_families_of

pytestmark = pytest.mark.unit


def with_threshold(run: Run, relation: Relation, threshold: float) -> Run:
    effect = msgspec.structs.replace(run.claims[0].effect, relation=relation, threshold=threshold)
    claim = msgspec.structs.replace(run.claims[0], effect=effect, threshold_source="limits.toml [default]")
    return msgspec.structs.replace(run, claims=(claim, *run.claims[1:]))


@pytest.mark.parametrize(
    ("relation", "was", "now", "looser"),
    [
        (">=", 0.3, 0.2, True),
        (">=", 0.3, 0.3, False),
        (">=", 0.3, 0.4, False),
        (">", -0.1, -1e5, True),
        ("<=", 0.3, 0.4, True),
        ("<=", 0.3, 0.2, False),
        ("<", 0.0, 0.01, True),
        ("within", 0.1, 0.2, True),
        ("within", 0.1, 0.05, False),
    ],
)
def test_a_looser_threshold_is_told_from_a_stricter_one(
    a_run: Run, relation: Relation, was: float, now: float, looser: bool
) -> None:
    lines = loosened(with_threshold(a_run, relation, now), with_threshold(a_run, relation, was))
    expected = (
        f"suite/claim0: 'recovery' {relation} {now:g} (limits.toml [default]), on the baseline {relation} {was:g}"
    )
    assert lines == ((expected,) if looser else ())


def test_a_waiver_loosens_where_the_baseline_had_none(a_run: Run) -> None:
    waiver = Waiver(claim="suite/claim0", owner="Jo", reason="why", expires="2030-01-01", state="applied")
    with_it = msgspec.structs.replace(a_run, waivers=(waiver,))
    assert loosened(with_it, a_run) == (
        "suite/claim0: a waiver that the baseline did not have, by Jo until 2030-01-01",
    )
    assert loosened(with_it, with_it) == ()
    longer = msgspec.structs.replace(waiver, expires="2031-01-01")
    assert len(loosened(msgspec.structs.replace(a_run, waivers=(longer,)), with_it)) == 1
    expired = msgspec.structs.replace(waiver, state="expired")
    assert loosened(msgspec.structs.replace(a_run, waivers=(expired,)), a_run) == ()


def test_what_is_looser_stands_in_the_comment_and_on_the_first_screen(a_run: Run, compared_run: Run) -> None:
    line = "suite/claim0: 'recovery' >= 0.2, on the baseline >= 0.3"
    baseline = msgspec.structs.replace(compared_run.baseline, loosened=(line,))
    run = msgspec.structs.replace(compared_run, baseline=baseline)
    assert "looser than the baseline: suite/claim0" in render_comment(run)
    screen = "\n".join(overview(run))
    assert screen.index("looser than the baseline") < screen.index("Other claims")
    assert "looser" not in render_comment(compared_run)


@pytest.fixture
def compared_run(a_run: Run) -> Run:
    from auditkit.record.schema import Baseline

    baseline = Baseline(
        name="released", run="2026-a", created=a_run.created, audit_sha256="aa", plan_sha256="bb",
        plan_differences=(), model=a_run.model, summary=a_run.summary, absent={},
    )  # fmt: skip
    return msgspec.structs.replace(a_run, baseline=baseline)


def test_a_claim_is_lost_only_where_the_baseline_has_a_value(a_run: Run) -> None:
    values = {"suite/claim0": "recovery: 0.5", "suite/claim1": ""}
    (lost,) = lost_claims(a_run.claims, (), values.__getitem__, {})
    assert (lost.id, lost.verdict, lost.lack) == ("suite/claim0", Verdict.INCONCLUSIVE, "not measured")
    assert lost.reason.endswith(NOT_COLLECTED)
    assert lost_claims(a_run.claims, {"suite/claim0"}, values.__getitem__, {}) == ()
    (lost,) = lost_claims(a_run.claims, (), values.__getitem__, {"suite/claim0": "deselected"})
    assert lost.reason.endswith("did not measure it: deselected")


def failing(run: Run, number: int, p: float, family: str | None = "all") -> Claim:
    effect: Effect = msgspec.structs.replace(run.claims[0].effect, p_fail=p, df=None)
    verdict = Verdict.FAIL if p <= 0.025 else Verdict.PASS
    place = None if family is None else FamilyPlace(name=family)
    return msgspec.structs.replace(
        run.claims[0], id=f"suite/{number}", verdict=verdict, reason="below", effect=effect, family=place
    )


def test_claims_that_are_added_to_a_family_do_not_soften_a_fail(a_run: Run) -> None:
    then = [failing(a_run, number, 0.5) for number in range(2)]
    now = [failing(a_run, 0, 0.01), *(failing(a_run, number, 0.5) for number in range(1, 43))]
    assert holm(now)[0].verdict is Verdict.INCONCLUSIVE, "forty more claims explain it by chance"
    judged = holm(in_families_of(now, then))
    assert (judged[0].verdict, judged[0].family.size, judged[0].family.of_baseline) == (Verdict.FAIL, 2, True)
    assert (judged[5].family.size, judged[5].family.of_baseline) == (41, False)
    assert holm(judged) == judged, "judging twice changes nothing"


def test_a_claim_that_was_judged_alone_is_not_moved_into_a_family_to_soften_it(a_run: Run) -> None:
    then = [failing(a_run, 0, 0.5, family=None)]
    now = [failing(a_run, number, 0.01 if number == 0 else 0.5) for number in range(20)]
    (first, *_) = holm(in_families_of(now, then))
    assert (first.verdict, first.family) == (Verdict.FAIL, None)


def test_a_family_that_a_claim_left_is_not_taken_for_its_own_again(a_run: Run) -> None:
    then = [failing(a_run, number, 0.5) for number in range(20)]
    now = [failing(a_run, 0, 0.01, family=None)]
    assert holm(in_families_of(now, then))[0].verdict is Verdict.FAIL
