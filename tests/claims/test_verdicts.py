"""Verdict rules: controls, the verdict of a claim, the verdict and exit code of a run."""

from __future__ import annotations

import copy
import pickle
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from auditkit.claims.evidence import Decision, Evidence, beside, gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable, NotReadable, Threshold
from auditkit.claims.verdicts import control, deciding, exit_code, judge, summarize
from auditkit.record.schema import Claim, Control, Cost, Effect, Verdict

pytestmark = pytest.mark.unit

RAMP = np.linspace(4, 6, 12)
UNDECIDED = np.linspace(-1, 1.2, 12)
PASS, FAIL, INCONCLUSIVE, NOT_APPLICABLE, ERROR = Verdict

verdict_lists = st.lists(st.sampled_from(Verdict), max_size=8)
profiles = st.sampled_from(["pr", "release"])


def effect() -> Effect:
    return Effect(
        name="e", estimate=1.0, lower=0.5, upper=1.5, unit="logit", relation=">=", threshold=0.0, alpha=0.05, n=9,
        clusters=9, standardized=None, mde=None, items_needed=None, method="mean",
    )  # fmt: skip


def decided(verdict: Verdict) -> Decision:
    return Decision(verdict, f"because {verdict}", effect(), "paper")


def controlled(verdict: Verdict | None) -> Control:
    return Control(name=f"control {verdict}", effect=None, verdict=verdict, reason=f"since {verdict}")


def claim(verdict: Verdict, number: int = 0) -> Claim:
    return Claim(
        id=f"suite/claim{number}", suite="suite", statement="", source="", verdict=verdict, reason=f"as {verdict}",
        threshold_source="", effect=None, cost=Cost(seconds=0.0, token_layers=0, share_of_minimum=None),
    )  # fmt: skip


def code(verdicts: list[Verdict], profile: str) -> int:
    return exit_code(summarize([claim(v, i) for i, v in enumerate(verdicts)]), profile)


# -- thresholds ------------------------------------------------------------------------------------------------


def test_a_threshold_is_a_number_that_remembers_its_source():
    threshold = Threshold(0.3, "table 2")
    assert threshold == 0.3
    assert f"{threshold:.2f}" == "0.30"
    assert threshold.source == "table 2"


# Values travel between processes (docs/decisions/record_and_gate.md); only bytes made in this line are unpickled.
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copied_threshold_remembers_too(duplicate):
    again = duplicate(Threshold(0.3, "table 2"))
    assert (again, again.source) == (0.3, "table 2")


# -- controls --------------------------------------------------------------------------------------------------


def test_a_control_that_holds_is_no_decision_of_the_claim(estimate):
    with gathering() as evidence:
        with control("wrong donor"):
            assert evidence.in_control
            assert estimate(RAMP) > 0
        assert not evidence.in_control
        assert estimate(RAMP) > 1
    assert [(c.name, c.verdict) for c in evidence.controls] == [("wrong donor", PASS)]
    assert evidence.controls[0].effect.threshold == 0
    assert [d.effect.threshold for d in evidence.decisions] == [1]
    assert judge(evidence)[0] is PASS


def test_a_control_that_fails_lets_the_claim_go_on_and_makes_it_unreadable(estimate):
    with gathering() as evidence:
        with control("wrong donor"):
            assert estimate(RAMP) < 0
        assert estimate(RAMP) > 0
    assert evidence.controls[0].verdict is FAIL
    verdict, reason = judge(evidence)
    assert verdict is ERROR
    assert "not readable: control 'wrong donor' did not hold" in reason


def test_an_undecided_control_leaves_the_claim_undecided(estimate):
    with gathering() as evidence:
        with control("wrong donor"):
            assert estimate(UNDECIDED) > 0
        assert estimate(RAMP) > 0
    assert evidence.controls[0].verdict is INCONCLUSIVE
    assert judge(evidence)[0] is INCONCLUSIVE


def test_a_control_that_cannot_be_asked_leaves_the_claim_undecided(estimate):
    with gathering() as evidence:
        with control("wrong donor"):
            assert estimate(RAMP, UNDECIDED) > 0
        assert estimate(RAMP) > 0
    assert evidence.controls[0].verdict is NOT_APPLICABLE
    assert judge(evidence)[0] is INCONCLUSIVE


@pytest.mark.parametrize("donor", [(UNDECIDED,), (RAMP, UNDECIDED)])
@pytest.mark.parametrize("ended", [None, Inconclusive("too few pairs")])
def test_a_claim_that_fails_beside_a_control_that_vouches_for_nothing_is_undecided(estimate, donor, ended):
    """As many as could be asked: an undecided control, and one that this model has no effect for."""
    with gathering() as evidence:
        with control("wrong donor"):
            assert estimate(*donor) > 0
        assert not estimate(RAMP) < 0
    verdict, reason = judge(evidence, ended)
    assert verdict is INCONCLUSIVE
    assert reason.startswith("control 'wrong donor' is undecided (")
    assert "a comparison that fails says nothing yet" in reason
    with gathering() as failed:
        with control("wrong donor"):
            assert estimate(RAMP) < 0
        with control("undecided"):
            assert estimate(UNDECIDED) > 0
        assert not estimate(RAMP) < 0
    assert judge(failed, ended)[0] is ERROR


