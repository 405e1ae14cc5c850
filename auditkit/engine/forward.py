"""Runs with edits in place, and the runs that give them their activations.

A batch of `Edited` prompts becomes touches: functions that the adapter calls with the activation at each edited
place. Edits that are alike share one assignment. Whatever gives activations is run first, once, however many edits
take from it; a donor that has edits of its own takes from other donors in turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from operator import itemgetter
from typing import cast

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.touches import keep
from auditkit.adapters.protocol import Adapter, Batch, Capability, Component, Place, Restartable, Touch
from auditkit.engine import arguments
from auditkit.engine.directions import Along, AsLong, FromValue
from auditkit.engine.edits import Donor, Edit, Edited, Spot, layers_of, located, remaining, spots
from auditkit.engine.guards import GuardTripped, costing, note_edits, spending
from auditkit.engine.sites import Site, SiteError


@dataclass
class Donated:
    """What donors gave: activations (position, ...) by donor and place, logits (vocabulary,) by donor where they were
    run to the end, and how many token-layers it cost."""

    activations: dict[tuple[Donor, Place], Tensor] = field(default_factory=dict)
    logits: dict[Donor, Tensor] = field(default_factory=dict)
    cost: int = 0

    def take(
        self, donors: Sequence[Donor], logits: Tensor | None, kept: Mapping[Place, Tensor], blocks: int = 0
    ) -> None:
        """Keep what one batch of donors gave, row by row and without its padding, in a run of so many blocks."""
        for row, donor in enumerate(donors):
            length = len(donor) if isinstance(donor, Prompt) else len(donor.prompt)
            self.cost += length * blocks
            if logits is not None:
                self.logits[donor] = logits[row]
            for place, value in kept.items():
                self.activations[donor, place] = _unpadded(place, value[row], length)


_Alike = tuple[int, int, int, tuple[int, ...] | None, float, tuple[FromValue, float] | None]
"""What edits at one place share that are made together: order, first and last column, heads, share kept, and what is
made of the value with its factor."""


class Interventions:
    """The edits of a batch as touches, which count how often they fire.

    Args:
        runs: one per row of the batch.
        donated: what the donors of their edits gave.

    Raises:
        SiteError, NotApplicable: see `auditkit.engine.edits.spots`.
    """

    def __init__(self, adapter: Adapter, batch: Batch, runs: Sequence[Edited], donated: Donated) -> None:
        self._place([list(spots(adapter, run)) for run in runs], batch.pads, donated)

    @classmethod
    def at(cls, rows: Sequence[Sequence[Spot]], pads: Sequence[int]) -> Interventions:
        """Edits that take from no other run, where it is known already that they fit.

        Args:
            pads: for each row, how much further in the batch a position is than in the row's prompt.
        """
        made = cls.__new__(cls)
        made._place(rows, pads, Donated())
        return made

    def _place(self, rows: Sequence[Sequence[Spot]], pads: Sequence[int], donated: Donated) -> None:
        groups: dict[Place, dict[_Alike, _Group]] = {}
        for row, (found, pad) in enumerate(zip(rows, pads, strict=True)):
            earlier: dict[Place, int] = {}
            for place, start, stop, heads, edit in found:
                order = earlier[place] = earlier.get(place, -1) + 1
                made = (edit.give, edit.factor) if isinstance(edit.give, Along | AsLong) else None
                key = (order, start + pad, stop + pad, heads, edit.keep, made)
                group = groups.setdefault(place, {}).setdefault(key, _Group(edit, start + pad, stop + pad))
                group.rows.append(row)
                group.gives.append(_given(donated, edit, place, start, stop))
        if groups:
            note_edits()
        self.fired = dict.fromkeys(groups, 0)
        self.touches: dict[Place, Touch] = {
            place: self._touch(place, [parts[key] for key in sorted(parts, key=itemgetter(0))])
            for place, parts in groups.items()
        }

    def _touch(self, place: Place, groups: Sequence[_Group]) -> Touch:
        def touch(value: Tensor) -> Tensor:
            self.fired[place] += 1
            new = value.clone()
            for group in groups:
                group.apply(place, new)
            return new

        return touch

    def confirm(self, times: int = 1) -> None:
        """Every edit has fired exactly so often.

        Raises:
            GuardTripped: one has not.
        """
        for place, fired in self.fired.items():
            if fired != times:
                expected = "once" if times == 1 else f"{times} times"
                raise GuardTripped(
                    f"the edit at {words(place)} fired {fired} times in one run instead of {expected}"
                )


@dataclass
class _Group:
    """Rows whose edits differ only in what they are given."""

    edit: Edit
    start: int
    stop: int
    rows: list[int] = field(default_factory=list)
    gives: list[Tensor | None] = field(default_factory=list)

    def apply(self, place: Place, value: Tensor) -> None:
        """Edit `value`, in its component's shape, in place."""
        by_query = place[0] is Component.PATTERN
        view = value.transpose(1, 2) if by_query else value  # (row, position, ...)
        rows = torch.tensor(self.rows, device=value.device)[:, None]
        positions = torch.arange(self.start, self.stop, device=value.device)
        heads = self.edit.site.heads
        index: tuple[Tensor, ...] = (rows, positions)
        if heads is not None:
            index = (rows[..., None], positions[:, None], torch.tensor(heads, device=value.device))
        old = view[index]
        new = remaining(old, self.edit.keep)
        if isinstance(self.edit.give, Along | AsLong):
            new = new + self.edit.factor * self.edit.give.of(old)
        for row, give in enumerate(self.gives):
            if give is not None:
                given = give.to(device=value.device, dtype=value.dtype)
                if by_query:  # padding stands at the head of the keys
                    given = nn.functional.pad(given, (old.shape[-1] - given.shape[-1], 0))
                new[row] += given
        view[index] = new


