"""Simulated experiments on clusters within fixed strata: coverage of the 95 % interval, and its width.

Five kinds with as many cases each. What kinds differ by has half of the variance between cases, or none, and is drawn
once per experiment: the truth is the mean over these kinds. Beside the interval within strata stands that over all
cases, which takes kinds for a sample of kinds. The last design crosses cases with five names, each case with two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from auditkit.stats.intervals import Array, critical
from auditkit.stats.streams import stream

SEED, ROUNDS, KINDS = 20261128, 20_000, 5
SPREADS = {
    "alike in all kinds": (1.0,) * 5,
    "three times as wide in one kind": (3.0, 1.0, 1.0, 1.0, 1.0),
    "in one kind only": (1.0, 0.0, 0.0, 0.0, 0.0),
}


def draw(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> Array:
    """Values with mean 0 and variance 1: normal, or of a mirrored Gumbel (skewness -1.14)."""
    if shape == "Gaussian":
        return rng.normal(size=size)
    return (np.euler_gamma - rng.gumbel(size=size)) * math.sqrt(6) / math.pi


def within(values: Array) -> tuple[Array, Array]:
    """(rounds,) mean and half-width of the 95 % interval of (rounds, kinds, cases) values, kinds as strata."""
    each = values.shape[2]
    parts = values.var(axis=2, ddof=1) / each / values.shape[1] ** 2
    whole = parts.sum(axis=1)
    df = np.floor(whole**2 / (parts**2 / (each - 1)).sum(axis=1) + 1e-9)
    return values.mean(axis=(1, 2)), stats.t.ppf(0.975, df) * np.sqrt(whole)


def between(values: Array) -> tuple[Array, Array]:
    """The same over all cases, without strata."""
    flat = values.reshape(len(values), -1)
    error = flat.std(axis=1, ddof=1) / math.sqrt(flat.shape[1])
    return flat.mean(axis=1), critical(flat.shape[1] - 1) * error


def coverage(rounds: int = ROUNDS) -> str:
    """Coverage and mean width of both intervals; widths in standard errors of the mean within strata."""
    rows = []
    for shape in ("Gaussian", "logit-like"):
        for cases in (3, 5, 10):
            for label, spread in SPREADS.items():
                for apart in (0.0, 1.0):
                    rng = stream(SEED, "strata", shape, str(cases), label, str(apart))
                    kinds = apart * draw(rng, "Gaussian", (rounds, KINDS, 1))
                    noise = np.array(spread)[None, :, None] * draw(rng, shape, (rounds, KINDS, cases))
                    error = math.sqrt(sum(s * s for s in spread) / cases) / KINDS
                    truth = kinds.mean(axis=(1, 2))
                    cells = []
                    for method in (within, between):
                        mean, half = method(kinds + noise)
                        cells += [
                            _percent(np.mean(np.abs(mean - truth) <= half)),
                            f"{2 * half.mean() / error:.2f}",
                        ]
                    differ = "as much as cases" if apart else "by nothing"
                    rows.append([shape, str(cases), label, differ, *cells])
    head = ["data", "cases in each kind", "spread of cases", "kinds differ", "within strata", "width"]
    return _table([*head, "over all cases", "width"], rows)


CASE, NAME, KIND = np.repeat(np.arange(25), 2), np.tile(np.arange(5), 10), np.repeat(np.arange(5), 10)
"""(items,) of the crossed design: 25 cases in five kinds, each asked with two of five names."""


def two_way(values: Array, strata: bool) -> tuple[Array, Array]:
    """(rounds,) mean and half-width of the 95 % interval of (rounds, items) values of the crossed design."""
    mean = values.mean(axis=1)
    residuals = values - mean[:, None]
    cases = np.full(len(values), 24.0)
    if strata:
        centred = values - values.reshape(len(values), 5, 10).mean(axis=2)[:, KIND]
        residuals = math.sqrt(5 / 4 * 24 / 25) * centred
        cases = _case_dfs(values)
    parts = []
    for codes, count in ((CASE, 25), (NAME, 5), (np.arange(50), 50)):
        sums = residuals @ np.eye(count)[codes]
        parts.append((sums**2).sum(axis=1) * count / (count - 1) / 50**2)
    first, second, cells = parts
    both, names = np.maximum(first + second - cells, 1e-300), np.full(len(values), 4.0)
    own = np.maximum(both**2 / (first**2 / cases + second**2 / names), np.minimum(cases, names))
    tests = zip((first, second, both), (cases, names, own), strict=True)
    return mean, np.maximum.reduce([stats.t.ppf(0.975, df) * np.sqrt(variance) for variance, df in tests])


def _case_dfs(values: Array) -> Array:
    """(rounds,) degrees of freedom of the variance of cases within kinds, as `auditkit.stats.strata` has them."""
    sums = (values @ np.eye(25)[CASE]).reshape(len(values), 5, 5)
    squares = ((sums - sums.mean(axis=2, keepdims=True)) ** 2).sum(axis=2)
    found: Array = np.floor(squares.sum(axis=1) ** 2 / (squares**2 / 4).sum(axis=1) + 1e-9)
    return np.minimum(found, 20.0)


def crossed(rounds: int = ROUNDS) -> str:
    """Coverage and width with five names across the cases; the width in standard deviations of a case."""
    rows = []
    for names in (0.0, 0.5, 1.0):
        for apart in (0.0, 1.0):
            rng = stream(SEED, "strata crossed", str(names), str(apart))
            kinds = apart * rng.normal(size=(rounds, 5))
            values = kinds[:, KIND] + rng.normal(size=(rounds, 25))[:, CASE]
            values += names * rng.normal(size=(rounds, 5))[:, NAME] + 0.5 * rng.normal(size=(rounds, 50))
            cells = []
            for strata in (True, False):
                mean, half = two_way(values, strata)
                cells += [_percent(np.mean(np.abs(mean - kinds.mean(axis=1)) <= half)), f"{2 * half.mean():.2f}"]
            rows.append([f"{names:g} of cases'", "as much as cases" if apart else "by nothing", *cells])
    head = ["spread of names", "kinds differ", "within strata", "width"]
    return _table([*head, "over all cases", "width"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _percent(share: float | np.floating) -> str:
    return f"{100 * float(share):.2f} %"


TABLES: dict[str, Callable[[], str]] = {"strata": coverage, "strata_crossed": crossed}
