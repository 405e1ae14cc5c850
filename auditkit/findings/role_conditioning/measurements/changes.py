"""What fine-tuning changed: RFC and RSI per layer, candidate against base, over the same prompts.

The module works on two open models, on a model and a recorded run (`compared_with`), or on any two lists of per-layer
estimates over the same items. The change of one layer is a paired difference with its interval. The work reports a mean
over layers, which for one family comes from a single layer: this layer changes by 1.36, and the mean over 28 layers is
0.0475. So the median over layers decides here, and a table gives the mean with each layer left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from auditkit.claims.evidence import Section
from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.findings.role_conditioning.figures import curve
from auditkit.findings.role_conditioning.measurements.entropy import Array
from auditkit.gate.changes import Counterpart
from auditkit.record.figures import Curves, Figure, Table
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.measurement import Measurement, match

NEAR_ZERO = 0.01
"""As published: a change below -0.01 is called compression, above 0.01 preservation."""


def compared_with(
    baseline: Counterpart, layers: int, estimates: Sequence[Estimate], *, chats: bool = True
) -> list[Estimate]:
    """The same estimates on the baseline, once all of them were recorded, so that this run can be one.

    Args:
        chats: the prompts are made by the chat template; False for plain text.

    Raises:
        NotApplicable: the run has no baseline.
        Inconclusive: the baseline has another number of layers, or was not asked the same.
    """
    for estimate in estimates:
        estimate.keep_items()
        estimate.keep_effect()
    if baseline.past is not None:
        there = baseline.past.recorded.run.model
        if there.layers != layers:
            raise Inconclusive(
                f"not_comparable: the baseline has {there.layers} layers and this model {layers}; layers of models of "
                "different depth are compared by relative depth "
                "(auditkit.findings.role_conditioning.measurements.models)"
            )
    then = [baseline(estimate, chats=chats) for estimate in estimates]
    for estimate in then:
        if estimate.refused:
            raise Inconclusive(estimate.refused)
    return then


@dataclass(frozen=True)
class LayerChanges:
    """Change of an index in every layer.

    Attributes:
        name: RFC or RSI.
        now, then: ratios of means by layer, of the candidate and of the base; the same items throughout.
        seed: of the bootstrap.
    """

    name: str
    now: Sequence[Estimate]
    then: Sequence[Estimate]
    seed: int

    def __post_init__(self) -> None:
        if len(self.now) != len(self.then):
            raise Unsupported(
                f"{len(self.now)} layers cannot be compared one by one with {len(self.then)}; compare by relative "
                "depth (auditkit.findings.role_conditioning.measurements.models)"
            )

    def changes(self) -> list[Estimate]:
        """Candidate minus base, layer by layer, with intervals (delta method)."""
        return [now.change_from(then) for now, then in zip(self.now, self.then, strict=True)]

    def median(self) -> Resampled:
        """Median over layers of the change."""
        return self._resampled("median over layers of the change", lambda change: np.median(change, axis=1))

    def mean(self, without: int | None = None) -> Resampled:
        """Mean over layers of the change, or over all but one."""
        layers = [layer for layer in range(len(self.now)) if layer != without]
        words = "" if without is None else f" without layer {without}"
        return self._resampled(f"mean over layers{words} of the change", lambda change: change[:, layers].mean(1))

    def leave_one_out(self) -> Resampled:
        """By how much of itself the mean change moves, at most, when a single layer is left out.

        Raises:
            Inconclusive: the interval of the mean change holds zero, so it has no share of itself.
        """
        mean = self.mean().describe()
        if mean.lower is not None and mean.upper is not None and mean.lower <= 0 <= mean.upper:
            raise Inconclusive(
                f"no_mean_change: {mean.name} is {mean.estimate:.3g} [{mean.lower:.3g}, {mean.upper:.3g}], so what "
                "share of it a single layer makes is not defined"
            )

        def statistic(change: Array) -> Array:
            n = change.shape[1]
            mean = change.mean(1, keepdims=True)
            without = (n * mean - change) / (n - 1)
            largest: Array = (np.abs(without - mean) / np.abs(mean)).max(1)
            return largest

        return self._resampled(
            "largest share of the mean change that one layer makes", statistic, "of the mean change"
        )

    def by_layer(self, published: LayerChanges | None = None) -> Section:
        """The change per layer, and the mean with each layer left out.

        Args:
            published: the same changes with the published entropy, for the same figures.
        """
        ways = [(how, one) for how, one in (("", self), (", published entropy", published)) if one is not None]
        change = Curves(
            "layer",
            f"change of {self.name}",
            f"{self.name} of the candidate minus that of the base in each layer, over the same prompts; below zero, "
            "fine-tuning lowered it. Where the line of the published entropy differs, the reason is attention to the "
            "first token.",
            [curve(f"candidate minus base{how}", one.changes()) for how, one in ways],
            reference=0.0,
        )
        both = Curves(
            "layer",
            self.name,
            f"{self.name} of both models, repaired and with the published entropy. Where the lines of base and "
            "candidate coincide, fine-tuning changed nothing.",
            [
                curve(f"{who}{how}", estimates)
                for how, one in ways
                for who, estimates in (("base", one.then), ("candidate", one.now))
            ],
            reference=0.0,
        )
        drawings = (
            change.titled(f"Change of {self.name} by layer"),
            both.titled(f"{self.name} of base and candidate"),
            self._left_out(),
        )
        return Section((self._counted(),), drawings)

    def _counted(self) -> str:
        """How many layers changed in which direction, as published, and in how many the interval agrees."""
        counts = {"compression": 0, "preservation": 0, "near zero": 0}
        clear = 0
        changes = self.changes()
        for change in changes:
            effect = change.describe()
            value = effect.estimate or 0.0
            counts[
                "compression" if value < -NEAR_ZERO else "preservation" if value > NEAR_ZERO else "near zero"
            ] += 1
            clear += bool(
                effect.lower is not None and effect.upper is not None and effect.lower * effect.upper > 0
            )
        by_point = ", ".join(f"{count} {name}" for name, count in counts.items())
        return (
            f"layers by the published rule, which ignores intervals: {by_point}; the interval of the change leaves "
            f"zero out in {clear} of {len(changes)} layers"
        )

    def _left_out(self) -> Figure:
        """The mean over all layers but one, for each layer."""
        mean = self.mean().estimate
        left_out = [(layer, self.mean(layer).estimate) for layer in range(len(self.now))]
        return Table(
            f"Mean change of {self.name} over all layers but one. If the mean moves far when a layer is left out, it "
            "describes this layer and not the model.",
            ["left out", f"mean change of {self.name}", "share of the whole mean"],
            [
                ["nothing", round(mean, 5), 1.0],
                *([f"layer {n}", round(v, 5), round(v / mean, 3) if mean else None] for n, v in left_out),
            ],
        ).titled("Leave one layer out")

    @shared_measurement
    def _columns(self) -> tuple[Measurement, Array, Array]:
        """Items that both have, and (layer, item) numerators and denominators of now and then, stacked in axis 0."""
        mine, theirs, problem = match(self.now[0].measurement, self.then[0].measurement)
        if problem:
            raise Inconclusive(problem)
        now, then = (
            [estimate._taken(rows) for estimate in side] for side, rows in ((self.now, mine), (self.then, theirs))
        )
        top = np.stack([[e.numerator for e in side] for side in (now, then)])
        bottom = np.stack(
            [
                [np.ones_like(e.numerator) if e.denominator is None else e.denominator for e in side]
                for side in (now, then)
            ]
        )
        return now[0].measurement, top, bottom

    def _resampled(self, name: str, statistic: Callable[[Array], Array], unit: str = "") -> Resampled:
        measurement, top, bottom = self._columns

        def of_weights(weights: Array) -> Array:
            ratios = (top @ weights.T) / (bottom @ weights.T)  # (now and then, layer, draw)
            return statistic((ratios[0] - ratios[1]).T)

        return Resampled(f"{name} of {self.name}", unit or self.now[0].unit, measurement, of_weights, self.seed)
