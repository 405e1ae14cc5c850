"""Looks at growing data under a plan declared beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from auditkit.stats.intervals import ALPHA, Array, critical
from auditkit.stats.sequential import Looks
from auditkit.stats.simulations.shared import ROUNDS, SHAPES, Shape, draw, markdown, percent, seeded, t_of_means


def sequential(rounds: int) -> list[list[str]]:
    """Looks at 10, 20, ... 200 items: error at the threshold, and items used when the effect is 0.3 sd from it."""
    plan = Looks.every(10, first=10, most=200)
    rows = []
    for shape in SHAPES:
        for label, clusters, icc in (
            ("every item a cluster", 200, 0.0),
            ("clusters of 5, one after another", 40, 0.3),
            ("the same 10 clusters, more items", 10, 0.3),
        ):
            rng = seeded("sequential", shape, label)
            count = max(rounds // 4, 200)
            counts, means = growing(rng, shape, plan, clusters, icc, count, label.startswith("the same"))
            levels = plan.levels([(c,) for c in counts])
            naive, spent = (ends(counts, means, use) for use in ([ALPHA] * len(counts), levels))
            moved = ends(counts, means, levels, 0.3)
            used = np.array(plan.looks)[moved[1]].mean()
            rows.append(
                [
                    shape,
                    label,
                    *(percent(e[0] + e[2]) for e in (naive, spent)),
                    percent(moved[2]),
                    f"{used:.0f}",
                ]
            )
    head = ["data", "how items grow", "wrong, naive", "wrong, declared", "decided at 0.3 sd", "items used then"]
    return [head, *rows]


def growing(
    rng: np.random.Generator, shape: Shape, plan: Looks, clusters: int, icc: float, rounds: int, together: bool
) -> tuple[list[int], list[Array]]:
    """Clusters at each look, and their (rounds, clusters) means; items fill clusters together or one by one."""
    size = plan.looks[-1] // clusters
    values = math.sqrt(icc) * draw(rng, shape, (rounds, clusters, 1))
    values = values + math.sqrt(1 - icc) * draw(rng, shape, (rounds, clusters, size))
    counts, means = [], []
    for items in plan.looks:
        if together:
            means.append(values[:, :, : items // clusters].mean(axis=2))
        else:
            means.append(values[:, : items // size].mean(axis=2))
        counts.append(means[-1].shape[1])
    return counts, means


def ends(
    counts: list[int], means: list[Array], levels: Iterable[float], effect: float = 0.0
) -> tuple[float, Array, float]:
    """Rate of FAIL, the look at which each experiment ended, and the rate of PASS."""
    rounds = len(means[0])
    ended, failed, passed = np.full(rounds, len(means) - 1), np.zeros(rounds, bool), np.zeros(rounds, bool)
    going = np.ones(rounds, bool)
    for k, (count, mean, level) in enumerate(zip(counts, means, levels, strict=True)):
        if count < 5 or level <= 0:
            continue
        t, bound = t_of_means(mean + effect), critical(count - 1, level)
        failed |= going & (t < -bound)
        passed |= going & (t >= bound)
        ended[going & (np.abs(t) >= bound)] = k
        going &= np.abs(t) < bound
    return float(failed.mean()), ended, float(passed.mean())


TABLES: dict[str, Callable[..., str]] = {
    "sequential": lambda rounds=ROUNDS: markdown(sequential(rounds)),
}
