"""Which units a scan selects for a persona, and which of them two personas share (Cintas et al. 2025,
arXiv:2505.24539).

A persona's units are those that at least half of its scans find, each scan on a random half of its statements. Halves
are drawn in complements, so that the two scans of a pair have no statement in common. The distance of an overlap from
chance, z, has an interval over statements by the jackknife after bootstrap (Efron 1992,
doi:10.1111/j.2517-6161.1992.tb01866.x): statements are divided into ten blocks, and the scans that did not see a block
serve as the scans without it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.claims.evidence import Section
from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import SharedMeasurements
from auditkit.findings.persona_localization.measurements.blocks import BLOCKS, in_blocks, over_blocks
from auditkit.findings.persona_localization.measurements.material import (
    Array,
    PersonaActivations,
    PersonaItems,
    one_thread,
)
from auditkit.findings.persona_localization.measurements.scans import persona_scan
from auditkit.methods.scanning.detection import Scanner, both_directions, units_of
from auditkit.methods.scanning.overlap import (
    Overlap,
    frequent,
    overlap,
    pair_figure,
    pair_overlaps,
    sets_figure,
    stability,
)
from auditkit.methods.separation.rotations import Turn, in_other_bases
from auditkit.record.figures import Table
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

RUNS = 40
"""Scans of each persona, every two of them on complementary blocks."""

ROTATIONS = 20
SETS = 5
"""Sets that the figure of shared units holds at most: more have too many combinations to read."""


class PersonaUnits:
    """Units of each persona after one block; what was scanned once is not scanned again.

    Args:
        layer: the published one where None.
        runs: scans of each persona.
    """

    def __init__(self, activations: PersonaActivations, layer: int | None = None, *, runs: int = RUNS) -> None:
        self.activations, self.seed = activations, activations.seed
        self.layer = activations.published_layer if layer is None else layer
        self.runs = runs
        self._found = SharedMeasurements()

    # -- claims ------------------------------------------------------------------------------------------------

    def alike(self, *, disjoint: bool = False) -> Estimate:
        """Mean Jaccard index of two scans of a persona as a multiple of what random sets of those sizes have.

        Personas are the clusters. `disjoint`: of scans that have no statement in common.
        """
        return self._stability(disjoint, ratio=True)

    def jaccard(self, *, disjoint: bool = False) -> Estimate:
        """Mean Jaccard index of two scans of a persona."""
        return self._stability(disjoint, ratio=False)

    def shared(self, one: str, other: str) -> Estimate:
        """z of the units that two personas share: standard deviations from what random sets of those sizes share.

        The interval is over statements (jackknife after bootstrap).

        Raises:
            NotApplicable: a persona that there are no statements of.
            Inconclusive: too few statements, or sets that leave chance no room.
        """
        pair = [self._named(one), self._named(other)]
        z = self._z(pair)
        without = np.array([self._z(pair, block) for block in range(BLOCKS)])
        name = f"units shared by {one} and {other}"
        return over_blocks(name, "standard deviations from chance", z, without, "z")

    def rank(self, one: str, other: str) -> tuple[str, ...]:
        """Where the pair stands among all pairs of personas, as if names were dealt to sets at random, in words."""
        found = pair_overlaps(self._by_name(), self.total)
        every = {frozenset(pair): shared.z for pair, shared in found.items()}
        own = every[frozenset((one, other))]
        known = [z for z in every.values() if z is not None]
        if own is None:
            return ()
        return (
            f"{one} and {other}: z = {own:.2f}; the median of {len(known)} pairs of personas is "
            f"{float(np.median(known)):.2f}. With names dealt to sets at random a pair is as low with chance "
            f"{np.mean([z <= own for z in known]):.2f} and as high with {np.mean([z >= own for z in known]):.2f}",
        )

    def rotation(self, one: str, other: str, *, sign: int) -> str:
        """Whether an overlap of single scans survives random rotations of the space, in words.

        Args:
            sign: 1 for more than chance, -1 for less.
        """
        pair = [self._named(one), self._named(other)]

        def measure(turn: Turn) -> float:
            sets = [persona_scan(items, turn(self._at(items)), self.seed) for items in pair]
            return sign * (overlap(sets, self.total).z or 0.0)

        with one_thread():
            bases = in_other_bases(
                measure, self.total, rotations=ROTATIONS, seed=self.seed, name=f"{one}, {other}"
            )
        turned = ", its sign turned" if sign < 0 else ""
        return f"rotation, z of single scans of {one} and {other}{turned}: {bases.says(3.0)}"

    def closest(self) -> tuple[str, ...]:
        """Which two personas share most against chance, and whether that survives random rotations, in words."""
        sets = self._by_name()
        found = pair_overlaps(sets, self.total)
        one, other = max(found, key=lambda pair: found[pair].z or 0.0)
        z = found[one, other].z
        value = "none" if z is None else f"{z:.1f}"
        most = f"of all pairs {one} and {other} share most against chance: z = {value}"
        return most, self.rotation(one, other, sign=1)

    # -- report -----------------------------------------------------------------------------------------------

    def overlaps(self) -> Section:
        """z of all pairs, and how many units are in just which sets."""
        sets = self._by_name()
        notes = []
        drawn = [pair_figure(sets, self.total).titled(f"Units shared by two personas, after block {self.layer}")]
        for topic in dict.fromkeys(items.topic for items in self.activations.personas):
            some = {i.persona: sets[i.persona] for i in self.activations.personas if i.topic == topic}
            some = dict(itertools.islice(some.items(), SETS))
            if len(some) > 1:
                everyone = overlap(list(some.values()), self.total)
                notes.append(f"{topic}: {_all_shared(everyone, len(some))}")
                drawn.append(sets_figure(some, self.total).titled(f"Units of the personas of {topic}"))
        return Section(tuple(notes), tuple(drawn))

    def by_persona(self) -> Section:
        """How many units each persona has, how stable they are, and massive activations."""
        rows: list[list[str | float | None]] = []
        for items in self.activations.personas:
            runs, _ = self._runs(items)
            of_all = stability(runs, self.total)
            apart = self._jaccards(items, disjoint=True)
            rows.append(
                [
                    items.persona,
                    round(float(np.mean([len(run) for run in runs])), 1),
                    len(frequent(runs, self.total, least=1 / len(runs))),
                    len(frequent(runs, self.total)),
                    len(frequent(runs, self.total, least=0.9)),
                    round(of_all.jaccard, 3),
                    round(apart[0], 3),
                    round(of_all.chance, 3),
                ]
            )
        drawn = Table(
            f"Units (of {self.total}) after block {self.layer} in {self.runs} scans, each on a random half of the "
            "statements. The units that any scan found, as published, are a large part of all units.",
            (
                "persona", "mean per scan", "in any scan", "in half of them", "in 90 %", "Jaccard",
                "Jaccard, no common statement", "by chance",
            ),
            rows,
        ).titled("Units by persona")  # fmt: skip
        massive = self.activations.massive(self.layer)
        listed = ", ".join(f"{one.unit} ({one.times_median:.0f} times the median)" for one in massive)
        said = f"massive activations after block {self.layer}: units {listed}"
        if not massive:
            said = (
                f"no unit after block {self.layer} has massive activations (above 100 and 1000 times the median)"
            )
        return Section((said,), (drawn,))

    # -- scanning ----------------------------------------------------------------------------------------------

    def units(self, items: PersonaItems, without: int | None = None) -> NDArray[np.intp]:
        """Units that at least half of the scans found; of the scans that did not see a block, where one is given."""
        runs, seen = self._runs(items)
        some = [run for run, blocks in zip(runs, seen, strict=True) if without is None or not blocks[without]]
        return frequent(some, self.total)

    @property
    def total(self) -> int:
        """Units that there are."""
        return int(self._at(self.activations.personas[0]).shape[1])

    def _runs(self, items: PersonaItems) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
        """Units that each scan found, and (runs, blocks) which statements it saw."""
        return self._found.get(items.persona, lambda: self._scanned(items))

    def _scanned(self, items: PersonaItems) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
        self.activations.enough(2 * BLOCKS, f"scans of half of {BLOCKS} blocks")
        blocks = in_blocks(items, self.seed)
        columns = both_directions(self._at(items))
        scanner = Scanner("right", scan_background=True)
        seen = np.zeros((self.runs, BLOCKS), dtype=bool)
        runs = []
        with one_thread():
            for run in range(self.runs):
                rng = stream(self.seed, "halves of blocks", items.persona, str(run // 2))
                half = np.isin(np.arange(BLOCKS), rng.permutation(BLOCKS)[: BLOCKS // 2])
                seen[run] = half if run % 2 == 0 else ~half
                rows = np.flatnonzero(seen[run][blocks])
                found = scanner.detect(columns[rows], ~items.positive[rows])
                runs.append(units_of(found.units, self.total))
        return runs, seen

    def _z(self, pair: Sequence[PersonaItems], without: int | None = None) -> float:
        shared = overlap([self.units(items, without) for items in pair], self.total)
        if shared.z is None:
            names = " and ".join(items.persona for items in pair)
            raise Inconclusive(
                f"no_units: the sets of {names} hold {' and '.join(map(str, shared.sizes))} of {self.total} units, so "
                "their overlap carries no information"
            )
        return shared.z

    def _jaccards(self, items: PersonaItems, *, disjoint: bool) -> tuple[float, float]:
        """Mean index of scans of one persona, and of random sets of those sizes."""
        runs, _ = self._runs(items)
        pairs = [runs[i : i + 2] for i in range(0, len(runs), 2)] if disjoint else [runs]
        found = [stability(some, self.total) for some in pairs]
        return float(np.mean([one.jaccard for one in found])), float(np.mean([one.chance for one in found]))

    def _stability(self, disjoint: bool, *, ratio: bool) -> Estimate:
        found = np.array([self._jaccards(items, disjoint=disjoint) for items in self.activations.personas])
        what = "scans without a common statement" if disjoint else "scans of random halves"
        index = pd.Index([items.persona for items in self.activations.personas])
        table = pd.DataFrame({"Jaccard": found[:, 0], "by chance": found[:, 1]}, index=index)
        measured = Measurement(f"stability, {what}", "1", table, pd.DataFrame({"persona": index}, index=index))
        name, unit, chance = f"Jaccard index of {what}", "1", None
        if ratio:
            name, unit, chance = f"{name} over that by chance", "times chance", measured.condition("by chance")
        return Estimate(
            name, unit, measured, measured.condition("Jaccard"), chance, shown_conditions=tuple(map(str, table))
        )

    def _by_name(self) -> Mapping[str, NDArray[np.intp]]:
        return {items.persona: self.units(items) for items in self.activations.personas}

    def _at(self, items: PersonaItems) -> Array:
        return self.activations.at(items, self.layer)

    def _named(self, persona: str) -> PersonaItems:
        for items in self.activations.personas:
            if items.persona == persona:
                return items
        raise Unsupported(f"there are no statements of {persona}")


def _all_shared(found: Overlap, sets: int) -> str:
    z = "not defined" if found.z is None else f"{found.z:.1f}"
    return f"all {sets} sets share {found.observed} units, by chance {found.expected:.1f}, z = {z}"
