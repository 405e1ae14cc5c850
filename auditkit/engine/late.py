"""Runs whose edits begin late: many edited versions of one prompt share what stands in front of the edits.

Nothing before the first edited position changes. So the keys and values of a prompt's head are made once, and every
edited version costs only its tail: from the cut to the end of the continuation. Of a prompt of 60 tokens that is
patched at its last token and read over 10, that is a sixth.

    tails = Tails(model, prompts, continuations, cuts)
    states = tails.read([(Component.BLOCK_INPUT, 12)])                         activations from the cut on
    late_divergence(tails, {"patched": [[replace(block_input.layer(12)[0], h)] for h in states[...]]})

Positions count from the cut: 0 is the first token of the tail. Where a family keeps no keys and values, the cut is only
a name for a place, and whole sequences are run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace as changed
from typing import cast

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Continuable, Memory, Place, Support, Touch
from auditkit.adapters.touches import keep
from auditkit.engine.batching import in_batches
from auditkit.engine.continued import GUARDED_ROWS, Continued, Forced, forced, window_lengths
from auditkit.engine.divergence import Divergence, compare
from auditkit.engine.edits import Edit, Edited, replace, spots
from auditkit.engine.guards import GuardTripped, costing, pieces_floor
from auditkit.engine.runs import Donated, Interventions, reached
from auditkit.engine.sites import Site, SiteError

Edits = Sequence[Sequence[Edit]]
"""By row; sites name one position of the tail, and what is given is a tensor."""


class Tails:
    """Prompts with given continuations, cut where edits may begin.

    Args:
        cuts: by row, how many tokens of the prompt stand in front of the tail; at least the last token is in it.

    Raises:
        SiteError: a missing or empty continuation, or a cut that is not inside its prompt.
    """

    def __init__(
        self,
        adapter: Adapter,
        prompts: Sequence[Prompt],
        continuations: Sequence[Sequence[int]],
        cuts: Sequence[int],
    ) -> None:
        self.adapter, self.prompts = adapter, tuple(prompts)
        self.continuations = [tuple(tokens) for tokens in continuations]
        self.windows = window_lengths(len(prompts), continuations)
        for prompt, cut in zip(prompts, cuts, strict=True):
            if not 1 <= cut < len(prompt):
                raise SiteError(f"a cut after {cut} of a prompt's {len(prompt)} tokens; give 1 to one less")
        able = adapter.support().get("generation", Support(False))
        self.cuts = tuple(cuts)
        self._heads = [prompt.ids[:cut] if able else () for prompt, cut in zip(prompts, cuts, strict=True)]
        whole = [(*p.ids, *c[:-1]) for p, c in zip(prompts, self.continuations, strict=True)]
        self._rests = [ids[len(head) :] for ids, head in zip(whole, self._heads, strict=True)]
        self._kept: tuple[tuple[int, ...], Memory] | None = None

    def forced(self, edits: Edits | None = None) -> Forced:
        """Every row read over its continuation, with its edits; plain where None."""
        made = [[self._moved(row, edit) for edit in row_edits] for row, row_edits in enumerate(edits or [])]
        for row, row_edits in enumerate(made):  # refuse what cannot be made before anything runs
            list(spots(self.adapter, Edited(self._rest(row), tuple(row_edits))))

        def logits(rows: list[int]) -> Tensor:
            most = max(self.windows[row] for row in rows)
            parts: dict[int, Tensor] = {}
            for same in self._alike(rows):
                runs = [Edited(self._rest(row), tuple(made[row]) if made else ()) for row in same]
                batch = self.adapter.batch([run.prompt for run in runs])
                interventions = Interventions(self.adapter, batch, runs, Donated())
                got = self._run(same, interventions.touches, min(most, batch.width))
                interventions.confirm()
                parts |= dict(zip(same, nn.functional.pad(got, (0, 0, most - got.shape[1], 0)), strict=True))
            return torch.stack([parts[row] for row in rows])

        return Forced(tuple(map(len, self._rests)), self.windows, logits)

    def read(self, places: Collection[Place]) -> list[dict[Place, Tensor]]:
        """By row: the activations (position of the tail, ...) at some places, in one plain run."""
        out: dict[int, dict[Place, Tensor]] = {}

        def work(rows: list[int]) -> None:
            for same in self._alike(rows):
                kept: dict[Place, Tensor] = {}
                self._run(same, {place: keep(kept, place) for place in places}, 1)
                reached(kept, places)
                for k, row in enumerate(same):
                    start = self.cuts[row] - len(self._heads[row])
                    out[row] = {place: value[k, start:].clone() for place, value in kept.items()}

        in_batches(work, list(map(len, self._rests)), "reading")
        return [out[row] for row in range(len(self.prompts))]

    def some(self, rows: int) -> Tails:
        """The first few rows."""
        return Tails(self.adapter, self.prompts[:rows], self.continuations[:rows], self.cuts[:rows])

    def _rest(self, row: int) -> Prompt:
        return Prompt("", self._rests[row])

    def _moved(self, row: int, edit: Edit) -> Edit:
        """Its position counted in what is run."""
        if not isinstance(edit.site.position, int) or edit.site.position < 0 or not isinstance(edit.give, Tensor):
            raise SiteError(f"{edit.site}: late edits give a tensor at one position, counted from the cut on")
        position = edit.site.position + self.cuts[row] - len(self._heads[row])
        return changed(edit, site=changed(edit.site, position=position))

    def _alike(self, rows: Sequence[int]) -> list[list[int]]:
        """Rows by length of what is run: what goes on has no padding."""
        lengths = sorted({len(self._rests[row]) for row in rows})
        return [[row for row in rows if len(self._rests[row]) == length] for length in lengths]

    def _run(self, rows: list[int], touches: Mapping[Place, Touch], tokens: int) -> Tensor:
        """Logits (row, tokens, vocabulary) of rows whose tails have equal length."""
        memory = self._memory(rows) if self._heads[rows[0]] else None
        batch = self.adapter.batch([self._rest(row) for row in rows])
        with costing(self.adapter, sum(len(self._rests[row]) for row in rows)):
            if memory is None:
                return self.adapter.predict(batch, touches, tokens)
            return cast(Continuable, self.adapter).extend(memory, batch, touches, tokens)[0]

    def _memory(self, rows: list[int]) -> Memory:
        """Of the heads of these rows, each different one run once; kept until other rows come."""
        key = tuple(rows)
        if self._kept is None or self._kept[0] != key:
            heads = [self._heads[row] for row in rows]
            order = {head: i for i, head in enumerate(dict.fromkeys(heads))}
            self._kept = None
            with costing(self.adapter, sum(map(len, order))):
                batch = self.adapter.batch([Prompt("", head) for head in order])
                _, memory = cast(Continuable, self.adapter).extend(None, batch)
            if len(order) < len(rows):
                memory = memory.rows([order[head] for head in heads])
            self._kept = key, memory
        return self._kept[1]


def late_divergence(
    tails: Tails, conditions: Mapping[str, Edits], description: str = "divergence"
) -> dict[str, Divergence]:
    """Divergence of every condition from the unedited run over the continuations: `divergence`, at the price of tails.

    Cost: tail tokens per row for the reference and for each condition, the heads once, and a few whole rows for the
    guards: plain tails must have the logits of whole runs, and so must tails that are given their own activations back
    at every place that some condition edits.

    Raises:
        SiteError, NotApplicable: an edit that cannot be made, before anything runs.
        GuardTripped: a guard found the numbers not to be trusted.
    """
    runs = {name: tails.forced(edits) for name, edits in conditions.items()}
    _guard(tails.some(GUARDED_ROWS), {name: edits[:GUARDED_ROWS] for name, edits in conditions.items()})
    return compare(tails.adapter, tails.forced(), runs, description)


def _guard(tails: Tails, conditions: Mapping[str, Edits]) -> None:
    adapter = tails.adapter
    sites = {
        (edit.site.component, layer, edit.site.position)
        for edits in conditions.values()
        for row in edits
        for edit in row
        for layer in edit.site.layer_indices(adapter.layers)
    }
    own = tails.read({(component, layer) for component, layer, _ in sites})
    back = [
        [
            replace(Site(component, layer, layer)[position], values[component, layer][position])
            for component, layer, position in sorted(sites)
            if isinstance(position, int)
        ]
        for values in own
    ]
    plain = [Continued(Prompt("", prompt.ids)) for prompt in tails.prompts]
    known = forced(adapter, plain, tails.continuations)
    for what, run in (("plain tails miss", tails.forced()), ("own activations change", tails.forced(back))):
        rows = list(range(len(tails.prompts)))
        expected, got = known.logits(rows), run.logits(rows)
        floor = pieces_floor(adapter, expected)
        for k, row in enumerate(rows):
            window = tails.windows[row]
            error = float((got[k, -window:] - expected[k, -window:]).abs().max())
            if not error <= floor:
                raise GuardTripped(
                    f"guard: {what} the logits of prompt {row} by up to {error:.3g}, the noise floor is {floor:.3g}"
                )
