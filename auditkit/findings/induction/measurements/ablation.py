"""Ablations of the induction heads, compared with random heads of the same layers.

On the repeat the output of every found head (z, before the output projection) is replaced by its mean over the
sequences on which the heads were found (mean ablation), or by what it is at the same place of another sequence
(resample ablation). The measure is the loss on the repeat. The heads matter if it rises by more than under the same
ablation of random heads, as many in each layer. Every sequence is measured under ablation of the heads that the other
half found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component, Place
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.engine.continuation.late import late_losses
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.edits import Edit, replace
from auditkit.engine.sites import head as site
from auditkit.findings.induction.measurements.heads import INDUCTION, InductionHeads, difference, listed
from auditkit.findings.induction.measurements.repeats import NATS
from auditkit.methods.head_search import Head
from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

SETS = 2
"""Random sets of heads that the found ones are compared with, both of them."""
SHARE = 0.6
"""Share of the sequences of each half on which heads are ablated: 10 of 16; see docs/decisions/induction.md."""
MEAN, RESAMPLE = ABLATIONS = ("mean ablation", "resample ablation")
AS_IT_IS = "as it is"

Values = Mapping[int, Mapping[Place, Tensor]]
"""Sequence -> place -> (token of the repeat, head, size)."""


class InductionAblation(Showable):
    """Ablations of one model's induction heads on the repeat; measured once, used by every claim.

    Args:
        heads: the search.
    """

    def __init__(self, heads: InductionHeads) -> None:
        self.heads, self.repeats = heads, heads.repeats
        self.adapter, self.seed = heads.repeats.adapter, heads.repeats.seed

    def raised(self, ablation: str) -> Estimate:
        """By how much an ablation of the found heads raises the loss on the repeat."""
        return difference(self._table, ablation, AS_IT_IS, f"loss on the repeat, {ablation} minus as it is")

    def over_random(self, ablation: str) -> tuple[Estimate, ...]:
        """By how much more an ablation of the found heads raises the loss than that of each random set of heads."""
        return tuple(
            difference(
                self._table, ablation, of_set(ablation, n), f"{ablation} of the heads minus that of random set {n}"
            )
            for n in range(SETS)
        )

    def notes(self) -> tuple[str, ...]:
        """Which heads are ablated, and what guards the numbers."""
        found = [self.heads.searched(INDUCTION, exchanged).found for exchanged in (False, True)]
        return (
            f"heads ablated on sequences of the second half: {listed(found[0]) or 'none'}; of the first half: "
            f"{listed(found[1]) or 'none'}",
            "guards: runs from the cached first copy have the logits of whole runs, the identity edit changed none of "
            "them and the full patch gave those of its source, all within the noise floor; every edit was made exactly "
            "once",
        )

    def figures(self) -> tuple[Figure, ...]:
        """The loss without ablation, and under each of them."""
        groups = {
            ablation: {
                "induction heads": self.raised(ablation).describe(),
                **{
                    f"random heads of the same layers, set {n}": difference(
                        self._table, of_set(ablation, n), AS_IT_IS, f"random set {n}"
                    ).describe()
                    for n in range(SETS)
                },
            }
            for ablation in ABLATIONS
        }
        drawn = Dots.of(
            "rise of the loss on the repeat, in nats",
            "How much the loss on the repeat rises when the heads' output is replaced there. Every sequence is "
            "measured under ablation of the heads that the other half of the sequences found; random heads lie in the "
            "same layers, as many in each.",
            groups,
            reference=0.0,
        )
        return (drawn.titled("What the repeat costs without the induction heads"),)

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def _table(self) -> Measurement:
        """Loss on the repeat of every sequence for which heads were found, under every condition.

        Raises:
            NotApplicable: the model has no induction heads, or no other heads beside them.
        """
        found = self.heads.by_row()
        rows = [row for exchanged in (False, True) for row in some_of(self.heads.rows(exchanged)[1], SHARE)]
        ablated = {row: found.get(row, ()) for row in rows}
        sets = {n: {row: random_heads(self.heads, ablated[row], n) for row in rows} for n in range(SETS)}
        tails, tokens = self._tails(rows), self.repeats.sequences.length - 1
        layers = sorted(
            {layer for each in (ablated, *sets.values()) for some in each.values() for layer, _ in some}
        )
        values = dict(zip(rows, tails.read([(Component.Z, layer) for layer in layers]), strict=True))
        conditions: dict[str, list[list[Edit]]] = {AS_IT_IS: [[] for _ in rows]}
        for ablation, give in ((MEAN, self._average(values)), (RESAMPLE, self._other(values))):
            for name, heads in ((ablation, ablated), *((of_set(ablation, n), each) for n, each in sets.items())):
                conditions[name] = [_edits(heads[row], give(row), tokens) for row in rows]
        losses = late_losses(tails, conditions, "ablation of induction heads")
        if tails.missed:
            note(
                f"every run began at the first block, since restarts from the first edited one failed: {tails.missed}"
            )
        columns = {name: np.array([float(loss.mean()) for loss in by_row]) for name, by_row in losses.items()}
        kept = [k for k, row in enumerate(rows) if row in found]
        whole = self.repeats.table("loss on the repeat", NATS, {}).take(np.array([rows[k] for k in kept]))
        return whole.with_conditions({name: values[kept] for name, values in columns.items()})

    def _tails(self, rows: Sequence[int]) -> Tails:
        """The repeats of some sequences, as tails after their first copy.

        The first token of the repeat has not been seen to come next, so the losses are of those after it.
        """
        made = self.repeats.sequences
        whole = [made.repeated[row].ids for row in rows]
        cut = made.start + made.length
        return Tails(
            self.adapter,
            [Prompt("", ids[: cut + 1]) for ids in whole],
            [ids[cut + 1 :] for ids in whole],
            [cut] * len(whole),
        )

    def _average(self, values: Values) -> Callable[[int], Mapping[Place, Tensor]]:
        """For a sequence, the mean over the tokens of the other half's sequences."""
        second = set(self.heads.rows(False)[1])
        means = {
            half: {
                place: torch.stack([each[place] for row, each in values.items() if (row in second) is not half])
                .double()
                .mean((0, 1))
                .float()[None]
                for place in next(iter(values.values()))
            }
            for half in (False, True)
        }
        return lambda row: means[row in second]

    def _other(self, values: Values) -> Callable[[int], Mapping[Place, Tensor]]:
        """For a sequence, what another one of its half has at the same places."""
        partner: dict[int, int] = {}
        second = set(self.heads.rows(False)[1])
        for half in (False, True):
            rows = sorted(row for row in values if (row in second) is half)
            order = stream(self.seed, "resampled heads", str(half)).permutation(rows).tolist()
            partner |= dict(zip(order, [*order[1:], order[0]], strict=True))
        return lambda row: values[partner[row]]


