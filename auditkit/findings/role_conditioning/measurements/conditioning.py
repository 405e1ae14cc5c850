"""Whether attention is more focused on questions about the model itself: RFC and RSI, published and repaired.

With H the entropy of attention in a layer (`entropy`), averaged over heads and prompts of a category:

    Role-Focus Coefficient     RFC = 1 - H_self / H_neutral                 "you" against no person
    Role-Separation Index      RSI = (H_confounder - H_self) / H_neutral    "I" against "you"

(mduffster/self-referent-test, 2025). Both are here ratios of means over items, an item being one prompt of every
category with equally many tokens; their intervals are Fieller's, clustered by what items share.

The published numbers have two versions under one name: a ratio of layer means over prompts, and the mean over heads of
ratios, in which every query position of every prompt has the same weight. Neither matches lengths, so each has a
*length null*: its value when attention is spread evenly. `published` and `length_null` compute both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Attending, Component
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Unsupported
from auditkit.engine.sites import pattern
from auditkit.findings.role_conditioning.measurements.entropy import (
    MEASURES,
    PUBLISHED,
    REPAIRED,
    UNITS,
    Array,
    even_spread,
    measures,
    read,
    uniform_pattern,
)
from auditkit.findings.role_conditioning.prompts.matching import (
    FORMATS,
    PLAIN,
    Matched,
    enough,
    matched,
    matched_by_length,
)
from auditkit.findings.role_conditioning.prompts.sets import (
    CONFOUNDER,
    DEFAULT_SETS,
    NEUTRAL,
    SELF,
    RoleSet,
    role_sets,
    spread,
)
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import Rate, rate
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.intervals import critical
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

RFC, RSI = INDICES = ("RFC", "RSI")
TOPS = {RFC: (NEUTRAL, SELF), RSI: (CONFOUNDER, SELF)}
"""Index -> categories whose difference in entropy is its numerator; the denominator is the neutral one's entropy."""

PER_PROMPT, PER_HEAD = AGGREGATIONS = ("per prompt", "per head")
"""The two published ways: ratio of means over heads and prompts; mean over heads of ratios of pooled queries."""

UNIT = "of the neutral entropy"
PERMUTATIONS = 400


