"""Simulated claims on groups: the four-fifths line, by way of the best-off group on other cases or of every pair.

Answers are independent, one of each group on each case, and a claim passes where the whole interval of each of its
ratios (score statistic, t over cases) is at or above four fifths.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from auditkit.stats.intervals import Array, critical
from auditkit.stats.proportions import score_statistic
from auditkit.stats.streams import stream

Bools = NDArray[np.bool_]
SEED, ROUNDS, LINE = 20261128, 20_000, 0.8


def best_on_other_half(hits: Array) -> Bools:
    """(rounds,) whether every group reaches four fifths of the one that is best on the first half, on the second.

    Args:
        hits: (rounds, groups, cases) of 0 and 1.
    """
    half = (hits.shape[2] + 1) // 2
    best, counts = hits[:, :, :half].sum(axis=2).argmax(axis=1), hits[:, :, half:].sum(axis=2)
    against = np.take_along_axis(counts, best[:, None], axis=1)
    reached = _reaches(counts, np.broadcast_to(against, counts.shape), hits.shape[2] - half)
    np.put_along_axis(reached, best[:, None], True, axis=1)
    result: Bools = np.asarray(reached.all(axis=1))
    return result


def every_pair(hits: Array) -> Bools:
    """(rounds,) whether every group reaches four fifths of every other one, on all cases."""
    counts = hits.sum(axis=2)
    one, other = np.broadcast_arrays(counts[:, :, None], counts[:, None, :])
    reached = _reaches(one, other, hits.shape[2])
    reached = reached | np.eye(counts.shape[1], dtype=bool)
    result: Bools = np.asarray(reached.all(axis=(1, 2)))
    return result


def _reaches(one: Array, other: Array, cases: int) -> Bools:
    result: Bools = _passes(cases)[one.astype(int), other.astype(int)]
    return result


@cache
def _passes(cases: int) -> Bools:
    """Whether the interval of the ratio of so many (first axis) to so many (second) favourable answers of as many
    cases is at or above the line; a ratio to none does not exist."""
    bound, found = critical(cases - 1), np.zeros((cases + 1, cases + 1), dtype=bool)
    for one in range(cases + 1):
        for other in range(1, cases + 1):
            statistic = score_statistic(one / cases, cases, other / cases, cases, LINE, "ratio")
            found[one, other] = statistic >= bound
    return found


def four_fifths(rounds: int = ROUNDS) -> str:
    """How often a claim passes by either way: where one group is exactly at the line, and where all are alike."""
    rows = []
    for cases in (25, 60, 100):
        for label, rates in (
            ("one of 3 at the line", (0.9, 0.9, 0.72)),
            ("one of 5 at the line", (0.9, 0.9, 0.9, 0.9, 0.72)),
            ("one of 5 at the line, others apart", (0.9, 0.88, 0.86, 0.84, 0.72)),
            ("3 alike", (0.9,) * 3),
            ("5 alike", (0.9,) * 5),
        ):
            rng = stream(SEED, "four fifths", str(cases), label)
            hits = (rng.random((rounds, len(rates), cases)) < np.array(rates)[None, :, None]).astype(float)
            shares = [f"{100 * float(way(hits).mean()):.2f} %" for way in (best_on_other_half, every_pair)]
            rows.append([str(cases), label, *shares])
    head = ["cases", "groups", "PASS, best-off group on the other half", "PASS, every pair on all cases"]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


TABLES: dict[str, Callable[[], str]] = {"four_fifths": four_fifths}