def some_of(rows: Sequence[int], share: float) -> Sequence[int]:
    """The first ones, as many as the share says and at least one."""
    return rows[: max(1, round(share * len(rows)))]


def of_set(ablation: str, number: int) -> str:
    """Name of the condition in which a random set is ablated."""
    return f"{ablation}, random set {number}"


def random_heads(
    heads: InductionHeads, found: Sequence[Head], number: int, also: Sequence[Head] = ()
) -> tuple[Head, ...]:
    """Random heads, as many in each layer as were found there, and none of the found ones.

    Args:
        number: of the set; each is drawn by itself.
        also: heads that are not drawn either.

    Raises:
        Unsupported: a layer has no heads left to draw.
    """
    repeats, drawn = heads.repeats, list[Head]()
    draw = stream(repeats.seed, "random heads of the same layers", str(number), listed(found))
    for layer in sorted({layer for layer, _ in found}):
        count = sum(other == layer for other, _ in found)
        free = [(layer, h) for h in range(repeats.adapter.heads) if (layer, h) not in {*found, *also}]
        if len(free) < count:
            raise Unsupported(
                f"layer {layer} has {len(free)} other heads to compare the {count} found ones with; random heads of "
                "the same layers are the control"
            )
        drawn += [free[n] for n in draw.permutation(len(free))[:count]]
    return tuple(drawn)


def _edits(heads: Sequence[Head], values: Mapping[Place, Tensor], tokens: int) -> list[Edit]:
    """Replace the output of some heads at the tokens of the repeat; `values` are of one token or of all of them."""
    return [replace(site(layer, n)[0, tokens], values[Component.Z, layer][:, n : n + 1]) for layer, n in heads]
