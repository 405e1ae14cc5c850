"""Words that stand in several pairs: coverage of intervals that take pairs as independent, with reuse and without."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from auditkit.stats.intervals import ALPHA, Array
from auditkit.stats.streams import stream

SEED = 20251128
ROUNDS = 10_000
WORDS = 32
"""Words of each group that can be paired: about as many as the project's own have in common tokenizers."""
ASKED = (12, 32, 50, 100, 250, 400)
OF_WORDS = 0.9
"""Share of the variance between pairs that is the words' own; the rest belongs to the pair alone."""


def reused_words() -> str:
    """Coverage and half-width by number of pairs asked for, with and without reuse of words, as Markdown.

    The mean over pairs of clean minus corrupt words, where each word of a group has an effect of its own, drawn anew in
    every round. With reuse, pairs come in rounds over all words, as they were built before no word could come twice.
    """
    lines = [
        "| pairs asked for | words reused: coverage | half-width | no word twice: pairs | coverage | half-width |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for asked in ASKED:
        made = min(asked, WORDS)
        (reused, wide), (apart, own) = (_simulated(n) for n in (asked, made))
        lines.append(f"| {asked} | {100 * reused:.2f} % | {wide:.2f} | {made} | {100 * apart:.2f} % | {own:.2f} |")
    return "\n".join(lines)


def _simulated(pairs: int) -> tuple[float, float]:
    """How often a 95 % t interval over pairs holds the mean of the population of words, and its mean half-width."""
    rng = stream(SEED, "simulation", "reuse", str(pairs))
    number = np.arange(pairs)
    clean, corrupt = number % WORDS, (number + number // WORDS) % WORDS  # another partner in every round
    words = rng.normal(0.0, math.sqrt(OF_WORDS / 2), (2, ROUNDS, WORDS))
    values: Array = words[0][:, clean] - words[1][:, corrupt]
    values = values + rng.normal(0.0, math.sqrt(1 - OF_WORDS), values.shape)
    half = stats.t.isf(ALPHA / 2, pairs - 1) * values.std(axis=1, ddof=1) / math.sqrt(pairs)
    return float((np.abs(values.mean(axis=1)) <= half).mean()), float(half.mean())


TABLES: dict[str, Callable[[], str]] = {"reused_words": reused_words}