@pytest.mark.parametrize("error", [None, AssertionError("x"), Inconclusive("x"), NotApplicable("x")])
def test_a_control_that_compares_nothing_is_undecided(estimate, error):
    with gathering() as evidence:
        with control("wrong donor"):
            if error:
                raise error
        assert estimate(RAMP) > 0
    assert [c.verdict for c in evidence.controls] == [INCONCLUSIVE]
    assert evidence.controls[0].reason == (
        "nothing could be compared: x" if error else "the block compared no effect"
    )
    assert judge(evidence)[0] is INCONCLUSIVE


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(AssertionError("x"), ERROR), (NotApplicable("x"), INCONCLUSIVE), (Inconclusive("x"), INCONCLUSIVE)],
)
def test_a_control_that_ends_early_after_a_comparison_that_held_does_not_hold(estimate, error, verdict):
    with gathering() as evidence:
        with control("wrong donor"):
            assert estimate(RAMP) > 0
            raise error
        assert estimate(RAMP) > 0
    assert evidence.controls[0].verdict is PASS
    assert "x" in evidence.controls[1].reason
    assert judge(evidence)[0] is verdict


@pytest.mark.parametrize("error", [ValueError, NotReadable, KeyboardInterrupt])
def test_other_exceptions_pass_through_a_control(estimate, error):
    def block() -> None:
        with control("wrong donor"):
            assert estimate(RAMP) > 0
            raise error

    with gathering() as evidence:
        with pytest.raises(error):
            block()
        assert not evidence.in_control
    assert evidence.decisions == []


def test_outside_a_claim_exceptions_pass_through_a_control(estimate):
    with pytest.raises(Inconclusive), control("wrong donor"):
        _ = estimate(UNDECIDED) > 0
    with pytest.raises(NotApplicable), control("wrong donor"):
        _ = estimate(RAMP, UNDECIDED) > 0
    with pytest.raises(AssertionError), control("wrong donor"):
        assert estimate(RAMP) < 0


def test_items_of_a_control_are_kept(estimate):
    with gathering() as evidence, control("wrong donor"):
        assert estimate(RAMP) > 0
    assert len([row for row in evidence.items.values() if not row.effect]) == 12
    assert {row.condition for row in evidence.items.values() if row.effect} == {"beside numerator"}


def test_what_is_shown_is_not_judged(estimate):
    with gathering() as evidence:
        beside("nonsense words", estimate(UNDECIDED))
        assert estimate(RAMP) > 0
    (shown,) = evidence.controls
    assert (shown.verdict, shown.effect.relation, shown.effect.n) == (None, None, 12)
    assert judge(evidence)[0] is PASS


def test_what_cannot_be_measured_is_shown_without_interval(estimate):
    with gathering() as evidence:
        beside("nothing", estimate([np.nan] * 6))
    assert evidence.controls[0].effect.estimate is None


def test_outside_a_claim_nothing_is_shown_and_nothing_raised(estimate):
    beside("nonsense words", estimate(RAMP))


# -- the verdict of a claim ------------------------------------------------------------------------------------


@given(verdict_lists, st.lists(st.none() | st.sampled_from(Verdict), max_size=4))
def test_a_claim_passes_only_if_all_that_was_compared_passed(decisions, controls):
    evidence = Evidence(decisions=[decided(v) for v in decisions], controls=[controlled(v) for v in controls])
    verdict, reason = judge(evidence)
    assert reason
    sound = bool(decisions) and set(decisions) == {PASS} and set(controls) <= {None, PASS}
    assert (verdict is PASS) == sound
    if {FAIL, ERROR} & set(controls) or not decisions:
        assert verdict is ERROR
    else:
        worst = next((v for v in (ERROR, FAIL, INCONCLUSIVE, NOT_APPLICABLE) if v in decisions), PASS)
        unvouched = worst in (PASS, FAIL) and bool({INCONCLUSIVE, NOT_APPLICABLE} & set(controls))
        assert verdict is (INCONCLUSIVE if unvouched else worst)


def test_a_claim_that_compared_nothing_asserts_nothing():
    assert judge(Evidence()) == (ERROR, "the claim compared no effect with a threshold, so it asserts nothing")


