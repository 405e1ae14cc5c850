"""Prefix-cached runs: many edited versions of one prompt share the KV cache of the tokens before the first edit.

Nothing before the first edited position changes. So the KV cache of the tokens before it is filled once, and every
edited version costs only its tail: the tokens from the cut to the end of the continuation. Where a prompt of 60 tokens
is patched at its last token and compared over 10, that is a sixth. The layers below the first edited one do not change
either: where the model can be restarted, a row joins the run of tails there. Edits of that block's input are made where
it joins, and those of what heads, attention and MLPs give are made on the way.

    tails = Tails(model, prompts, continuations, cuts)
    states = tails.read([(Component.BLOCK_INPUT, 12)])                         activations from the cut on
    late_divergence(tails, {"patched": [[replace(block_input.layer(12)[0], h)] for h in states[...]]})

Positions count from the cut: 0 is the first token of the tail. Where a family has no KV cache that can be shared, whole
sequences are run, and the cut only says where positions are counted from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from functools import partial
from numbers import Integral
from typing import cast

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.touches import keep
from auditkit.adapters.protocol import (
    Adapter,
    Capability,
    Component,
    Continuable,
    Joining,
    Memory,
    Place,
    Restartable,
    Touch,
)
from auditkit.engine import arguments
from auditkit.engine.batching import TOKEN_BUDGET, in_batches
from auditkit.engine.continuation.divergence import LOGIT_BUDGET
from auditkit.engine.continuation.shared_prefix import KEPT_TOKENS, Heads, run_heads
from auditkit.engine.continuation.timed import GUARDED_ROWS, Continued, Forced, forced, window_lengths
from auditkit.engine.directions import Along, AsLong
from auditkit.engine.edits import Edit, Edited, Spot, spots
from auditkit.engine.forward import Donated, Interventions, reached
from auditkit.engine.guards import costing, spending
from auditkit.engine.patching.walks import WITHIN
from auditkit.engine.sites import SiteError

Edits = Sequence[Sequence[Edit]]
"""By row; sites name one position of the tail or a half-open span, and what is given is a tensor."""

_At = tuple[int, int]
"""A condition and a row, by number."""

_INPUT = Component.BLOCK_INPUT


@dataclass(frozen=True)
class _Base:
    """A plain run of some tails as restarts need it: logits (row, window, vocabulary) and inputs of some blocks."""

    logits: Tensor
    memory: Memory
    streams: Mapping[int, Tensor]


class Tails:
    """Prompts with given continuations, cut where edits may begin.

    Args:
        cuts: by row, how many tokens of the prompt stand in front of the tail; at least the last token is in it.
        restarts: False runs every tail from the first block.
        known: runs of what the prompts begin with, to go on from.

    Attributes:
        missed: which guard found that restarts do not give whole runs, and by how much; empty where none did.

    Raises:
        SiteError: a missing or empty continuation, or a cut that is not inside its prompt.
        TypeError: an argument of another shape.
    """

    def __init__(
        self,
        adapter: Adapter,
        prompts: Sequence[Prompt],
        continuations: Sequence[Sequence[int]],
        cuts: Sequence[int],
        *,
        restarts: bool = True,
        known: Heads | None = None,
    ) -> None:
        arguments.model(adapter)
        arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
        arguments.continuations(continuations)
        arguments.several("cuts", cuts, Integral, "a list with one number of tokens for each prompt", "a number")
        self.adapter, self.prompts = adapter, tuple(prompts)
        self.continuations = [tuple(tokens) for tokens in continuations]
        self.windows = window_lengths(len(prompts), continuations)
        for prompt, cut in zip(prompts, cuts, strict=True):
            if not 1 <= cut < len(prompt):
                raise SiteError(f"a cut after {cut} of a prompt's {len(prompt)} tokens; give 1 to one less")
        support = adapter.support()
        able = support.get(Capability.GENERATION)
        self.restarts = bool(restarts and able and support.get(Capability.BLOCKWISE))
        self.cuts = tuple(cuts)
        self._heads = [prompt.ids[:cut] if able else () for prompt, cut in zip(prompts, cuts, strict=True)]
        whole = [(*p.ids, *c[:-1]) for p, c in zip(prompts, self.continuations, strict=True)]
        self._rests = [ids[len(head) :] for ids, head in zip(whole, self._heads, strict=True)]
        self._known = known if able else None
        self._run_heads: Heads | None = None
        self._kept: tuple[tuple[int, ...], Memory] | None = None
        self._bases: dict[tuple[int, ...], _Base] = {}
        self._starts: set[int] = set()
        self._few: Tails | None = None
        self._whole: Tensor | None = None
        self._most = TOKEN_BUDGET
        self.missed = ""

    def forced(self, edits: Edits | None = None) -> Forced:
        """Every row read over its continuation, with its edits; plain where None. Raises as `together`."""
        return self.together({"": [[] for _ in self.prompts] if edits is None else edits})[""]

    def together(self, conditions: Mapping[str, Edits]) -> dict[str, Forced]:
        """The same under several conditions, of which as many as fit are run in one batch.

        Whoever takes them row by row and in this order (`compare` does) has each run once.

        Raises:
            SiteError, NotApplicable: an edit that cannot be made, or edits of another number of rows.
            TypeError: an argument of another shape, such as a flat list of edits.
        """
        arguments.named(
            "conditions", conditions, "a dict from names to edits by row, such as {'patched': [[edit]]}"
        )
        for name, edits in conditions.items():
            argument = f"conditions['{name}']" if name else "edits"
            arguments.nested(argument, edits, Edit, arguments.BY_ROW, "an edit")
            if len(edits) != len(self.prompts):
                raise SiteError(
                    f"{argument}: edits of {len(edits)} rows were given for {len(self.prompts)} prompts"
                )
        made = {
            name: [tuple(self._moved(row, edit) for edit in some) for row, some in enumerate(edits)]
            for name, edits in conditions.items()
        }
        for row, rest in enumerate(self._rests):  # refuse what cannot be made before anything runs
            for edits in made.values():
                list(spots(self.adapter, Edited(Prompt("", rest), edits[row])))
        starts = {self.start(some) for edits in made.values() for some in edits}
        self._starts |= {start for start in starts if start is not None and start < self.adapter.layers}
        names, waiting = list(made), dict[tuple[str, tuple[int, ...]], Tensor]()

        def logits(name: str, rows: list[int]) -> Tensor:
            key = (name, tuple(rows))
            while key not in waiting:
                waiting.clear()
                start = names.index(name)
                some = names[start : start + self._fitting(rows)]
                try:
                    got = self._several(rows, [made[one] for one in some])
                except torch.OutOfMemoryError:
                    if len(some) == 1:
                        raise
                    self._most //= 2
                    continue
                waiting.update({(one, tuple(rows)): part for one, part in zip(some, got, strict=True)})
            return waiting.pop(key)

        lengths, tails = tuple(map(len, self._rests)), ("tails", self.prompts, self.continuations, self.cuts)
        return {
            name: Forced(lengths, self.windows, partial(logits, name), (*tails, self.restarts, made[name]))
            for name in names
        }

    def read(self, places: Collection[Place]) -> list[dict[Place, Tensor]]:
        """By row: the activations (position of the tail, ...) at some places, in one plain run."""
        arguments.places("places", places)
        out: dict[int, dict[Place, Tensor]] = {}

        def work(rows: list[int]) -> None:
            for same in self._alike(rows):
                kept: dict[Place, Tensor] = {}
                self._run(same, {place: keep(kept, place) for place in places}, 1)
                reached(kept, places)
                for k, row in enumerate(same):
                    start = self.cuts[row] - len(self._heads[row])
                    out[row] = {place: value[k, start:].clone() for place, value in kept.items()}

        lengths = [len(head) + len(rest) for head, rest in zip(self._heads, self._rests, strict=True)]
        in_batches(work, lengths, "reading", KEPT_TOKENS)
        return [out[row] for row in range(len(self.prompts))]

    def some(self, rows: int, *, restarts: bool = True) -> Tails:
        """The first few rows."""
        some = (self.prompts[:rows], self.continuations[:rows], self.cuts[:rows])
        return Tails(self.adapter, *some, restarts=restarts and self.restarts, known=self._begun())

    def give_up_restarts(self, reason: str) -> None:
        """Run every tail from the first block from now on; `missed` holds the reason."""
        self.restarts, self.missed, self._few = False, reason, None

    def turned(self) -> Tails:
        """The same prompts with the tokens of their tails in reverse order, read for the same tokens."""
        prompts, continuations = [], []
        for prompt, tokens, cut in zip(self.prompts, self.continuations, self.cuts, strict=True):
            tail = (*prompt.ids[cut:], *tokens[:-1])[::-1]
            prompts.append(Prompt("", (*prompt.ids[:cut], *tail[: len(prompt) - cut])))
            continuations.append((*tail[len(prompt) - cut :], tokens[-1]))
        return Tails(self.adapter, prompts, continuations, self.cuts, restarts=False, known=self._begun())

    def _begun(self) -> Heads | None:
        """Runs of what these rows begin with, where there are some, for further tails to go on from."""
        held = self._run_heads
        return held if held is not None and set(self._heads) <= held.rows.keys() else self._known

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Of each row: tokens of what is run, and of its window."""
        return [(len(rest), window) for rest, window in zip(self._rests, self.windows, strict=True)]

    def guarded(self) -> Tails:
        """The first few rows, which guards look at: whatever is measured on these tails, the same ones."""
        if self._few is None:
            self._few = self.some(GUARDED_ROWS)
        return self._few

    def whole(self) -> Tensor:
        """Logits (row, window, vocabulary) of all rows unedited, each run as one sequence; made once."""
        if self._whole is None:
            plain = [Continued(Prompt("", prompt.ids)) for prompt in self.prompts]
            self._whole = forced(self.adapter, plain, self.continuations).logits(list(range(len(plain))))
        return self._whole

    def forget(self) -> None:
        """Let go of the runs that are kept for further conditions, which are made again where there are any."""
        self._run_heads, self._kept, self._bases = None, None, {}

    def start(self, edits: Sequence[Edit]) -> int | None:
        """The block at which a row with these edits joins a walk, or the number of blocks where it is the plain run;
        None where its tail is run from the first block."""
        if not self.restarts:
            return None
        layers = self.adapter.layers
        places = {(edit.site.component, n) for edit in edits for n in edit.site.layer_indices(layers)}
        first = min((layer for _, layer in places), default=layers)
        joins = all(component in WITHIN or (component, layer) == (_INPUT, first) for component, layer in places)
        spares = first > 0 or (_INPUT, 0) in places  # a walk from the first block on needs the plain run beside it
        return first if joins and spares else None

    def _fitting(self, rows: Sequence[int]) -> int:
        """How many conditions of these rows make one batch."""
        vocabulary = len(self.adapter.chat.tokenizer)
        tokens = sum(len(self._rests[row]) for row in rows)
        logits = len(rows) * max(self.windows[row] for row in rows) * vocabulary
        return max(1, min(self._most // tokens, self._most * LOGIT_BUDGET // (TOKEN_BUDGET * logits)))

    def _several(self, rows: Sequence[int], conditions: Sequence[Sequence[tuple[Edit, ...]]]) -> list[Tensor]:
        """For each condition, logits (row, window, vocabulary)."""
        most = max(self.windows[row] for row in rows)
        parts: dict[_At, Tensor] = {}
        alike = self._alike(rows)
        self._bases = {tuple(same): self._bases[tuple(same)] for same in alike if tuple(same) in self._bases}
        for same in alike:
            where = [(which, row) for which in range(len(conditions)) for row in same]
            starts = {at: self.start(conditions[at[0]][at[1]]) for at in where}
            window = min(most, len(self._rests[same[0]]))
            got: dict[_At, Tensor] = {}
            if whole := [at for at in where if starts[at] is None]:
                got |= self._touched(whole, conditions, window)
            if joined := {at: start for at, start in starts.items() if start is not None}:
                got |= self._joined(same, joined, conditions, window)
            if window < most:  # rows of a short tail have a short window: what stands before it is never read
                got = {at: nn.functional.pad(one, (0, 0, most - window, 0)) for at, one in got.items()}
            parts |= got
        return [torch.stack([parts[which, row] for row in rows]) for which in range(len(conditions))]

    def _touched(
        self, where: Sequence[_At], conditions: Sequence[Sequence[tuple[Edit, ...]]], window: int
    ) -> dict[_At, Tensor]:
        """Tails of equal length from the first block on, with edits wherever they are."""
        interventions = self._interventions(where, conditions)
        got, _ = self._run([row for _, row in where], interventions.touches, window)
        interventions.confirm()
        return dict(zip(where, got, strict=True))

    def _joined(
        self,
        same: Sequence[int],
        starts: Mapping[_At, int],
        conditions: Sequence[Sequence[tuple[Edit, ...]]],
        window: int,
    ) -> dict[_At, Tensor]:
        """Tails of equal length from the block on whose input is edited."""
        base, layers, tokens = self._plain(same), self.adapter.layers, len(self._rests[same[0]])
        numbers = {row: k for k, row in enumerate(same)}
        got = {at: base.logits[numbers[at[1]], -window:] for at, start in starts.items() if start == layers}
        order, joining = list[_At](), dict[int, Joining]()
        edits = {at: self._spots(at, conditions) for at in starts}
        for layer in sorted({start for start in starts.values() if start < layers}):
            where = [at for at, start in starts.items() if start == layer]
            rows = torch.tensor([numbers[row] for _, row in where], device=base.streams[layer].device)
            joined, here = base.streams[layer][rows], _made_at(edits, where, lambda component: component is _INPUT)
            for touch in here.touches.values():
                joined = cast(Tensor, touch(joined))
            here.confirm()
            joining[layer - 1] = Joining(rows.to(base.memory.batch.ids.device), joined)
            order += where
        if order:
            later = _made_at(edits, order, lambda component: component in WITHIN)
            with spending(self.adapter, sum(tokens * (layers - starts[at]) for at in order)):
                walked = cast(Restartable, self.adapter).restart_window(
                    base.memory, tokens, joining, window, later.touches
                )
            later.confirm()
            got |= dict(zip(order, walked, strict=True))
        return got

    def _spots(self, at: _At, conditions: Sequence[Sequence[tuple[Edit, ...]]]) -> list[Spot]:
        which, row = at
        return list(spots(self.adapter, Edited(Prompt("", self._rests[row]), conditions[which][row])))

    def _interventions(
        self, where: Sequence[_At], conditions: Sequence[Sequence[tuple[Edit, ...]]]
    ) -> Interventions:
        runs = [Edited(Prompt("", self._rests[row]), conditions[which][row]) for which, row in where]
        batch = self.adapter.batch([run.prompt for run in runs])
        return Interventions(self.adapter, batch, runs, Donated())

    def _plain(self, rows: Sequence[int]) -> _Base:
        """The plain run of these rows, kept until `_several` is asked for others."""
        base = self._bases.get(tuple(rows))
        if base is None or not self._starts <= set(base.streams):
            kept: dict[Place, Tensor] = {}
            places = [(_INPUT, layer) for layer in sorted(self._starts)]
            window = min(max(self.windows), len(self._rests[rows[0]]))
            logits, memory = self._run(list(rows), {place: keep(kept, place) for place in places}, window)
            reached(kept, places)
            streams = {layer: kept[_INPUT, layer] for _, layer in places}
            base = self._bases[tuple(rows)] = _Base(logits, cast(Memory, memory), streams)
        return base

    def _moved(self, row: int, edit: Edit) -> Edit:
        """Its position, or half-open span, counted in what is run."""
        position, offset = edit.site.position, self.cuts[row] - len(self._heads[row])
        span = (position, position + 1) if isinstance(position, int) else position
        given = isinstance(edit.give, Tensor | Along | AsLong)
        if not isinstance(span, tuple) or span[0] < 0 or not given:
            raise SiteError(f"{edit.site}: late edits give a tensor at positions counted from the cut on")
        moved = (span[0] + offset, span[1] + offset)
        return changed(edit, site=changed(edit.site, position=moved))

    def _alike(self, rows: Sequence[int]) -> list[list[int]]:
        """Rows by length of what is run: what goes on has no padding."""
        lengths = sorted({len(self._rests[row]) for row in rows})
        return [[row for row in rows if len(self._rests[row]) == length] for length in lengths]

    def _run(self, rows: list[int], touches: Mapping[Place, Touch], tokens: int) -> tuple[Tensor, Memory | None]:
        """Logits (row, tokens, vocabulary) of rows whose tails have equal length, and the memory of the whole where it
        is kept; a row may come several times."""
        memory = self._memory(rows) if self._heads[rows[0]] else None
        batch = self.adapter.batch([Prompt("", self._rests[row]) for row in rows])
        with costing(self.adapter, sum(len(self._rests[row]) for row in rows)):
            if memory is None:
                return self.adapter.predict(batch, touches, tokens), None
            return cast(Continuable, self.adapter).extend(memory, batch, touches, tokens)

    def _memory(self, rows: list[int]) -> Memory:
        """Of the heads of these rows; each different one is run once, and kept until others are asked for."""
        heads = [self._heads[row] for row in rows]
        if self._run_heads is None or self._run_heads.rows.keys() != set(heads):
            self._kept = None
            self._run_heads = run_heads(cast(Continuable, self.adapter), sorted(set(heads)), self._known)
        key = tuple(self._run_heads.rows[head] for head in heads)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._run_heads.memory.rows(key)
        return self._kept[1]


def _made_at(
    edits: Mapping[_At, Sequence[Spot]], where: Sequence[_At], chosen: Callable[[Component], bool]
) -> Interventions:
    """Those edits of some rows, in their order, whose component is chosen; rows of one walk have no padding."""
    return Interventions.at(
        [[spot for spot in edits[at] if chosen(spot.place[0])] for at in where], [0] * len(where)
    )
