"""Which heads fine-tuning changed for questions about the model: difference-in-differences per head.

For head h and item i with entropies of the candidate (1) and the base (0) on self (s) and neutral (n) prompts:

    DiD_i = (s1 - s0) - (n1 - n0)
    L_i   = ln((s1 + e) / (s0 + e)) - ln((n1 + e) / (n0 + e)),   e = 0.05 median over items of s0
    score = z(|median L|) + z(share of items whose DiD has the majority's sign) + z(-median s0)

(mduffster/self-referent-test, 2025; z over all heads with the sample standard deviation, equal weights). The score
favours heads with little entropy, whose ratios vary most, and the scores of the best ten of a thousand heads are large
because they were selected. So a head is a candidate only above a minimum entropy, and the best heads of one half of the
items are measured on the other half; each half selects for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from auditkit.claims.evidence import Section
from auditkit.claims.outcomes import Inconclusive, NotAsked, Unsupported
from auditkit.findings.role_conditioning.figures import words
from auditkit.findings.role_conditioning.measurements.conditioning import MeasuredFormat
from auditkit.findings.role_conditioning.measurements.entropy import MEASURES, REPAIRED, UNITS, Array
from auditkit.findings.role_conditioning.prompts.matching import PLAIN
from auditkit.findings.role_conditioning.prompts.sets import NEUTRAL, SELF
from auditkit.gate.changes import Counterpart
from auditkit.methods.by_head import names
from auditkit.methods.by_head import recorded as recorded_by_head
from auditkit.methods.head_search import Head, label
from auditkit.record.figures import Table
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.halves import Halves, cross_fit, two_halves
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

TOP = 10
PAIRINGS = 1000
LEAST_ENTROPY = 0.05
"""Entropy of the base below which a head's ratios vary too much: it is no candidate and is left out of mean ratios."""
BY_HEAD = "entropy by head"


@dataclass(frozen=True)
class ByHead:
    """Entropies (item, layer, head) of one model on self and neutral prompts."""

    table: pd.DataFrame
    own: Array
    neutral: Array

    @classmethod
    def of(cls, arm: MeasuredFormat, measure: str = REPAIRED) -> ByHead:
        """The values of one of `entropy.MEASURES` in a format that was measured."""
        n = MEASURES.index(measure)
        return cls(arm.matched.table, arm.values[SELF][:, n], arm.values[NEUTRAL][:, n])

    def only(self, rows: Sequence[int]) -> ByHead:
        """The items in these rows."""
        some = list(rows)
        return ByHead(self.table.iloc[some], self.own[some], self.neutral[some])


def recorded(arm: MeasuredFormat) -> Measurement:
    """Entropies by head as a measurement, with a condition for each category and head."""
    columns = {
        name: value
        for category in (SELF, NEUTRAL)
        for name, value in zip(
            names(arm.layers, arm.heads, f"{category} "),
            arm.values[category][:, MEASURES.index(REPAIRED)].reshape(len(arm.matched), -1).T,
            strict=True,
        )
    }
    return arm.measurement(BY_HEAD, UNITS[REPAIRED], columns)


def from_items(items: pd.DataFrame, now: ByHead) -> ByHead:
    """Entropies by head from a run's recorded items, in the order of `now`.

    Raises:
        Inconclusive: none, or other heads or items than `now` has.
    """
    _, layers, heads = now.own.shape
    prefixes = [f"{category} " for category in (SELF, NEUTRAL)]
    own, neutral = recorded_by_head(items, BY_HEAD, list(now.table.index), layers, heads, prefixes)
    return ByHead(now.table, own, neutral)


def past_by_head(baseline: Counterpart, now: ByHead) -> ByHead:
    """The baseline's entropies by head, whichever of its claims recorded them.

    Raises:
        NotApplicable: the run has no baseline.
        Inconclusive: the baseline recorded none, other heads, or other items.
    """
    if baseline.past is None:
        raise NotAsked("there is no baseline to compare with (--baseline)")
    return from_items(baseline.past.recorded.items, now)


def on_baseline(baseline: Counterpart, arm: MeasuredFormat) -> ByHead:
    """The baseline's entropies by head, once those of this run were recorded.

    Raises:
        NotApplicable: the run has no baseline.
        Inconclusive: the baseline was not asked the same, or has other heads.
    """
    table = recorded(arm)
    then = baseline(  # records this run's values first
        Estimate(BY_HEAD, table.unit, table, arm.of(SELF)), chats=arm.matched.format != PLAIN
    )
    if then.refused:
        raise Inconclusive(then.refused)
    return past_by_head(baseline, ByHead.of(arm))


