"""Coverage for data as suites produce it: skewed positive values, strata, words in two pairs, and the cautions for
them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditkit.stats.intervals import ALPHA, ENOUGH_CLUSTERS, Array, critical, skewed_clusters
from auditkit.stats.sequential import Looks
from auditkit.stats.simulations.crossings import dfs, half_widths
from auditkit.stats.simulations.sequences import ends
from auditkit.stats.simulations.shared import (
    ROUNDS,
    SHAPES,
    batches,
    draw,
    markdown,
    percent,
    positive,
    seeded,
    t_of_means,
)

COUNTS = (5, 8, 16, 25, 50)
SQUARES = "squares (chi-square, 1 df)"
"""A divergence is near zero the square of what moved, so this is what a KL of small changes looks like."""
POSITIVES: dict[str, tuple[Callable[..., Array], float, float]] = {
    "log-normal(0.5)": (lambda rng, size: np.exp(rng.normal(0, 0.5, size)), math.exp(0.125), 0.0),
    "log-normal(0.8)": (lambda rng, size: np.exp(rng.normal(0, 0.8, size)), math.exp(0.32), 0.0),
    "log-normal(1.5)": (lambda rng, size: np.exp(rng.normal(0, 1.5, size)), math.exp(1.125), 0.0),
    SQUARES: (lambda rng, size: rng.chisquare(1, size), 1.0, float(stats.chi2(1).expect(np.log))),
}
"""Name -> how its values are drawn, their mean, and the mean of their logarithms."""


def positives(rounds: int) -> list[list[str]]:
    """Each side's error of the interval of the mean, and of the mean of logarithms, with every item a cluster."""
    rows = []
    for name, (make, mean, log_mean) in POSITIVES.items():
        for count in COUNTS:
            values = make(seeded("positives", name, count), (rounds, count))
            sides = []
            for moved in (values - mean, np.log(values) - log_mean):
                t, bound = t_of_means(moved), critical(count - 1)
                sides += [percent(np.mean(t < -bound)), percent(np.mean(t > bound))]
            rows.append([name, f"{count}", *sides])
    head = ["values", "clusters", "mean: truth above the interval", "mean: truth below"]
    return [[*head, "geometric mean: truth above", "geometric mean: truth below"], *rows]


def suites(rounds: int) -> list[list[str]]:
    """Coverage for designs of suites that no other table has: fixed kinds, and words that stand in two pairs."""
    rows = []
    for kinds, cases, apart in ((5, 5, 0.0), (5, 5, 1.0), (3, 4, 1.0)):
        rng = seeded("strata", kinds, cases, apart)
        values = rng.normal(size=(rounds, kinds, cases)) + apart * np.linspace(-1.0, 1.0, kinds)[None, :, None]
        t = t_of_means(values.reshape(rounds, -1))
        what = f"{kinds} fixed kinds of {cases} cases, {'alike' if not apart else 'that differ by 2 sd'}"
        rows.append([what, "case", _covered(t, kinds * cases - 1)])
    for words, each in ((16, 1), (16, 2), (16, 4), (30, 8)):
        rng = seeded("words", words, each)
        pairs = words * each
        one = np.repeat(np.arange(words), each)
        other = np.concatenate([(np.arange(words) + k) % words for k in range(each)])
        plain, crossed = [], []
        for part in batches(max(rounds // 4, 200), 500):
            values = rng.normal(size=(part, words))[:, one] + rng.normal(size=(part, words))[:, other]
            values = (values + rng.normal(size=(part, pairs))) / math.sqrt(3)
            plain.append(t_of_means(values))
            mean, found = _by_labels(values, one, other, words)
            crossed.append(np.abs(mean) <= half_widths(found, dfs(found, words, words)))
        what = f"{pairs} pairs of {words} + {words} words, each in {each}"
        rows.append([what, "pair", _covered(np.concatenate(plain), pairs - 1)])
        if each > 1:
            rows.append([what, "both words, crossed", percent(np.mean(np.concatenate(crossed)))])
    return [["design", "cluster", "coverage"], *rows]


def skewed_sequences(rounds: int) -> list[list[str]]:
    """Looks at 10, 20, ... 200 log-normal items with the truth at the threshold: means, and means of logarithms."""
    plan, count = Looks.every(10, first=10, most=200), max(rounds // 4, 200)
    rows = []
    for spread in (0.5, 0.8, 1.5):
        logs = seeded("skewed sequences", spread).normal(0.0, spread, (count, plan.looks[-1]))
        levels = plan.levels([(n,) for n in plan.looks])
        cells = []
        for values in (np.exp(logs) - math.exp(spread**2 / 2), logs):
            failed, _, passed = ends(list(plan.looks), [values[:, :n] for n in plan.looks], levels)
            cells += [percent(failed), percent(passed)]
        rows.append([f"log-normal({spread:g})", *cells])
    return [["items", "mean: FAIL", "mean: PASS", "geometric mean: FAIL", "geometric mean: PASS"], *rows]


def skewness(rounds: int) -> list[list[str]]:
    """How often the caution "skewed clusters" is shown, and how often one side errs with it and without."""
    makes: dict[str, Callable[..., Array]] = {shape: _shaped(shape) for shape in SHAPES}
    makes |= {f"log-normal({s:g})": _log_normal(s) for s in (0.5, 0.8)}
    rows = []
    for name, make in makes.items():
        for count in (ENOUGH_CLUSTERS, 25, 50):
            values = make(seeded("skewness", name, count), (rounds, count))
            t, bound, shown = t_of_means(values), critical(count - 1), skewed_clusters(values)
            sides = np.stack([t < -bound, t > bound])
            worse = sides[int(sides.mean(axis=1).argmax())]
            given = [percent(worse[which].mean()) if which.any() else "" for which in (shown, ~shown)]
            rows.append([name, f"{count}", percent(shown.mean()), percent(worse.mean()), *given])
    head = ["cluster means", "clusters", "caution shown", "worse side errs"]
    return [[*head, "where it is shown", "where it is not"], *rows]


def _shaped(shape: str) -> Callable[..., Array]:
    return lambda rng, size: draw(rng, shape, size)  # type: ignore[arg-type]  # one of SHAPES


def _log_normal(spread: float) -> Callable[..., Array]:
    return lambda rng, size: positive(rng, size, spread)


def _covered(t: Array, df: int) -> str:
    return percent(np.mean(np.abs(t) <= critical(df, ALPHA)))


def _by_labels(values: Array, one: NDArray[np.intp], other: NDArray[np.intp], words: int) -> tuple[Array, Array]:
    """Means and variances of (rounds, pairs) values by either word and both; no pair of words occurs twice."""
    n = values.shape[1]
    mean = values.mean(axis=1)
    residuals = values - mean[:, None]
    by = [residuals @ np.eye(words)[labels] for labels in (one, other)]
    first, second = ((sums**2).sum(axis=1) * words / (words - 1) / n**2 for sums in by)
    inside = (residuals**2).sum(axis=1) * n / (n - 1) / n**2
    return mean, np.stack([first, second, first + second - inside], axis=1)


TABLES: dict[str, Callable[..., str]] = {
    "positives": lambda rounds=ROUNDS: markdown(positives(rounds)),
    "suites": lambda rounds=ROUNDS: markdown(suites(rounds)),
    "skewness": lambda rounds=ROUNDS: markdown(skewness(rounds)),
    "skewed_sequences": lambda rounds=ROUNDS: markdown(skewed_sequences(rounds)),
}
