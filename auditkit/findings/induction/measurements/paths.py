"""The path from previous-token heads into the keys of induction heads.

An induction head finds the token after the previous occurrence because that token's key says which token came before
it, and previous-token heads in lower layers are said to write that (Olsson et al. 2022, arXiv:2209.11895). So on the
first copy their output is exchanged for what it is in a sequence of other tokens, and only its direct path through the
residual stream is left open: every other head's output and every MLP's is held at what it is in the sequence itself.
On the repeat nothing is exchanged and nothing that could pass the change on moves, so that the queries there are the
sequence's own, and prefix matching changes by the keys of the first copy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.engine.edits import Edit, Edited, replace, touched
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import GUARDED_PAIRS, guarded
from auditkit.engine.sites import head as site
from auditkit.engine.sites import mlp, z
from auditkit.findings.induction.measurements.ablation import random_heads, some_of
from auditkit.findings.induction.measurements.heads import (
    INDUCTION,
    PREVIOUS_TOKEN,
    InductionHeads,
    difference,
    listed,
)
from auditkit.findings.induction.measurements.repeats import ATTENTION, mean_over, taken
from auditkit.findings.induction.measurements.scores import MATCH, readers
from auditkit.methods.head_search import Head
from auditkit.methods.patching import guards
from auditkit.methods.sequences import read_sequences
from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import CrossFitted
from auditkit.stats.measurement import Measurement

SETS = 2
"""Random sets of heads that the previous-token heads are compared with, both of them."""
SHARE = 0.6
"""Share of the sequences of each half on which paths are patched: 10 of 16; see docs/decisions/induction.md."""
AS_IT_IS, PATCHED = "as it is", "path from previous-token heads"


class PreviousTokenPath(Showable):
    """What the previous-token heads of one model give to the keys of its induction heads; measured once.

    Args:
        heads: the search.
    """

    def __init__(self, heads: InductionHeads) -> None:
        self.heads, self.repeats = heads, heads.repeats

    def cost(self) -> Estimate:
        """How much of the induction heads' prefix matching the exchange takes away, in attention."""
        return difference(self._table, AS_IT_IS, PATCHED, "prefix matching, as it is minus path patched")

    def share(self) -> Estimate:
        """The same as a share of their prefix matching."""
        table = self._table
        columns = (table.condition(AS_IT_IS) - table.condition(PATCHED), table.condition(AS_IT_IS))
        shown = (AS_IT_IS, PATCHED)
        return CrossFitted.of(
            Estimate("prefix matching lost", "of prefix matching", table, *columns, shown_conditions=shown)
        )

    def over_random(self) -> tuple[Estimate, ...]:
        """By how much more it takes away than the same exchange of each random set of heads of the same layers."""
        return tuple(
            difference(
                self._table, of_set(n), PATCHED, f"prefix matching, path from random set {n} minus path patched"
            )
            for n in range(SETS)
        )

    def notes(self) -> tuple[str, ...]:
        """Which heads send and which receive, and what the guards measured."""
        words = []
        for number, exchanged in enumerate((False, True)):
            senders, receivers = self._ends(exchanged)
            words.append(
                f"found on half {number + 1}: from {listed(senders) or 'none'} into the keys of "
                f"{listed(receivers) or 'none'}"
            )
        return ("; ".join(words), self._guards)

    def figures(self) -> tuple[Figure, ...]:
        """Prefix matching as it is, without the path, and without that of random heads."""
        drawn = Dots.of(
            "prefix matching of the induction heads",
            "How much of their attention the induction heads give to the token after the previous occurrence, when "
            "their keys get the output of previous-token heads from a sequence of other tokens, and when they get that "
            "of as many random heads of the same layers.",
            {
                "prefix matching": {
                    name: CrossFitted.of(
                        Estimate(name, ATTENTION, self._table, self._table.condition(name))
                    ).describe()
                    for name in self._table.conditions
                }
            },
            reference=0.0,
        )
        return (drawn.titled("Induction heads without what previous-token heads write"),)

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def _table(self) -> Measurement:
        """Mean prefix matching of the induction heads that the other half found, as it is and with paths patched.

        Raises:
            NotApplicable: no induction head or no previous-token head is confirmed, or none lies below another.
        """
        ends = self._by_row
        rows = sorted(ends)
        pairs = self._pairs(rows)
        runs: dict[str, list[Edited]] = {PATCHED: [], **{of_set(n): [] for n in range(SETS)}}
        for row, pair in zip(rows, pairs, strict=True):
            senders, receivers = ends[row]
            for name, some in zip(
                runs,
                (senders, *(random_heads(self.heads, senders, n, receivers) for n in range(SETS))),
                strict=True,
            ):
                runs[name].append(Edited(pair.base, self.edits(pair, some, receivers)))
        together = [
            run for each in zip(*runs.values(), strict=True) for run in each
        ]  # those of one sequence share donors
        reader, _ = readers(self.repeats.sequences)
        layers = sorted({layer for _, receivers in ends.values() for layer, _ in receivers})
        runs_read = read_sequences(
            self.repeats.adapter, together, reader, "paths into keys", losses_from=None, layers=layers
        )
        read = torch.full((len(together), *self.repeats.scores(MATCH).shape[1:]), torch.nan, dtype=torch.float64)
        read[:, layers] = runs_read.attention[:, 0].double()
        columns = {AS_IT_IS: self.repeats.scores(MATCH)[rows]}
        columns |= {name: read[n :: len(runs)].numpy() for n, name in enumerate(runs)}
        values = {
            name: np.array([float(mean_over(each[k : k + 1], ends[row][1])[0]) for k, row in enumerate(rows)])
            for name, each in columns.items()
        }
        everything = self.repeats.table("prefix matching with paths patched", ATTENTION, {})
        empty = Estimate("", ATTENTION, everything, np.zeros(len(everything.values)))
        return taken(empty, rows).measurement.with_conditions(values)

    def edits(self, pair: PatchPair, senders: Sequence[Head], receivers: Sequence[Head]) -> tuple[Edit, ...]:
        """Exchange the senders' output on the first copy, and hold all other heads and all MLPs below the receivers."""
        made = self.repeats.sequences
        first, last = min(layer for layer, _ in senders), max(layer for layer, _ in receivers) - 1
        held = (z.layers(first, last), mlp.layers(first, last))
        return (
            *(replace(some, pair.base) for some in held),
            *(replace(site(*each)[0, made.start + made.length], pair.source) for each in senders),
        )

    @shared_measurement
    def _guards(self) -> str:
        """The engine's guards on the first pairs, at every place that is edited.

        Raises:
            GuardTripped: one of them found the numbers not to be trusted.
        """
        ends, adapter = self._by_row, self.repeats.adapter
        rows = sorted(ends)[:GUARDED_PAIRS]
        pairs = self._pairs(rows)
        runs = [Edited(pair.base, self.edits(pair, *ends[row])) for row, pair in zip(rows, pairs, strict=True)]
        return guards("paths into keys", guarded(adapter, pairs, sorted(touched(adapter, runs))))

    @shared_measurement
    def _by_row(self) -> Mapping[int, tuple[Sequence[Head], Sequence[Head]]]:
        """Sequence -> previous-token heads and induction heads that the other half found, for some of the sequences."""
        for kind in (INDUCTION, PREVIOUS_TOKEN):
            self.heads.by_row(kind)
        ends: dict[int, tuple[Sequence[Head], Sequence[Head]]] = {}
        for exchanged in (False, True):
            senders, receivers = self._ends(exchanged)
            if senders and receivers:
                ends |= dict.fromkeys(some_of(self.heads.rows(exchanged)[1], SHARE), (senders, receivers))
        if not ends:
            raise NotApplicable("no previous-token head lies in a layer below an induction head")
        return ends

    def _ends(self, exchanged: bool) -> tuple[Sequence[Head], Sequence[Head]]:
        """Previous-token heads below some induction head, and induction heads above some previous-token head."""
        senders, receivers = (self.heads.searched(kind, exchanged).found for kind in (PREVIOUS_TOKEN, INDUCTION))
        highest = max((layer for layer, _ in receivers), default=0)
        lowest = min((layer for layer, _ in senders), default=self.repeats.adapter.layers)
        return (
            [head for head in senders if head[0] < highest],
            [head for head in receivers if head[0] > lowest],
        )

    def _pairs(self, rows: Sequence[int]) -> list[PatchPair]:
        """Sequences, each with the next one, which gives the senders' output."""
        repeated = self.repeats.sequences.repeated
        answers = (repeated[0].ids[-1], repeated[1].ids[-1])
        following = [*rows[1:], rows[0] if len(rows) > 1 else (rows[0] + 1) % len(repeated)]
        return [
            PatchPair(repeated[row], repeated[other], answers) for row, other in zip(rows, following, strict=True)
        ]


def of_set(number: int) -> str:
    """Name of the condition in which the path of a random set is patched."""
    return f"path from random set {number}"
