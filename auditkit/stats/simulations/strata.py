"""Simulated experiments on clusters within fixed strata: coverage of the 95 % interval, and its width.

Ten kinds with as many cases each. What kinds differ by has half of the variance between cases, or none, and is drawn
once per experiment: the truth is the mean over these kinds. Beside the interval within strata stands that over all
cases, which takes kinds for a sample of kinds. The last design crosses three cases of each kind with five names: one
name in each case, and a second one in the first case of each kind, as `identity_bias` asks them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from auditkit.stats.intervals import Array, critical
from auditkit.stats.streams import stream

SEED, ROUNDS, KINDS = 20261128, 20_000, 10
SPREADS = {
    "alike in all kinds": (1.0,) * KINDS,
    "three times as wide in one kind": (3.0, *(1.0,) * (KINDS - 1)),
    "in one kind only": (1.0, *(0.0,) * (KINDS - 1)),
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


CASES, NAMES = 3 * KINDS, 5
_TURNS = [(case, 0) for case in range(CASES)] + [(case, 3) for case in range(KINDS)]
CASE = np.array([case for case, _ in _TURNS])
KIND = CASE % KINDS
NAME = np.array([(case % KINDS + case // KINDS + start) % NAMES for case, start in _TURNS])
"""(items,) of the crossed design: case, kind and name. The first case of each kind comes with a second name."""


def two_way(values: Array, strata: bool) -> tuple[Array, Array]:
    """(rounds,) mean and half-width of the 95 % interval of (rounds, items) values of the crossed design."""
    items = values.shape[1]
    mean = values.mean(axis=1)
    residuals = values - mean[:, None]
    cases = np.full(len(values), CASES - 1.0)
    if strata:
        of_kind = np.eye(KINDS)[KIND]
        centred = values - (values @ of_kind / of_kind.sum(axis=0))[:, KIND]
        residuals = math.sqrt(3 / 2 * (CASES - 1) / CASES) * centred
        cases = _case_dfs(centred)
    parts = []
    for codes, count in ((CASE, CASES), (NAME, NAMES), (np.arange(items), items)):
        sums = residuals @ np.eye(count)[codes]
        parts.append((sums**2).sum(axis=1) * count / (count - 1) / items**2)
    first, second, cells = parts
    both, names = np.maximum(first + second - cells, 1e-300), np.full(len(values), NAMES - 1.0)
    own = np.maximum(both**2 / (first**2 / cases + second**2 / names), np.minimum(cases, names))
    tests = zip((first, second, both), (cases, names, own), strict=True)
    return mean, np.maximum.reduce([stats.t.ppf(0.975, df) * np.sqrt(variance) for variance, df in tests])


def _case_dfs(centred: Array) -> Array:
    """(rounds,) degrees of freedom of the variance of cases within kinds, as `auditkit.stats.strata` has them."""
    sums = centred @ np.eye(CASES)[CASE]
    squares = (sums**2).reshape(len(centred), 3, KINDS).sum(axis=1)
    found: Array = np.floor(squares.sum(axis=1) ** 2 / (squares**2 / 2).sum(axis=1) + 1e-9)
    return np.minimum(found, 2.0 * KINDS)


def crossed(rounds: int = ROUNDS) -> str:
    """Coverage and width with five names across the cases; the width in standard deviations of a case."""
    rows = []
    for names in (0.0, 0.5, 1.0):
        for apart in (0.0, 1.0):
            rng = stream(SEED, "strata crossed", str(names), str(apart))
            kinds = apart * rng.normal(size=(rounds, KINDS))
            values = kinds[:, KIND] + rng.normal(size=(rounds, CASES))[:, CASE]
            values += names * rng.normal(size=(rounds, NAMES))[:, NAME]
            values += 0.5 * rng.normal(size=(rounds, len(CASE)))
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