@dataclass(frozen=True)
class MeasuredFormat:
    """Attention measured in one prompt format.

    Attributes:
        values: category -> (item, measure, layer, head).
    """

    matched: Matched
    values: Mapping[str, Array]

    @property
    def layers(self) -> int:
        return int(next(iter(self.values.values())).shape[2])

    @property
    def heads(self) -> int:
        return int(next(iter(self.values.values())).shape[3])

    def of(
        self, category: str, measure: str = REPAIRED, layers: Sequence[int] | None = None, head: int | None = None
    ) -> Array:
        """(item,) mean over layers and heads (all where None)."""
        values = self.values[category][
            :, MEASURES.index(measure), :, slice(head, None if head is None else head + 1)
        ]
        mean: Array = values[:, list(range(self.layers) if layers is None else layers)].mean((1, 2))
        return mean

    def measurement(self, name: str, unit: str, columns: Mapping[str, Array]) -> Measurement:
        """A table of (item,) values by condition."""
        index = self.matched.table.index
        return Measurement(
            name, unit, pd.DataFrame(dict(columns), index=index), self.matched.table, self.matched.texts()
        )

    def index(
        self, name: str, layers: Sequence[int] | None = None, measure: str = REPAIRED, label: str = ""
    ) -> Estimate:
        """RFC or RSI of some layers (all where None): a ratio of means over items.

        Args:
            label: where, in words, for the estimate's name.
        """
        high, low = TOPS[name]
        conditions = dict.fromkeys((high, low, NEUTRAL))
        columns = {category: self.of(category, measure, layers) for category in conditions}
        what = f"{name}, {label or self._words(layers)}, {self.matched.format}"
        if measure != REPAIRED:
            what += f", {measure}"
        table = self.measurement(f"{measure}, {what}", UNITS.get(measure, "of attention"), columns)
        return Estimate(
            what, UNIT, table, columns[high] - columns[low], columns[NEUTRAL], shown_conditions=tuple(conditions)
        )

    def gap(self, high: str, low: str, layers: Sequence[int] | None = None, measure: str = REPAIRED) -> Estimate:
        """Difference in a measure between two categories, over the same items."""
        columns = {category: self.of(category, measure, layers) for category in (high, low)}
        what = f"{measure}, {high} minus {low}, {self._words(layers)}, {self.matched.format}"
        unit = UNITS.get(measure, "of attention")
        return Estimate(
            what,
            unit,
            self.measurement(what, unit, columns),
            columns[high] - columns[low],
            shown_conditions=(high, low),
        )

    def level(
        self, category: str, layers: Sequence[int] | None = None, measure: str = REPAIRED, head: int | None = None
    ) -> Estimate:
        """Mean of a measure in one category, over all heads or in one."""
        values = self.of(category, measure, layers, head)
        who = "" if head is None else f", head {head}"
        what = f"{measure}, {category}, {self._words(layers)}{who}, {self.matched.format}"
        unit = UNITS.get(measure, "of attention")
        return Estimate(
            what, unit, self.measurement(what, unit, {category: values}), values, shown_conditions=(category,)
        )

    def bands(self, n: int = 4) -> dict[str, list[int]]:
        """Relative depth in words -> its layers, for `n` bands of equal depth."""
        parts = np.array_split(np.arange(self.layers), min(n, self.layers))
        edges = [part[0] / self.layers for part in parts] + [1.0]
        return {f"depth {edges[i]:.2g} to {edges[i + 1]:.2g}": part.tolist() for i, part in enumerate(parts)}

    def even(self) -> dict[str, Array]:
        """Category -> (item, measure) values of a model whose heads all spread their attention evenly."""
        each = np.stack(
            [
                measures(uniform_pattern(length), first).numpy()
                for length, first in zip(self.matched.lengths, self.matched.firsts, strict=True)
            ]
        )
        return dict.fromkeys(self.values, each)

    def even_index(self, name: str, measure: str = REPAIRED) -> Estimate:
        """RFC or RSI of a model whose heads all spread their attention evenly, over these items."""
        even = {category: values[:, MEASURES.index(measure)] for category, values in self.even().items()}
        high, low = TOPS[name]
        columns = {category: even[category] for category in dict.fromkeys((high, low, NEUTRAL))}
        what = f"{name} of attention that is spread evenly, {measure}"
        table = self.measurement(what, UNITS.get(measure, "of attention"), columns)
        return Estimate(what, UNIT, table, columns[high] - columns[low], columns[NEUTRAL])

    def _words(self, layers: Sequence[int] | None) -> str:
        if layers is None or len(layers) == self.layers:
            return "all layers"
        return f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"


