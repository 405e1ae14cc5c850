"""Effects as recorded: they come back as they were, and only the same items are paired."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.claims.evidence import Evidence, gathering
from auditkit.claims.outcomes import NotAsked
from auditkit.claims.verdicts import control
from auditkit.gate.changes import Counterpart, Past, change_of
from auditkit.gate.paired import difference, only
from auditkit.record.baseline import Recorded
from auditkit.record.schema import ItemRow, Run
from auditkit.stats.effects.kept import Kept, read_effects
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import rate
from auditkit.stats.halves import CrossFitted
from auditkit.stats.measurement import Measurement, content_digest, read_labels, written_labels

pytestmark = pytest.mark.unit


def crossed(share: bool) -> Estimate:
    """Questions crossed with persona pairs, whose names hold the signs that separate labels."""
    rng = np.random.default_rng(0)
    index = pd.Index([f"q{i}|p{j}" for i in range(8) for j in range(6)], name="item")
    labels = pd.DataFrame(
        {
            "topic": [f"a;b={i}" for i in range(8) for _ in range(6)],
            "pair": [f"\\{j}" for _ in range(8) for j in range(6)],
        },
        index=index,
    )
    values = rng.normal(1, 0.4, 48)
    table = pd.DataFrame({"p": values}, index=index)
    total = rng.normal(3, 0.2, 48) if share else None
    return Estimate("effect", "logit", Measurement("m", "logit", table, labels), values, total)


def recorded(estimate: Estimate) -> pd.DataFrame:
    with gathering() as evidence:
        _ = estimate > -1e3
    rows = msgspec.to_builtins([row for row in evidence.items.values() if row.effect])
    return pd.DataFrame(rows, columns=list(ItemRow.__struct_fields__))


def recorded_shares(estimate: Estimate) -> pd.DataFrame:
    """The same for shares that no comparison decides, since every item has the same."""
    with gathering() as evidence:
        estimate.keep_effect()
    return pd.DataFrame(
        msgspec.to_builtins(list(evidence.items.values())), columns=list(ItemRow.__struct_fields__)
    )


@pytest.mark.parametrize("share", [False, True])
def test_an_effect_comes_back_from_its_rows_with_the_same_interval(share: bool) -> None:
    estimate = crossed(share)
    back = read_effects(recorded(estimate))["effect"].estimate
    assert back.describe("within", 0.2) == estimate.describe("within", 0.2)


@pytest.mark.parametrize("share", [False, True])
def test_a_change_does_not_depend_on_the_order_of_items(share: bool) -> None:
    estimate = crossed(share)
    items = recorded(estimate)
    shuffled = items.sample(frac=1, random_state=1)
    change = estimate.change_from(read_effects(shuffled)["effect"].estimate)
    assert change.describe().estimate == pytest.approx(0, abs=1e-12)
    assert change.refused == ""


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_a_recorded_share_of_one_is_compared_as_a_share(scale: float) -> None:
    """A model that recovers everything against one that recovers half: the change is a half, whatever the logits."""
    half = crossed(True)
    assert half.denominator is not None
    whole = Estimate(
        "effect", "logit", half.measurement, 2 * scale * half.denominator, 2 * scale * half.denominator
    )
    half = Estimate("effect", "logit", half.measurement, scale * half.numerator, scale * half.denominator)
    digests = read_effects(recorded(half))["effect"].digests
    then = read_effects(recorded_shares(whole))["effect"]
    reason, change = difference(Kept(half, digests), then)
    assert (reason, change is not None) == ("", True)
    assert change is not None
    expected = half.describe().estimate
    assert expected is not None
    assert change.estimate == pytest.approx(expected - 1)
    assert change.upper is not None
    assert change.upper < 0


@pytest.mark.parametrize("broken", ["few", "unmatched"])
def test_a_recorded_share_that_cannot_be_compared_has_no_change(broken: str) -> None:
    share = crossed(True)
    kept = read_effects(recorded(share))["effect"]
    rows = np.arange(4) if broken == "few" else np.arange(40)
    part = Kept(share._taken(rows), kept.digests)
    reason, change = difference(part, Kept(share._taken(rows), kept.digests) if broken == "few" else kept)
    assert reason.startswith("too_few_clusters" if broken == "few" else "unmatched_items")
    assert change is None


def recorded_rows(evidence: Evidence) -> pd.DataFrame:
    rows = [row for row in evidence.items.values() if row.effect]
    return pd.DataFrame(msgspec.to_builtins(rows), columns=list(ItemRow.__struct_fields__))


def test_controls_and_changes_are_no_effects_to_compare() -> None:
    estimate = crossed(False)
    with gathering() as evidence:
        with control("beside"):
            assert estimate > 0
        assert not read_effects(recorded_rows(evidence))
        moved = Estimate("effect", "logit", estimate.measurement, estimate.numerator + np.arange(48.0) % 5)
        assert moved.change_from(estimate) > 0
    assert not read_effects(recorded_rows(evidence))


def test_two_effects_of_one_name_cannot_be_told_apart_so_neither_is_kept() -> None:
    estimate = crossed(False)
    other = Estimate("effect", "logit", estimate.measurement, estimate.numerator + 1)
    with gathering() as evidence:
        assert estimate > 0
        assert estimate > 0.1, "the same again is no second effect"
        assert all(row.value is not None for row in evidence.items.values())
        assert other > 0
    assert {row.value for row in evidence.items.values() if row.effect} == {None}


def test_the_rate_of_a_group_keeps_the_items_of_the_group() -> None:
    index = pd.Index([f"i{i}" for i in range(60)], name="item")
    clusters = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
    table = pd.DataFrame({"agrees": [float(i % 3 == 0) for i in range(60)]}, index=index)
    with gathering() as evidence:
        assert (
            rate(Measurement("m", "1", table, clusters), "agrees", name="agreement", among=list(index[:30])) < 0.9
        )
    kept = [row for row in evidence.items.values() if row.effect]
    assert [row.item for row in kept] == list(index[:30])
    assert {row.condition for row in kept} == {"numerator"}


labels = st.text(alphabet=st.sampled_from("ab;=\\\n é"), max_size=6)


@given(st.dictionaries(labels, labels, max_size=2))
def test_labels_survive_their_text(given_labels: dict[str, str]) -> None:
    assert read_labels(written_labels(given_labels)) == given_labels


def test_a_digest_depends_on_prompts_and_clusters_and_on_nothing_else() -> None:
    base = content_digest("t=a", {"clean": "x", "corrupt": "y"})
    assert base == content_digest("t=a", {"corrupt": "y", "clean": "x"})
    others = [
        content_digest("t=b", {"clean": "x", "corrupt": "y"}),
        content_digest("t=a", {"clean": "y", "corrupt": "x"}),
        content_digest("t=a", {"clean": "x"}),
        content_digest("t=a", {}),
    ]
    assert len({base, *others}) == 5


def test_few_effects_without_a_partner_are_named_and_many_are_counted() -> None:
    assert only(["a", "b"], "here") == ["'a' was measured only here", "'b' was measured only here"]
    many = [f"e{i}" for i in range(13)]
    assert only(many, "on the baseline") == ["13 effects were measured only on the baseline (the first: 'e0')"]
    assert only([], "here") == []


def test_what_is_cross_fitted_is_so_on_the_baseline_too(a_run: Run, tmp_path: Path) -> None:
    """A reference on the baseline is judged by its own interval, whose variance must be doubled there as well."""
    index = [f"item {n}" for n in range(12)]
    values = np.random.default_rng(0).normal(1.0, 0.3, 12)
    table = Measurement("m", "1", pd.DataFrame({"a": values}, index), pd.DataFrame({"topic": index}, index))
    plain = Estimate("plain", "1", table, values)
    fitted = CrossFitted.of(dataclasses.replace(plain, name="cross-fitted"))
    claim = a_run.claims[0].id
    with gathering() as evidence:
        for estimate in (plain, fitted):
            with pytest.raises(NotAsked):
                Counterpart(claim, "suite", None)(estimate)
    rows = [msgspec.structs.replace(row, claim=claim) for row in evidence.items.values()]
    run = msgspec.structs.replace(a_run, claims=a_run.claims[:1])
    frame = pd.DataFrame(msgspec.to_builtins(rows))
    baseline = Counterpart(claim, "suite", Past(Recorded("base", tmp_path, run, "ab", frame), run.plan, run.model))
    for estimate in (plain, fitted):
        then, now = baseline(estimate).describe(), estimate.describe()
        assert (then.lower, then.upper) == pytest.approx((now.lower, now.upper))


@pytest.mark.parametrize("told", ["here", "on the baseline"])
def test_the_change_of_what_is_cross_fitted_has_its_doubled_variance(
    told: str, a_run: Run, tmp_path: Path
) -> None:
    """Rows do not say that they were cross-fitted; either run's record of the effect does."""
    index = [f"item {n}" for n in range(12)]
    generator = np.random.default_rng(1)

    def measured() -> tuple[CrossFitted, list[ItemRow]]:
        values = generator.normal(1.0, 0.3, 12)
        table = Measurement("m", "1", pd.DataFrame({"a": values}, index), pd.DataFrame({"topic": index}, index))
        estimate = Estimate("found", "1", table, values)
        with gathering() as evidence:
            estimate.keep_effect()
        rows = [msgspec.structs.replace(row, claim=claim.id) for row in evidence.items.values()]
        return CrossFitted.of(estimate), rows

    claim = msgspec.structs.replace(a_run.claims[0], effect=None, also=())
    (now, rows), (then, past_rows) = measured(), measured()
    judged = msgspec.structs.replace(claim, effect=now.recorded(">", 0.0))
    here, there = (judged, claim) if told == "here" else (claim, judged)
    run = msgspec.structs.replace(a_run, claims=(there,))
    frame = pd.DataFrame(msgspec.to_builtins(past_rows))
    change = change_of(here, rows, Past(Recorded("base", tmp_path, run, "ab", frame), run.plan, run.model))
    expected = now.change_from(then).describe()
    (effect,) = change.effects
    assert (effect.lower, effect.upper) == pytest.approx((expected.lower, expected.upper))
    plain = Estimate(now.name, now.unit, now.measurement, now.numerator).change_from(then).describe()
    assert plain.upper is not None
    assert effect.upper is not None
    assert effect.upper > plain.upper