def focus_change(now: ByHead, then: ByHead, seed: int) -> Resampled:
    """Median over layers of the change in RFC, where the RFC of a layer is the mean over heads of ratios.

    This is the other published way to combine heads; `LayerChanges.median` uses the ratio of means over heads. Heads
    whose entropy on neutral prompts is below `LEAST_ENTROPY` in either model have no stable ratio and are left out.

    Raises:
        Inconclusive: no head is left.
    """
    spreading = np.minimum(now.neutral.mean(0), then.neutral.mean(0)) >= LEAST_ENTROPY  # (layer, head)
    if not spreading.any():
        raise Inconclusive("no_heads: no head spreads its attention over more than one token besides the first")
    of_layers = [np.flatnonzero(np.nonzero(spreading)[0] == layer) for layer in np.flatnonzero(spreading.any(1))]

    def statistic(weights: Array) -> Array:
        before, after = (
            (weights @ side.own[:, spreading]) / (weights @ side.neutral[:, spreading]) for side in (then, now)
        )  # (draw, head)
        change = before - after
        median: Array = np.median([change[:, heads].mean(1) for heads in of_layers], axis=0)
        return median

    name = "median over layers of the change of RFC, mean over heads of ratios"
    columns = pd.DataFrame({"self, candidate": now.own.mean((1, 2))}, index=now.table.index)
    return Resampled(
        name, "of the neutral entropy", Measurement(name, UNITS[REPAIRED], columns, now.table), statistic, seed
    )


