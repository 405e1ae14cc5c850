"""Do two personas use the same units? Overlaps of unit sets, held against chance.

Two sets of 2,600 and 2,800 of 4,096 units share 1,780 by chance alone, so a large overlap is no finding by itself.
Under the null each set is a random one of its size, independent of the others; the number of units that all of them
hold then has a known mean and variance (for two sets it is hypergeometric).

The null takes all units to be equally likely. Where some units vary more and enter sets more easily, chance overlaps
are larger than it says, so z is an upper bound. A set that collects whatever any of many runs found (as published)
grows with the number of runs; `frequent` keeps what half of them found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditkit.record.figures import Heatmap, Intersection, Sets

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
UnitSet = Sequence[int] | NDArray[Any]


@dataclass(frozen=True)
class Overlap:
    """Units that several sets share.

    Attributes:
        observed: how many all sets hold.
        expected, sd: by chance, given the sizes.
        sizes, total: of the sets, and how many units there are.
    """

    observed: int
    expected: float
    sd: float
    sizes: tuple[int, ...]
    total: int

    @property
    def z(self) -> float | None:
        """Standard deviations from chance; None where chance leaves no room (an empty or complete set)."""
        return (self.observed - self.expected) / self.sd if self.sd > 0 else None

    @property
    def ratio(self) -> float | None:
        """Observed over expected."""
        return self.observed / self.expected if self.expected > 0 else None

    def p(self, *, more: bool = True) -> float:
        """Chance of an overlap at least (`more=False`: at most) as large, exact, for two sets.

        Raises:
            ValueError: for another number of sets.
        """
        from scipy.stats import hypergeom

        if len(self.sizes) != 2:
            raise ValueError(f"the exact chance is that of two sets, here are {len(self.sizes)}; use z")
        null = hypergeom(self.total, *self.sizes)
        return float(null.sf(self.observed - 1) if more else null.cdf(self.observed))


def overlap(sets: Sequence[UnitSet], total: int) -> Overlap:
    """Units that all of `sets` hold, and how many they would share by chance.

    With N units and sizes k_i, the number X that all share has E X = N Π(k_i/N) and
    E X(X-1) = N(N-1) Π k_i(k_i-1) / (N(N-1)), since a unit, and a pair of units, is in each set independently.

    Args:
        sets: at least two, of unit indices.
        total: how many units could have been in a set: without those that were left out beforehand.

    Raises:
        ValueError: fewer than two sets, a unit twice in a set, or one outside the network.
    """
    members = _flags(sets, total)
    if len(members) < 2:
        raise ValueError("an overlap is between at least two sets")
    sizes = [int(size) for size in members.sum(axis=1)]
    mean = total * math.prod(size / total for size in sizes)
    pairs = (
        total * (total - 1) * math.prod(k * (k - 1) / (total * (total - 1)) for k in sizes) if total > 1 else 0.0
    )
    variance = pairs + mean - mean**2
    sd = math.sqrt(variance) if variance > 1e-9 * max(mean, 1e-9) else 0.0
    return Overlap(int(members.all(axis=0).sum()), mean, sd, tuple(sizes), total)


def pair_overlaps(sets: Mapping[str, UnitSet], total: int) -> dict[tuple[str, str], Overlap]:
    """The overlap of every two sets, by their names in the order given."""
    return {(a, b): overlap([sets[a], sets[b]], total) for a, b in combinations(sets, 2)}


def pair_figure(sets: Mapping[str, UnitSet], total: int) -> Heatmap:
    """z of every pair as a symmetric heat map; the diagonal is left empty."""
    names = list(sets)
    found = pair_overlaps(sets, total)
    z = {frozenset(pair): one.z for pair, one in found.items()}
    return Heatmap(
        "",
        "",
        "z",
        f"How far each two sets share more (above 0) or fewer (below 0) of {total} units than random sets of their "
        "sizes, in standard deviations; the diagonal is empty. Units that vary more enter sets more easily, so z is an "
        "upper bound.",
        names,
        names,
        [[None if a == b else z[frozenset((a, b))] for b in names] for a in names],
        scale="centred",
    )


def sets_figure(sets: Mapping[str, UnitSet], total: int, *, most: int = 30) -> Sets:
    """Units in just these sets and no other, with what chance gives; the `most` largest by either."""
    names, members = list(sets), _flags(list(sets.values()), total)
    shares = members.sum(axis=1) / total
    patterns, counts = np.unique(members.T, axis=0, return_counts=True)
    sizes = {tuple(np.flatnonzero(pattern).tolist()): int(n) for pattern, n in zip(patterns, counts, strict=True)}
    if len(names) <= 10:  # also those that chance would fill and that are empty
        sizes |= {
            inside: sizes.get(inside, 0)
            for k in range(1, len(names) + 1)
            for inside in combinations(range(len(names)), k)
        }
    sizes.pop((), None)
    parts = []
    for inside, size in sizes.items():
        chance = np.where(np.isin(np.arange(len(names)), inside), shares, 1 - shares).prod()
        parts.append(Intersection(inside, size, float(total * chance)))
    parts.sort(key=lambda part: (-max(part.size, part.expected or 0.0), tuple(part.members)))
    return Sets(
        "units",
        f"Each column counts the units (of {total}) that are in just the marked sets and in no other, beside what "
        f"random sets of these sizes would give. {min(most, len(parts))} of {len(parts)} combinations are drawn.",
        names,
        [int(size) for size in members.sum(axis=1)],
        parts[:most],
    )


# Repeated runs


def frequency(runs: Sequence[UnitSet], total: int) -> Array:
    """(total,) share of the runs that found each unit."""
    if not len(runs):
        raise ValueError("there are no runs")
    shares: Array = _flags(runs, total).mean(axis=0)
    return shares


def frequent(runs: Sequence[UnitSet], total: int, least: float = 0.5) -> Indices:
    """Units that at least this share of the runs found."""
    return np.flatnonzero(frequency(runs, total) >= least * (1 - 1e-9))


@dataclass(frozen=True)
class Stability:
    """Mean Jaccard index of every two runs, and that of random sets of the same sizes."""

    jaccard: float
    chance: float
    runs: int

    @property
    def ratio(self) -> float | None:
        return self.jaccard / self.chance if self.chance > 0 else None


def stability(runs: Sequence[UnitSet], total: int) -> Stability:
    """How alike the unit sets of repeated runs are: |A ∩ B| / |A ∪ B|, averaged over pairs.

    Chance is the exact mean of the index under the hypergeometric null of each pair's sizes. Two empty sets count as 0:
    agreeing on nothing is no stability.

    Raises:
        ValueError: fewer than two runs.
    """
    members = _flags(runs, total)
    if len(members) < 2:
        raise ValueError("stability is between at least two runs")
    both = members.astype(np.float64) @ members.T.astype(np.float64)
    sizes = members.sum(axis=1)
    first, second = np.triu_indices(len(members), 1)
    shared = both[first, second]
    union = sizes[first] + sizes[second] - shared
    observed = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    ordered = np.sort(np.column_stack([sizes[first], sizes[second]]), axis=1)
    kinds, counts = np.unique(ordered, axis=0, return_counts=True)
    chance = sum(n * _chance_jaccard(int(a), int(b), total) for (a, b), n in zip(kinds, counts, strict=True))
    return Stability(float(observed.mean()), float(chance / len(shared)), len(members))


@lru_cache(maxsize=1 << 14)
def _chance_jaccard(small: int, large: int, total: int) -> float:
    if not small:
        return 0.0
    shared = np.arange(max(0, small + large - total), small + 1)
    logs = _log_factorials(total)
    ways = logs[small] + logs[large] + logs[total - small] + logs[total - large] - logs[total]
    others = logs[shared] + logs[small - shared] + logs[large - shared] + logs[total - small - large + shared]
    # By logarithms in a tenth of the time of `scipy.stats.hypergeom.pmf`, and equal to it in the first ten digits.
    return float((np.exp(ways - others) * shared / (small + large - shared)).sum())


@lru_cache(maxsize=8)
def _log_factorials(largest: int) -> Array:
    """(largest + 1,) log k!"""
    from scipy.special import gammaln

    logs: Array = gammaln(np.arange(largest + 1) + 1.0)
    return logs


def _flags(sets: Sequence[UnitSet], total: int) -> NDArray[np.bool_]:
    """(sets, total) membership."""
    flags = np.zeros((len(sets), total), dtype=bool)
    for i, units in enumerate(sets):
        places = np.asarray(units, dtype=np.intp)
        if places.size and not 0 <= places.min() <= places.max() < total:
            raise ValueError(f"set {i} names units outside 0 to {total - 1}")
        if len(np.unique(places)) != len(places):
            raise ValueError(f"set {i} names a unit twice")
        flags[i, places] = True
    return flags
