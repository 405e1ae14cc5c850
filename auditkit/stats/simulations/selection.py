"""How selection changes error rates: the best of several candidates, cross-fitted halves, cross-validated probes.

Every experiment has one item in each cluster, so that an interval is a t interval over items; what is simulated is only
how the items that choose and those that judge depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditkit.stats.halves import SHARED
from auditkit.stats.intervals import ALPHA, critical

Array = NDArray[np.float64]

SEED = 20261128
SIDE = ALPHA / 2
ROUNDS = 4000


def _rng(name: str, *parts: object) -> np.random.Generator:
    return np.random.default_rng([SEED, *map(ord, name), *(round(1000 * float(str(p))) for p in parts)])


def _half(values: Array, doubled: bool = False) -> tuple[Array, Array]:
    """(rounds, items[, candidates]) -> means, and half-widths of their intervals."""
    count = values.shape[1]
    error = values.std(axis=1, ddof=1) / np.sqrt(count) * np.sqrt(SHARED if doubled else 1.0)
    return values.mean(axis=1), critical(count - 1) * error


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


# -- the best of several candidates --------------------------------------------------------------------------------

CANDIDATES: Mapping[str, tuple[int, int, float]] = {
    "20 random sets of heads, 9 frames in a half": (20, 9, 0.5),
    "20 earlier layers, 120 statements in a half": (20, 120, 0.8),
}
"""What is compared -> candidates, items in a half, and correlation of two candidates on one item."""

GAPS = (0.0, 1.0, 2.0, 3.0)
"""How far all candidates but one lie below what is claimed to exceed them, in standard errors of their difference."""


def best_of_several() -> str:
    """False PASS of "more than any of k" where one candidate is as large, by the old rule and by the present one."""
    rows = []
    for name, (k, items, correlation) in CANDIDATES.items():
        for gap in GAPS:
            rng = _rng("best", k, items, correlation, gap)
            noise = np.sqrt(1 - correlation)
            truth = np.full(k, -gap * noise * np.sqrt(2 / items))
            truth[0] = 0.0
            one_best = one_all = false_fail = 0.0
            for _ in range(8):
                sides = [rng.normal(size=(ROUNDS // 8, items, k + 1)) * noise for _ in range(2)]
                over = [side[:, :, :1] - side[:, :, 1:] - truth for side in sides]  # own minus each candidate
                chosen = over[0].mean(axis=1).argmin(axis=1)
                mean, width = _half(over[1])
                passed = mean - width > 0
                one_best += passed[np.arange(len(passed)), chosen].mean() / 8
                one_all += passed.all(axis=1).mean() / 8
                false_fail += _holm_fails(mean, width, items).mean() / 8
            rows.append([name, f"{gap:g}", _percent(one_best), _percent(one_all), _percent(false_fail)])
    return _table(
        [
            "compared with", "others lie lower by (standard errors)", "false PASS, with the one that looked best",
            "false PASS, with all", "false FAIL, Holm over all",
        ],
        rows,
    )  # fmt: skip


def _holm_fails(mean: Array, width: Array, items: int) -> NDArray[np.bool_]:
    """Whether the smallest p of "not larger" survives Holm's first step over all candidates."""
    statistic = mean / (width / critical(items - 1))
    smallest = stats.t.cdf(statistic.min(axis=1), items - 1)
    fails: NDArray[np.bool_] = smallest * mean.shape[1] <= SIDE
    return fails


# -- cross-fitted halves -------------------------------------------------------------------------------------------

Points = Array
"""(rounds, items, coordinates): what every item says of every candidate, or its activations."""


def _direction(points: Points) -> Array:
    """(rounds, coordinates) a direction learnt from items, as a difference of means is."""
    mean: Array = points.mean(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True))


def _largest(points: Points) -> Array:
    """The candidate with the largest mean."""
    mean = points.mean(axis=1)
    return np.asarray(np.eye(mean.shape[1])[mean.argmax(axis=1)])


def _sign(points: Points) -> Array:
    return np.asarray(np.sign(points.mean(axis=1)), dtype=np.float64)


def _above(points: Points) -> Array:
    """Equal weight on all candidates that are clearly above zero, or on the largest where none is."""
    mean, width = _half(points)
    some = (mean > width) | (_largest(points) > 0)
    return np.asarray(some / some.sum(axis=1, keepdims=True))