class DifferenceInDifferences:
    """Heads that fine-tuning changed on self prompts more than on neutral ones.

    Args:
        now, then: candidate and base, over the same items.
        seed: of halves and pairings.

    Raises:
        NotApplicable: models with other numbers of layers or heads, or other items.
    """

    def __init__(self, now: ByHead, then: ByHead, seed: int) -> None:
        if now.own.shape[1:] != then.own.shape[1:]:
            raise Unsupported(
                f"{now.own.shape[1]} x {now.own.shape[2]} heads cannot be compared one by one with "
                f"{then.own.shape[1]} x {then.own.shape[2]}"
            )
        if not now.table.equals(then.table):
            raise Unsupported("the two models were asked different items, or the items have different clusters")
        self.now, self.then, self.seed = now, then, seed

    def log_ratios(self, rows: Sequence[int], pairing: Sequence[int] | None = None) -> Array:
        """(item, layer, head) L; `pairing` gives each self prompt the neutral prompt of another item."""
        some = list(rows)
        other = some if pairing is None else [some[i] for i in pairing]
        s1, s0 = self.now.own[some], self.then.own[some]
        n1, n0 = self.now.neutral[other], self.then.neutral[other]
        e = 0.05 * np.median(s0, axis=0) + 1e-12
        value: Array = np.log((s1 + e) / (s0 + e)) - np.log((n1 + e) / (n0 + e))
        return value

    def differences(self, rows: Sequence[int]) -> Array:
        """(item, layer, head) DiD."""
        some = list(rows)
        value: Array = (self.now.own - self.then.own)[some] - (self.now.neutral - self.then.neutral)[some]
        return value

    def scores(self, rows: Sequence[int]) -> tuple[Array, Array, Array]:
        """Composite score, median L and consistency, each (layer, head), as published."""
        median = np.median(self.log_ratios(rows), axis=0)
        signs = np.sign(self.differences(rows))
        consistency = np.maximum((signs > 0).mean(0), (signs < 0).mean(0))
        entropy = np.median(self.then.own[list(rows)], axis=0)
        return _z(np.abs(median)) + _z(consistency) + _z(-entropy), median, consistency

    @property
    def halves(self) -> Halves:
        """Items to discover and items to confirm; every claim that uses them notes the split. See `two_halves`."""
        return two_halves(self.now.table, self.seed, "difference in differences")

    @property
    def split(self) -> tuple[list[int], list[int]]:
        """Rows to discover and rows to confirm."""
        return self._rows(self.halves)

    def top(self, n: int = TOP, rows: Sequence[int] | None = None) -> list[Head]:
        """Heads with the highest composite score on the items to discover, above the least entropy.

        Args:
            rows: items to look at; those to discover where None.
        """
        some = self.split[0] if rows is None else list(rows)
        score, median, _ = self.scores(some)
        enough = (np.median(self.then.own[some], axis=0) >= LEAST_ENTROPY) & (median != 0)
        order = np.argsort(-np.where(enough, score, -np.inf), axis=None, kind="stable")[
            : min(n, int(enough.sum()))
        ]
        layers, heads = np.unravel_index(order, score.shape)
        return [(int(layer), int(head)) for layer, head in zip(layers, heads, strict=True)]

    def found_again(self, heads: Sequence[Head] | None = None) -> Estimate:
        """Share of the log-ratio found on one half of the items that heads show on the other; the mean over heads.

        1 is a log-ratio of the same size, 0 none, and below 0 one of the opposite sign. Where `heads` is None, each
        half of the items is measured in the best ten heads of the other half.

        Raises:
            NotApplicable: no head changed.
        """
        if heads is not None:
            return self._on_other_half(self.halves, heads)
        name = f"log-ratio of the {TOP} best heads that is found again"
        return cross_fit(name, self.halves, lambda way: self._on_other_half(way, None))

    def _on_other_half(self, way: Halves, heads: Sequence[Head] | None) -> Estimate:
        one, other = self._rows(way)
        chosen = self.top(rows=one) if heads is None else list(heads)
        if not chosen:
            raise NotAsked("no head's entropy changed between the two models")
        found = self.log_ratios(one).mean(0)
        again = self.log_ratios(other)
        sizes = np.array([found[head] for head in chosen])
        signs = np.sign(sizes)
        values = np.stack([again[:, h[0], h[1]] for h in chosen], 1) * signs
        name = f"log-ratio of {len(chosen)} heads that is found again"
        table = self._measurement("log-ratio that is found again", values.mean(1), other)
        return Estimate(name, "of what was found", table, values.mean(1) / np.abs(sizes).mean())

    def _rows(self, way: Halves) -> tuple[list[int], list[int]]:
        index = self.now.table.index
        one, other = (np.flatnonzero(index.isin(list(ids))).tolist() for ids in (way.discovery, way.confirmation))
        return one, other

    def pairing_p(self, heads: Sequence[Head], rows: Sequence[int] | None = None) -> Array:
        """(heads,) p-values of |median L| under random pairings with random labels, adjusted for the number of heads.

        In each draw a self prompt is paired with the neutral prompt of a random item, and the labels of the two are
        drawn as well, because a random pairing alone leaves the mean as it is. Benjamini & Hochberg over the heads.
        """
        from scipy.stats import false_discovery_control

        some = self.split[1] if rows is None else list(rows)
        observed = np.abs(np.median(self.log_ratios(some), axis=0))
        draw = stream(self.seed, "random pairings")
        at = tuple(np.array(heads).T)
        exceed = np.ones(len(heads))
        for _ in range(PAIRINGS):
            values = self.log_ratios(some, list(draw.permutation(len(some))))[:, at[0], at[1]]
            values = values * draw.choice((-1.0, 1.0), size=(len(some), 1))
            exceed += np.abs(np.median(values, axis=0)) >= observed[at] - 1e-12
        adjusted: Array = false_discovery_control(exceed / (PAIRINGS + 1), method="bh")
        return adjusted

    def best_heads(self) -> Section:
        """The best heads of one half of the items, and the log-ratio of each on the other half."""
        heads = self.top()
        one, other = self.split
        score, median, consistency = self.scores(one)
        p = self.pairing_p(heads)
        again = self.log_ratios(other)
        rows: list[list[str | float | None]] = []
        confirmed = 0
        for n, head in enumerate(heads):
            values = again[:, head[0], head[1]]
            size = float(np.median(values))
            held = bool(
                np.sign(size) == np.sign(median[head]) and abs(size) >= abs(median[head]) / 2 and p[n] < 0.05
            )
            confirmed += held
            estimate = Estimate("L", "1", self._measurement(f"L of {label(*head)}", values, other), values)
            rows.append(
                [
                    label(*head),
                    round(float(score[head]), 2),
                    round(float(median[head]), 4),
                    round(float(consistency[head]), 2),
                    words(estimate),
                    round(float(p[n]), 4),
                    "confirmed" if held else "not confirmed",
                ]
            )
        count = (
            f"{confirmed} of the {len(heads)} best heads are confirmed: same sign, half the size and p below 0.05"
        )
        table = Table(
            "Heads with the highest composite score on one half of the items, and the log-ratio of self against "
            "neutral change on the other half, with the p-value of random pairings (adjusted).",
            ["head", "score", "median L, found", "consistency", "L on other items", "p", ""],
            rows,
        ).titled("Heads that fine-tuning changed")
        return Section((count,), (table,))

    def _measurement(self, name: str, values: Array, rows: Sequence[int]) -> Measurement:
        table = self.now.table.iloc[list(rows)]
        return Measurement(name, "1", pd.DataFrame({"as found": values}, index=table.index), table)


def _z(values: Array) -> Array:
    spread = float(values.std(ddof=1))
    scores: Array = (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
    return scores
