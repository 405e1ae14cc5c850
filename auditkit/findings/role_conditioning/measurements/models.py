"""Whether models have RFC and RSI at the same relative depth, from recorded runs and without opening a model.

Layers of models of different depth are compared by relative depth. Neighbouring layers are correlated, so the 30 values
of a profile are not independent, and an ordinary p-value of their correlation is far too small. The p-value comes from
block permutation: profiles are cut into blocks, and the blocks of one are put in random order, which keeps the
correlation of neighbours. The interval comes from resampling prompts, where both runs asked the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditkit.findings.role_conditioning.figures import curve, words
from auditkit.findings.role_conditioning.measurements.entropy import Array
from auditkit.record.figures import Curves, Figure, Heatmap, Table
from auditkit.record.store import RecordError, read_items, read_run
from auditkit.stats.effects.kept import read_effects
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.measurement import Measurement, match
from auditkit.stats.streams import stream

PERMUTATIONS = 2000


@dataclass(frozen=True)
class Profile:
    """An index by layer, of one run.

    Attributes:
        model: name of the run's model.
        name: RFC or RSI.
        layers: one estimate per layer, over the same items.
    """

    model: str
    name: str
    layers: Sequence[Estimate]

    @property
    def depths(self) -> Array:
        """Relative depth of the middle of each layer."""
        return (np.arange(len(self.layers)) + 0.5) / len(self.layers)

    def minus(self, base: Profile) -> Profile:
        """Change from another run of as many layers: what fine-tuning changed, by layer."""
        changes = [now.change_from(then) for now, then in zip(self.layers, base.layers, strict=True)]
        return Profile(f"{self.model} minus {base.model}", self.name, changes)

    def values(self, weights: Array, items: NDArray[np.intp], points: int) -> Array:
        """(draws, point) the index at evenly spaced depths, from weights (draws, item) of some items."""
        top = np.stack([estimate.numerator[items] for estimate in self.layers], 1)
        ratio = weights @ top
        if self.layers[0].denominator is not None:
            ratio = ratio / (
                weights @ np.stack([e.denominator[items] for e in self.layers if e.denominator is not None], 1)
            )
        grid = (np.arange(points) + 0.5) / points
        return np.stack([np.interp(grid, self.depths, row) for row in ratio])


def read_profile(folder: Path, name: str, format: str = "plain text") -> Profile:
    """RFC or RSI by layer, as a run recorded it.

    Raises:
        RecordError: no such run, or it did not measure this index.
    """
    run, items = read_run(folder), read_items(folder)
    shape = re.compile(rf"{re.escape(name)}, layer (\d+) of \d+, {re.escape(format)}")
    layers = {effect: int(found[1]) for effect in items["effect"].unique() if (found := shape.fullmatch(effect))}
    rows = items[items["effect"].isin(list(layers))]
    if not len(rows):
        raise RecordError(
            f"{folder} holds no {name} by layer ({format}): run suites/role_conditioning on the model"
        )
    effects = read_effects(rows[rows["claim"] == rows["claim"].iloc[0]])
    in_order = sorted(effects, key=lambda effect: layers[effect])
    return Profile(run.model.name, name, [effects[effect].estimate for effect in in_order])


def correlation(one: Profile, other: Profile, seed: int = 0) -> Resampled:
    """Pearson correlation of two profiles at equal depths, with an interval over the prompts that both were asked."""
    mine, theirs, _ = match(one.layers[0].measurement, other.layers[0].measurement)
    points = min(len(one.layers), len(other.layers))
    measured: Measurement = one.layers[0].measurement.take(mine)

    def statistic(weights: Array) -> Array:
        a, b = one.values(weights, mine, points), other.values(weights, theirs, points)
        return _pearson(a, b)

    return Resampled(f"{one.name}: {one.model} and {other.model}", "correlation", measured, statistic, seed)


def spearman(one: Profile, other: Profile) -> float:
    """Rank correlation of the whole profiles at equal depths."""
    from scipy.stats import rankdata

    a, b = whole(one, other)
    return float(_pearson(rankdata(a)[None], rankdata(b)[None])[0])


def block_p(one: Profile, other: Profile, seed: int = 0) -> float:
    """Share of block permutations of one profile whose |correlation| is at least as large."""
    a, b = whole(one, other)
    n = len(a)
    size = max(2, round(np.sqrt(n)))
    draw = stream(seed, "blocks", one.model, other.model)
    orders = np.empty((PERMUTATIONS, n), dtype=np.intp)
    for row in orders:
        shifted = np.roll(np.arange(n), int(draw.integers(n)))  # so that blocks begin anywhere
        blocks = [shifted[i : i + size] for i in range(0, n, size)]
        row[:] = np.concatenate([blocks[i] for i in draw.permutation(len(blocks))])
    found = np.abs(_pearson(a[orders], np.broadcast_to(b, (PERMUTATIONS, n))))
    return float((1 + (found >= abs(_pearson(a[None], b[None])[0]) - 1e-12).sum()) / (PERMUTATIONS + 1))


def whole(one: Profile, other: Profile) -> tuple[Array, Array]:
    """Both profiles at the depths of the shallower one, every prompt with equal weight in its cluster."""
    points = min(len(one.layers), len(other.layers))

    def of(profile: Profile) -> Array:
        estimates = [estimate.describe().estimate for estimate in profile.layers]
        values = np.array([np.nan if value is None else value for value in estimates])
        at: Array = np.interp((np.arange(points) + 0.5) / points, profile.depths, values)
        return at

    return of(one), of(other)


def compare(profiles: Sequence[Profile], seed: int = 0) -> tuple[Figure, ...]:
    """Profiles by depth, a table of all pairs, and where there are three or more a map of correlations.

    Raises:
        ValueError: fewer than two profiles.
    """
    if len(profiles) < 2:
        raise ValueError(f"a comparison needs at least two profiles, not {len(profiles)}")
    name = profiles[0].name
    rows: list[list[str | float | None]] = []
    square = np.eye(len(profiles)).tolist()
    for (i, one), (j, other) in combinations(enumerate(profiles), 2):
        measured = correlation(one, other, seed)
        a, b = whole(one, other)
        r = float(_pearson(a[None], b[None])[0])
        square[i][j] = square[j][i] = r
        rows.append(
            [
                f"{one.model} and {other.model}", round(r, 3), words(measured), round(spearman(one, other), 3),
                round(block_p(one, other, seed), 4), f"{len(measured.measurement.values)} prompts",
            ]
        )  # fmt: skip
    curves = Curves(
        "relative depth",
        name,
        f"Repaired {name} by relative depth, one line per run; runs whose peaks lie at one depth are correlated.",
        [curve(profile.model, profile.layers, profile.depths.tolist()) for profile in profiles],
        reference=0.0,
        whole=False,
    ).titled(f"{name} by relative depth")
    table = Table(
        "Correlation of profiles by relative depth. p is the share of block permutations with a correlation as large; "
        "the interval is from drawing prompts anew, without one where two runs share too few.",
        ["runs", "Pearson", "over the prompts of both", "Spearman", "p, block permutation", "in common"],
        rows,
    ).titled(f"{name}: do models agree by depth?")
    if len(profiles) < 3:
        return curves, table
    names = [profile.model for profile in profiles]
    heatmap = Heatmap(
        "run", "run", "correlation", "Pearson correlation of profiles by relative depth; a run with itself is 1.",
        names, names, square, scale="centred",
    )  # fmt: skip
    return curves, table, heatmap.titled(f"{name}: correlation of profiles")


def _pearson(a: Array, b: Array) -> Array:
    """(rows,) correlation of the rows of two arrays."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    r: Array = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return r