def test_a_claim_whose_evidence_ran_out_is_undecided_and_no_better_than_what_it_compared():
    ended = Inconclusive("too few pairs")
    assert judge(Evidence(), ended) == (INCONCLUSIVE, "too few pairs")
    assert judge(Evidence(decisions=[decided(PASS)]), ended) == (INCONCLUSIVE, "too few pairs")
    assert judge(Evidence(decisions=[decided(FAIL)]), ended) == (FAIL, "because FAIL")
    failed = Control(name="known", effect=None, verdict=FAIL, reason="too small")
    assert judge(Evidence(controls=[failed]), ended)[0] is ERROR


def test_the_reason_is_that_of_the_deciding_comparison():
    evidence = Evidence(decisions=[decided(PASS), decided(INCONCLUSIVE), decided(FAIL)])
    assert judge(evidence) == (FAIL, "because FAIL")
    assert deciding(evidence.decisions, FAIL) is evidence.decisions[2]
    assert deciding(evidence.decisions, ERROR) is evidence.decisions[0]
    assert deciding([], PASS) is None


# -- the verdict of a run --------------------------------------------------------------------------------------


@given(verdict_lists, profiles)
def test_the_exit_code_says_what_the_verdicts_say(verdicts, profile):
    if FAIL in verdicts:
        expected = 1
    elif ERROR in verdicts:
        expected = 11
    elif PASS not in verdicts or (INCONCLUSIVE in verdicts and profile == "release"):
        expected = 10
    else:
        expected = 0
    assert code(verdicts, profile) == expected


@pytest.mark.parametrize("profile", ["pr", "release"])
@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_no_combination_without_a_pass_ends_well(profile, size):
    for verdicts in combinations_with_replacement([v for v in Verdict if v is not PASS], size):
        assert code(list(verdicts), profile) != 0
        assert summarize(map(claim, verdicts)).verdict is not PASS


@given(verdict_lists)
def test_a_summary_passes_only_when_nothing_is_undecided(verdicts):
    summary = summarize([claim(v, i) for i, v in enumerate(verdicts)])
    assert (summary.verdict is PASS) == (PASS in verdicts and set(verdicts) <= {PASS, NOT_APPLICABLE})
    assert summary.reason
    counts = (summary.passed, summary.failed, summary.inconclusive, summary.not_applicable, summary.error)
    assert counts == tuple(verdicts.count(v) for v in Verdict)


@given(st.permutations([PASS, FAIL, INCONCLUSIVE, NOT_APPLICABLE, ERROR]))
def test_the_order_of_claims_does_not_matter(verdicts):
    assert summarize(map(claim, verdicts)).verdict is FAIL


def test_a_summary_names_the_one_claim_that_did_not_pass():
    assert summarize([claim(PASS, 0), claim(FAIL, 1)]).reason == "suite/claim1 failed: as FAIL"
    assert summarize([claim(FAIL, 0), claim(FAIL, 1)]).reason == "2 of 2 claims failed"
    assert summarize([claim(PASS, 0)]).reason == "1 of 1 claims passed"
    assert summarize([]).reason == "no claim was measured"
    assert summarize([claim(NOT_APPLICABLE)]).reason == "no claim could be decided"


# -- why a claim passes ----------------------------------------------------------------------------------------


def passing(lower: float, upper: float, relation: str, threshold: float, **more: object) -> Decision:
    compared = replace(effect(), lower=lower, upper=upper, relation=relation, threshold=threshold, **more)
    return Decision(PASS, f"the interval [{lower:.3g}, {upper:.3g}] lies there", compared, "paper")


@pytest.mark.parametrize(
    ("relation", "threshold", "spans", "reason"),
    [
        ("within", 0.25, [(-0.0756, -0.0236), (-0.217, -0.148), (0.1, 0.2)],
         "all 3 intervals lie within ±0.25 (nearest: [-0.217, -0.148])"),
        (">=", 0.3, [(0.5, 0.6), (0.31, 0.9)], "both intervals lie at or above 0.3 (nearest: [0.31, 0.9])"),
        ("<", 0.0, [(-9, -0.1), (-3, -2)], "both intervals lie below 0 (nearest: [-9, -0.1])"),
        (">", 0.0, [(1, 2)], "the interval [1, 2] lies there"),
    ],
)  # fmt: skip
def test_comparisons_of_one_kind_pass_for_one_reason(relation, threshold, spans, reason):
    evidence = Evidence([passing(lower, upper, relation, threshold) for lower, upper in spans])
    assert judge(evidence) == (PASS, reason)


def test_comparisons_of_several_kinds_pass_for_several_reasons():
    evidence = Evidence(
        [
            *(passing(low, 2, ">", 0) for low in (1, 0.5)),
            passing(1, 1, ">", 0, exact=True),
            *(passing(low, 2, ">", 0.25) for low in (1, 0.5)),
            passing(1, 2, ">", 0, unit="nat"),
        ]
    )
    assert judge(evidence)[1] == (
        "both intervals lie above 0 (nearest: [0.5, 2]); the interval [1, 1] lies there; "
        "both intervals lie above 0.25 (nearest: [0.5, 2]); the interval [1, 2] lies there"
    )
