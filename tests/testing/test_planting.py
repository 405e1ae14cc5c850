"""The steps of planted fine-tunes: they end where enough is planted, and give back what is too much."""

from __future__ import annotations

import pytest
import torch

from auditkit.testing.planting import fit, give_back

pytestmark = pytest.mark.unit


def test_training_ends_where_enough_is_planted_and_the_rest_is_given_back() -> None:
    weight = torch.zeros(3)
    before = [weight.clone()]
    target = torch.tensor([1.0, 2.0, 4.0])
    said: list[str] = []

    def planted() -> float:
        return float(weight.detach().sum())

    amount = fit(
        [weight], lambda: (weight - target).square().sum(), steps=200, rate=0.1, warm=2, planted=planted, wanted=1.0,
        check=5, say=said.append,
    )  # fmt: skip
    weight.requires_grad_(False)
    assert amount == planted() > 1.0
    assert len(said) < 40
    kept = give_back([weight], before, planted, 1.0)
    assert 1.0 <= kept == planted() < amount
    assert kept == pytest.approx(1.0, abs=amount / 16)


def test_without_anything_to_plant_all_steps_are_taken() -> None:
    weight, steps = torch.ones(2), []

    def loss() -> torch.Tensor:
        steps.append(1)
        return weight.square().sum()

    assert fit([weight], loss, steps=7, rate=0.1, warm=1, falling=True) == 0.0
    assert len(steps) == 7
