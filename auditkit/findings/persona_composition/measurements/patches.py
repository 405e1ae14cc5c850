"""The KL divergence that the additive prediction causes in the place of a state, compared with that of other states.

A small divergence alone says nothing: at a site that does not matter any state is harmless, and in early layers states
hardly differ. So other states are patched in at the same site:

    additive               h_XB + h_BY - h_BB
    BB, BY, XB             the states of the other three cells
    another persona        additive, with the dX of a persona that is not the cell's
    another task           additive, with the dY of another task
    random                 h_XY plus a random vector of the norm of the interaction term
    itself                 h_XY, which must change nothing

What a patch costs is the divergence that it causes. The additive prediction is judged by how many times more another
state costs, in the geometric mean over cells. A site matters at a layer where BB in the place of XY costs at least 0.05
nats with its whole interval. Claims are about the first measured layer, up to depth 0.55, at which the site matters;
the additive prediction takes no part in this choice.

The divergence is KL(clean run || patched run) in nats, over the full vocabulary, summed over a window of ten tokens of
XY's own greedy answer, which both runs are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from auditkit.claims.evidence import Section, note
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.engine.continuation.divergence import Divergence
from auditkit.engine.continuation.late import late_divergence
from auditkit.engine.continuation.prefix_cached import Edits, Tails
from auditkit.engine.edits import replace
from auditkit.engine.sites import block_input
from auditkit.findings.persona_composition.measurements.cells import SITES, WINDOW, Cells
from auditkit.notebook import Showable
from auditkit.record.figures import Curves, Dots, Figure, Heatmap, Series, Table
from auditkit.stats.effects.exact import Exact, exactly
from auditkit.stats.effects.geometric import Geometric, geometric_mean, geometric_ratio
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import Rate, rate
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

Array = NDArray[np.float64]

ADDITIVE, ITSELF = "additive", "itself"
REFERENCES = ("BB", "BY", "XB", "another persona", "another task", "random")
EVERYWHERE = (ADDITIVE, ITSELF, "BB")
"""What is patched in at every site and measured layer; other references only where a claim is about one."""
FILLER = "filler of equal length"
EVERY = "other baselines, geometric mean"
UNIT = "nats"
NEAR = 0.10
"""Nats over the window below which the paper calls a patched run near-clean."""
MATTERS = 0.05
"""Nats over the window that BB in the place of XY must cost, or the site does not matter."""
LEAST = 1e-9
"""Nats within which a divergence is rounding; it counts as this where logarithms are taken."""
SAME = 1e-4
"""Nats over the window that h_XY in its own place may cost in float32."""


class Patches(Showable):
    """Divergences of patched runs, at every site and measured layer.

    Args:
        cells: whose states are given.
        deepest: up to which depth claims look for a layer.
    """

    def __init__(self, cells: Cells, *, deepest: float) -> None:
        self.cells, self.seed, self.deepest = cells, cells.seed, deepest
        self.layers = cells.layers
        self._measured: dict[tuple[str, ...], Mapping[str, Divergence]] = {}
        self._tails: dict[str, Tails] = {}

    # -- claims ------------------------------------------------------------------------------------------------

    def sites_that_matter(self, sites: Sequence[str]) -> dict[str, int]:
        """Site -> first layer up to the deepest at which BB in the place of XY costs 0.05 nats or more for sure, in the
        geometric mean over cells.

        The sites that never do are named in a note. Where there are too few clusters for an interval, the geometric
        mean decides, since nothing else is decided then.

        Raises:
            NotApplicable: there is no such site.
        """
        last = self.cells.layer(self.deepest)
        early = [layer for layer in self.layers if layer <= last]
        found: dict[str, int] = {}
        for site in sites:
            for layer in early:
                effect = self.typical(site, layer, "BB").describe()
                least = effect.lower if effect.lower is not None else effect.estimate
                if least is not None and least >= MATTERS:
                    found[site] = layer
                    break
        without = (
            f"at no layer up to {last} does BB in the place of XY cost at least {MATTERS:g} nats over {WINDOW} tokens "
            "with its whole interval, in the geometric mean over cells"
        )
        if not found:
            raise NotApplicable(
                f"no site matters: {without} ({', '.join(sites)}), so a small divergence there is no evidence"
            )
        note("layers: " + ", ".join(f"{layer} at {site}" for site, layer in found.items()))
        if missing := [site for site in sites if site not in found]:
            note(f"left out: {', '.join(missing)}; {without}")
        return found

    def behind(self, layers: Mapping[str, int]) -> dict[str, int]:
        """Site -> the measured layer behind the one that it has, up to the deepest; sites without one are left out.

        Raises:
            NotApplicable: no site has one.
        """
        last = self.cells.layer(self.deepest)
        later = {
            site: min((n for n in self.layers if n > layer), default=last + 1) for site, layer in layers.items()
        }
        found = {site: layer for site, layer in later.items() if layer <= last}
        if not found:
            raise NotApplicable(
                f"no measured layer up to {last} lies behind {', '.join(map(str, layers.values()))}"
            )
        return found

    def typical(self, site: str, layer: int, what: str = ADDITIVE) -> Geometric:
        """Geometric mean of the divergence, in nats.

        The paper's medians are of values that differ by powers of ten between cells; of those this is the middle, with
        an interval that also few clusters can have.
        """
        name = f"{site}, layer {layer}: {what}"
        return geometric_mean(self.measurement(site, layer, what), what, name=name, resolution=LEAST)

    def typical_with(self, site: str, layer: int, baseline: str) -> Geometric:
        """The same for the additive prediction with another baseline: FILLER, or EVERY for the mean over the others."""
        name = f"{site}, layer {layer}: {baseline}"
        return geometric_mean(self.other_baselines(site, layer), baseline, name=name, resolution=LEAST)

    def near(self, site: str, layer: int) -> Rate:
        """Share of the cells whose divergence is at most 0.10 nats."""
        measured = self.measurement(site, layer)
        close = {"near": (measured.condition(ADDITIVE) <= NEAR).astype(float)}
        name = f"{site}, layer {layer}: cells within {NEAR:g} nats"
        return rate(measured.with_conditions(close), "near", name=name)

    def costlier(self, site: str, layer: int, reference: str) -> Geometric:
        """How many times more a reference patch costs than the additive prediction: geometric mean over cells.

        A ratio of means would be that of the few cells in which the reference costs most, and often has no interval.
        """
        measured = self.measurement(site, layer, reference)
        name = f"{site}, layer {layer}: {reference} against {ADDITIVE}"
        return geometric_ratio(measured, reference, ADDITIVE, name=name, resolution=LEAST)

    def level(self, site: str, what: str, layer: int) -> Estimate:
        """Mean divergence."""
        measured = self.measurement(site, layer, what)
        name = f"{site}, layer {layer}: {what}"
        return Estimate(name, UNIT, measured, measured.condition(what), shown_conditions=(what,))

    def rises(self, site: str = "p_last", what: str = ADDITIVE) -> Estimate:
        """Mean over cells of the rank correlation of layer and divergence (Spearman): 1 rises at every step.

        Raises:
            Inconclusive: fewer than five layers, or a cell whose divergence is the same at all of them.
        """
        if len(self.layers) < MIN_CLUSTERS:
            raise Inconclusive(
                f"too_few_layers: {len(self.layers)} layers, {MIN_CLUSTERS} are needed for a rank correlation"
            )
        levels = np.column_stack([self.totals(site, layer, what) for layer in self.layers])
        if (np.ptp(levels, axis=1) == 0).any():
            raise Inconclusive(f"constant: at {site} the divergence of {what} is the same in all layers")
        ranks = np.array([spearmanr(self.layers, row).statistic for row in levels])
        measured = self._measurement(f"{what} by layer at {site}", "rank correlation", {what: ranks})
        return Estimate(f"{site}: {what} rises with the layer", "rank correlation", measured, ranks, None, (what,))

    def plumbing(self) -> Exact:
        """Share of the cells for which h_XY in its own place changes nothing at any site and layer."""
        every = [self.totals(site, layer, ITSELF) for site in SITES for layer in self.layers]
        worst = np.max(every, axis=0)
        # In shorter number types batches alone move logits; by f, a divergence by at most f squared / 2 per token.
        allowed = max(SAME, WINDOW * self.cells.adapter.info.parity_max_abs**2 / 2)
        measured = self._measurement(
            "h_XY in its own place", "1", {"largest": worst, "nothing changes": (worst <= allowed).astype(float)}
        )
        note(
            f"largest divergence of a state in its own place: {worst.max():.2g} nats over {WINDOW} tokens, of at most "
            f"{allowed:.2g} allowed"
        )
        whole = Estimate(
            "cells without a change", "1", measured, measured.condition("nothing changes"), None, ("largest",)
        )
        return exactly(whole, population="cells at all sites and layers", size=len(self.cells.cells))

    # -- measuring ---------------------------------------------------------------------------------------------

    def measurement(self, site: str, layer: int, what: str = ADDITIVE) -> Measurement:
        """Divergence of every cell under what is patched in everywhere, and under all references where `what` is one
        of the others."""
        names = EVERYWHERE if what in EVERYWHERE else (ADDITIVE, ITSELF, *REFERENCES)
        columns = {name: self.totals(site, layer, name) for name in names}
        return self._measurement(f"patches at {site}, layer {layer}", UNIT, columns)

    def other_baselines(self, site: str, layer: int) -> Measurement:
        """Divergence of every cell under the additive prediction of every other baseline."""
        measured = self._run(site, [layer], self._arms, "other baselines")
        columns = {
            name: found.totals.double().numpy() for name, found in zip(self._arms, measured.values(), strict=True)
        }
        others = [np.log(np.maximum(values, LEAST)) for name, values in columns.items() if name != FILLER]
        columns |= {EVERY: np.exp(np.mean(others, axis=0))}
        return self._measurement(f"other baselines at {site}, layer {layer}", UNIT, columns)

    def totals(self, site: str, layer: int, what: str) -> Array:
        """(cell,) divergence over the window."""
        return np.asarray(self._found(site, layer, what).totals.double().numpy())

    def agreement(self, site: str, layer: int, what: str) -> float:
        """Share of tokens at which the patched run's likeliest token is the clean one's."""
        return float(torch.cat(self._found(site, layer, what).agrees).double().mean())

    def _measurement(self, name: str, unit: str, columns: Mapping[str, Array]) -> Measurement:
        table = self.cells.table
        texts = zip(table.index, self.cells.prompts, strict=True)
        prompts = {item: {ADDITIVE: prompt.text} for item, prompt in texts}
        return Measurement(name, unit, pd.DataFrame(dict(columns), index=table.index), table, prompts)

    def _found(self, site: str, layer: int, what: str) -> Divergence:
        """One patch, run with others: all that are made everywhere, or all other references of its site and layer."""
        everywhere = what in EVERYWHERE
        layers = self.layers if everywhere else (layer,)
        donors = {name: states for name, states in self._donors.items() if (name in EVERYWHERE) == everywhere}
        return self._run(site, layers, donors, "patching")[f"{what}, layer {layer}"]

    def _run(
        self, site: str, layers: Sequence[int], donors: Mapping[str, Tensor], description: str
    ) -> Mapping[str, Divergence]:
        """ "donor, layer n" -> what its states do at a site and some layers, run once."""
        edits = {
            f"{name}, layer {layer}": self._edits(states, site, layer)
            for layer in layers
            for name, states in donors.items()
        }
        key = (site, *edits)
        if key not in self._measured:
            if site not in self._tails:  # kept, so that its guards run whole prompts once
                self._tails[site] = self.cells.tails(site)
            self._measured[key] = late_divergence(self._tails[site], edits, f"{description}, {site}")
        return self._measured[key]

    def _edits(self, states: Tensor, site: str, layer: int) -> Edits:
        donors = states[:, SITES.index(site), self.layers.index(layer)]
        return [[replace(block_input.layer(layer)[0], state)] for state in donors]

    @shared_measurement
    def _donors(self) -> dict[str, Tensor]:
        """Name -> (cell, site, layer, width) what stands in the place of h_XY."""
        cells, grid = self.cells, self.cells.design.grid
        xy, xb, by, bb = cells.xy, cells.xb, cells.by, cells.bb
        people = {persona.name: persona.text for persona in grid.personas}
        other_xb = cells.of(self._others("persona", people), grid.baseline_task)
        other_by = cells.of(grid.baseline, self._others("task", grid.tasks))
        interaction = xy - (xb + by - bb)
        noise = torch.from_numpy(stream(self.seed, "random vectors").normal(size=tuple(xy.shape))).float()
        noise *= interaction.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
        made = {ADDITIVE: xb + by - bb, ITSELF: xy, "BB": bb, "BY": by, "XB": xb}
        made |= {"another persona": other_xb + by - bb, "another task": xb + other_by - bb, "random": xy + noise}
        return made

    @shared_measurement
    def _arms(self) -> dict[str, Tensor]:
        """The additive prediction with other personas as the baseline, and with a filler as long as the persona."""
        cells, grid = self.cells, self.cells.design.grid
        made = {
            text: cells.xb + cells.of(text, None) - cells.of(text, grid.baseline_task) for text in grid.baselines
        }
        fillers = [cells.design.fillers[cell.persona.name] for cell in cells.cells]
        tasks = [grid.tasks[cell.task] for cell in cells.cells]
        to_y, to_b = (
            cells.states([cells.design.prompt(*texts) for texts in zip(fillers, some, strict=True)])
            for some in (tasks, [grid.baseline_task] * len(tasks))
        )
        return made | {FILLER: cells.xb + to_y - to_b}

    def _others(self, factor: str, texts: Mapping[str, str]) -> list[str]:
        """By cell: the text of a persona (or task) of the grid that is not the cell's.

        In an order drawn by the seed, a name's first cell takes the next name, its second the one after that. So all
        are taken equally often where all names have equally many cells; where one were taken by many cells, what is
        particular to it would count as many times in a mean, and the interval would not know.
        """
        order = sorted(texts, key=lambda name: stream(self.seed, f"another {factor}", name).random())
        places, steps, found = {name: k for k, name in enumerate(order)}, dict.fromkeys(order, 0), []
        for own in self.cells.table[factor]:
            step = 1 + steps[own] % (len(order) - 1)
            found.append(texts[order[(places[own] + step) % len(order)]])
            steps[own] += 1
        return found

    # -- figures -----------------------------------------------------------------------------------------------

    def notes(self) -> tuple[str, ...]:
        """Which cells, layers and sites were measured."""
        return self.cells.notes()

    def figures(self) -> tuple[Figure, ...]:
        """Divergence of the additive prediction by layer and site, and where it is near-clean."""
        grid = [[self.totals(site, layer, ADDITIVE) for layer in self.layers] for site in SITES]
        medians = [[float(np.median(one)) for one in row] for row in grid]
        near = [(i, j) for i, row in enumerate(medians) for j, value in enumerate(row) if value <= NEAR]
        drawn = Heatmap(
            "layer",
            "site",
            "median KL (nats)",
            f"Each cell: median over {len(self.cells.cells)} cells of the KL divergence from the clean run, summed "
            f"over {WINDOW} tokens, when the additive prediction is patched in. Framed: at most {NEAR:g}. It is small "
            "also where the site does not matter: see the reference patches.",
            list(map(str, self.layers)),
            list(SITES),
            medians,
            outlined=near,
            scale="log",
        )
        return (drawn.titled("Divergence of the additive prediction"),)

    def references(self, layers: Mapping[str, int]) -> tuple[Figure, ...]:
        """Additive and BB by layer, on a log scale, and every patch in numbers at the claim's layer, for each site."""
        return *map(self._curves, layers), self._numbers(layers)

    def _curves(self, site: str) -> Figure:
        return Curves(
            "layer",
            "mean KL (nats)",
            f"Divergence over {WINDOW} tokens with each patch at {site}. The dashed line is {NEAR:g}, what the paper "
            f"calls near-clean; BB below {MATTERS:g} means that the site does not matter there.",
            [self._series(site, name) for name in (ADDITIVE, "BB")],
            reference=NEAR,
            log=True,
        ).titled(f"Patches at {site}")

    def _numbers(self, layers: Mapping[str, int]) -> Figure:
        rows: list[list[str | float | None]] = []
        for site, layer in layers.items():
            for what in (ADDITIVE, *REFERENCES, ITSELF):
                totals = self.totals(site, layer, what)
                low, middle, high = np.quantile(totals, (0.25, 0.5, 0.75))
                numbers = [float(n) for n in (middle, low, high, totals.max(), totals.mean() / WINDOW)]
                rows.append([f"{site}, layer {layer}: {what}", *numbers, self.agreement(site, layer, what)])
        return Table(
            f"KL in nats over {WINDOW} tokens; per token, the mean; same token: share of tokens at which the likeliest "
            "one stays.",
            ["patch", "median", "lower quartile", "upper quartile", "largest", "per token", "same token"],
            rows,
        ).titled("Patches in numbers")

    def baselines(self, layers: Mapping[str, int]) -> Section:
        """The additive prediction with other personas as the baseline."""
        groups = {}
        for site, layer in layers.items():
            others = self.other_baselines(site, layer)
            estimates = {"the grid's baseline": self.level(site, ADDITIVE, layer)}
            for name in self._arms:
                estimates[name] = Estimate(name, UNIT, others, others.condition(name))
            groups[f"{site}, layer {layer}"] = {name: one.describe() for name, one in estimates.items()}
        drawn = Dots.of(
            "mean KL (nats)",
            f"Divergence over {WINDOW} tokens of the additive prediction, with another neutral persona, or with a "
            "filler of the persona's own length, as the baseline.",
            groups,
            reference=NEAR,
        ).titled("Other baselines")
        lengths = [
            len(
                self.cells.design.prompt(self.cells.design.fillers[c.persona.name], self.cells.design.text(c.task))
            )
            - len(prompt)
            for c, prompt in zip(self.cells.cells, self.cells.prompts, strict=True)
        ]
        equal = sum(not n for n in lengths)
        said = f"the filler has exactly the persona's length in {equal} of {len(lengths)} cells"
        return Section((said,), (drawn,))

    def _series(self, site: str, what: str) -> Series:
        return Series.through(
            what, self.layers, [self.level(site, what, layer).describe() for layer in self.layers]
        )
