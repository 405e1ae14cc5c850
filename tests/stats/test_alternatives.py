"""Alternatives say whether a verdict hangs on a choice, and decide nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from auditkit import Choice, alternatives, beside, control, note, sensitivity
from auditkit.claims.evidence import Evidence, gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.claims.shared import SharedMeasurements
from auditkit.gate.verify import verify_claim
from auditkit.record.plan import PlannedClaim
from auditkit.record.schema import Claim, Cost, Verdict
from auditkit.record.store import item_table
from auditkit.stats.alternatives import held_to
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
NOISE = np.linspace(-0.3, 0.3, 12)


def effect(mean: float, name: str = "effect", spread: float = 1.0) -> Estimate:
    """An effect whose interval is about 0.12 to either side of its mean."""
    index = pd.Index([f"item {i}" for i in range(12)], name="item")
    values = mean + spread * NOISE
    table = pd.DataFrame({"value": values}, index)
    measured = Measurement(f"table of {name}", "logit", table, pd.DataFrame({"topic": index}, index))
    return Estimate(name, "logit", measured, values, shown_conditions=("value",))


def above(mean: float = 1.0, least: float = 0.5) -> None:
    assert effect(mean) >= least


def claimed(body: Callable[[], object]) -> tuple[Claim, Evidence]:
    """The claim that the plugin makes of a test with this body."""
    from auditkit.pytest_plugin.claims import conclude

    error: BaseException | None = None
    with gathering() as evidence:
        try:
            body()
        except Exception as ended:
            error = ended
    plan = PlannedClaim(id="suite/claim", suite="suite", statement="It holds.", source="", rerun="")
    return conclude(plan, evidence, error, None, Cost(seconds=0, token_layers=0, share_of_minimum=None)), evidence


def under(others: dict[str, dict[str, object]], compare: Callable[..., object] = above) -> Claim:
    def body() -> None:
        alternatives(compare, Choice("a choice", "its own", others))
        compare()

    return claimed(body)[0]


def problems(body: Callable[[], object]) -> tuple[str, ...]:
    claim, evidence = claimed(body)
    return verify_claim(claim, item_table(tuple(evidence.items.values())), paired=False).problems


def test_a_planted_dependence_on_a_choice_is_shown() -> None:
    claim = under({"the layer below": {"mean": 0.9}, "the layer above": {"mean": 0.1}, "no layer": {"mean": 0.5}})
    assert claim.verdict is PASS
    assert [(one.other, one.verdict) for one in claim.alternatives] == [
        ("the layer below", PASS), ("the layer above", FAIL), ("no layer", OPEN),
    ]  # fmt: skip
    assert {(one.choice, one.own) for one in claim.alternatives} == {("a choice", "its own")}
    assert [one.effects[0].estimate for one in claim.alternatives] == pytest.approx([0.9, 0.1, 0.5])
    assert "lies below 0.5" in claim.alternatives[1].reason


def test_where_nothing_hangs_on_a_choice_all_are_the_same() -> None:
    claim = under({"the layer below": {"mean": 0.9}, "the layer above": {"mean": 1.2}})
    assert [one.verdict for one in claim.alternatives] == [PASS, PASS]


@pytest.mark.parametrize("own", [1.0, 0.1, 0.5])
def test_alternatives_change_nothing_of_the_claim(own: float) -> None:
    """Whatever they come to, or run into."""

    def broken() -> None:
        raise RuntimeError("it cannot be measured")

    def compare(mean: float = own, then: Callable[[], object] = lambda: None) -> None:
        note(f"measured at {mean:g}")
        beside(f"beside {mean:g}", effect(mean, "beside"))
        then()
        assert effect(mean) >= 0.5
        assert effect(mean + 1, "other") >= 0.5

    others: dict[str, dict[str, object]] = {f"mean {mean}": {"mean": mean} for mean in (-5.0, 0.5, 5.0)}
    others |= {"a fault": {"then": broken}}
    plain, evidence = claimed(compare)

    def body() -> None:
        alternatives(compare, Choice("a choice", "its own", others))
        compare()

    shown, with_them = claimed(body)
    assert len(shown.alternatives) == 4
    for field in Claim.__struct_fields__:
        if field != "alternatives":
            assert getattr(shown, field) == getattr(plain, field), field
    kept = {key: row for key, row in with_them.items.items() if "[a choice: " not in row.measurement}
    assert kept == evidence.items


@pytest.mark.parametrize(
    ("error", "verdict", "ended"),
    [
        (NotApplicable("no such layer"), Verdict.NOT_APPLICABLE, "not applicable"),
        (Inconclusive("too few"), OPEN, "undecided"),
        (RuntimeError("it broke"), Verdict.ERROR, "exception"),
        (AssertionError("not an effect"), Verdict.ERROR, "failed assertion"),
    ],
)
def test_what_ends_an_alternative_ends_that_one_alone_and_is_its_reason(error, verdict, ended) -> None:
    def compare(fault: Exception | None = None) -> None:
        assert effect(1.0) >= 0.5
        if fault is not None:
            raise fault

    claim = under({"a fault": {"fault": error}, "no fault": {}}, compare)
    assert claim.verdict is PASS
    first, second = claim.alternatives
    assert (first.verdict, first.ended, second.verdict) == (verdict, ended, PASS)
    assert str(error) in first.reason


def test_controls_above_hold_for_every_alternative_and_those_inside_are_measured_again() -> None:
    def controlled(outer: float, inner: float) -> Claim:
        def compare(mean: float = 1.0, inside: float = 1.0) -> None:
            with control("inside"):
                assert effect(inside, "inside") > 0
            assert effect(mean) >= 0.5

        def body() -> None:
            with control("above"):
                assert effect(outer, "above") > 0
            alternatives(compare, Choice("a choice", "its own", {"another": {"mean": 0.9, "inside": inner}}))
            compare()

        assert problems(body) == ()
        return claimed(body)[0]

    assert [one.verdict for one in controlled(1.0, 1.0).alternatives] == [PASS]
    assert controlled(1.0, -1.0).verdict is PASS
    assert controlled(1.0, -1.0).alternatives[0].verdict is Verdict.ERROR
    assert controlled(0.0, 1.0).alternatives[0].verdict is OPEN
    names = [one.name for one in controlled(1.0, -1.0).alternatives[0].controls]
    assert names == ["above", "inside"]


def test_a_sensitivity_reference_is_asked_of_every_alternative() -> None:
    def compare(reference: float = 1.0) -> None:
        with sensitivity("strong from weak", effect(reference, "strong minus weak"), by=0.25):
            assert effect(0.0).equals(0.0, within=0.25)

    def body() -> None:
        alternatives(compare, Choice("a choice", "its own", {"one that does not move": {"reference": 0.0}}))
        compare()

    claim, _ = claimed(body)
    assert claim.verdict is PASS
    assert claim.alternatives[0].verdict is Verdict.NOT_APPLICABLE
    assert problems(body) == ()


def test_several_comparisons_of_an_alternative_are_corrected_as_those_of_the_claim() -> None:
    def compare(means: tuple[float, ...] = (1.0,) * 40) -> None:
        made = []
        for number, mean in enumerate(means):
            try:
                made.append(effect(mean, f"effect {number}") >= 0.5)
            except Inconclusive:
                made.append(False)
        assert all(made)

    slight = (0.36, *(1.0,) * 39)
    claim = under(
        {"one slightly lower": {"means": slight}, "one far lower": {"means": (-1.0, *slight[1:])}}, compare
    )
    alone = under({"one alone": {"means": slight[:1]}}, compare)
    assert [one.verdict for one in (*claim.alternatives, *alone.alternatives)] == [OPEN, FAIL, FAIL]
    assert claim.alternatives[0].reason.startswith("holm: ")


def test_an_alternative_with_another_threshold_or_side_is_an_error_of_its_own() -> None:
    def compare(least: float = 0.5, turned: bool = False) -> None:
        assert effect(-1.0) <= -least if turned else effect(1.0) >= least

    claim = under({"a lower threshold": {"least": 0.1}, "another side": {"turned": True}, "the same": {}}, compare)
    assert claim.verdict is PASS
    assert [one.verdict for one in claim.alternatives] == [Verdict.ERROR, Verdict.ERROR, PASS]
    assert "another threshold" in claim.alternatives[0].reason


def test_an_alternative_of_equivalence_over_fewer_clusters_is_held_to_the_same_rule() -> None:
    """Equivalence has a level that depends on the number of clusters, so the two levels differ."""
    whole = effect(0.0)

    def compare(items: int = 12) -> None:
        few = np.arange(items, dtype=np.intp)
        part = Estimate("effect", "logit", whole.measurement.take(few), whole.numerator[few])
        assert part.equals(0.0, within=0.5)

    claim = under({"half of the items": {"items": 6}}, compare)
    (alternative,) = claim.alternatives
    assert claim.effect is not None
    assert alternative.effects[0].alpha != claim.effect.alpha
    assert (claim.verdict, alternative.verdict) == (PASS, PASS)


def test_a_claim_that_ends_at_its_first_comparison_still_holds_alternatives_to_its_rule() -> None:
    def compare(mean: float = 0.5) -> None:
        assert effect(mean) >= 0.5
        assert effect(mean, "second") > 0

    claim = under({"a higher one": {"mean": 2.0}}, compare)
    assert claim.verdict is OPEN
    assert claim.alternatives[0].verdict is PASS
    (alternative,) = claim.alternatives
    assert held_to(alternative, []) is alternative


def test_values_of_an_alternative_stand_under_names_of_their_own_and_can_be_computed_again() -> None:
    def body() -> None:
        alternatives(above, Choice("mean", "1", {"half of it": {"mean": 0.45}, "twice": {"mean": 2.0}}))
        above()

    claim, evidence = claimed(body)
    rows = evidence.items.values()
    assert {row.effect for row in rows} == {"", "effect", "effect [mean: half of it]", "effect [mean: twice]"}
    beside_it = {row.condition for row in rows if row.effect.endswith("]")}
    assert beside_it == {"beside numerator"}, "which no comparison of two runs takes"
    verified = verify_claim(claim, item_table(tuple(rows)), paired=False)
    assert (verified.problems, verified.effects, verified.not_computed) == ((), 3, ())


def test_a_shared_measurement_says_the_same_under_the_claim_whichever_alternative_asked_first() -> None:
    def body() -> None:
        shared = SharedMeasurements()

        def measure() -> float:
            note("measured once")
            beside("a detail", effect(0.3, "detail"))
            return 1.0

        def compare(least: float = 0.5) -> None:
            assert effect(shared.get("key", measure)) >= least

        alternatives(compare, Choice("a choice", "its own", {"the same": {}}))
        compare()

    claim, _ = claimed(body)
    assert claim.notes.count("measured once") == 1
    assert [one.name for one in claim.controls] == ["a detail"]
    assert claim.alternatives[0].controls == ()
    assert problems(body) == ()


def test_a_shared_measurement_may_not_have_alternatives() -> None:
    with gathering(), pytest.raises(RuntimeError, match="compare it in the claims that use it"):
        SharedMeasurements().get("key", lambda: alternatives(above, Choice("a", "b", {"c": {}})))


@pytest.mark.parametrize(
    "choices",
    [
        (Choice("a", "b", {"": {}}),),
        (Choice("", "b", {"c": {}}),),
        (Choice("a", "b", {"c": {}}), Choice("a", "d", {"c": {}})),
    ],
)
def test_alternatives_without_a_name_of_their_own_are_refused(choices) -> None:
    with pytest.raises(ValueError, match="need a name each"):
        alternatives(above, *choices)


def test_outside_a_claim_alternatives_measure_nothing() -> None:
    def compare(**_: object) -> None:
        raise RuntimeError("asked")

    alternatives(compare, Choice("a", "b", {"c": {}}))
