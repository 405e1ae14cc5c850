"""How much of a head's attention goes to a span, counted in three ways.

Attention weights alone mislead twice. Many heads rest on the first token when there is nothing to do (an attention
sink: Xiao et al. 2023, arXiv:2309.17453), so a weight depends on how much the head rests. And a large weight on a
short value writes little (Kobayashi et al. 2020, arXiv:2004.10102). So a share is counted

- raw: the attention weights of the span's tokens, summed;
- without the sink: the same among all tokens but the first;
- value-weighted: every weight times the length of what that token's value becomes in the stream,
  a_j |W_O v_j| / sum over tokens of the same, with W_O the head's own part of the output projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import (
    Adapter,
    Answers,
    Attending,
    AttentionView,
    Component,
    Continuable,
    Touch,
)
from auditkit.data.prompts import Chat
from auditkit.engine.attention import QUERIES
from auditkit.engine.batching import in_batches
from auditkit.engine.continuation.shared_prefix import Heads, by_beginning, moved, run_heads
from auditkit.engine.edits import Edited, located
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import Interventions, donate
from auditkit.engine.guards import GuardTripped, costing
from auditkit.engine.pairs import answer_rows
from auditkit.engine.sites import Position, Site, SiteError, Span

RAW, NO_SINK, WEIGHTED = COUNTS = ("raw", "without the sink", "value-weighted")
"""The ways to count, in the order of results."""


def answer_side(adapter: Adapter, prompt: Prompt) -> Span:
    """The tokens of the answer's start, which the model continues; the last token where the answer is not begun.

    They come after what the chat format writes between a question and its answer, whatever the question is.
    """
    one, other = (adapter.chat.render(Chat(user=user)) for user in ("a", "b"))
    between = one[len(one) - _alike(one[::-1], other[::-1]) :]
    if not between or between not in prompt.text:
        return len(prompt) - 1, len(prompt)
    before = prompt.text[: prompt.text.rindex(between) + len(between)]
    return min(_alike(adapter.chat.encode(before), prompt.ids), len(prompt) - 1), len(prompt)


def _alike(one: Sequence[object], other: Sequence[object]) -> int:
    """How many elements two sequences share from their start."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))


def shares(
    adapter: Attending,
    runs: Sequence[Edited],
    span: str,
    queries: Sequence[Position] = ("last",),
    answers: Sequence[Answers] | None = None,
    description: str = "attention",
) -> tuple[Tensor, Tensor]:
    """Share of attention that goes to a span of each run, with the run's edits in place.

    Cost: one forward pass per run, and one for every other run that gives activations; where nothing is edited, what
    several runs begin with is run once.

    Args:
        runs: prompts with edits, or without; each with its span of that name.
        span: named keys; the first token is none of them.
        queries: whose attention; of several tokens the mean.
        answers: token ids of each run, the right one first.

    Returns:
        Shares (query, run, count, layer, head) in float32, in the order of `queries` and `COUNTS`; answer logits
        (run, 2), or (run, 0) without answers.

    Raises:
        SiteError: a span or query that a prompt does not have, a span that holds the first token.
        NotApplicable: this model does not show its attention, its values or its output projections.
        GuardTripped: an edit that did not fire exactly once, attention that was not reached or is not finite.
    """
    keys = [_keys(adapter, run, span) for run in runs]
    asked = [
        [
            located(adapter, Site(Component.PATTERN, position=query), len(run.prompt), run.spans)
            for query in queries
        ]
        for run in runs
    ]
    reading = _Reading(adapter, runs, keys, asked, answers)
    # Queries are never among what is run once, nor is anything that an edit may change.
    most = min(
        (0 if run.edits else start for run, own in zip(runs, asked, strict=True) for start, _ in own), default=0
    )
    for heads, among in by_beginning(adapter, [run.prompt.ids for run in runs], most):
        begun = run_heads(cast(Continuable, adapter), heads) if heads else None
        rows = {"shares": [reading.shares[:, i] for i in among], "logits": [reading.logits[i] for i in among]}
        of = ("shares of attention", [runs[i] for i in among], span, queries, answers, begun is not None)
        divided = Divided(adapter, of, rows)
        read = partial(reading.read, among, begun)
        in_batches(read, [len(runs[i].prompt) for i in among], description, divided=divided)
    return reading.shares, reading.logits


