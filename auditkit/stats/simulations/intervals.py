"""Coverage of the intervals of means, and what happens with the truth exactly at a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from auditkit.stats.families import cautious
from auditkit.stats.intervals import ALPHA, Array, critical, guarded
from auditkit.stats.simulations.crossings import dfs, guarded_half_widths, half_widths, variances
from auditkit.stats.simulations.shared import (
    BATCH,
    CLUSTERS,
    CORRELATIONS,
    ITEMS,
    ROUNDS,
    SHAPES,
    Shape,
    batches,
    draw,
    markdown,
    percent,
    seeded,
    t_of_means,
)


@dataclass(frozen=True)
class SimulatedMeans:
    """(rounds,) means around a truth of 0, half-widths of their intervals, and those of claims of "no harm"."""

    mean: Array
    half: Array
    guarded: Array


def one_factor(rng: np.random.Generator, shape: Shape, clusters: int, icc: float, rounds: int) -> SimulatedMeans:
    """Means over clusters of 10 items, with the t interval of cluster means."""
    found = []
    for part in batches(rounds):
        means = math.sqrt(icc) * draw(rng, shape, (part, clusters))
        means = means + math.sqrt(1 - icc) * draw(rng, shape, (part, clusters, ITEMS)).mean(axis=2)
        found.append(np.stack([means.mean(axis=1), means.std(axis=1, ddof=1) / math.sqrt(clusters)]))
    mean, error = np.concatenate(found, axis=1)
    df = clusters - 1
    return SimulatedMeans(mean, critical(df) * error, critical(df, guarded(df)) * error)


def crossed(rng: np.random.Generator, shape: Shape, clusters: int, icc: float, rounds: int) -> SimulatedMeans:
    """The same for a complete crossing of two factors with as many clusters each, which share the correlation."""
    found = []
    cells = np.ones((clusters, clusters))
    for part in batches(rounds, 500 if clusters > 15 else BATCH):
        values = math.sqrt(icc / 2) * draw(rng, shape, (part, clusters, 1))
        values = values + math.sqrt(icc / 2) * draw(rng, shape, (part, 1, clusters))
        values = values + math.sqrt(1 - icc) * draw(rng, shape, (part, clusters, clusters))
        mean, by = variances(values, cells)
        df = dfs(by, clusters, clusters)
        found.append(np.stack([mean, half_widths(by, df), guarded_half_widths(by, df)]))
    return SimulatedMeans(*np.concatenate(found, axis=1))


Design = Callable[[np.random.Generator, Shape, int, float, int], SimulatedMeans]
DESIGNS: dict[str, Design] = {"one factor": one_factor, "crossed": crossed}


def coverage(design: str, rounds: int) -> list[list[str]]:
    """Coverage of the 95 % interval, per clusters and correlation, for each shape of data."""
    rows = []
    for clusters in CLUSTERS:
        for icc in CORRELATIONS:
            cells = []
            for shape in SHAPES:
                drawn = DESIGNS[design](seeded(design, shape, clusters, icc), shape, clusters, icc, rounds)
                cells.append(percent(np.mean(np.abs(drawn.mean) <= drawn.half)))
            size = f"{clusters}" if design == "one factor" else f"{clusters} x {clusters}"
            rows.append([size, f"{icc:g}", *cells])
    return [["clusters", "correlation", *SHAPES], *rows]


def threshold_errors(rounds: int) -> list[list[str]]:
    """What happens when the truth is exactly at the threshold: the largest rates over all settings above."""
    rows = []
    for design, make in DESIGNS.items():
        worst = np.zeros(4)
        for shape in SHAPES:
            for clusters in CLUSTERS:
                for icc in CORRELATIONS:
                    drawn = make(seeded("again", design, shape, clusters, icc), shape, clusters, icc, rounds)
                    worst = np.maximum(worst, _at_threshold(drawn))
        rows.append([design, *map(percent, worst)])
    head = ["design", "PASS", "FAIL", "PASS then FAIL, or FAIL then PASS"]
    return [[*head, "not worse, or unchanged, at the margin"], *rows]


def _at_threshold(drawn: SimulatedMeans) -> Array:
    passed, failed = drawn.mean >= drawn.half, drawn.mean < -drawn.half
    half = len(passed) // 2
    contrary = (passed[:half] & failed[half : 2 * half]) | (failed[:half] & passed[half : 2 * half])
    # No worse than a baseline, with the truth at the margin, passes where the interval lies on its better side, which
    # may be the side of the long tail or the other. Unchanged passes where the interval lies inside one margin; that it
    # must lie inside the other too only makes it rarer, so a wide margin is the worst case, and the rate is the same.
    harm = max((drawn.mean > drawn.guarded).mean(), (drawn.mean < -drawn.guarded).mean())
    return np.array([passed.mean(), failed.mean(), contrary.mean(), harm])


def false_blocks(rounds: int, claims: int = 40) -> list[list[str]]:
    """Runs of 40 true claims exactly at their thresholds: how many have any FAIL, on the worse side of the data."""
    rows = []
    for shape in SHAPES:
        for clusters in CLUSTERS:
            for shared in (0.0, 0.2, 0.5):
                rng = seeded("blocks", shape, clusters, shared)
                blocked = np.zeros((3, 2))
                parts = list(batches(max(rounds // 4, 200), 1000))
                for part in parts:
                    common = draw(rng, shape, (part, 1, clusters))
                    own = draw(rng, shape, (part, claims, clusters))
                    t = t_of_means(math.sqrt(shared) * common + math.sqrt(1 - shared) * own)
                    for side, extreme in enumerate((t.max(axis=1), -t.min(axis=1))):
                        p = stats.t.sf(extreme, clusters - 1)
                        # Holm rejects any claim exactly when it rejects the one with the smallest p.
                        blocked[:, side] += (
                            (p <= ALPHA / 2).sum(),
                            (p <= ALPHA / 2 / claims).sum(),
                            (cautious(p, clusters - 1) <= ALPHA / 2 / claims).sum(),
                        )
                shares = blocked.max(axis=1) / sum(parts)
                rows.append([shape, f"{clusters}", f"{shared:g}", *map(percent, shares)])
    head = ["data", "clusters", "correlation of claims", "any FAIL, each alone", "Holm on plain t"]
    return [[*head, "any FAIL, with Holm"], *rows]


TABLES: dict[str, Callable[..., str]] = {
    "coverage": lambda rounds=ROUNDS: markdown(coverage("one factor", rounds)),
    "crossed": lambda rounds=ROUNDS: markdown(coverage("crossed", rounds // 4)),
    "threshold": lambda rounds=ROUNDS: markdown(threshold_errors(rounds)),
    "blocks": lambda rounds=ROUNDS: markdown(false_blocks(rounds)),
}
