"""Simulated experiments behind the error rates that the documentation states.

    python -m auditkit.stats.simulation docs/statistics.md

replaces every block between `<!-- simulated: NAME -->` and `<!-- end -->` by its table. Thousands of experiments are
computed at once on arrays of balanced designs; tests check that these arrays give what the estimates of a suite give.
Seeds are fixed: the tables change only with the methods.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from auditkit.stats.families import cautious
from auditkit.stats.intervals import ALPHA, MIN_CLUSTERS, Array, critical, guarded
from auditkit.stats.proportions import Compare, quantile_and_cdf, score_statistic
from auditkit.stats.sequential import Plan
from auditkit.stats.streams import stream

Shape = Literal["Gaussian", "heavy-tailed", "logit-like"]
SHAPES: tuple[Shape, ...] = ("Gaussian", "heavy-tailed", "logit-like")
CLUSTERS = (5, 8, 15, 30)
CORRELATIONS = (0.0, 0.2, 0.5)
ROUNDS = 40_000
SEED = 20250711
_ITEMS = 10
_BATCH = 4_000


def draw(rng: np.random.Generator, shape: Shape, size: tuple[int, ...]) -> Array:
    """Values with mean 0 and variance 1: normal; Student's t with 3 degrees of freedom; or a mirrored Gumbel, whose
    skewness of -1.14 is that of the logarithm of an exponential, as in log-probabilities that saturate."""
    if shape == "Gaussian":
        return rng.normal(size=size)
    if shape == "heavy-tailed":
        return rng.standard_t(3, size=size) / math.sqrt(3.0)
    return (np.euler_gamma - rng.gumbel(size=size)) * math.sqrt(6) / math.pi


def one_factor(
    rng: np.random.Generator, shape: Shape, clusters: int, icc: float, rounds: int
) -> tuple[Array, int]:
    """(rounds,) t statistics of cluster means around the truth, and their degrees of freedom."""
    found = []
    for part in _batches(rounds):
        means = math.sqrt(icc) * draw(rng, shape, (part, clusters))
        means = means + math.sqrt(1 - icc) * draw(rng, shape, (part, clusters, _ITEMS)).mean(axis=2)
        found.append(t_of_means(means))
    return np.concatenate(found), clusters - 1


def t_of_means(means: Array) -> Array:
    """t of the mean over the last axis of cluster means."""
    result: Array = means.mean(axis=-1) / (means.std(axis=-1, ddof=1) / math.sqrt(means.shape[-1]))
    return result


def crossed(rng: np.random.Generator, shape: Shape, clusters: int, icc: float, rounds: int) -> tuple[Array, int]:
    """The same for a complete crossing of two factors with as many clusters each, which share the correlation."""
    found = []
    for part in _batches(rounds, 500 if clusters > 15 else _BATCH):
        values = math.sqrt(icc / 2) * draw(rng, shape, (part, clusters, 1))
        values = values + math.sqrt(icc / 2) * draw(rng, shape, (part, 1, clusters))
        values = values + math.sqrt(1 - icc) * draw(rng, shape, (part, clusters, clusters))
        found.append(t_of_grid(values))
    return np.concatenate(found), clusters - 1


def t_of_grid(values: Array) -> Array:
    """t of the mean of (rounds, C1, C2) values by the two-way variance."""
    _, one, two = values.shape
    n = one * two
    mean = values.mean(axis=(1, 2))
    residuals = values - mean[:, None, None]
    first = (residuals.sum(axis=2) ** 2).sum(axis=1) * one / (one - 1) / n**2
    second = (residuals.sum(axis=1) ** 2).sum(axis=1) * two / (two - 1) / n**2
    cells = (residuals**2).sum(axis=(1, 2)) * n / (n - 1) / n**2
    result: Array = mean / np.sqrt(np.maximum.reduce([first + second - cells, first, second]))
    return result


# -- tables ----------------------------------------------------------------------------------------------------

Design = Callable[[np.random.Generator, Shape, int, float, int], tuple[Array, int]]
DESIGNS: dict[str, Design] = {"one factor": one_factor, "crossed": crossed}


def coverage(design: str, rounds: int) -> list[list[str]]:
    """Coverage of the 95 % interval, per clusters and correlation, for each shape of data."""
    rows = []
    for clusters in CLUSTERS:
        for icc in CORRELATIONS:
            cells = []
            for shape in SHAPES:
                t, df = DESIGNS[design](_rng(design, shape, clusters, icc), shape, clusters, icc, rounds)
                cells.append(_percent(np.mean(np.abs(t) <= critical(df))))
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
                    t, df = make(_rng("again", design, shape, clusters, icc), shape, clusters, icc, rounds)
                    worst = np.maximum(worst, _at_threshold(t, df))
        rows.append([design, *map(_percent, worst)])
    head = ["design", "PASS", "FAIL", "PASS then FAIL, or FAIL then PASS"]
    return [[*head, "not worse, or unchanged, at the margin"], *rows]


def _at_threshold(t: Array, df: int) -> Array:
    bound = critical(df)
    passed, failed = t >= bound, t < -bound
    half = len(t) // 2
    contrary = (passed[:half] & failed[half : 2 * half]) | (failed[:half] & passed[half : 2 * half])
    # No worse than a baseline, with the truth at the margin, passes where the interval lies on its better side, which
    # may be the side of the long tail or the other. Unchanged passes where the interval lies inside one margin; that it
    # must lie inside the other too only makes it rarer, so a wide margin is the worst case, and the rate is the same.
    strict = critical(df, guarded(df))
    harm = max((t > strict).mean(), (t < -strict).mean())
    return np.array([passed.mean(), failed.mean(), contrary.mean(), harm])


def false_blocks(rounds: int, claims: int = 40) -> list[list[str]]:
    """Runs of 40 true claims exactly at their thresholds: how many have any FAIL, on the worse side of the data."""
    rows = []
    for shape in SHAPES:
        for clusters in CLUSTERS:
            for shared in (0.0, 0.2, 0.5):
                rng = _rng("blocks", shape, clusters, shared)
                blocked = np.zeros((3, 2))
                parts = list(_batches(max(rounds // 4, 200), 1000))
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
                rows.append([shape, f"{clusters}", f"{shared:g}", *map(_percent, shares)])
    head = ["data", "clusters", "correlation of claims", "any FAIL, each alone", "Holm on plain t"]
    return [[*head, "any FAIL, with Holm"], *rows]


def sequential(rounds: int) -> list[list[str]]:
    """Looks at 10, 20, ... 200 items: error at the threshold, and items used when the effect is 0.3 sd from it."""
    plan = Plan.every(10, first=10, most=200)
    rows = []
    for shape in SHAPES:
        for label, clusters, icc in (
            ("every item a cluster", 200, 0.0),
            ("clusters of 5, one after another", 40, 0.3),
            ("the same 10 clusters, more items", 10, 0.3),
        ):
            rng = _rng("sequential", shape, label)
            count = max(rounds // 4, 200)
            counts, means = growing(rng, shape, plan, clusters, icc, count, label.startswith("the same"))
            levels = plan.levels([(c,) for c in counts])
            naive, spent = (_ends(counts, means, use) for use in ([ALPHA] * len(counts), levels))
            moved = _ends(counts, means, levels, 0.3)
            used = np.array(plan.looks)[moved[1]].mean()
            rows.append(
                [
                    shape,
                    label,
                    *(_percent(e[0] + e[2]) for e in (naive, spent)),
                    _percent(moved[2]),
                    f"{used:.0f}",
                ]
            )
    head = ["data", "how items grow", "wrong, naive", "wrong, declared", "decided at 0.3 sd", "items used then"]
    return [head, *rows]


def growing(
    rng: np.random.Generator, shape: Shape, plan: Plan, clusters: int, icc: float, rounds: int, together: bool
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


def _ends(
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


def rates(rounds: int) -> list[list[str]]:
    """Coverage of the interval of a rate, for independent items and for clusters of 10 items."""
    rows = []
    for clusters, icc in ((0, 0.0), *((c, i) for c in CLUSTERS for i in CORRELATIONS)):
        cells = []
        for p in (0.05, 0.2, 0.5, 0.9):
            rng = _rng("rates", clusters, icc, p)
            if clusters == 0:
                hits = rng.binomial(50, p, (rounds, 1)).astype(float)
                size, df = np.full(rounds, 50.0), None
            else:
                hits = _beta_binomial(rng, p, icc, (rounds, clusters))
                size, df = effective(hits, _ITEMS), clusters - 1
            rate = hits.sum(axis=1) / (50.0 if clusters == 0 else clusters * _ITEMS)
            bound = quantile_and_cdf(df, ALPHA)[0]
            cells.append(_percent(np.mean(np.abs(rate - p) <= bound * np.sqrt(p * (1 - p) / size))))
        label = "50 independent items" if clusters == 0 else f"{clusters} clusters of {_ITEMS}"
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
            rng = _rng("contrasts", n, p1, p0)
            count = max(rounds // 8, 200)
            pairs, weight = np.unique(
                np.stack([rng.binomial(n, p1, count), rng.binomial(n, p0, count)]), axis=1, return_counts=True
            )
            cells = []
            for compare, theta in (("ratio", p1 / p0), ("difference", p1 - p0)):
                inside = [abs(_score(one, other, n, theta, compare)) <= 1.959964 for one, other in pairs.T]
                cells.append(_percent(np.average(inside, weights=weight)))
            rows.append([f"{n}", f"{p1:g}", f"{p0:g}", *cells])
    return [["items in each group", "rate", "rate of the other", "ratio", "difference"], *rows]


def _score(one: int, other: int, n: int, theta: float, compare: str) -> float:
    kind: Compare = "ratio" if compare == "ratio" else "difference"
    return score_statistic(one / n, n, other / n, n, theta, kind)


def _beta_binomial(rng: np.random.Generator, p: float, icc: float, size: tuple[int, int]) -> Array:
    chance = np.full(size, p) if icc == 0 else rng.beta(p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc, size)
    return rng.binomial(_ITEMS, chance).astype(float)


TABLES: dict[str, Callable[[int], list[list[str]]]] = {
    "coverage": lambda rounds: coverage("one factor", rounds),
    "crossed": lambda rounds: coverage("crossed", rounds // 4),
    "threshold": threshold_errors,
    "blocks": false_blocks,
    "sequential": sequential,
    "rates": rates,
    "contrasts": contrasts,
}


def write(page: Path, rounds: int = ROUNDS) -> None:
    """Replace the table of every block of the page.

    Raises:
        KeyError: for a block that names no table.
    """

    def table(match: re.Match[str]) -> str:
        head, *rows = TABLES[match[1]](rounds)
        lines = [head, ["---"] * len(head), *rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"<!-- simulated: {match[1]} -->\n{body}\n<!-- end -->"

    text = page.read_text(encoding="utf-8")
    page.write_text(
        re.sub(r"<!-- simulated: (\w+) -->.*?<!-- end -->", table, text, flags=re.DOTALL), encoding="utf-8"
    )


def _batches(rounds: int, size: int = _BATCH) -> Iterable[int]:
    return [min(size, rounds - start) for start in range(0, rounds, size)]


def _rng(*names: object) -> np.random.Generator:
    return stream(SEED, "simulation", *map(str, names))


def _percent(share: float | np.floating) -> str:
    return f"{100 * float(share):.2f} %"


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