class _Reading:
    """Shares and answer logits under way; see `shares`.

    Args:
        keys: for each run the span that is looked at.
        asked: for each run the spans of its queries.
    """

    def __init__(
        self,
        adapter: Attending,
        runs: Sequence[Edited],
        keys: Sequence[Span],
        asked: Sequence[Sequence[Span]],
        answers: Sequence[Answers] | None,
    ) -> None:
        self.adapter, self.runs, self.keys, self.asked, self.answers = adapter, runs, keys, asked, answers
        self.squared = [rows.float() @ rows.float().transpose(1, 2) for rows in adapter.projections]
        queries = len(asked[0]) if asked else 0
        self.shares = torch.full((queries, len(runs), len(COUNTS), adapter.layers, adapter.heads), torch.nan)
        self.logits = torch.empty(len(runs), 2 if answers is not None else 0)

    def read(self, among: Sequence[int], begun: Heads | None, chosen: Sequence[int]) -> None:
        """Read one batch: runs by their place in `among`, which go on from `begun`."""
        adapter, rows = self.adapter, [among[k] for k in chosen]
        chunk = [self.runs[i] for i in rows]
        prompts = [run.prompt for run in chunk]
        given = donate(adapter, chunk, len(rows) * max(map(len, prompts)))
        batch, past, cut = adapter.batch(prompts), None, 0
        edits = Interventions(adapter, batch, chunk, given)
        if begun is not None:
            at = begun.at(prompts)
            cut = begun.before(prompts, batch, at)
            past = moved(begun.memory, at, batch.columns(0, cut))
        here = [(pad, *self.keys[i]) for pad, i in zip(batch.pads, rows, strict=True)]
        wanted = [
            [(start + pad, stop + pad) for start, stop in self.asked[i]]
            for pad, i in zip(batch.pads, rows, strict=True)
        ]
        counting = _Counting(here, wanted, batch.width, self.squared, cut)
        touches = dict(edits.touches)
        for layer in range(adapter.layers):
            place = (Component.V, layer)
            touches[place] = counting.values(layer, touches.get(place))
        looks = {layer: counting.look(layer) for layer in range(adapter.layers)}
        rest = batch.columns(cut, batch.width)
        with costing(adapter, int(rest.mask.sum())):
            if past is None:
                found = adapter.attend(rest, looks, touches)
            else:
                found = cast(Continuable, adapter).extend(past, rest, touches, 1, looks)[0][:, 0]
        edits.confirm()
        for layer in range(adapter.layers):
            if layer not in counting.seen or not torch.isfinite(counting.seen[layer]).all():
                what = "are not finite" if layer in counting.seen else "were not reached"
                raise GuardTripped(f"guard: the attention probabilities of layer {layer} {what}")
            self.shares[:, rows, :, layer] = counting.seen[layer].cpu()
        if self.answers is not None:
            self.logits[rows] = answer_rows(found, [self.answers[i] for i in rows])


def _keys(adapter: Adapter, run: Edited, span: str) -> Span:
    located(adapter, Site(Component.V), len(run.prompt), run.spans)
    start, stop = located(adapter, Site(Component.PATTERN, position=span), len(run.prompt), run.spans)
    if start == 0:
        raise SiteError(f"the span '{span}' holds the first token, whose share is left out; give a later one")
    return start, stop


class _Counting:
    """Shares of one batch, layer by layer.

    Args:
        keys: for each row its padding, and start and stop of the span without it.
        queries: for each row the spans of its queries, in the padded batch.
        squared: for each layer, (head, size, size) W_O W_O^T, so that |W_O v|^2 = v^T squared v.
        cut: columns that were run before; values are seen in all columns, queries behind these only.
    """

    def __init__(
        self,
        keys: Sequence[tuple[int, int, int]],
        queries: Sequence[Sequence[Span]],
        width: int,
        squared: list[Tensor],
        cut: int,
    ) -> None:
        self.squared, self.cut, self.lengths = squared, cut, dict[int, Tensor]()
        self.seen: dict[int, Tensor] = {}
        """layer -> (query, row, count, head)."""
        self.span, self.others = torch.zeros(len(keys), width), torch.ones(len(keys), width)
        for row, (pad, start, stop) in enumerate(keys):
            self.span[row, start + pad : stop + pad] = 1
            self.others[row, : pad + 1] = 0
        each = [sorted({n for start, stop in spans for n in range(start, stop)}) for spans in queries]
        most = max(map(len, each))
        self.where = torch.tensor([[*own, *[own[-1]] * (most - len(own))] for own in each])
        self.means = torch.zeros(len(queries[0]), len(each), most)
        for row, (own, spans) in enumerate(zip(each, queries, strict=True)):
            for query, (start, stop) in enumerate(spans):
                self.means[query, row, [own.index(n) for n in range(start, stop)]] = 1 / (stop - start)

    def values(self, layer: int, first: Touch | None) -> Touch:
        """A touch that measures what values become in the stream, after another touch of them."""

        def touch(value: Tensor) -> Tensor | None:
            new = None if first is None else first(value)
            now = (value if new is None else new).float()
            square = self.squared[layer].to(now.device)
            now = now.repeat_interleave(len(square) // now.shape[2], 2).transpose(1, 2)  # (row, head, key, size)
            self.lengths[layer] = ((now @ square) * now).sum(-1).clamp(min=0).sqrt()
            return new

        return touch

    def look(self, layer: int) -> Callable[[AttentionView], None]:
        def see(view: AttentionView) -> None:
            parts = []
            for n in range(0, self.where.shape[1], QUERIES):
                where = self.where[:, n : n + QUERIES] - self.cut
                each = self._counted(view.probabilities(where), self.lengths[layer])
                parts.append(
                    torch.einsum("qrn,rchn->qrch", self.means[..., n : n + QUERIES].to(each.device), each)
                )
            self.seen[layer] = torch.stack(parts).sum(0)

        return see

    def _counted(self, pattern: Tensor, lengths: Tensor) -> Tensor:
        """(row, count, head, query) of probabilities (row, head, query, key) and lengths of values (row, head, key)."""
        span, others = (part.to(pattern.device)[:, None, None] for part in (self.span, self.others))
        weighed = pattern * lengths[:, :, None]
        raw = (pattern * span).sum(-1)
        tiny = torch.finfo(pattern.dtype).tiny  # a share of nothing is nothing
        no_sink = raw / (pattern * others).sum(-1).clamp(min=tiny)
        by_value = (weighed * span).sum(-1) / weighed.sum(-1).clamp(min=tiny)
        return torch.stack([raw, no_sink, by_value], 1)
