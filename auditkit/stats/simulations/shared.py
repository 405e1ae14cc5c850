"""What the simulated tables share: shapes of data, random streams, batches, and tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np

from auditkit.stats.intervals import Array
from auditkit.stats.streams import stream

Shape = Literal["Gaussian", "heavy-tailed", "logit-like"]
SHAPES: tuple[Shape, ...] = ("Gaussian", "heavy-tailed", "logit-like")
CLUSTERS = (5, 8, 15, 30)
CORRELATIONS = (0.0, 0.2, 0.5)
ROUNDS = 40_000
SEED = 20250711
ITEMS = 10
BATCH = 4_000


def draw(rng: np.random.Generator, shape: Shape, size: tuple[int, ...]) -> Array:
    """Values with mean 0 and variance 1: normal; Student's t with 3 degrees of freedom; or a mirrored Gumbel, whose
    skewness of -1.14 is that of the logarithm of an exponential, as in log-probabilities that saturate."""
    if shape == "Gaussian":
        return rng.normal(size=size)
    if shape == "heavy-tailed":
        return rng.standard_t(3, size=size) / math.sqrt(3.0)
    return (np.euler_gamma - rng.gumbel(size=size)) * math.sqrt(6) / math.pi


def positive(rng: np.random.Generator, size: tuple[int, ...], spread: float = 0.8) -> Array:
    """Log-normal values, as distances and divergences are, with mean 0 and variance 1.

    Args:
        spread: standard deviation of the logarithm; 0.8 gives a skewness of 3.7.
    """
    values = np.exp(rng.normal(0.0, spread, size))
    mean, variance = math.exp(spread**2 / 2), math.expm1(spread**2) * math.exp(spread**2)
    result: Array = (values - mean) / math.sqrt(variance)
    return result


def batches(rounds: int, size: int = BATCH) -> Iterable[int]:
    return [min(size, rounds - start) for start in range(0, rounds, size)]


def seeded(*names: object) -> np.random.Generator:
    return stream(SEED, "simulation", *map(str, names))


def percent(share: float | np.floating) -> str:
    return f"{100 * float(share):.2f} %"


def t_of_means(means: Array) -> Array:
    """t of the mean over the last axis of cluster means."""
    result: Array = means.mean(axis=-1) / (means.std(axis=-1, ddof=1) / math.sqrt(means.shape[-1]))
    return result


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))