SHAPES: Mapping[str, tuple[Callable[[Points], Array], int, int, float, float]] = {
    "the sign of one effect": (_sign, 18, 1, 0.0, 0.0),
    "the best of 10 layers, items correlate 0.8": (_largest, 120, 10, 0.8, 0.0),
    "the best of 10 candidates, independent": (_largest, 24, 10, 0.0, 0.0),
    "heads above zero of 270, one in ten real": (_above, 18, 270, 0.0, 1.5),
    "a direction in 200 dimensions, nothing there": (_direction, 60, 200, 0.0, 0.0),
    "a direction in 200 dimensions, a weak signal": (_direction, 60, 200, 0.0, 0.3),
}
"""What is found -> how, items of both halves, candidates or dimensions, correlation of candidates, and the effect."""


def cross_fitted() -> str:
    """How often the interval of a cross-fitted effect misses the truth, for three ways to select, and its width."""
    rows = []
    for name, (find, items, k, correlation, effect) in SHAPES.items():
        rng = _rng("cross", items, k, correlation, effect)
        truth = np.zeros(k)
        truth[: max(1, k // 10)] = effect
        missed, width, parts = np.zeros(3), np.zeros(3), 10
        for _ in range(parts):
            n = ROUNDS // parts
            own = rng.normal(size=(n, items, k)) * np.sqrt(1 - correlation)
            points = truth + own + rng.normal(size=(n, items, 1)) * np.sqrt(correlation)
            first, second = points[:, : items // 2], points[:, items // 2 :]
            weights = [find(first), find(second)]
            judged = [np.einsum("rik,rk->ri", half, w) for half, w in ((second, weights[0]), (first, weights[1]))]
            target = [w @ truth for w in weights]
            both, mean_target = np.concatenate(judged, axis=1), (target[0] + target[1]) / 2
            ways = ((judged[0], target[0], False), (both, mean_target, False), (both, mean_target, True))
            for place, (values, aim, doubled) in enumerate(ways):
                mean, half = _half(values, doubled)
                missed[place] += (mean - half > aim).mean() / parts
                width[place] += half.mean() / parts
        cells = [_percent(share) for share in missed]
        rows.append([name, *cells, f"{width[1] / width[0]:.2f}", f"{width[2] / width[0]:.2f}"])
    return _table(
        [
            "what a half finds for the other", "too high: one half", "both, as if independent", "cross-fitted",
            "width, as if independent", "width, cross-fitted",
        ],
        rows,
    )  # fmt: skip


# -- cross-validated probes ----------------------------------------------------------------------------------------

FOLDS, PERSONAS, PAIRS, DIMENSIONS = 5, 2, 60, 100
SIGNALS = (0.0, 0.7, 1.5, 3.0)
"""Distance between the means of the two kinds of statements, in standard deviations along it."""


def validated() -> str:
    """Coverage of the interval of a cross-validated AUC, for the probes that were trained and for such probes."""
    rows = []
    for signal in SIGNALS:
        rng = _rng("validated", signal)
        spread = np.asarray(np.arange(1, DIMENSIONS + 1) ** -0.5, dtype=np.float64)
        mean = rng.normal(size=DIMENSIONS) * spread
        mean *= signal / np.linalg.norm(mean / spread)
        found = np.array([_one_audit(rng, mean, spread) for _ in range(400)])  # (rounds, 3)
        value, trained, error = found.T
        bound = critical(PERSONAS * PAIRS - 1) * error
        cells = []
        for target in (trained, np.full(len(value), trained.mean())):
            for factor in (1.0, np.sqrt(SHARED)):
                cells.append(_percent(float(np.mean(np.abs(value - target) <= factor * bound))))
        rows.append([f"{value.mean():.2f}", *cells])
    return _table(
        [
            "AUC", "these probes, as if independent", "these probes, cross-fitted",
            "such probes, as if independent", "such probes, cross-fitted",
        ],
        rows,
    )  # fmt: skip


def _one_audit(rng: np.random.Generator, mean: Array, spread: Array) -> tuple[float, float, float]:
    """Cross-validated AUC over personas, mean true AUC of the probes, and the standard error over pairs."""
    from scipy.stats import norm

    positive = np.tile([True, False], PAIRS)
    every, truth = [], 0.0
    for _ in range(PERSONAS):
        topic = rng.normal(size=(PAIRS, 1, DIMENSIONS)) * np.sqrt(0.5)
        own = rng.normal(size=(PAIRS, 2, DIMENSIONS)) * np.sqrt(0.5)
        points = ((topic + own) * spread + np.array([0.5, -0.5])[:, None] * mean).reshape(-1, DIMENSIONS)
        fold = np.repeat(rng.permutation(np.arange(PAIRS) % FOLDS), 2)
        values = np.empty(2 * PAIRS)
        for n in range(FOLDS):
            test = fold == n
            probe = _ridge(points[~test], positive[~test])
            values[test] = _parts(points[test] @ probe, positive[test])
            gap = probe @ mean / np.sqrt(2 * ((probe * spread) ** 2).sum())
            truth += float(norm.cdf(gap)) / FOLDS / PERSONAS
        every.append(values.reshape(PAIRS, 2).mean(axis=1))
    pooled = np.concatenate(every)
    return float(pooled.mean()), truth, float(pooled.std(ddof=1) / np.sqrt(len(pooled)))


def _ridge(points: Array, positive: NDArray[np.bool_]) -> Array:
    """Coefficients of the suite's probe (`probes.fitted_scores`), without standardising."""
    centred = points - points.mean(axis=0)
    inner = centred @ centred.T
    level = np.trace(inner) / len(inner)
    coded = np.where(positive, 1 / positive.sum(), -1 / (~positive).sum())
    return np.asarray(centred.T @ np.linalg.solve(inner + 0.1 * level * np.eye(len(inner)), coded))


def _parts(scores: Array, positive: NDArray[np.bool_]) -> Array:
    """Values whose mean is the AUC (`auditkit.methods.separation.auc.auc_parts`, one fold)."""
    above = scores[positive][:, None] > scores[~positive][None, :]
    area, m, n = above.mean(), int(positive.sum()), int((~positive).sum())
    parts = np.empty(len(scores))
    parts[positive] = area + (m + n) / m * (above.mean(axis=1) - area)
    parts[~positive] = area + (m + n) / n * (above.mean(axis=0) - area)
    return parts


# -- found and confirmed heads -------------------------------------------------------------------------------------

HEADS, REAL, WORDS = 270, 12, 16
"""Heads of the default model, heads with an effect, and words in a half."""

EFFECTS = (0.0, 0.5, 0.8, 1.2)


def confirmed_heads() -> str:
    """Bias of the mean of confirmed heads and of found ones, and how often a head without an effect is confirmed."""
    rows = []
    for effect in EFFECTS:
        rng = _rng("confirmed", effect)
        truth = np.zeros(HEADS)
        truth[:REAL] = effect
        bias: dict[str, list[float]] = {"confirmed": [], "found": []}
        wrong, passed = 0, dict.fromkeys((0.05, SIDE), 0)
        for _ in range(2000):
            sides = [truth + rng.normal(size=(WORDS, HEADS)) for _ in range(2)]
            p, again = (
                stats.t.sf(side.mean(0) / side.std(0, ddof=1) * np.sqrt(WORDS), WORDS - 1) for side in sides
            )
            found = np.flatnonzero(_kept(p, 0.05))
            if not len(found):
                continue
            off = sides[1].mean(0) - truth
            wrong += int((truth[found] == 0).sum())
            for rate in passed:
                kept = found[_kept(again[found], rate)]
                passed[rate] += int((truth[kept] == 0).sum())
            bias["found"].append(float(off[found].mean()))
            if len(kept):  # of the last rate, at which heads are confirmed
                bias["confirmed"].append(float(off[kept].mean()))
        cells = [f"{np.mean(some):+.3f}" if effect else "-" for some in bias.values()]
        rows.append([f"{effect:g}", *cells, *(_percent(count / wrong) for count in passed.values())])
    return _table(
        [
            "effect of 12 of 270 heads (standard deviations)", "bias, mean of confirmed heads",
            "bias, mean of found heads", "found without an effect and confirmed, at 5 %", "at 2.5 %",
        ],
        rows,
    )  # fmt: skip


def _kept(p: Array, rate: float) -> NDArray[np.bool_]:
    return np.asarray(stats.false_discovery_control(p, method="bh") <= rate)


TABLES: dict[str, Callable[[], str]] = {
    "selection": best_of_several,
    "crossfit": cross_fitted,
    "validated": validated,
    "confirmed": confirmed_heads,
}
"""Name of the block in docs/statistics.md -> what makes its table."""
