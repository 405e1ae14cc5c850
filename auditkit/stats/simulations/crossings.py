"""Two crossed factors, complete and incomplete: coverage beside width, with each rule for the degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

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


class Dealt(NamedTuple):
    """A crossing as `incomplete_crossing` deals it.

    Attributes:
        first, second: clusters of either factor.
        met: how many of the second an item of the first meets.
        items: items of the first factor, where each is not a cluster: topics have two or three questions, which meet
            others of the second.
        cells: so many of the first ones are measured; all where None.
        used: so many clusters of the second factor are; what is dealt to the others is left out.
        adjacent: items of a cluster of the first factor follow each other, and do not come round in turn.
    """

    first: int
    second: int
    met: int
    items: int
    cells: int | None = None
    used: int | None = None
    adjacent: bool = False


DESIGNS: dict[str, Dealt] = {
    "6 x 24": Dealt(6, 24, 24, 6),
    "24 personas x 24 tasks, each once": Dealt(24, 24, 1, 24),
    "24 questions x 6 of 24 pairs": Dealt(24, 24, 6, 24),
    "48 questions of 17 topics x 3 of 28 pairs": Dealt(17, 28, 3, 48),
    "48 questions of 17 topics x 2 of 16 words": Dealt(17, 16, 2, 48),
    "24 x 6": Dealt(24, 6, 6, 24),
    "12 x 12": Dealt(12, 12, 12, 12),
    "17 questions x 3 of 8 pairs": Dealt(17, 8, 3, 17),
    "5 x 20": Dealt(5, 20, 20, 5),
}
"""Crossings of many sizes."""

SUITES: dict[str, Dealt] = {
    "composition, states: 20 personas x 20 tasks, each once": Dealt(24, 24, 1, 24, cells=20),
    "composition, texts: 24 personas x 3 of 24 tasks": Dealt(24, 24, 3, 24),
    "patching, bands: 48 questions of 17 topics x 3 of 32 pairs": Dealt(17, 32, 3, 48),
    "patching, first MLP: the first 24 of these items": Dealt(17, 32, 3, 48, cells=24),
    "patching, paths and donors: the first 18": Dealt(17, 32, 3, 48, cells=18),
    "answers: 48 questions of 17 topics x 2 of 16 words": Dealt(17, 16, 2, 48),
    "synonyms: the same with 12 of the words": Dealt(17, 16, 2, 48, used=12),
    "heads: 43 items of 11 questions of 8 topics x 32 pairs": Dealt(8, 32, 4, 11, cells=43, adjacent=True),
    "attention after a swap: the first 21 of these items": Dealt(8, 32, 4, 11, cells=21, adjacent=True),
    "heads that restore: 21 items of 10 questions of 8 topics x 16 pairs": Dealt(
        8, 16, 3, 10, cells=21, adjacent=True
    ),
    "sentences: 42 wordings x 2 of 39 pairs of groups": Dealt(42, 39, 2, 42),
}
"""The crossings that the suites have at their own size on the default model."""


def mask(design: Dealt) -> Array:
    """(first, second) 1 where a cell is measured, without clusters of which none is.

    Raises:
        ValueError: two items fall into one cell.
    """
    names = [str(item) for item in range(design.items)], [str(column) for column in range(design.second)]
    taken = np.zeros((design.first, design.second))
    for item, column in incomplete_crossing(*names, design.met, seed=0, name="simulation")[: design.cells]:
        row = int(item) * design.first // design.items if design.adjacent else int(item) % design.first
        taken[row, int(column)] += int(column) < (design.used or design.second)
    if taken.max() > 1:
        raise ValueError(f"two items of {design} fall into one cell")
    return taken[taken.any(axis=1)][:, taken.any(axis=0)]


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


def crossings(rounds: int, designs: Mapping[str, Dealt] = DESIGNS) -> list[list[str]]:
    """Coverage by the smaller factor's degrees of freedom and by each test's own, and how wide the latter is."""
    rows = []
    for name, design in designs.items():
        cells = mask(design)
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
    "dealt": lambda rounds=ROUNDS // 4: markdown(crossings(rounds, SUITES)),
}
