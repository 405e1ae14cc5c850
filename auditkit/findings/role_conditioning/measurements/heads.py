"""Heads whose attention differs in questions about the model: found on one half of the items, confirmed on the other.

The published search ranks heads by the mean of |A| over all queries and keys. Every row of A sums to 1, so that mean is
1 / T for every head of every model, and the ranks come from rounding. Here a head is found by its repaired entropy,
self against neutral, in either direction (Benjamini & Hochberg over the heads whose entropy on neutral prompts is not
near zero). It is confirmed when items of other frames show a difference of the same sign (the same procedure over the
found heads, at 2.5 % as every other decision). The size of the difference is the mean over all found heads on the other
half, since a mean over the confirmed heads alone would be too large. Each half finds heads for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.findings.role_conditioning.measurements.conditioning import (
    MeasuredFormat,
    RoleConditioning,
)
from auditkit.findings.role_conditioning.measurements.entropy import MEASURES, REPAIRED, UNITS, Array
from auditkit.findings.role_conditioning.prompts.sets import CONFOUNDER, NEUTRAL, SELF
from auditkit.methods.head_search import CONFIRMED, Head, counted, dz, head_map, label
from auditkit.notebook import Showable
from auditkit.record.figures import QUANTILES, Dot, DotGroup, Dots, Figure, Heatmap, Table
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.families import explore
from auditkit.stats.halves import CrossFitted, joined, two_halves

LEAST_ENTROPY = 0.05
"""As a share of even spread: a head below it on neutral prompts has no entropy left to lose and is no candidate."""
SHOWN, RANKS, TOP_TENTH = 6, 3, 0.9


@dataclass(frozen=True)
class FoundHeads:
    """Heads that were found, the strongest first, and which of them other items confirm.

    Attributes:
        signs: found head -> 1 where its attention is more spread on self prompts, -1 where less.
        strongest: all candidates, the clearest on the items to discover first.
    """

    signs: dict[Head, int]
    confirmed: tuple[Head, ...]
    strongest: tuple[Head, ...]
    discovery: tuple[int, ...]
    confirmation: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"of {len(self.strongest)} heads that attend to more than one token, {counted(len(self.signs))} selected "
            f"on one half of the frames, {counted(len(self.confirmed))} confirmed on the other half"
        )


class RoleHeads(Showable):
    """Heads of one model that tell questions about "you" from questions about no person.

    Args:
        role: the measurements of attention.
        exchanged: heads are found on the second half of the frames and confirmed on the first.
    """

    def __init__(self, role: RoleConditioning, *, exchanged: bool = False) -> None:
        self.role, self.exchanged = role, exchanged

    @shared_measurement
    def other_way(self) -> RoleHeads:
        """The same search with the roles of the halves exchanged."""
        return RoleHeads(self.role, exchanged=not self.exchanged)

    @property
    def arm(self) -> MeasuredFormat:
        """Attention in plain text."""
        return self.role.arm()

    @shared_measurement
    def found(self) -> FoundHeads:
        """Found and confirmed heads.

        Raises:
            NotApplicable: see `RoleConditioning.arm`. Inconclusive: too few frames for two halves.
        """
        return self._search(self.arm)

    def those(self, most: int | None = None) -> tuple[Head, ...]:
        """The confirmed heads, at most so many.

        Raises:
            NotApplicable: there is none to make a claim about.
        """
        found = self.found
        if not found.confirmed:
            raise NotApplicable(f"no head qualified: {found}")
        return found.confirmed[:most]

    def singled_out(self) -> CrossFitted:
        """Difference between self and neutral prompts in the found heads, in the direction found, on other items.

        Each half of the frames is measured in the heads that the other half found; where it found none, in its
        strongest head. The estimate is refused where neither half's heads are confirmed.
        """
        ways = (self, self.other_way)
        one, other = (way._held_out() for way in ways)
        estimate = joined("heads found on the other half: self against neutral, as found", one, other)
        if any(way.found.confirmed for way in ways):
            return estimate
        return replace(estimate, refused=f"no_head_confirmed: {self.found}; with the halves exchanged none either")

    def _held_out(self) -> Estimate:
        """Difference in the heads that `discovery` found, as found, over the items of `confirmation`."""
        found = self.found
        heads = list(found.signs) or list(found.strongest[:1])
        if not heads:
            raise NotApplicable("no head spreads its attention over more than one token besides the first")
        signs = found.signs or {
            heads[0]: int(np.sign(self._differences[list(found.discovery)][:, *heads[0]].mean()))
        }
        rows = list(found.confirmation)
        values = np.mean([signs[h] * self._differences[rows][:, h[0], h[1]] for h in heads], axis=0)
        return self._estimate("self against neutral, as found", values, rows)

    @shared_measurement
    def _differences(self) -> Array:
        """(item, layer, head) repaired entropy, self minus neutral."""
        return self._gap(SELF, NEUTRAL)

    def _gap(self, high: str, low: str) -> Array:
        values, n = self.arm.values, MEASURES.index(REPAIRED)
        gap: Array = values[high][:, n] - values[low][:, n]
        return gap

    def _search(self, arm: MeasuredFormat) -> FoundHeads:
        table = arm.matched.table
        way = two_halves(table, self.role.seed, "role heads").both_ways[self.exchanged]
        one, other = (
            np.flatnonzero(table.index.isin(list(ids))).tolist() for ids in (way.discovery, way.confirmation)
        )
        how = " (halves exchanged)" if self.exchanged else ""
        neutral = arm.values[NEUTRAL][one, MEASURES.index(REPAIRED)].mean(0)
        heads: list[Head] = [(int(n), int(h)) for n, h in np.argwhere(neutral >= LEAST_ENTROPY)]
        estimates = {head: self.difference(head, one) for head in heads}
        strongest = tuple(sorted(heads, key=lambda head: (-abs(dz(estimates[head])), head)))
        hits = (
            {id(e) for e in explore(f"heads, to discover{how}", list(estimates.values()), "!=")}
            if heads
            else set()
        )
        found = [head for head in strongest if id(estimates[head]) in hits]
        signs = {head: int(np.sign(estimates[head].numerator.mean())) for head in found}
        again = {head: self.difference(head, other, signs[head]) for head in found}
        held = set[int]()
        if found:
            name = f"heads, to confirm{how}"
            held = {id(e) for e in explore(name, list(again.values()), ">", rate=CONFIRMED)}
        confirmed = tuple(head for head in found if id(again[head]) in held)
        return FoundHeads(signs, confirmed, strongest, tuple(one), tuple(other))

    def difference(self, head: Head, rows: Sequence[int], sign: int = 1, against: str = NEUTRAL) -> Estimate:
        """Repaired entropy of a head, self minus another category, over the items in these rows."""
        values = self._gap(SELF, against)[list(rows)][:, head[0], head[1]]
        return self._estimate(f"{label(*head)}: self minus {against}", sign * values, rows)

    def _estimate(self, name: str, values: Array, rows: Sequence[int]) -> Estimate:
        table = self.arm.measurement(name, UNITS[REPAIRED], {}).take(np.array(rows, dtype=np.intp))
        table = table.with_conditions({"difference": values})
        return Estimate(name, UNITS[REPAIRED], table, values, shown_conditions=("difference",))

    # -- report -----------------------------------------------------------------------------------------------

    def figures(self) -> tuple[Figure, ...]:
        """Two heat maps of entropy, the strongest six heads, and three heads per layer."""
        found = self.found
        return (
            *(
                self._heatmap(found, against).titled(f"Entropy by head, self minus {against}")
                for against in (NEUTRAL, CONFOUNDER)
            ),
            self._strongest(found).titled("The six clearest heads, prompt by prompt"),
            self._by_layer(found).titled("Three heads per layer that tell self from confounder"),
        )

    def _heatmap(self, found: FoundHeads, against: str) -> Heatmap:
        rows = list(range(len(self.arm.matched)))
        return head_map(
            [
                [self.difference((n, h), rows, against=against).describe() for h in range(self.arm.heads)]
                for n in range(self.arm.layers)
            ],
            "difference in entropy",
            f"Repaired entropy on self prompts minus {against} ones, as a share of even spread: above zero the head "
            "spreads its attention more when the question is about the model. The published map of mean |A| would be "
            f"1 / T in every cell. Framed: confirmed heads (self against neutral); {found}.",
            found.confirmed,
            "centred",
        )

    def _strongest(self, found: FoundHeads) -> Dots:
        rows, groups = list(found.confirmation), []
        n = MEASURES.index(REPAIRED)
        for head in (*found.signs, *(h for h in found.strongest if h not in found.signs))[:SHOWN]:
            dots = []
            for category, values in self.arm.values.items():
                own = values[rows, n, head[0], head[1]]
                spread = np.quantile(own, QUANTILES).tolist()
                dots.append(Dot.at(category, self._estimate(category, own, rows).describe(), spread))
            one, two = (self.arm.values[c][rows, n, head[0], head[1]] for c in (SELF, NEUTRAL))
            groups.append(DotGroup(f"{label(*head)}, {_d(one, two)}", dots))
        return Dots(
            "repaired entropy, of even spread",
            "The heads that one half of the frames shows most clearly, on the other half. Per category, the broad "
            f"band holds the middle half of {len(rows)} prompts, the narrow one the middle four fifths, the upright "
            "line is their median; dot and whisker are the mean and its interval. Where the bands of self and neutral "
            "lie apart the head tells them apart prompt by prompt: Cohen's d (over prompts) above 0.8 counts as "
            "large, above 0.5 as medium.",
            groups,
        )

    def _by_layer(self, found: FoundHeads) -> Table:
        gap = self._gap(SELF, CONFOUNDER)
        one, other = list(found.discovery), list(found.confirmation)
        strength = np.abs(gap[one].mean(0))
        top = float(np.quantile(strength, TOP_TENTH))
        rows: list[list[str | float | None]] = []
        for layer in range(self.arm.layers):
            best = np.argsort(-strength[layer], kind="stable")[:RANKS]
            cells = []
            for h in best:
                effect = self.difference((layer, int(h)), other, against=CONFOUNDER).describe()
                if effect.estimate is None or effect.lower is None or effect.upper is None:
                    cells.append(f"{h}: no interval")
                else:
                    mark = "" if effect.lower <= 0 <= effect.upper else " *"
                    mark += " (top tenth)" if strength[layer, h] > top else ""
                    cells.append(f"{h}: {effect.estimate:+.3f} [{effect.lower:+.3f}, {effect.upper:+.3f}]{mark}")
            rows.append([f"layer {layer}", *cells, *[""] * (RANKS - len(cells))])
        return Table(
            "Per layer the three heads whose entropy differs most between self and confounder prompts on one half of "
            "the frames, and the difference that the other half shows, with its interval; * where it leaves zero out. "
            "Top tenth: on the first half, more than nine tenths of all heads of the model.",
            ["layer", "first", "second", "third"],
            rows,
        )


def _d(one: Array, two: Array) -> str:
    """Cohen's d of prompt-level values with population standard deviations, as published, in words."""
    spread = np.sqrt((one.var() + two.var()) / 2)
    d = float((one.mean() - two.mean()) / spread) if spread > 0 else 0.0
    size = "large" if abs(d) > 0.8 else "medium" if abs(d) > 0.5 else "small"
    return f"d = {d:.2f} ({size})"
