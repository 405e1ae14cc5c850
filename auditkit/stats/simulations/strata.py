"""Simulated experiments on clusters within fixed strata: coverage of the 95 % interval, and its width.

Five kinds with as many cases each. What kinds differ by has half of the variance between cases, or none, and is drawn
once per experiment: the truth is the mean over these kinds. Beside the interval within strata stands that over all
cases, which takes kinds for a sample of kinds. The last design crosses cases with five names, each case with two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from auditkit.stats.intervals import Array, critical
from auditkit.stats.intervals import moments as over_all
from auditkit.stats.strata import moments
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


def crossed(rounds: int = 600) -> str:
    """Coverage and width with five names across the cases, by the methods of a suite; `rounds` experiments a row."""
    case, kind = np.repeat(np.arange(25), 2), np.repeat(np.arange(5), 10)
    name = np.tile(np.arange(5), 10)
    labels = pd.DataFrame({"case": case.astype(str), "names": name.astype(str)})
    strata = pd.Series(kind.astype(str), name="kind")
    rows = []
    for names in (0.0, 0.5, 1.0):
        for apart in (0.0, 1.0):
            rng = stream(SEED, "strata crossed", str(names), str(apart))
            found = np.zeros((rounds, 2, 2))
            for k in range(rounds):
                kinds = apart * rng.normal(size=5)
                values = kinds[kind] + rng.normal(size=25)[case] + names * rng.normal(size=5)[name]
                values = (values + 0.5 * rng.normal(size=50))[:, None]
                for way, m in enumerate((moments(values, labels, strata), over_all(values, labels))):
                    half = critical(m.df) * math.sqrt(m.covariance[0, 0])
                    found[k, way] = abs(m.mean[0] - kinds.mean()) <= half, 2 * half
            shares, widths = found.mean(axis=0).T
            cells = [part for way in (0, 1) for part in (_percent(shares[way]), f"{widths[way]:.2f}")]
            differ = "as much as cases" if apart else "by nothing"
            rows.append([f"{names:g} of cases'", differ, *cells])
    head = ["spread of names", "kinds differ", "within strata", "width"]
    return _table([*head, "over all cases", "width"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _percent(share: float | np.floating) -> str:
    return f"{100 * float(share):.2f} %"


TABLES: dict[str, Callable[[], str]] = {"strata": coverage, "strata_crossed": crossed}
