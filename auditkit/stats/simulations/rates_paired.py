"""Simulated tables on rates of the same items, on groups asked in the same clusters, and on calibrated thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from auditkit.gate.calibrate import reach
from auditkit.stats.intervals import ALPHA, MIN_CLUSTERS, Array, critical, guarded
from auditkit.stats.proportions import Compare, score_statistic
from auditkit.stats.streams import stream

SEED = 20250711
ITEMS = 4
_Z = float(stats.norm.ppf(1 - ALPHA / 2))


def tango(gains: Array, losses: Array, size: Array | float, theta: float) -> Array:
    """`paired_statistic` of many tables at once."""
    b = (2 - gains + losses) * theta - gains - losses
    lost = (np.sqrt(np.maximum(b * b + 8 * losses * theta * (1 - theta), 0.0)) - b) / 4
    variance = (2 * np.clip(lost, max(0.0, -theta), (1 - theta) / 2) + theta * (1 - theta)) / size
    distance = gains - losses - theta
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(np.abs(distance) < 1e-14, 0.0, distance / np.sqrt(variance))
    return found


def margins() -> list[list[str]]:
    """Exact, from all tables of n pairs: how often "no worse" is said of a rate that is worse by the margin, at the
    worst share of items that got better."""
    rows = []
    for margin in (0.05, 0.10):
        for n in (20, 30, 50, 75, 100, 150, 200):
            gained, lost = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
            gained, lost = (part[gained + lost <= n] for part in (gained, lost))
            mean = (gained - lost) / n
            with np.errstate(divide="ignore", invalid="ignore"):
                wald = (mean + margin) / np.sqrt(((gained + lost) / n - mean**2) / (n - 1))
            before = (wald > critical(n - 1, guarded(n - 1))) & (gained + lost > 0)
            score = tango(gained / n, lost / n, n - 1.0, -margin)
            worst = np.zeros(3)
            for gains in (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3):
                shares = [gains, gains + margin, 1 - 2 * gains - margin]
                chance = stats.multinomial.pmf(np.stack([gained, lost, n - gained - lost], axis=1), n, shares)
                said = np.array([chance @ before, chance @ (score > _Z), chance @ (score < -_Z)])
                worst = np.maximum(worst, said)
            rows.append([f"{n}", f"{margin:g}", *map(_percent, worst)])
    head = ["items", "margin", "PASS by a t interval", "PASS by Tango's", "FAIL by Tango's"]
    return [head, *rows]


def clustered(rounds: int = 4000) -> list[list[str]]:
    """The same for clusters of items, whose shares of items that got better and worse vary from cluster to cluster."""
    rows = []
    for clusters in (8, 15, 25, 40):
        for icc in (0.0, 0.2, 0.5):
            cells = []
            for margin in (0.05, 0.10):
                worst = np.zeros(2)
                for gains in (0.02, 0.1):
                    rng = stream(SEED, "paired", f"{clusters} {icc} {margin} {gains}")
                    shares = np.array([gains, gains + margin, 1 - 2 * gains - margin])
                    counts = _changes(rng, shares, icc, (rounds, clusters))
                    statistic, df = signs_statistic(counts, -margin)
                    bound = critical(df, guarded(df))
                    worst = np.maximum(worst, [(statistic > bound).mean(), (statistic < -bound).mean()])
                cells += list(map(_percent, worst))
            rows.append([f"{clusters} clusters of {ITEMS}", f"{icc:g}", *cells])
    head = ["items", "correlation", "PASS, margin 0.05", "FAIL, 0.05", "PASS, margin 0.1", "FAIL, 0.1"]
    return [head, *rows]


def signs_statistic(counts: Array, theta: float) -> tuple[Array, int]:
    """Statistics of (rounds, clusters, 2) counts of items that got better and worse among ITEMS, and their df."""
    clusters = counts.shape[1]
    gains, losses = np.moveaxis(counts.sum(axis=1) / (clusters * ITEMS), 1, 0)
    means = (counts[:, :, 0] - counts[:, :, 1]) / ITEMS
    variance = means.var(axis=1, ddof=1) / clusters
    kept = ITEMS - counts.sum(axis=2)
    values = np.concatenate([counts, kept[:, :, None]], axis=2)
    commonest = values.sum(axis=1).argmax(axis=1)
    own = np.take_along_axis(values, commonest[:, None, None], axis=2)[:, :, 0]
    few = np.minimum((own < ITEMS).sum(axis=1), (own > 0).sum(axis=1)) < MIN_CLUSTERS
    most = np.where(few, clusters - 1, clusters * ITEMS - 1)
    plain = gains + losses - (gains - losses) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(variance > 1e-12, plain / variance, clusters - 1)
    return tango(gains, losses, np.clip(size, 1.0, most), theta), clusters - 1


def pairing(rounds: int = 2000) -> list[list[str]]:
    """Two groups asked about the same cases: error rates and widths, beside intervals that ignore the pairing."""
    rows = []
    for cases in (12, 25, 40):
        for rates in ((0.5, 0.6), (0.16, 0.2), (0.8, 0.9)):
            for icc in (0.2, 0.6):
                rng = stream(SEED, "pairing", f"{cases} {rates} {icc}")
                one, other = _asked(rng, rates, icc, (rounds, cases))
                cells = []
                kinds: tuple[tuple[Compare, float], ...] = (
                    ("difference", rates[0] - rates[1]), ("ratio", rates[0] / rates[1])
                )  # fmt: skip
                for compare, truth in kinds:
                    statistic, bound, apart, width = contrast_statistics(one, other, compare, truth)
                    cells += [
                        f"{_percent((statistic > bound).mean())} / {_percent((statistic < -bound).mean())}",
                        _percent((np.abs(apart) > critical(cases - 1)).mean()),
                        f"{np.median(width):.2f}",
                    ]
                rows.append([f"{cases}", f"{rates[0]:g}, {rates[1]:g}", f"{icc:g}", *cells])
    each = ("too high / too low", "both, without pairing", "width")
    return [
        ["cases", "rates", "correlation", *(f"{k}: {e}" for k in ("difference", "ratio") for e in each)],
        *rows,
    ]


def contrast_statistics(
    one: Array, other: Array, compare: Compare, truth: float
) -> tuple[Array, Array, Array, Array]:
    """Of (rounds, cases) hits of two groups among ITEMS: the score statistic at the truth and its critical value, the
    statistic that ignores the pairing, and how wide the first interval is beside the second."""
    times, before, df = deflations(one, other, compare)
    cases = one.shape[1]
    n = cases * ITEMS
    size, pairs = np.stack([n / times, n / before]), zip(one.sum(axis=1) / n, other.sum(axis=1) / n, strict=True)
    found = np.array(
        [
            [score_statistic(p, m, q, m, truth, compare) if q > 0 else 0.0 for m in sizes]
            for (p, q), sizes in zip(pairs, size.T, strict=True)
        ]
    )
    bound = np.asarray(stats.t.ppf(1 - ALPHA / 2, df))
    return found[:, 0], bound, found[:, 1], np.sqrt(times / before) * bound / critical(cases - 1)


def deflations(one: Array, other: Array, compare: Compare) -> tuple[Array, Array, Array]:
    """`RateContrast`'s number of items per independent one, the same without pairing, and the degrees of freedom."""
    rounds, cases = one.shape
    n = cases * ITEMS
    p, q = one.sum(axis=1) / n, other.sum(axis=1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where((q > 0) & (p > 0), p / q, 1.0) if compare == "ratio" else np.ones(rounds)
        mine, theirs = one - ITEMS * p[:, None], -weight[:, None] * (other - ITEMS * q[:, None])
        scale = cases / (cases - 1) / n**2
        own = ((mine**2).sum(axis=1) + (theirs**2).sum(axis=1)) * scale
        variance = ((mine + theirs) ** 2).sum(axis=1) * scale
        plain = p * (1 - p) / n + weight**2 * q * (1 - q) / n
        found = np.where(plain > 0, (variance + np.maximum(plain - own, 0.0)) / plain, 1.0)
    within = np.round((one - weight[:, None] * other) / ITEMS, 9)
    telling = np.array([cases - np.unique(row, return_counts=True)[1].max() for row in within])
    both = np.minimum.reduce([(part > 0).sum(axis=1) for part in (one, ITEMS - one, other, ITEMS - other)])
    paired = (found < 1) & (found > 1e-9) & (both >= MIN_CLUSTERS) & (telling >= MIN_CLUSTERS)
    least = np.where(both < MIN_CLUSTERS, float(ITEMS), 0.0)
    times = np.maximum(np.where(paired, found, np.maximum(found, 1.0)), least)
    return times, np.maximum(times, 1.0), np.where(paired, telling, cases) - 1


def _asked(rng: np.random.Generator, rates: tuple[float, float], icc: float, size: tuple[int, int]) -> list[Array]:
    """Favourable answers of two groups among ITEMS per case; a case is equally hard for both groups."""
    hard, spread = rng.random(size), (1 - icc) / icc
    chances = [stats.beta.ppf(hard, p * spread, (1 - p) * spread) for p in rates]
    return [rng.binomial(ITEMS, chance).astype(float) for chance in chances]


def _changes(rng: np.random.Generator, shares: Array, icc: float, size: tuple[int, int]) -> Array:
    """(rounds, clusters, 2) counts of items that got better and worse among ITEMS of each cluster."""
    chances = np.broadcast_to(shares, (*size, 3)) if icc == 0 else rng.dirichlet(shares * (1 - icc) / icc, size)
    counts: Array = rng.multinomial(ITEMS, chances)[:, :, :2].astype(float)
    return counts


def calibrated(rounds: int = 20_000) -> list[list[str]]:
    """How often the same model passes a calibrated threshold on other items, by the rule and by √2 half-widths alone,
    for one comparison and for twelve with one number."""
    rows = []
    for clusters in (5, 8, 15, 25):
        df, bound = clusters - 1, critical(clusters - 1)
        cells = []
        for groups, error in ((1, 0.025), (12, 0.025 / 12)):
            rng = stream(SEED, "calibrated", f"{clusters} {groups}")
            now, later = (rng.normal(size=(rounds, groups, clusters)) for _ in range(2))
            (mean, spread), (other, wider) = (
                (x.mean(axis=2), x.std(axis=2, ddof=1) / math.sqrt(clusters)) for x in (now, later)
            )
            lows = [reach(df, df, bound, math.sqrt(2), error), (1 + math.sqrt(2)) * bound]
            passed = [
                (other - bound * wider > (mean - low * spread).min(axis=1)[:, None]).all(axis=1).mean()
                for low in lows
            ]
            cells += list(map(_percent, passed))
            if groups == 1:
                cells.append(f"{lows[0] / bound:.2f}")
        rows.append([f"{clusters}", *cells])
    one = ["passes", "by 1 + √2 half-widths", "half-widths from the estimate"]
    return [["clusters", *one, "twelve pass together", "by 1 + √2"], *rows]


def _percent(share: float) -> str:
    return f"{100 * float(share):.2f} %"


def _markdown(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


TABLES: dict[str, Callable[[], str]] = {
    "paired": lambda: _markdown(margins()),
    "paired_clusters": lambda: _markdown(clustered()),
    "pairing": lambda: _markdown(pairing()),
    "calibrated": lambda: _markdown(calibrated()),
}
