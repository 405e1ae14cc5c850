"""The published dashboard's plots, redrawn from estimates with intervals.

The nine plots of the work and the methods that draw them: mean entropy per layer (`entropy`), head by layer maps,
violins of the top heads and the top three heads per layer (`heads`), attention to the first keys (`first_keys`), first
against last keys (`ends`), confounder and neutral minus self (`gaps`), confounder minus self alone (`separation`), RFC
and RSI per layer (`indices`). `side_by_side` holds the published and the repaired numbers of the same prompts in one
table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from auditkit.claims.evidence import Section
from auditkit.findings.role_conditioning.measurements.conditioning import (
    AGGREGATIONS,
    INDICES,
    MeasuredFormat,
    RoleConditioning,
)
from auditkit.findings.role_conditioning.measurements.entropy import (
    FIRST_KEYS,
    LAST_KEYS,
    PUBLISHED,
    REPAIRED,
    SINK,
    WITH_FIRST,
)
from auditkit.findings.role_conditioning.prompts.matching import PLAIN
from auditkit.findings.role_conditioning.prompts.sets import CONFOUNDER, NEUTRAL, SELF
from auditkit.methods.head_search import head_map
from auditkit.record.figures import Curves, Series, Table
from auditkit.record.schema import Figure
from auditkit.stats.effects.base import Comparable


def curve(name: str, estimates: Sequence[Comparable], x: Sequence[float] | None = None) -> Series:
    """One line through estimates, at 0, 1, 2, ... where no x is given."""
    effects = [estimate.describe() for estimate in estimates]
    return Series.through(name, range(len(effects)) if x is None else x, effects)


def words(estimate: Comparable) -> str:
    """An estimate with its interval."""
    effect = estimate.describe()
    if effect.estimate is None:
        return "not defined"
    if effect.lower is None or effect.upper is None:
        return f"{effect.estimate:.4f}, no interval"
    return f"{effect.estimate:.4f} [{effect.lower:.4f}, {effect.upper:.4f}]"


class RoleFigures:
    """Figures of attention by role, as values.

    Args:
        role: the measurements.
    """

    def __init__(self, role: RoleConditioning) -> None:
        self.role = role

    def entropy(self) -> tuple[Figure, ...]:
        """Plot 1: mean entropy per layer and category, repaired and as published."""
        repaired = self._curves(
            "Entropy of attention by layer, repaired",
            "of even spread",
            "Mean over heads of how spread out attention is, the first token left out: 1 is even, 0 one single token. "
            "Where the lines of two categories lie apart, so do the questions.",
            lambda arm: [(c, [arm.level(c, [n]) for n in range(arm.layers)]) for c in arm.values],
        )
        published = self._curves(
            "Entropy of attention by layer, as published",
            "nat",
            "The same with the first token, in nats and over all queries: low where heads rest on the first token, "
            "whatever the question is.",
            lambda arm: [(c, [arm.level(c, [n], PUBLISHED) for n in range(arm.layers)]) for c in arm.values],
        )
        return repaired, published

    def first_keys(self) -> tuple[Figure, ...]:
        """Plot 3: attention to the first token and to the first three, and to the first three by head."""
        by_layer = self._curves(
            "Attention to the first tokens",
            "share of attention",
            "Mean share that goes to the first token (the sink) and to the first three, by category: a difference "
            "between categories here changes the published entropy too.",
            lambda arm: [
                (
                    f"{measure.removeprefix('share of the ')}, {c}",
                    [arm.level(c, [n], measure) for n in range(arm.layers)],
                )
                for measure in (SINK, FIRST_KEYS)
                for c in (SELF, NEUTRAL)
            ],
        )
        arm = self.role.arm()
        by_head = head_map(
            [
                [arm.level(SELF, [n], FIRST_KEYS, head).describe() for head in range(arm.heads)]
                for n in range(arm.layers)
            ],
            "share of attention",
            "Mean share that goes to the first three tokens of questions about the model, head by head: heads near 1 "
            "rest there and have little entropy to compare.",
        )
        return by_layer, by_head.titled("Attention to the first three tokens, by head")

    def gaps(self) -> Figure:
        """Plot 5: confounder and neutral minus self."""
        return self._curves(
            "Entropy of other questions minus that of questions about you",
            "of even spread",
            "Above zero, attention is more focused when the question is about the model; each interval is that of one "
            "layer alone.",
            lambda arm: [
                (f"{c} minus self", [arm.gap(c, SELF, [n]) for n in range(arm.layers)])
                for c in arm.values
                if c != SELF
            ],
        )

    def ends(self) -> Figure:
        """Plot 7: attention to the first and the last three keys, self minus neutral."""
        return self._curves(
            "Attention to the first and the last three tokens, self minus neutral",
            "share of attention",
            "Above zero, questions about the model draw more attention to that end of the prompt than neutral ones of "
            "the same length.",
            lambda arm: [
                (name, [arm.gap(SELF, NEUTRAL, [n], measure) for n in range(arm.layers)])
                for name, measure in (("first three", FIRST_KEYS), ("last three", LAST_KEYS))
            ],
        )

    def separation(self, formats: Sequence[str] = (PLAIN,)) -> Figure:
        """Plot 8: confounder minus self, by format."""
        arms = [self.role.arm(format) for format in formats]
        return self._by_layer(
            'Entropy of questions about "I" minus that of the same about "you"',
            "of even spread",
            "Above zero, attention is more focused on questions about the model than on the same about the user.",
            [
                curve(arm.matched.format, [arm.gap(CONFOUNDER, SELF, [n]) for n in range(arm.layers)])
                for arm in arms
            ],
        )

    def indices(self, name: str) -> Section:
        """Plot 9, RFC or RSI: repaired beside both published ways, with their length null."""
        arm, nulls = self.role.arm(), {way: self.role.length_null(name, way) for way in AGGREGATIONS}
        published = [
            curve(f"as published, {way}", [self.role.published(name, way, [n]) for n in range(arm.layers)])
            for way in AGGREGATIONS
        ]
        repaired = self.role.per_layer(name)
        values = ", ".join(f"{value:+.4f} ({way})" for way, value in nulls.items())
        by_layer = self._by_layer(
            f"{name} by layer, published and repaired",
            "of the neutral entropy",
            f"Repaired {name} compares prompts of one length without the first token, so 0 is no difference. With "
            f"attention that is spread evenly, the published ones are {values}.",
            [curve("repaired", repaired), *published],
        )
        null = f"length null of the published {name} on these prompts: {values}; of the repaired one: 0"
        return Section((null,), (by_layer,))

    def side_by_side(self) -> Figure:
        """Published and repaired numbers of the same prompts, over all layers."""
        arm = self.role.arm()
        rows: list[list[str | float | None]] = []
        for name in INDICES:
            for way in AGGREGATIONS:
                value = words(self.role.published(name, way))
                rows.append([f"{name} as published, {way}", value, round(self.role.length_null(name, way), 4)])
            for measure in (PUBLISHED, WITH_FIRST, REPAIRED):
                how = {
                    PUBLISHED: "published entropy, lengths matched",
                    WITH_FIRST: "repaired, first token kept",
                    REPAIRED: "repaired",
                }[measure]
                value = words(arm.index(name, measure=measure))
                rows.append([f"{name}, {how}", value, 0.0])
        return Table(
            "The same prompts counted in every way, over all layers, and the value of each number when attention is "
            "spread evenly (length null). A published number within its length null says nothing; one that changes its "
            "sign when the first token is left out comes from attention to that token (the sink).",
            ["number", "value", "length null"],
            rows,
        ).titled("Published and repaired, side by side")

    def layers(self, name: str) -> Figure:
        """Table of RFC or RSI by layer with the p-value of label permutations, together for all layers."""
        estimates = self.role.per_layer(name)
        p = self.role.permutation_p(estimates)
        return Table(
            "Repaired index of each layer with its interval, and the share of label permutations (within pairs of "
            "equally long prompts) in which any layer stands out as much: below 0.05 the layer stands out among all.",
            ["layer", name, "p among all layers"],
            [[f"layer {n}", words(e), round(float(p[n]), 4)] for n, e in enumerate(estimates)],
        ).titled(f"{name} of single layers, against permuted labels")

    def _curves(
        self,
        title: str,
        unit: str,
        caption: str,
        lines: Callable[[MeasuredFormat], list[tuple[str, list[Comparable]]]],
    ) -> Figure:
        return self._by_layer(title, unit, caption, [curve(name, each) for name, each in lines(self.role.arm())])

    def _by_layer(self, title: str, unit: str, caption: str, series: Sequence[Series]) -> Figure:
        return Curves("layer", unit, caption, series, reference=0.0).titled(title)
