"""Steering: directions are differences of means, and a curve says what a vector does at each strength."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component
from auditkit.data.prompts import Chat
from auditkit.engine.forward import capture
from auditkit.engine.sites import SiteError, residual
from auditkit.methods.steering import DISTINCT, EFFECT, FLUENCY, direction, distinct, strength_curve
from auditkit.record.figures import Points, drawing_of
from tests.planted.composing import open_additive

pytestmark = pytest.mark.unit

FACTORS = (0.0, 1.0, 50.0)


@pytest.fixture(scope="module")
def adapter() -> HFAdapter:
    return open_additive()


def prompts(adapter: HFAdapter, *words: int) -> list:
    return [adapter.chat(Chat(f"word{n} word3")) for n in words]


def test_a_direction_is_the_difference_of_mean_states(adapter: HFAdapter) -> None:
    given_, without = prompts(adapter, 1, 2), prompts(adapter, 5)
    got = direction(adapter, given_, without, residual.layer(3)["last"])
    place = (Component.RESIDUAL, 3)
    one, other = (
        torch.stack([capture(adapter, adapter.batch([p]), [place])[1][place][0, -1] for p in some]).mean(0)
        for some in (given_, without)
    )
    torch.testing.assert_close(got, one - other, rtol=1e-5, atol=1e-5)
    with pytest.raises(SiteError, match="a direction is of one layer"):
        direction(adapter, given_, without, residual.layers(1, 2)["last"])


def test_a_vector_towards_a_word_makes_the_model_say_it_at_a_price(adapter: HFAdapter) -> None:
    hosts = prompts(adapter, *range(6))
    word = adapter.tokenizer.get_vocab()["word30"]
    towards = adapter.module.lm_head.weight[word].detach().clone()
    table = pd.DataFrame({"host": list("abcdef")}, index=[f"h{i}" for i in range(6)])
    curve = strength_curve(
        adapter, hosts, [towards] * 6, residual.layer(7), FACTORS, table,
        effect=lambda row, text: float("word30" in text), tokens=8,
    )  # fmt: skip
    assert curve.values[EFFECT].shape == (3, 6)
    assert curve.values[EFFECT][2].tolist() == [1.0] * 6
    assert curve.values[EFFECT][0].mean() < 1
    assert (curve.values[FLUENCY][2] < curve.values[FLUENCY][0]).all()
    assert (curve.values[DISTINCT][2] < 0.5).all()
    assert curve.estimate(FLUENCY, 50.0).measurement.conditions == (FLUENCY,)
    plane = drawing_of(curve.figures("Towards a word", "says it")[0])
    assert isinstance(plane, Points)
    for axis, what in (("y", EFFECT), ("x", FLUENCY)):
        assert [getattr(cloud, axis) for cloud in plane.clouds] == [
            [pytest.approx(mean)] for mean in curve.values[what].mean(1)
        ]
    # Greedy without the vector: the mean log probability of what it says itself, by the plain module.
    ids = torch.tensor([[*hosts[0].ids, *adapter.chat.encode(curve.texts[0][0])]])
    logits = adapter.module(ids).logits[0, len(hosts[0]) - 1 : -1].double().log_softmax(-1)
    expected = logits.gather(1, ids[0, len(hosts[0]) :, None]).mean()
    assert curve.values[FLUENCY][0][0] == pytest.approx(float(expected), abs=1e-4)


def test_a_vector_for_every_prompt(adapter: HFAdapter) -> None:
    table = pd.DataFrame({"host": ["a"]}, index=["h"])
    with pytest.raises(ValueError, match="1 prompts need as many vectors and rows, got 2 and 1"):
        strength_curve(
            adapter, prompts(adapter, 1), [torch.zeros(32)] * 2, residual.layer(1), FACTORS, table,
            effect=lambda row, text: 0.0,
        )  # fmt: skip


@given(st.lists(st.integers(0, 3), max_size=12))
def test_distinct_is_one_without_repetition_and_falls_with_it(tokens: list[int]) -> None:
    share = distinct(tokens)
    if len(tokens) < 3:
        assert math.isnan(share)
        return
    assert 0 < share <= 1
    assert distinct(range(len(tokens))) == 1
    assert distinct([*tokens, *tokens]) <= (share * (len(tokens) - 2) + 2) / (2 * len(tokens) - 2) + 1e-12
    assert np.isfinite(share)