class RoleConditioning:
    """Attention of one model on prompts about different roles; each prompt is run once.

    Args:
        adapter: the model.
        seed: of everything drawn.
        sets: prompts that belong together, the project's own where None.
        lists: prompts by category in place of sets; they are matched by their length.
        n_items: matching sets to use; where None, `DEFAULT_SETS` of the project's own, or all of `sets`.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        seed: int,
        sets: Sequence[RoleSet] | None = None,
        lists: Mapping[str, Sequence[str]] | None = None,
        n_items: int | None = None,
    ) -> None:
        self.adapter, self.seed, self.lists = cast(Attending, adapter), seed, lists
        n_items = DEFAULT_SETS if sets is None and n_items is None else n_items
        self.sets = enough(adapter.chat, spread(role_sets() if sets is None else sets, seed), n_items)
        self._known: dict[Prompt, Array] = {}
        self._arms: dict[str, MeasuredFormat] = {}

    def arm(self, format: str = PLAIN) -> MeasuredFormat:
        """Attention in plain text or in the chat template; a note counts the prompts that are left out.

        Raises:
            NotApplicable: attention cannot be read on this model, there is no chat template, or no prompts match.
        """
        offered = self.adapter.support()[Component.PATTERN]
        if not offered:
            raise Unsupported(f"{pattern.everywhere()} cannot be read on this model: {offered.reason}")
        if format not in self._arms:
            found = self._matched(format)
            values = {category: self._read(prompts, found.firsts) for category, prompts in found.prompts.items()}
            self._arms[format] = MeasuredFormat(found, values)
        arm = self._arms[format]
        if arm.matched.left_out:
            note(arm.matched.left_out)
        return arm

    def either_way(self, name: str, format: str = PLAIN) -> Estimate:
        """Absolute value of RFC or RSI over all layers and items: above zero there is a difference in either direction.

        The sign comes from the same items, so the interval is one of 97.5 %: the chance of a false difference, both
        directions together, is then 2.5 %, as on one side of every other interval. A sign from one half of the items
        and a decision on the other would have the same error with half of the items. A claim of it cannot fail, since
        no interval shows that a difference is exactly zero; to claim that a difference is small, use `equals`.
        """
        whole = self.arm(format).index(name)
        value = whole.describe().estimate
        sign = -1.0 if value is not None and value < 0 else 1.0
        way = "as it is" if sign > 0 else "sign turned"
        return replace(
            whole,
            name=f"{whole.name}, in either direction ({way})",
            numerator=sign * whole.numerator,
            alpha=whole.alpha / 2,
            framing="both directions are tested together, so each side of the interval errs at most 1.25 %",
        )

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that this model takes: plain text, and its chat template where it has one."""
        return FORMATS if self.adapter.chat.template else (PLAIN,)

    def published(
        self, name: str, aggregation: str, layers: Sequence[int] | None = None, format: str = PLAIN
    ) -> Resampled:
        """RFC or RSI as published, over all prompts, matched or not; layers are averaged, and frames weigh the same.

        The interval differs from the published one: prompts are resampled, since heads are no independent sample.
        """
        arm = self.arm(format)
        chosen = list(range(arm.layers) if layers is None else layers)
        table, tokens, values = self._pool(arm)
        rows = {
            category: np.flatnonzero(table["category"] == category).tolist() for category in set(table["category"])
        }
        entropies = values[:, MEASURES.index(PUBLISHED), chosen]  # (prompt, layer, head)
        statistic = _published(TOPS[name], aggregation, rows, tokens, entropies)
        what = f"{name} as published, {aggregation}, {arm._words(layers)}, {format}"
        columns = pd.DataFrame({"published entropy": entropies.mean((1, 2))}, index=table.index)
        measured = Measurement(what, UNITS[PUBLISHED], columns, table[["prompt"]])
        return Resampled(what, UNIT, measured, statistic, self.seed)

    def length_null(self, name: str, aggregation: str, format: str = PLAIN) -> float:
        """RFC or RSI as published, for these prompts, when all attention is spread evenly."""
        arm = self.arm(format)
        means: dict[str, float] = {}
        for category, prompts in arm.matched.every.items():
            lengths = np.array([len(prompt) for prompt, _ in prompts])
            even = np.array([even_spread(length) for length in lengths.tolist()])
            codes = pd.factorize(np.array([cluster for _, cluster in prompts]))[0]
            each = 1 / np.bincount(codes)[codes]  # frames weigh the same, as in `published`
            weights = each * lengths if aggregation == PER_HEAD else each
            means[category] = float(np.average(even, weights=weights))
        high, low = TOPS[name]
        return (means[high] - means[low]) / means[NEUTRAL]

    def false_alarms(self, estimate: Estimate) -> Rate:
        """How often the interval of a difference leaves zero when the two labels of each item are exchanged at random.

        Items have prompts of equal length, so labels are permuted within strata of length.
        """
        draw = stream(self.seed, "permuted labels", estimate.name)
        signs = draw.choice((-1.0, 1.0), size=(PERMUTATIONS, len(estimate.numerator)))
        codes = pd.factorize(estimate.measurement.clusters.iloc[:, 0])[0]
        count = int(codes.max()) + 1
        means = (signs * estimate.numerator) @ np.eye(count)[codes] / np.bincount(codes)
        error = means.std(axis=1, ddof=1) / np.sqrt(count) if count > 1 else np.full(PERMUTATIONS, np.nan)
        outside = np.abs(means.mean(1)) > critical(max(count - 1, 1)) * error
        index = pd.Index([f"permutation {n}" for n in range(PERMUTATIONS)], name="item")
        table = Measurement(
            f"permuted labels, {estimate.name}",
            "1",
            pd.DataFrame({"interval leaves zero": outside.astype(float)}, index=index),
            pd.DataFrame({"permutation": list(index)}, index=index),
        )
        return rate(table, "interval leaves zero", name="intervals that leave zero under permuted labels")

    def permutation_p(self, estimates: Sequence[Estimate]) -> Array:
        """(estimates,) share of label permutations in which the largest |t| over all estimates is at least as large.

        The same permutation for all, so that it holds for every one of them together (Westfall & Young 1993).
        """
        codes = pd.factorize(estimates[0].measurement.clusters.iloc[:, 0])[0]
        count = int(codes.max()) + 1
        differences = np.stack([estimate.numerator for estimate in estimates])  # (estimate, item)
        draw = stream(self.seed, "permuted labels", "together")
        signs = draw.choice((-1.0, 1.0), size=(5 * PERMUTATIONS, differences.shape[1]))
        signs[0] = 1.0
        by_cluster = np.eye(count)[codes] / np.bincount(codes)
        largest = np.empty((len(signs), len(differences)))
        for n, row in enumerate(differences):
            means = (signs * row) @ by_cluster
            error = np.maximum(means.std(axis=1, ddof=1) / np.sqrt(count), 1e-300)
            largest[:, n] = np.abs(means.mean(1)) / error
        shares: Array = (largest.max(1)[:, None] >= largest[0] - 1e-12).mean(0)
        return shares

    def per_layer(self, name: str, format: str = PLAIN, measure: str = REPAIRED) -> list[Estimate]:
        """RFC or RSI of each layer alone, in order; names tell how many layers there are."""
        arm = self.arm(format)
        return [
            arm.index(name, [layer], measure, label=f"layer {layer} of {arm.layers}")
            for layer in range(arm.layers)
        ]

    def _matched(self, format: str) -> Matched:
        if self.lists is not None:
            return matched_by_length(self.adapter.chat, self.lists, self.seed, format)
        return matched(self.adapter.chat, self.sets, format)

    def _read(self, prompts: Sequence[Prompt], firsts: Sequence[int]) -> Array:
        new = {prompt: first for prompt, first in zip(prompts, firsts, strict=True) if prompt not in self._known}
        if new:
            values = read(self.adapter, list(new), list(new.values()))
            self._known |= dict(zip(new, values, strict=True))
        return np.stack([self._known[prompt] for prompt in prompts])

    def _pool(self, arm: MeasuredFormat) -> tuple[pd.DataFrame, Array, Array]:
        """All prompts: (prompt x category, cluster), (prompt,) tokens, and (prompt, measure, layer, head)."""
        every = [
            (category, prompt, cluster)
            for category, prompts in arm.matched.every.items()
            for prompt, cluster in prompts
        ]
        prompts = [prompt for _, prompt, _ in every]
        values = self._read(prompts, [1] * len(prompts))  # the published measure uses all queries
        index = pd.Index([f"{category} {n}" for n, (category, _, _) in enumerate(every)], name="item")
        table = pd.DataFrame(
            {"category": [category for category, _, _ in every], "prompt": [cluster for *_, cluster in every]},
            index=index,
        )
        return table, np.array([len(prompt) for prompt in prompts], dtype=float), values


def _published(
    tops: tuple[str, str], aggregation: str, rows: Mapping[str, list[int]], tokens: Array, entropies: Array
) -> Callable[[Array], Array]:
    """Weights (draws, prompt) -> (draws,) mean over layers of the index, from entropies (prompt, layer, head)."""
    scale = tokens if aggregation == PER_HEAD else np.ones_like(tokens)
    by_head = entropies if aggregation == PER_HEAD else entropies.mean(2, keepdims=True)

    def statistic(weights: Array) -> Array:
        means = {}
        for category in {*tops, NEUTRAL}:
            mine = (weights * scale)[:, rows[category]]
            flat = by_head[rows[category]].reshape(len(rows[category]), -1)
            means[category] = (mine @ flat) / mine.sum(1, keepdims=True)
        value: Array = ((means[tops[0]] - means[tops[1]]) / means[NEUTRAL]).mean(1)
        return value

    return statistic
