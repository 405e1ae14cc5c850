"""The figures of the statistics course (docs/course), from simulated experiments.

    python -m auditkit.stats.simulations.course docs/course/figures

writes them. Seeds are fixed, so they change only with the methods; a test compares the files with what is drawn.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from auditkit.notebook import Plot
from auditkit.record.figures import Curves, Dot, DotGroup, Dots, Figure, Series
from auditkit.stats.families import cautious
from auditkit.stats.intervals import ALPHA, critical, guarded
from auditkit.stats.simulations.intervals import one_factor
from auditkit.stats.simulations.shared import draw, seeded, t_of_means

ROUNDS = 2_000
CLUSTERS = 15
ITEMS = 10
"""Items in each cluster."""


def experiments() -> Figure:
    """Seventeen experiments on one model: each interval is another one, and the truth does not move."""
    truth, count = 0.5, 17
    drawn = one_factor(seeded("course", "experiments"), "Gaussian", CLUSTERS, 0.2, count)
    found = [(truth + float(mean), float(half)) for mean, half in zip(drawn.mean, drawn.half, strict=True)]
    dots = [
        Dot(f"experiment {i}{'' if abs(mean - truth) <= half else ' misses'}", mean, mean - half, mean + half)
        for i, (mean, half) in enumerate(found, 1)
    ]
    caption = "Each row is one experiment with its 95 % interval; the dashed line is the truth."
    return Dots("effect", caption, [DotGroup("", dots)], reference=truth).titled("One truth, many experiments")


def decisions() -> Figure:
    """How often each verdict is given, by where the truth lies."""
    drawn = one_factor(seeded("course", "decisions"), "Gaussian", CLUSTERS, 0.2, ROUNDS)
    places = [step / 4 for step in range(-12, 13)]
    width = float(drawn.half.mean())
    shares: dict[str, list[float]] = {"PASS": [], "FAIL": [], "INCONCLUSIVE": []}
    for place in places:
        passed = float(np.mean(drawn.mean + place * width - drawn.half > 0))
        failed = float(np.mean(drawn.mean + place * width + drawn.half < 0))
        for name, share in zip(shares, (passed, failed, 1 - passed - failed), strict=True):
            shares[name].append(share)
    caption = f"Share of {ROUNDS:,} simulated experiments that reach each verdict, by the distance of the truth."
    return _curves("truth minus threshold (half-widths of the interval)", "share", caption, places, shares).titled(
        "What is said, by where the truth lies"
    )


def coverage() -> Figure:
    """How often intervals hold the truth, with items counted as independent and with clusters as the unit."""
    correlations = [step / 10 for step in range(9)]
    shares: dict[str, list[float]] = {"clusters are the unit": [], "items as if independent": []}
    for icc in correlations:
        rng = seeded("course", "coverage", icc)
        values = math.sqrt(icc) * draw(rng, "Gaussian", (ROUNDS, CLUSTERS, 1))
        values = values + math.sqrt(1 - icc) * draw(rng, "Gaussian", (ROUNDS, CLUSTERS, ITEMS))
        for name, means in zip(shares, (values.mean(axis=2), values.reshape(ROUNDS, -1)), strict=True):
            holds = np.abs(t_of_means(means)) <= critical(means.shape[1] - 1)
            shares[name].append(float(holds.mean()))
    caption = (
        f"Share of 95 % intervals that hold the truth: {CLUSTERS} clusters of {ITEMS} items, by how alike the items of "
        "a cluster are. The dashed line is what the interval promises."
    )
    drawn = _curves("correlation of two items of one cluster", "share", caption, correlations, shares, 0.95)
    return drawn.titled("Intervals that hold the truth")


def spending() -> Figure:
    """The half-width of the interval of 120 items, by how many clusters they come from."""
    counts = [6, 8, 10, 12, 15, 20, 24, 30, 40, 60, 120]
    widths = {
        f"correlation {icc:g}": [
            critical(count - 1) * math.sqrt((icc + (1 - icc) * count / 120) / count) for count in counts
        ]
        for icc in (0.0, 0.2, 0.5)
    }
    caption = "Half-width of the 95 % interval of 120 items, in standard deviations of an item."
    drawn = _curves("clusters that the 120 items come from", "half-width", caption, counts, widths)
    return drawn.titled("What 120 items are worth")


def absence() -> Figure:
    """A candidate that is worse by twice the margin: how often each rule lets it through."""
    margin, truth, spread = 0.05, -0.10, 0.5
    sizes = [20, 30, 50, 75, 100, 150, 200, 300, 400]
    shares: dict[str, list[float]] = {"no significant difference": [], "no worse by more than the margin": []}
    for size in sizes:
        rng = seeded("course", "absence", size)
        mean = truth + spread * rng.normal(size=ROUNDS) / math.sqrt(size)
        error = spread * np.sqrt(rng.chisquare(size - 1, ROUNDS) / (size - 1) / size)
        shares["no significant difference"].append(float(np.mean(np.abs(mean / error) <= critical(size - 1))))
        strict = critical(size - 1, guarded(size - 1))
        shares["no worse by more than the margin"].append(float(np.mean(mean - strict * error > -margin)))
    caption = (
        f"The candidate is worse by {-truth:.2f}, twice the margin of {margin:.2f}. Share of {ROUNDS:,} simulated "
        "comparisons in which each rule lets it through, by the number of items (standard deviation 0.5)."
    )
    return _curves("items", "share let through", caption, sizes, shares).titled("Two rules for 'no worse'")


def margins() -> Figure:
    """Five changes from a base, and what a margin of 0.05 makes of them."""
    cases = {
        "PASS": {"better": (0.04, 0.02), "as good": (0.0, 0.03), "slightly worse": (-0.025, 0.02)},
        "INCONCLUSIVE": {"too few items": (0.0, 0.09), "at the margin": (-0.05, 0.03)},
        "FAIL": {"worse": (-0.10, 0.03)},
    }
    groups = [
        DotGroup(verdict, [Dot(name, mean, mean - half, mean + half) for name, (mean, half) in rows.items()])
        for verdict, rows in cases.items()
    ]
    caption = "Change from the base with its interval, higher is better. The dashed line is minus the margin."
    return Dots("change from the base", caption, groups, reference=-0.05).titled("What a margin makes of a change")


def families() -> Figure:
    """How often a faultless model gets at least one FAIL, by how many claims are asked."""
    most = 40
    counts = [1, 2, 3, 5, 8, 12, 20, 30, 40]
    t = t_of_means(draw(seeded("course", "families"), "Gaussian", (ROUNDS, most, CLUSTERS)))
    p = stats.t.cdf(t, CLUSTERS - 1)
    careful = cautious(p, CLUSTERS - 1)
    shares = {
        "each claim by itself": [float((p[:, :count].min(1) <= ALPHA / 2).mean()) for count in counts],
        "Holm over the family": [
            float((count * careful[:, :count].min(1) <= ALPHA / 2).mean()) for count in counts
        ],
    }
    caption = (
        "Share of simulated runs with at least one false FAIL, where every claim lies exactly at its threshold, by the "
        "number of claims. The dashed line is 2.5 %."
    )
    return _curves("claims", "share of runs", caption, counts, shares, ALPHA / 2).titled(
        "False alarms of many claims"
    )


def power() -> Figure:
    """How often a claim that holds is decided, by the number of clusters and by how far the truth lies away."""
    counts = [5, 7, 10, 15, 20, 30, 40, 60]
    shares: dict[str, list[float]] = {}
    for distance in (1.0, 0.5, 0.25):
        name = f"{distance:g} standard deviations above"
        for count in counts:
            means = distance + draw(seeded("course", "power", count, distance), "Gaussian", (ROUNDS, count))
            shares.setdefault(name, []).append(float(np.mean(t_of_means(means) > critical(count - 1))))
    caption = (
        "Share of simulated experiments that PASS, by the number of clusters and by the distance of the truth from the "
        "threshold, in standard deviations of a cluster. The dashed line is 80 %."
    )
    return _curves("clusters", "share of PASS", caption, counts, shares, 0.8).titled(
        "Chance to decide a true claim"
    )


FIGURES: dict[str, Callable[[], Figure]] = {
    "experiments": experiments,
    "decisions": decisions,
    "coverage": coverage,
    "spending": spending,
    "absence": absence,
    "margins": margins,
    "families": families,
    "power": power,
}
"""Name of the file -> what it shows."""


def write(folder: Path) -> list[Path]:
    """Draw every figure into a folder."""
    return [Plot([made()]).save(folder / f"{name}.svg") for name, made in FIGURES.items()]


def _curves(
    x: str, y: str, caption: str, places: list[float] | list[int], lines: dict[str, list[float]],
    reference: float | None = None,
) -> Curves:  # fmt: skip
    nothing: list[float | None] = [None] * len(places)
    series = [Series(name, list(places), values, nothing, nothing) for name, values in lines.items()]
    return Curves(x, y, caption, series, reference=reference, whole=all(float(at).is_integer() for at in places))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(
            "python -m auditkit.stats.simulations.course FOLDER: give an existing folder, such as docs/course/figures"
        )
    for file in write(Path(sys.argv[1])):
        print(file)
