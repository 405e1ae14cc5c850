"""Sweeps over places: the outcome with each layer's and position's own direction edited, and the choice among them.

    found = sweep(model, contrast, outcome.only(harmful), split.discovery, kind="remove")
    place = choose(found, sign=-1)

The direction of each place is fitted on the discovery half and edited at the place's own layer, at the tokens after the
instruction unless told otherwise. An edited run starts there, so that a sweep costs a small part of one run per place.
What is chosen on the discovery half is judged on the other half.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.adapters.protocol import Adapter
from auditkit.claims.evidence import note
from auditkit.engine.edits import Edit
from auditkit.engine.sites import Position
from auditkit.methods.contrast.directions import Contrast, Direction, Layers
from auditkit.methods.contrast.effects import Sign
from auditkit.methods.contrast.outcomes import AFTER, PLAIN, Outcome, measured
from auditkit.methods.contrast.states import ContrastError
from auditkit.notebook import Showable
from auditkit.record.figures import Figure, Heatmap

Array = NDArray[np.float64]
Kind = Literal["remove", "add"]

KEPT = 0.8
"""Share of the depth in which a place is chosen: directions of the last layers write the answer's tokens themselves
(Arditi et al. 2024, arXiv:2406.11717)."""


@dataclass(frozen=True)
class Place:
    """A chosen place, and the outcome's mean change by the edit there."""

    layer: int
    position: Position
    change: float


@dataclass(frozen=True, eq=False)
class Swept(Showable):
    """An outcome's change at every place.

    Attributes:
        name, unit: of the outcome.
        kind: whether directions were removed or added.
        depth: layers of the model.
        layers, positions: the places.
        changes: (items, layers, positions) change from the run without edits; 0 where both kinds have one mean.
        table: (item x factor) cluster labels.
        directions: layer, position -> the direction that was edited there.
        notes: what the guards of the runs measured; noted under every claim that uses a change.
    """

    name: str
    unit: str
    kind: Kind
    depth: int
    layers: tuple[int, ...]
    positions: tuple[Position, ...]
    changes: Array
    table: pd.DataFrame
    directions: dict[tuple[int, Position], Direction]
    notes: tuple[str, ...] = ()

    def in_words(self) -> str:
        frame = self.to_frame()
        best = frame.iloc[int(frame["change"].abs().to_numpy().argmax())]
        where = f"layer {best['layer']}, position {best['position']}"
        done = "removed" if self.kind == "remove" else "added"
        sizes = f"{len(self.layers)} layers x {len(self.positions)} positions, {len(self.table)} items"
        return f"{self.name} ({self.unit}), directions {done} at {sizes}; most at {where} ({best['change']:+.3g})"

    def to_frame(self) -> pd.DataFrame:
        """A row for each place: the mean change over the items."""
        means = self._means()
        rows = [
            {"layer": layer, "position": position, "change": float(means[i, j])}
            for i, layer in enumerate(self.layers)
            for j, position in enumerate(self.positions)
        ]
        return pd.DataFrame(rows)

    def figures(self, title: str = "", chosen: Place | None = None) -> tuple[Figure, ...]:
        """The mean change by layer and position, the chosen place with a frame."""
        means = self._means().T
        done = "removed" if self.kind == "remove" else "added"
        frame = [(self.positions.index(chosen.position), self.layers.index(chosen.layer))] if chosen else []
        framed = "; the frame marks the chosen place" if chosen else ""
        caption = (
            f"Mean change of {self.name} on the discovery half when the direction of each layer and position is "
            f"{done}{framed}. This is exploratory: the other half judges."
        )
        grid = Heatmap(
            "layer", "position", f"change of {self.name} ({self.unit})", caption, [str(n) for n in self.layers],
            [str(position) for position in self.positions], [[float(v) for v in row] for row in means],
            outlined=frame, scale="centred",
        )  # fmt: skip
        return (grid.titled(title or f"change of {self.name} by place"),)

    def _means(self) -> Array:
        note(*self.notes)
        means: Array = self.changes.mean(0)
        return means


def sweep(
    adapter: Adapter,
    contrast: Contrast,
    outcome: Outcome,
    items: Iterable[str] | None = None,
    *,
    kind: Kind = "remove",
    dose: float | None = 0.1,
    at: Position = AFTER,
    layers: Collection[int] | None = None,
    reach: Layers = "own",
    description: str = "sweep over places",
) -> Swept:
    """Measure the outcome with the direction of every place edited there.

    Args:
        outcome: on items of the discovery half.
        items: the contrast's prompts on which directions are fitted, by name.
        kind: "remove" projects the direction out, "add" adds it.
        dose: of what is added, as a share of the stream's norm; None adds each direction as long as it is.
        at: where in the prompts it is edited: "after" the instruction, "all", or another span of the outcome's.
        layers: of the contrast's states; all where None.
        reach: at which layers it is edited: the place's "own", "all", or (first, last).

    Raises:
        ContrastError: an unknown kind, a layer that was not read, equal means at every place, or too few prompts.
        SiteError, NotApplicable, GuardTripped: see `auditkit.engine.conditions`.
    """
    if kind not in ("remove", "add"):
        raise ContrastError(f"kind '{kind}': give remove or add")
    states, fitted = contrast.states, None if items is None else list(items)
    chosen = states.layers if layers is None else tuple(layers)
    places = [(layer, position) for layer in chosen for position in states.positions]
    differences = contrast.differences(states.values, fitted)  # at all places together
    directions: dict[tuple[int, Position], Direction] = {}
    conditions: dict[str, list[Edit]] = {}
    for layer, position in places:
        if not differences[states.place(layer, position)].any():
            continue  # both kinds have one mean there, so there is no direction to edit
        one = Direction(contrast.name, differences[states.place(layer, position)][None], layer, position)
        directions[layer, position] = one
        length = contrast.dose(one, fitted) if dose is None else dose
        edit = one.remove(reach, at) if kind == "remove" else one.add(length, reach, at)
        conditions[f"layer {layer}, position {position}"] = [edit]
    if not conditions:
        raise ContrastError(f"'{contrast.name}': both kinds have one mean at every place")
    values, notes = measured(adapter, outcome, conditions, description)
    changes = np.zeros((len(outcome.table), len(chosen), len(states.positions)))
    for name, (layer, position) in zip(conditions, directions, strict=True):
        changes[:, chosen.index(layer), states.positions.index(position)] = values[name] - values[PLAIN]
    return Swept(
        outcome.name,
        outcome.unit,
        kind,
        adapter.layers,
        chosen,
        states.positions,
        changes,
        outcome.table,
        directions,
        notes,
    )


def choose(
    found: Swept,
    sign: Sign,
    *,
    share: float = KEPT,
    allowed: Callable[[Direction], bool] | None = None,
) -> Place | None:
    """The place with the largest mean change of this sign; None where no place moves that way or is allowed.

    Args:
        sign: +1 for a rise of the outcome, -1 for a fall.
        share: places in deeper layers than this share of the depth are left out.
        allowed: is asked about the direction of each place, from the best on, until it says yes: does it leave benign
            text alone, and so on.
    """
    means = found._means()
    places = [
        Place(layer, position, float(means[i, j]))
        for i, layer in enumerate(found.layers)
        for j, position in enumerate(found.positions)
        if layer < share * found.depth and sign * means[i, j] > 0
    ]
    for place in sorted(places, key=lambda place: -sign * place.change):
        if allowed is None or allowed(found.directions[place.layer, place.position]):
            return place
    return None
