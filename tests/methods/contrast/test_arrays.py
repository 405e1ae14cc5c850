"""Contrasts of plain arrays: formulas a second way, and one clear line for what cannot be measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.claims.outcomes import NotApplicable
from auditkit.engine.edits import Edit
from auditkit.methods.contrast.directions import FEWEST, Contrast, Direction
from auditkit.methods.contrast.doses import DoseCurve, dose_curve
from auditkit.methods.contrast.drift import drift
from auditkit.methods.contrast.effects import Effects
from auditkit.methods.contrast.nulls import nulls
from auditkit.methods.contrast.outcomes import BenignText, FirstTokens, Statements
from auditkit.methods.contrast.separation import difference_parts, separation
from auditkit.methods.contrast.states import ContrastError, States, after_instruction, read_states
from auditkit.methods.contrast.sweeps import sweep
from auditkit.stats.halves import Halves
from tests.methods.contrast.conftest import Asked

pytestmark = pytest.mark.unit

PAIRS, WIDTH = 20, 6


def states(rows: int = PAIRS, width: int = WIDTH, seed: int = 0, shift: float = 0.0) -> States:
    values = np.random.default_rng(seed).normal(shift, 1.0, (rows, 2, 1, width)).astype(np.float32)
    return States(values, (3, 5), (-1,))


def table(rows: int = PAIRS, topics: int = 10) -> pd.DataFrame:
    return pd.DataFrame({"topic": [f"t{i % topics}" for i in range(rows)]}, [f"p{i}" for i in range(rows)])


def contrast(**changes) -> Contrast:
    return replace(Contrast.of_pairs("kind", states(shift=1.0), states(seed=1), table()), **changes)


def test_a_direction_is_the_difference_of_means_of_the_chosen_half() -> None:
    one = contrast()
    split = one.halves(seed=3)
    got = one.direction(5, -1, split.discovery)
    rows = [list(one.table.index).index(item) for item in split.discovery]
    flags = one.positive[rows]
    values = one.states.values[rows, 1, 0].astype(float)
    np.testing.assert_allclose(got.vectors[0], values[flags].mean(0) - values[~flags].mean(0))
    topics = [set(one.table.loc[list(half), "topic"]) for half in (split.discovery, split.confirmation)]
    assert not topics[0] & topics[1]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_share_is_of_a_rise_or_of_a_fall_as_was_declared(sign: int) -> None:
    rng = np.random.default_rng(0)
    moved = {"four": 2.0 * sign, "one": 1.8 * sign}
    values = {"": rng.normal(size=PAIRS)}
    values |= {name: values[""] + by + rng.normal(0, 0.05, PAIRS) for name, by in moved.items()}
    found = Effects("score", "nats", table(), values)
    share = found.share("one", "four", sign)
    assert share >= 0.8
    assert share.describe().estimate == pytest.approx(0.9, abs=0.03)
    assert ("rise" if sign > 0 else "fall") in share.name
    with pytest.raises(NotApplicable, match="has the opposite sign on this model"):
        bool(found.share("one", "four", -sign) >= 0.8)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_dose_curve_reads_an_outcome_that_should_rise_or_fall(sign: int) -> None:
    doses = (-0.1, 0.1, 0.2)
    start = np.linspace(-1, 1, PAIRS)
    values = {"": start} | {f"dose {dose:g}": start + 10 * sign * dose for dose in doses}
    curve = DoseCurve(doses, Effects("score", "nats", table(), values), None, {}, sign)
    against = replace(curve, sign=-sign)
    assert curve.monotone
    assert not against.monotone
    assert curve.dose_for(1.5 * sign) == pytest.approx(0.15)
    for dose in doses:
        assert curve.wrong_way(dose).describe().estimate == 0
        assert against.wrong_way(dose).describe().estimate == 1


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000))
def test_the_parts_of_a_difference_have_its_mean(yes: int, no: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=yes + no)
    flags = np.arange(yes + no) < yes
    parts = difference_parts(values, flags)
    assert parts.mean() == pytest.approx(values[flags].mean() - values[~flags].mean())
    # Their variance of the mean is Welch's, but for the one degree of freedom that each kind's mean takes.
    welch = values[flags].var() / yes + values[~flags].var() / no
    assert parts.var() / (yes + no) == pytest.approx(welch)


def test_a_subspace_holds_the_difference_of_means_and_what_clusters_add() -> None:
    one = contrast()
    got = one.subspace(3, -1, k=3)
    np.testing.assert_allclose(got.vectors[0], one.direction(3, -1).vectors[0])
    np.testing.assert_allclose(got.vectors @ got.vectors.T, np.eye(3) * got.length**2, atol=1e-5)
    assert isinstance(got.remove(), Edit)
    assert one.subspace(3, -1, k=1).k == 1


def test_nulls_have_the_length_and_the_shuffled_one_has_other_labels() -> None:
    one = contrast()
    direction = one.direction(3, -1)
    other = Direction("other", np.ones((1, WIDTH)), 0, -1)
    found = nulls(one, direction, seed=0, each=2, others={"politeness": other})
    assert list(found) == [
        *(f"{kind} {n}" for n in (1, 2) for kind in ("random", "covariance")), "shuffled 1", "shuffled 2",
        "other: politeness",
    ]  # fmt: skip
    for null in found.values():
        assert null.length == pytest.approx(direction.length)
    assert found["other: politeness"].unit == pytest.approx(other.unit)
    again = nulls(one, direction, seed=0, each=2)
    assert all(np.array_equal(again[name].vectors, found[name].vectors) for name in again)


def test_a_shared_covariance_shapes_the_covariance_null() -> None:
    values = np.random.default_rng(0).normal(size=(2 * PAIRS, 1, 1, WIDTH)).astype(np.float32)
    values[..., 2] *= 50
    one = Contrast("kind", States(values, (0,), (-1,)), np.repeat([True, False], PAIRS), table(2 * PAIRS))
    found = nulls(one, one.direction(0, -1), seed=0, each=5)
    assert all(abs(found[f"covariance {n}"].unit[2]) > 0.9 for n in range(1, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: contrast(positive=np.ones(2 * PAIRS, bool)), "prompts of one kind only"),
        (lambda: contrast(positive=np.ones(3, bool)), "40 prompts need a true or false each"),
        (lambda: contrast(table=table()), "40 prompts need a table with one row each"),
        (lambda: contrast().direction(4, -1), "layer 4 was not read, only 3, 5"),
        (lambda: contrast().direction(3, -2), "position -2 was not read, only -1"),
        (lambda: contrast().direction(3, -1, ["p0 +", "p0 -"]), f"needs {FEWEST} prompts of each kind, got 1"),
        (lambda: contrast().direction(3, -1, ["nobody"]), "has no prompt 'nobody'"),
        (lambda: contrast().subspace(3, -1, k=11), "10 clusters hold both kinds"),
        (lambda: contrast().subspace(3, -1, k=7), "span 6 directions"),
        (lambda: Direction("r", np.zeros((1, 4)), 0, -1), "a direction of norm zero points nowhere"),
        (lambda: Direction("r", np.array([[1.0, np.nan]]), 0, -1), "a direction holds NaN or infinity"),
        (lambda: Direction("r", np.ones(4), 0, -1), "give rows of vectors"),
        (lambda: States(np.full((2, 1, 1, 3), np.inf), (0,), (-1,)), "states hold NaN or infinity"),
        (lambda: States(np.ones((2, 3)), (0,), (-1,)), r"states of shape \(2, 3\)"),
        (lambda: Contrast.of_pairs("kind", states(), states(width=7), table()), "states of one width"),
        (lambda: Contrast.of_pairs("kind", states(6), states(6), table(6, 6)).halves(0), "needs 4 prompts of each"),
    ],
)  # fmt: skip
def test_what_gives_no_direction_is_refused_in_one_line(make, message) -> None:
    with pytest.raises(ContrastError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_models_of_another_width_are_compared_by_behaviour_only() -> None:
    one, other = contrast(), Contrast.of_pairs("kind", states(width=7), states(width=7, seed=1), table())
    with pytest.raises(ContrastError, match=r"width 6 and the candidate 7.* only behaviour can be compared"):
        drift(one, other, one.direction(3, -1), 1.0)
    with pytest.raises(ContrastError, match="only behaviour can be compared"):
        one.direction(3, -1).projections(np.ones((2, 7)))
    with pytest.raises(ContrastError, match="has width 7"):
        nulls(one, one.direction(3, -1), seed=0, others={"other": other.direction(3, -1)})
    with pytest.raises(ContrastError, match="a unit of 0"):
        drift(one, one, one.direction(3, -1), 0.0)
    with pytest.raises(ContrastError, match="the same prompts"):
        drift(one, contrast(positive=~one.positive), one.direction(3, -1), 1.0)


def test_projections_that_do_not_vary_have_no_gap() -> None:
    values = np.zeros((2 * PAIRS, 1, 1, 3), np.float32)
    values[:PAIRS, ..., 0] = 1
    one = Contrast("kind", States(values, (0,), (-1,)), np.repeat([True, False], PAIRS), table(2 * PAIRS))
    found = separation(one, Halves(tuple(one.table.index), tuple(one.table.index), ()))
    with pytest.raises(ContrastError, match="do not differ within a kind"):
        found.gap(0, -1)
    assert np.isnan(found.to_frame()["gap"].astype(float)).all()


def test_what_an_outcome_cannot_read_is_refused_in_one_line(valence: Asked) -> None:
    prompts, rows = valence.prompts, valence.contrast.table
    yes = list(valence.outcome.higher)
    for make, message in (
        (lambda: FirstTokens("o", prompts, rows, yes, yes), "begins openings of both kinds"),
        (lambda: FirstTokens("o", prompts, rows, yes, []), "both kinds are needed"),
        (lambda: FirstTokens("o", prompts, rows, yes, [1], after=99), "named 'after', and a prompt has"),
        (lambda: FirstTokens("o", prompts[:3], rows, yes, [1]), "48 items need as many prompts, got 3"),
        (lambda: Statements("o", prompts[:1], rows[:1], [[]], [[1]]), "at least one token"),
        (lambda: BenignText("o", [type(prompts[0])("", (5,))], rows[:1]), "a text of one token"),
        (lambda: valence.outcome.only(["nobody"]), "has no item 'nobody'"),
        (lambda: valence.outcome.only([]), "no items were chosen"),
        (lambda: read_states(valence.adapter, prompts, (-99,)), "prompt 0 of 6 tokens lacks position -99"),
        (lambda: read_states(valence.adapter, prompts, ("word",)), "lacks position word: no span named 'word'"),
        (lambda: read_states(valence.adapter, prompts, (2,)), "give an index from the end"),
        (lambda: read_states(valence.adapter, [], (-1,)), "states need prompts"),
        (lambda: sweep(valence.adapter, valence.contrast, valence.outcome, kind="zero"), "give remove or add"),
    ):
        with pytest.raises(ContrastError, match=message):
            make()
    direction = valence.contrast.direction(3, -1)
    for doses in ((), (0,), (0.1, 0.1), (float("nan"),)):
        with pytest.raises(ContrastError, match="give different finite numbers"):
            dose_curve(valence.adapter, direction, valence.outcome, doses)


def test_given_answers_are_scored_by_their_tokens(valence: Asked) -> None:
    ids = valence.adapter.tokenizer.get_vocab()
    yes, no = [ids["yes"], ids["word1"]], [ids["no"]]
    rows = valence.contrast.table.iloc[:5]
    outcome = Statements("s", valence.prompts[:5], rows, [yes] * 5, [no] * 5)
    direction = valence.contrast.direction(3, -1)
    got = outcome.under(valence.adapter, {"removed": [direction.remove("own", "prompt")]})

    for i, prompt in enumerate(valence.prompts[:5]):
        sides = []
        for answer in (yes, no):
            whole = torch.tensor([[*prompt.ids, *answer]])
            with torch.no_grad():
                logits = valence.adapter.module(whole).logits[0].double().log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) - 1 + len(answer))
            sides.append(np.mean([float(logits[at, token]) for at, token in zip(places, answer, strict=True)]))
        assert got[""][i] == pytest.approx(sides[0] - sides[1], abs=1e-5)
    assert not np.allclose(got["removed"], got[""])


def test_the_template_s_last_tokens_are_counted(valence: Asked) -> None:
    assert after_instruction(valence.adapter.chat) == 1  # "<assistant>"
