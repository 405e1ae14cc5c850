"""Coverage of the intervals of rates, and of contrasts of two rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from auditkit.stats.intervals import MIN_CLUSTERS, Array, critical
from auditkit.stats.proportions import Compare, score_statistic
from auditkit.stats.simulations.shared import CLUSTERS, CORRELATIONS, ITEMS, ROUNDS, markdown, percent, seeded


def rates(rounds: int) -> list[list[str]]:
    """Coverage of the interval of a rate, for independent items and for clusters of 10 items."""
    rows = []
    for clusters, icc in ((0, 0.0), *((c, i) for c in CLUSTERS for i in CORRELATIONS)):
        cells = []
        for p in (0.05, 0.2, 0.5, 0.9):
            rng = seeded("rates", clusters, icc, p)
            if clusters == 0:
                hits = rng.binomial(50, p, (rounds, 1)).astype(float)
                size, df = np.full(rounds, 50.0), None
            else:
                hits = _beta_binomial(rng, p, icc, (rounds, clusters))
                size, df = effective(hits, ITEMS), clusters - 1
            rate = hits.sum(axis=1) / (50.0 if clusters == 0 else clusters * ITEMS)
            bound = critical(df)
            cells.append(percent(np.mean(np.abs(rate - p) <= bound * np.sqrt(p * (1 - p) / size))))
        label = "50 independent items" if clusters == 0 else f"{clusters} clusters of {ITEMS}"
        rows.append([label, f"{icc:g}", *cells])
    return [["items", "correlation", "rate 0.05", "0.2", "0.5", "0.9"], *rows]


def effective(hits: Array, size: int) -> Array:
    """(rounds,) independent items as informative as (rounds, clusters) counts of hits among `size` items each."""
    clusters = hits.shape[1]
    n = clusters * size
    rate = hits.sum(axis=1) / n
    residuals = hits - size * rate[:, None]
    variance = (residuals**2).sum(axis=1) * clusters / (clusters - 1) / n**2
    plain = rate * (1 - rate)
    fewest = np.minimum((hits > 0).sum(axis=1), (hits < size).sum(axis=1))
    most = np.where(fewest < MIN_CLUSTERS, clusters, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Array = np.where(variance > 0, np.minimum(most, plain / variance), float(clusters))
    return result


def contrasts(rounds: int) -> list[list[str]]:
    """Coverage of the score intervals of a ratio and a difference of two rates with independent items."""
    rows = []
    for n in (20, 50, 200):
        for p1, p0 in ((0.05, 0.1), (0.4, 0.5), (0.8, 0.8), (0.9, 0.95)):
            rng = seeded("contrasts", n, p1, p0)
            count = max(rounds // 8, 200)
            pairs, weight = np.unique(
                np.stack([rng.binomial(n, p1, count), rng.binomial(n, p0, count)]), axis=1, return_counts=True
            )
            cells = []
            for compare, theta in (("ratio", p1 / p0), ("difference", p1 - p0)):
                inside = [abs(_score(one, other, n, theta, compare)) <= 1.959964 for one, other in pairs.T]
                cells.append(percent(np.average(inside, weights=weight)))
            rows.append([f"{n}", f"{p1:g}", f"{p0:g}", *cells])
    return [["items in each group", "rate", "rate of the other", "ratio", "difference"], *rows]


def _score(one: int, other: int, n: int, theta: float, compare: str) -> float:
    kind: Compare = "ratio" if compare == "ratio" else "difference"
    return score_statistic(one / n, n, other / n, n, theta, kind)


def _beta_binomial(rng: np.random.Generator, p: float, icc: float, size: tuple[int, int]) -> Array:
    chance = np.full(size, p) if icc == 0 else rng.beta(p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc, size)
    return rng.binomial(ITEMS, chance).astype(float)


TABLES: dict[str, Callable[..., str]] = {
    "rates": lambda rounds=ROUNDS: markdown(rates(rounds)),
    "contrasts": lambda rounds=ROUNDS: markdown(contrasts(rounds)),
}
