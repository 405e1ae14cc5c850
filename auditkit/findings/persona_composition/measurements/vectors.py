"""Whether a vector can replace a persona's words: how much of the divergence to the run with the words it closes.

The host run has the task under the baseline persona, the target run has it under the persona; both are given the
target's answer. These are injected into the host, at the last token of the prompt unless stated otherwise:

    oracle                 h_XY, the target's own state: the most that one state can do
    cached                 h_BY + dX, with dX from the baseline task: what could be stored once and used again
    several layers, several positions (p_user_last, p_last, g1, g2), and dX scaled

Closure is 1 - KL(injected) / KL(host): 0 is the host, 1 the target. Figures show it as a ratio of means over cells. The
claim is about the share that is left, KL(injected) / KL(host), in the geometric mean over cells: divergences differ by
powers of ten between cells, and a few large ones dominate the ratio of means. A low closure is evidence only if a high
one can be measured, so keys and values are transplanted too. Those of the whole prefix must close everything. So must
those of the persona's words, since later tokens read the persona through them alone. Transplanting them in the upper
layers only, or those of the tokens behind the words only, shows where the persona is stored. A span's donor has to be
aligned, so there the host's persona is a filler of equal length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import NotApplicable, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.personas import differing_span
from auditkit.engine.continuation.divergence import Divergence
from auditkit.engine.continuation.late import late_divergence
from auditkit.engine.continuation.prefix_cached import Edits, Tails
from auditkit.engine.continuation.timed import Forced
from auditkit.engine.continuation.transplant import PrefixGraft, SpanGraft, prefixes, spans
from auditkit.engine.edits import Edit, add, replace
from auditkit.engine.sites import block_input
from auditkit.findings.persona_composition.measurements.cells import SITES, WINDOW, Cells
from auditkit.findings.persona_composition.measurements.patches import LEAST, MATTERS
from auditkit.notebook import Showable
from auditkit.record.figures import Curves, Dots, Figure, Series, Table
from auditkit.stats.effects.geometric import Geometric, geometric_mean, geometric_ratio
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]

HOST, ORACLE, CACHED = "host", "oracle", "cached"
LAYERS, POSITIONS = ", all layers", ", 4 positions"
PREFIX = "K/V of the whole prefix"
PERSONA, AFTER = "K/V of the persona", "K/V behind the persona"
PERSONA_LATE = f"{PERSONA}, upper layers"
SCALES = (0.5, 2.0, 4.0)
UNIT = "of the distance to the target"


class Vectors(Showable):
    """Closures of the distance between host and target; measured once.

    Args:
        cells: whose states are injected.
        depth: of the single layer.
    """

    def __init__(self, cells: Cells, *, depth: float) -> None:
        self.cells, self.depth = cells, depth
        self.layer = cells.layer(depth)

    # -- claims ------------------------------------------------------------------------------------------------

    def closure(self, what: str) -> Estimate:
        """Share of the distance from host to target that an injection or transplant closes."""
        measured = self.aligned if what in (PERSONA, PERSONA_LATE, AFTER) else self.measurement
        host = measured.condition(HOST)
        return Estimate(
            f"closure: {what}",
            UNIT,
            measured,
            host - measured.condition(what),
            host,
            shown_conditions=(HOST, what),
        )

    def left(self, what: str) -> Geometric:
        """Share of the distance from host to target that an injection leaves: geometric mean over cells.

        Raises:
            NotApplicable: host and target are not for sure 0.05 nats apart, so there is nothing to close.
        """
        apart = geometric_mean(self.measurement, HOST, name="host and target", resolution=LEAST).describe()
        if apart.lower is not None and apart.lower < MATTERS:
            raise NotApplicable(
                f"there is no distance to close: the runs with and without the persona's words are not shown to be "
                f"{MATTERS:g} nats apart over {WINDOW} tokens (geometric mean {apart.estimate:.3g}, interval from "
                f"{apart.lower:.3g})"
            )
        return geometric_ratio(self.measurement, what, HOST, name=f"left by {what}", resolution=LEAST)

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def measurement(self) -> Measurement:
        """Divergence of every cell's target from the host with each injection, and from the whole prefix's
        transplant."""
        cells = self.cells
        hosts = self._prompts(cells.design.grid.baseline)
        tails = self._tails(hosts)
        every: dict[str, Edits | Forced] = {HOST: [[] for _ in hosts]}
        deltas = cells.xb - cells.bb
        states = {ORACLE: cells.xy, CACHED: cells.by + deltas}
        for name, own in states.items():
            every[name] = self._patched_in(own, [self.layer], ["p_last"])
            every[name + LAYERS] = self._patched_in(own, cells.layers, ["p_last"])
            every[name + POSITIONS] = self._patched_in(own, [self.layer], SITES)
            every[name + LAYERS + POSITIONS] = self._patched_in(own, cells.layers, SITES)
        site = block_input.layer(self.layer)[cells.offset("p_last")]
        moves = deltas[:, SITES.index("p_last"), cells.layers.index(self.layer)]
        for scale in SCALES:
            every[scaled(scale)] = [[add(site, move, scale)] for move in moves]
        grafts = [
            PrefixGraft(host, len(host) - 1, target, len(target) - 1)
            for host, target in zip(hosts, cells.prompts, strict=True)
        ]
        every[PREFIX] = prefixes(cells.adapter, grafts, tails.continuations)
        target = cells.tails("p_user_last").forced()
        return self._table("injections", late_divergence(tails, every, "injecting", target), cells.table)

    @shared_measurement
    def aligned(self) -> Measurement:
        """The same for transplants of spans, on the cells whose filler has exactly the persona's length.

        Raises:
            NotApplicable: there is none.
        """
        cells = self.cells
        fillers = [cells.design.fillers[cell.persona.name] for cell in cells.cells]
        texts = [cells.design.text(cell.task) for cell in cells.cells]
        hosts = [cells.design.prompt(filler, task) for filler, task in zip(fillers, texts, strict=True)]
        found = [differing_span(h.ids, t.ids) for h, t in zip(hosts, cells.prompts, strict=True)]
        rows = [row for row, span in enumerate(found) if span is not None]
        if not rows:
            raise Unsupported("no persona has a filler of exactly its length, so no span can be transplanted")
        note(
            f"spans are transplanted in {len(rows)} of {len(hosts)} cells, where the filler has the persona's length"
        )
        some, targets = [hosts[row] for row in rows], [cells.prompts[row] for row in rows]
        tails, target = self._tails(some, rows), self._tails(targets, rows).forced()
        ends = [span for span in found if span is not None]
        upper = (self.layer, cells.adapter.layers - 1)
        grafts = {
            PERSONA: [SpanGraft(h, t, (span,)) for h, t, span in zip(some, targets, ends, strict=True)],
            PERSONA_LATE: [
                SpanGraft(h, t, (span,), upper) for h, t, span in zip(some, targets, ends, strict=True)
            ],
            AFTER: [
                SpanGraft(h, t, ((span[1], len(h) - 1),)) for h, t, span in zip(some, targets, ends, strict=True)
            ],
        }
        # Cell by cell, so that the guards, which look at the first few, see every kind once and not three times.
        every = [graft for kinds in zip(*grafts.values(), strict=True) for graft in kinds]
        continuations = [tokens for tokens in tails.continuations for _ in grafts]
        whole = spans(cells.adapter, every, continuations)
        made = {name: whole.chosen(range(k, len(every), len(grafts))) for k, name in enumerate(grafts)}
        measured = late_divergence(tails, {HOST: [[] for _ in rows], **made}, "transplanting", target)
        return self._table("transplants of spans", measured, cells.table.iloc[rows])

    def _prompts(self, persona: str) -> list[Prompt]:
        design = self.cells.design
        return [design.prompt(persona, design.text(cell.task)) for cell in self.cells.cells]

    def _tails(self, prompts: Sequence[Prompt], rows: Sequence[int] | None = None) -> Tails:
        """Cut at p_user_last, so that every position of an injection is in the tail."""
        cells = self.cells
        answers = [cells.answers[row][:WINDOW] for row in (range(len(prompts)) if rows is None else rows)]
        return Tails(
            cells.adapter, prompts, answers, [len(prompt) - 1 - cells.design.header for prompt in prompts]
        )

    def _patched_in(self, states: Tensor, layers: Sequence[int], sites: Sequence[str]) -> list[list[Edit]]:
        """By cell: its states, (cell, site, layer, width), put in at these layers and sites."""
        cells = self.cells
        return [
            [
                replace(
                    block_input.layer(layer)[cells.offset(site)], one[SITES.index(site), cells.layers.index(layer)]
                )
                for layer in layers
                for site in sites
            ]
            for one in states
        ]

    def _table(self, name: str, measured: Mapping[str, Divergence], table: pd.DataFrame) -> Measurement:
        columns = {what: found.totals.double().numpy() for what, found in measured.items()}
        prompts = dict(zip(self.cells.table.index, self.cells.prompts, strict=True))
        shown = {item: {"target": prompts[item].text} for item in table.index}
        return Measurement(name, "nats", pd.DataFrame(columns, index=table.index), table, shown)

    # -- figures -----------------------------------------------------------------------------------------------

    def notes(self) -> tuple[str, ...]:
        """Which cells, layers and sites were measured."""
        return self.cells.notes()

    def figures(self) -> tuple[Figure, ...]:
        """Closures with intervals, the effect of scaling, and the numbers as the paper gives them."""
        injected = [name for name in self.measurement.conditions if name not in (HOST, PREFIX)]
        groups = {
            "one state": [ORACLE, CACHED, *map(scaled, SCALES)],
            "more of them": [name for name in injected if LAYERS in name or POSITIONS in name],
            "keys and values": [PREFIX, *self._spans()],
        }
        closed = Dots.of(
            "closure",
            f"Share of the distance from host (baseline persona) to target (persona) that goes away, over {WINDOW} "
            f"tokens; 0 the host, 1 the target. One state: at the last token, layer {self.layer}. 4 positions: "
            f"{', '.join(SITES)}. All layers: {', '.join(map(str, self.cells.layers))}. K/V: keys and values, in the "
            f"upper layers from {self.layer} on.",
            {name: {what: self.closure(what).describe() for what in members} for name, members in groups.items()},
            reference=1.0,
        )
        strengths = {0.5: scaled(0.5), 1.0: CACHED, 2.0: scaled(2.0), 4.0: scaled(4.0)}
        closures = [self.closure(what).describe() for what in strengths.values()]
        strength = Curves(
            "times the cached vector",
            "closure",
            f"The persona's vector, added at the last token at layer {self.layer} with several strengths.",
            [Series.through("cached", list(strengths), closures)],
            reference=0.0,
            whole=False,
        )
        return (
            closed.titled("What vectors and transplants close"),
            strength.titled("Strength of the cached vector"),
            self._numbers([HOST, *injected, PREFIX]).titled("Injections in numbers"),
        )

    def _spans(self) -> list[str]:
        try:
            return [name for name in self.aligned.conditions if name != HOST]
        except NotApplicable as error:
            note(str(error))
            return []

    def _numbers(self, names: Sequence[str]) -> Table:
        host = self.measurement.condition(HOST)
        rows: list[list[str | float | None]] = []
        for name in names:
            values = self.measurement.condition(name)
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            closures = 1 - np.divide(values, host, out=np.ones_like(values), where=host > 0)
            numbers = (middle, low, high, (values < host).mean(), np.median(closures))
            rows.append([name, *map(float, numbers)])
        return Table(
            f"KL in nats over {WINDOW} tokens of the target's answer; better: share of cells nearer to the target than "
            "the host is; closure: median over cells (the claim's is a ratio of means).",
            ["injected", "median", "lower quartile", "upper quartile", "better", "closure"],
            rows,
        )


def scaled(factor: float) -> str:
    """Name of the cached vector at a strength."""
    return f"{CACHED} x {factor:g}"
