"""Builders shared by the tests of the statistics: tables and estimates from plain lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement


def _table(
    conditions: dict[str, Sequence[float]], *factors: Sequence[object], name: str = "logit difference"
) -> Measurement:
    index = pd.Index([f"item{i}" for i in range(len(factors[0]))], name="item")
    values = pd.DataFrame({c: np.asarray(v, dtype=float) for c, v in conditions.items()}, index=index)
    clusters = pd.DataFrame({f"factor{i}": list(labels) for i, labels in enumerate(factors)}, index=index)
    prompts = {item: {condition: f"{condition} of {item}" for condition in conditions} for item in index}
    return Measurement(name, "logit", values, clusters, prompts)


def _estimate(
    numerator: Sequence[float],
    denominator: Sequence[float] | None = None,
    *,
    clusters: Sequence[Sequence[object]] | None = None,
    name: str = "effect",
) -> Estimate:
    conditions: dict[str, Any] = {"numerator": numerator}
    if denominator is not None:
        conditions["denominator"] = denominator
    measurement = _table(conditions, *(clusters or [range(len(numerator))]))
    return Estimate(
        name,
        "logit",
        measurement,
        np.asarray(numerator, dtype=float),
        None if denominator is None else np.asarray(denominator, dtype=float),
        shown_conditions=tuple(conditions),
    )


@pytest.fixture(scope="session")
def table() -> Callable[..., Measurement]:
    """table({condition: values}, labels of factor 0, [labels of factor 1]) -> Measurement."""
    return _table


@pytest.fixture(scope="session")
def estimate() -> Callable[..., Estimate]:
    """estimate(numerator, [denominator], clusters=[labels, ...]) -> Estimate; each item its own cluster."""
    return _estimate
