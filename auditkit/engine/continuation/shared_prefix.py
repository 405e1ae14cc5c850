"""Reading many prompts that begin alike: what they share is run once.

Prompts of a counterfactual design differ late (the identity, the option that is scored), so the tokens in front are
run once and every prompt goes on from their keys and values. So do prompts that share no more than the template's own
words, such as a default system turn. Where a model cannot go on from a run, whole prompts are run: the same numbers up
to rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.touches import keep
from auditkit.adapters.protocol import Adapter, Batch, Capability, Continuable, Look, Memory, Place
from auditkit.engine.batching import batches
from auditkit.engine.guards import costing

Ids = tuple[int, ...]

KEPT_TOKENS = 4096
"""Tokens whose keys and values are held at once: 190 MB on a model of 30 layers and 192 dimensions of keys."""
WORTH = 128
"""Tokens that must be saved for a beginning to be run by itself: half as many take as long as reading the weights."""


@dataclass(frozen=True)
class Heads:
    """Beginnings that were run.

    Attributes:
        rows: the row of each in the memory.
        tokens: that were run for it.
        kept: activations (row, position, ...) by place, with the padding of the memory.
    """

    rows: Mapping[Ids, int]
    memory: Memory
    tokens: int
    kept: Mapping[Place, Tensor]

    def of(self, prompt: Ids) -> int | None:
        """The row of the longest of these that a prompt begins with."""
        sizes = sorted({len(head) for head in self.rows}, reverse=True)
        return next((self.rows[head] for size in sizes if (head := prompt[:size]) in self.rows), None)

    def at(self, prompts: Sequence[Prompt]) -> list[int]:
        """The row of the longest of these that each prompt begins with.

        Raises:
            ValueError: one begins with none.
        """
        of = [self.of(prompt.ids) for prompt in prompts]
        rows = [row for row in of if row is not None]
        if len(rows) < len(of):
            raise ValueError("a prompt does not begin with one of the heads that were run")
        return rows

    def before(self, prompts: Sequence[Prompt], batch: Batch, rows: Sequence[int]) -> int:
        """How many columns of a batch of prompts need not be run, since each begins as its row does."""
        sizes = [self.memory.batch.width - self.memory.batch.pads[row] for row in rows]
        return batch.width - max(len(prompt) - size for prompt, size in zip(prompts, sizes, strict=True))


def run_heads(
    adapter: Continuable,
    heads: Iterable[Ids],
    known: Heads | None = None,
    places: Collection[Place] = (),
    looks: Mapping[int, Look] | None = None,
) -> Heads:
    """Run each different head once.

    Args:
        known: runs that all of these go on from; None: as `begin` does.
        places, looks: see `begin`.
    """
    rows = {head: row for row, head in enumerate(dict.fromkeys(heads))}
    prompts = [Prompt("", head) for head in rows]
    begun = further(adapter, prompts, known, places) if known else begin(adapter, prompts, places, looks=looks)
    return Heads(rows, begun.memory, begun.tokens, begun.kept)


def by_beginning(
    adapter: Adapter, prompts: Sequence[Ids], most: int | None = None
) -> list[tuple[tuple[Ids, ...], list[int]]]:
    """Prompts in groups by what they begin with: the beginnings that are worth being run once (none: whole prompts are
    run), and the indices of the prompts that go on from them.

    Args:
        most: tokens of a beginning at most.
    """
    able = hasattr(adapter, "extend") and adapter.support().get(Capability.GENERATION)
    uses: dict[Ids, list[int]] = defaultdict(list)
    for i, head in enumerate(heads_of(prompts, None, most) if able else [()] * len(prompts)):
        uses[head].append(i)
    shared = {head: own for head, own in uses.items() if head and len(own) > 1}
    alone = sorted(i for head, own in uses.items() if head not in shared for i in own)
    groups: list[tuple[tuple[Ids, ...], list[int]]] = [((), alone)] if alone else []
    if alone and shared:  # without the others they may share a shorter beginning
        groups = [
            (some, [alone[k] for k in own])
            for some, own in by_beginning(adapter, [prompts[i] for i in alone], most)
        ]
    heads = list(shared)
    for group in batches([len(head) for head in heads]):
        some = tuple(heads[k] for k in group)
        groups.append((some, sorted(i for head in some for i in shared[head])))
    return groups


class Begun(NamedTuple):
    """Prompts that were run.

    Attributes:
        logits: (prompt, 1, vocabulary) after the last token.
        tokens: that were run for it.
        kept: activations (prompt, position, ...) by place, with the padding of the batch.
    """

    logits: Tensor
    memory: Memory
    tokens: int
    kept: Mapping[Place, Tensor]


def begin(
    adapter: Continuable,
    prompts: Sequence[Prompt],
    places: Collection[Place] = (),
    most: int | None = None,
    looks: Mapping[int, Look] | None = None,
) -> Begun:
    """A run of some prompts as one batch, in which what several of them begin with is run once.

    Args:
        places: whose activations are kept; attention probabilities are none of them.
        most: tokens of a shared beginning at most.
        looks: at the attention of some layers; then every prompt is run whole.
    """
    cut = 0 if looks else best_cut([prompt.ids for prompt in prompts], most)
    if cut:
        heads = run_heads(adapter, [prompt.ids[:cut] for prompt in prompts], None, places)
        return further(adapter, prompts, heads, places)
    kept: dict[Place, Tensor] = {}
    touches = {place: keep(kept, place) for place in places}
    with costing(adapter, tokens := sum(map(len, prompts))):
        batch = adapter.batch(prompts)
        if looks:  # an adapter that shows no attention need not know them
            return Begun(*adapter.extend(None, batch, touches, looks=looks), tokens, kept)
        return Begun(*adapter.extend(None, batch, touches), tokens, kept)


def further(
    adapter: Continuable, prompts: Sequence[Prompt], known: Heads, places: Collection[Place] = ()
) -> Begun:
    """A run of prompts that begin with heads that were run, as `begin` makes it.

    Raises:
        ValueError: one does not.
    """
    at, batch = known.at(prompts), adapter.batch(prompts)
    cut = known.before(prompts, batch, at)
    before, rest = batch.columns(0, cut), batch.columns(cut, batch.width)
    past, (of_row, column) = moved(known.memory, at, before), _places(known.memory, at, before)
    earlier = {
        place: value[of_row.to(value.device), column.to(value.device)]
        for place, value in known.kept.items()
        if place in places
    }
    if not rest.width:
        return Begun(torch.empty(len(prompts), 0, 0), past, known.tokens, earlier)
    kept: dict[Place, Tensor] = {}
    touches = {place: keep(kept, place) for place in places}
    with costing(adapter, tokens := int(rest.mask.sum())):
        logits, memory = adapter.extend(past, rest, touches)
    whole = {place: torch.cat([value, kept[place]], 1) for place, value in earlier.items()}
    return Begun(logits, memory, known.tokens + tokens, whole)


def beginning(adapter: Continuable, prompts: Sequence[Ids], most: int | None = None) -> tuple[int, Memory | None]:
    """How many tokens all prompts begin with, at most `most`, and their run; 0 and None where that saves little."""
    cut = shared_head(prompts)
    cut = cut if most is None else min(cut, most)
    if not worth(cut * (len(prompts) - 1)):
        return 0, None
    with costing(adapter, cut):
        return cut, adapter.extend(None, adapter.batch([Prompt("", prompts[0][:cut])]))[1]


def on(head: Memory | None, columns: Batch) -> Memory | None:
    """The run of a common beginning as the first columns of a batch; see `moved`."""
    return None if head is None else moved(head, [0] * len(columns), columns)


def saves(heads: Sequence[Ids]) -> bool:
    """Whether `run_heads` runs less than all of these: some are the same, or begin alike."""
    return len(set(heads)) < len(heads) or best_cut(heads) > 0


def moved(memory: Memory, rows: Sequence[int], columns: Batch) -> Memory:
    """The memory of some rows as the first columns of another batch, in which every prompt begins as its row does.

    Rows of a batch end together and stand behind their padding, so a short prompt finds less of its beginning in these
    columns than a long one, and runs the rest of it with its own tokens.
    """
    of, at = _places(memory, rows, columns)
    keys, values = (
        [each[of.to(each.device), :, at.to(each.device)].transpose(1, 2) for each in layers]
        for layers in (memory.keys, memory.values)
    )
    return Memory(columns, keys, values)


def _places(memory: Memory, rows: Sequence[int], columns: Batch) -> tuple[Tensor, Tensor]:
    """Where each of these columns is in the memory: rows (row, 1) and positions (row, column)."""
    device = columns.ids.device
    shifts = [memory.batch.pads[row] - pad for row, pad in zip(rows, columns.pads, strict=True)]
    at = torch.arange(columns.width, device=device)[None] + torch.tensor(shifts, device=device)[:, None]
    # Padding is masked, so anything may stand there.
    return torch.tensor(rows, device=device)[:, None], at.clamp(0, memory.batch.width - 1)


def shared_head(prompts: Sequence[Ids]) -> int:
    """How many tokens all prompts begin with alike, leaving every prompt at least one of its own."""
    short = min(map(len, prompts)) - 1
    return min(short, _alike(min(prompts), max(prompts)))  # of sorted prompts the ends are alike where all are


def heads_of(prompts: Sequence[Ids], families: Sequence[object] | None, most: int | None = None) -> list[Ids]:
    """What each prompt begins with together with the others of its family.

    Args:
        families: a label per prompt; None: by what they begin with.
        most: tokens at most.
    """
    if families is None:
        cut = best_cut(prompts, most)
        families = [prompt[:cut] or i for i, prompt in enumerate(prompts)]
    members = defaultdict(list)
    for prompt, family in zip(prompts, families, strict=True):
        members[family].append(prompt)
    cuts = {family: shared_head(own) if len(own) > 1 else 0 for family, own in members.items()}
    return [p[: cuts[f] if most is None else min(cuts[f], most)] for p, f in zip(prompts, families, strict=True)]


def best_cut(prompts: Sequence[Ids], most: int | None = None) -> int:
    """After how many tokens to cut all prompts, so that running each different beginning once saves most; 0 where that
    saves little.

    Args:
        most: tokens at most.
    """
    short = min(map(len, prompts), default=1) - 1
    alike = [_alike(one, other) for one, other in pairwise(sorted(prompts))]
    cuts = range(1, (short if most is None else min(short, most)) + 1)
    saved = {cut: cut * sum(same >= cut for same in alike) for cut in cuts}
    best = max(saved, key=lambda cut: saved[cut], default=0)
    return best if worth(saved.get(best, 0)) else 0


def worth(saved: int) -> bool:
    """Whether a run of its own is worth so many saved tokens."""
    return saved >= WORTH


def _alike(one: Ids, other: Ids) -> int:
    """How many tokens two prompts begin with alike."""
    both = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(one), len(other)))
