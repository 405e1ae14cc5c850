"""Two crossed factors, complete and incomplete: coverage beside width, with each rule for the degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from auditkit.stats.design import incomplete_crossing
from auditkit.stats.intervals import ALPHA, Array
from auditkit.stats.simulations.shared import ROUNDS, batches, draw, markdown, percent, positive, seeded

SHARES: dict[str, tuple[float, float]] = {
    "nobody": (0.0, 0.0),
    "both": (0.25, 0.25),
    "first": (0.45, 0.05),
    "second": (0.05, 0.45),
}
"""Who carries the variance between clusters: share of the first factor, share of the second."""
DESIGNS: dict[str, tuple[int, int, int, int]] = {
    "6 x 24": (6, 24, 24, 6),
    "24 personas x 24 tasks, each once": (24, 24, 1, 24),
    "24 questions x 6 of 24 pairs": (24, 24, 6, 24),
    "48 questions of 17 topics x 3 of 28 pairs": (17, 28, 3, 48),
    "48 questions of 17 topics x 2 of 16 words": (17, 16, 2, 48),
    "24 x 6": (24, 6, 6, 24),
    "12 x 12": (12, 12, 12, 12),
    "17 questions x 3 of 8 pairs": (17, 8, 3, 17),
    "5 x 20": (5, 20, 20, 5),
}
"""Name -> clusters of the first factor, of the second, how many of the second an item of the first meets, and how many
items of the first there are: topics have two or three questions, which meet others of the second."""


def mask(first: int, second: int, met: int, items: int) -> Array:
    """(first, second) 1 where a cell is measured, as `incomplete_crossing` deals them."""
    names = [str(item) for item in range(items)], [str(column) for column in range(second)]
    cells = np.zeros((first, second))
    for item, column in incomplete_crossing(*names, met, seed=0, name="simulation"):
        cells[int(item) % first, int(column)] = 1.0
    return cells


def variances(values: Array, cells: Array) -> tuple[Array, Array]:
    """(rounds,) means and (rounds, 3) variances of the mean by either factor and by both."""
    n, (one, two) = cells.sum(), cells.shape
    mean = (values * cells).sum(axis=(1, 2)) / n
    residuals = (values - mean[:, None, None]) * cells
    first = (residuals.sum(axis=2) ** 2).sum(axis=1) * one / (one - 1) / n**2
    second = (residuals.sum(axis=1) ** 2).sum(axis=1) * two / (two - 1) / n**2
    inside = (residuals**2).sum(axis=(1, 2)) * n / (n - 1) / n**2
    return mean, np.stack([first, second, first + second - inside], axis=1)


def dfs(found: Array, one: int, two: int) -> Array:
    """(rounds, 3) degrees of freedom of each of the variances; the library's `satterthwaite`, for many at once."""
    fewest = float(min(one, two) - 1)
    both = np.maximum(found[:, 2], 1e-300)
    with np.errstate(over="ignore"):
        spread = (found[:, 0] / both) ** 2 / (one - 1) + (found[:, 1] / both) ** 2 / (two - 1)
    return np.stack([np.full_like(both, one - 1), np.full_like(both, two - 1), np.maximum(1 / spread, fewest)], 1)


def half_widths(found: Array, df: Array, alpha: float | Array = ALPHA) -> Array:
    """(rounds,) half-width of the interval: the largest of the tests'."""
    widths: Array = (stats.t.ppf(1 - alpha / 2, df) * np.sqrt(np.maximum(found, 0.0))).max(axis=1)
    return widths


def guarded_half_widths(found: Array, df: Array) -> Array:
    """The same for claims of "no harm": the library's `guarded`, at the degrees of freedom of the test that decides."""
    asked = stats.t.ppf(1 - ALPHA / 2, df) * np.sqrt(np.maximum(found, 0.0))
    deciding = np.take_along_axis(df, asked.argmax(axis=1)[:, None], axis=1)
    return half_widths(found, df, 2 * stats.t.sf(stats.t.ppf(1 - ALPHA / 2, deciding - 1), deciding))


def crossings(rounds: int) -> list[list[str]]:
    """Coverage by the smaller factor's degrees of freedom and by each test's own, and how wide the latter is."""
    rows = []
    for name, design in DESIGNS.items():
        cells = mask(*design)
        one, two = cells.shape
        for who, shares in SHARES.items():
            mean, found = _experiments(("normal", name, who), draw_normal, cells, shares, rounds)
            plain = half_widths(found, np.full_like(found, min(one, two) - 1))
            own = half_widths(found, dfs(found, one, two))
            row = [name, who, percent(np.mean(np.abs(mean) <= plain)), percent(np.mean(np.abs(mean) <= own))]
            row.append(f"{np.mean(own) / np.mean(plain):.2f}")
            for shape, make in (("logit-like", draw_logits), ("log-normal", positive)):
                mean, found = _experiments((shape, name, who), make, cells, shares, rounds)
                own = half_widths(found, dfs(found, one, two))
                row.append(percent(np.mean(np.abs(mean) <= own)))
            rows.append(row)
    head = ["design", "variance between clusters by", "t with the smaller factor's df", "each test's own df"]
    return [[*head, "width, own / smaller", "own df, logit-like", "own df, log-normal(0.8)"], *rows]


def draw_normal(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    return draw(rng, "Gaussian", size)


def draw_logits(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    return draw(rng, "logit-like", size)


def _experiments(
    seed: tuple[str, ...], make: Callable[..., Array], cells: Array, shares: tuple[float, float], rounds: int
) -> tuple[Array, Array]:
    rng, found = seeded("crossings", *seed), []
    one, two = cells.shape
    first, second = shares
    for part in batches(rounds, 1000):
        values = math.sqrt(first) * make(rng, (part, one, 1)) + math.sqrt(second) * make(rng, (part, 1, two))
        values = values + math.sqrt(1 - first - second) * make(rng, (part, one, two))
        found.append(variances(values, cells))
    means, all_variances = zip(*found, strict=True)
    return np.concatenate(means), np.concatenate(all_variances)


TABLES: dict[str, Callable[..., str]] = {
    "crossings": lambda rounds=ROUNDS // 4: markdown(crossings(rounds)),
}