def _given(donated: Donated, edit: Edit, place: Place, start: int, stop: int) -> Tensor | None:
    if edit.give is None or isinstance(edit.give, Along | AsLong):  # the latter is made where the value is known
        return None
    if isinstance(edit.give, Tensor):
        give = edit.give
    else:
        give = donated.activations[edit.give, place][start:stop]
        if edit.site.heads is not None:
            give = give[:, list(edit.site.heads)]
    return give if edit.factor == 1 else edit.factor * give


def donate(
    adapter: Adapter,
    runs: Iterable[Edited],
    budget: int,
    also: Mapping[Donor, Collection[Place]] | None = None,
    *,
    answered: bool = False,
) -> Donated:
    """Run every donor that the edits of `runs` take from, once.

    Args:
        budget: padded tokens per batch.
        also: further runs whose activations at some places are wanted.
        answered: the logits are wanted too. Otherwise a batch is run no further than to the last place that is wanted,
            where the model can be stopped there.
    """
    wanted: dict[Donor, set[Place]] = {donor: set(places) for donor, places in (also or {}).items()}
    for run in runs:
        for spot in spots(adapter, run):
            if isinstance(spot.edit.give, (Prompt, Edited)):
                wanted.setdefault(spot.edit.give, set()).add(spot.place)
    if not wanted:
        return Donated()
    as_runs = {donor: donor if isinstance(donor, Edited) else Edited(donor) for donor in wanted}
    deeper = donate(adapter, [run for run in as_runs.values() if run.edits], budget)
    donated = Donated(cost=deeper.cost)
    order = sorted(wanted, key=lambda donor: len(as_runs[donor].prompt))
    while order:
        longest = len(as_runs[order[-1]].prompt)
        together = order[-max(1, budget // longest) :]
        del order[-len(together) :]
        places = set().union(*(wanted[donor] for donor in together))
        some = [as_runs[donor] for donor in together]
        blocks = adapter.layers if answered else _blocks(adapter, some, places)
        if blocks == adapter.layers:
            donated.take(together, *execute(adapter, some, deeper, places), blocks)
            continue
        kept: dict[Place, Tensor] = {}
        batch = adapter.batch([run.prompt for run in some])
        with spending(adapter, blocks * int(batch.mask.sum())):
            cast(Restartable, adapter).reach(batch, {place: keep(kept, place) for place in places}, blocks)
        reached(kept, places)
        donated.take(together, None, kept, blocks)
    return donated


def _blocks(adapter: Adapter, runs: Sequence[Edited], places: Collection[Place]) -> int:
    """How many blocks plain runs have to pass to reach all of these places; all where something is edited in them, or
    where the model cannot be stopped."""
    if any(run.edits for run in runs) or not adapter.support().get(Capability.BLOCKWISE):
        return adapter.layers
    before = (Component.EMBEDDINGS, Component.BLOCK_INPUT)
    return max((layer + (component not in before) for component, layer in places), default=adapter.layers)


def _unpadded(place: Place, value: Tensor, length: int) -> Tensor:
    """(position, ...) of one row without its padding; attention probabilities as (query, head, key)."""
    if place[0] is Component.PATTERN:
        return value[:, -length:, -length:].transpose(0, 1)
    return value[-length:]


def execute(
    adapter: Adapter, runs: Sequence[Edited], donated: Donated, places: Collection[Place] = ()
) -> tuple[Tensor, dict[Place, Tensor]]:
    """One batch: logits (run, vocabulary) after the last token, and the activations at `places` as they flow on.

    Raises:
        GuardTripped: an edit that did not fire exactly once, a place that was not reached.
        TypeError: an argument of another kind.
    """
    arguments.model(adapter)
    arguments.several("runs", runs, Edited, "a list of Edited runs, such as [Edited(prompt)]", "an Edited run")
    arguments.places("places", places)
    batch = adapter.batch([run.prompt for run in runs])
    interventions = Interventions(adapter, batch, runs, donated)
    with costing(adapter, sum(len(run.prompt) for run in runs)):
        seen = _seen(adapter, batch, places, interventions.touches)
    interventions.confirm()
    return seen


def capture(adapter: Adapter, batch: Batch, places: Collection[Place]) -> tuple[Tensor, dict[Place, Tensor]]:
    """One plain run of a batch: logits (batch, vocabulary) and activations, in their component's shape.

    Raises:
        ValueError: a place that this model does not have, before anything runs.
        GuardTripped: a place that was not reached, or a run that cost more or less than itself.
        TypeError: an argument of another kind.
    """
    arguments.model(adapter)
    arguments.one("batch", batch, Batch, "a batch, as model.batch(prompts) makes it")
    arguments.places("places", places)
    with costing(adapter, int(batch.mask.sum())):
        return _seen(adapter, batch, places, {})


def _seen(
    adapter: Adapter, batch: Batch, places: Collection[Place], touches: Mapping[Place, Touch]
) -> tuple[Tensor, dict[Place, Tensor]]:
    kept: dict[Place, Tensor] = {}
    keeping = {place: keep(kept, place, touches.get(place)) for place in places}
    logits = adapter.run(batch, {**touches, **keeping})
    reached(kept, places)
    return logits, kept


def reached(kept: Mapping[Place, Tensor], places: Iterable[Place]) -> None:
    """Something was kept at each place.

    Raises:
        GuardTripped: at one there was not.
    """
    for place in places:
        if place not in kept:
            raise GuardTripped(f"nothing was captured at {words(place)}: the model never reached it")


def means(adapter: Adapter, prompts: Sequence[Prompt], site: Site, budget: int) -> dict[int, Tensor]:
    """Layer -> mean activation of a site over prompts and the site's positions: (width,) or (head, size).

    Raises:
        SiteError, NotApplicable: see `auditkit.engine.edits.spots`; attention probabilities have no mean over
            positions.
        TypeError: an argument of another kind, such as one prompt where a list is meant.
    """
    arguments.model(adapter)
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    arguments.one("site", site, Site, "one site, such as z.layer(1).head(0)")
    arguments.one("budget", budget, Integral, "a number of padded tokens, such as TOKEN_BUDGET")
    if site.component is Component.PATTERN:
        raise SiteError(f"{site}: rows of different length have no mean; use z")
    if not prompts:
        raise SiteError(f"{site}: no prompts to take the mean over")
    spans = [located(adapter, site, len(prompt), {}) for prompt in prompts]
    places = {(site.component, layer) for layer in layers_of(adapter, site)}
    donated = donate(adapter, [], budget, dict.fromkeys(prompts, places))
    out: dict[int, Tensor] = {}
    for place in sorted(places):
        rows = [donated.activations[p, place][start:stop] for p, (start, stop) in zip(prompts, spans, strict=True)]
        value = torch.cat(rows).double().mean(0).to(rows[0].dtype)
        out[place[1]] = value if site.heads is None else value[list(site.heads)]
    return out


def words(place: Place) -> str:
    """A place as error messages name it."""
    return f"{place[0]} of layer {place[1]}"
