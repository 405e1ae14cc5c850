"""Restarting a model in the middle: from a block, and from a token, of a run that was already made.

With causal attention a change at block l and token p reaches neither earlier blocks nor earlier tokens. So the
effect of an edit there is had by running the later blocks only, on the tokens from p on only, with the keys and
values of the earlier tokens taken from the base run. Many such restarts share one walk through the blocks: the
batch grows on the way, each row joining where its edit is (`Blockwise.restart`).

This module and `walk` are the only ones that depend on how transformers calls its blocks. They know no family. The
model's own forward makes masks and position embeddings and calls its own blocks in order; for the length of the call
each block's `forward` is wrapped, so that it works on the rows that have joined instead of on the prompts given. What
the model passes to a block is given to each row from the prompt that it belongs to; which of these tensors belong to
prompts is found by asking the model with two prompts and with three. The cache passed in puts the base run's keys and
values before those of the restarted tokens. Whether all of this is right on a given model is measured when it is
opened (`opened`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from auditkit.adapters.hf.continuing import allowed, extended, placed, remembering
from auditkit.adapters.hf.probing import FAMILY_ERRORS, failed
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.hf.walk import Cache, Path, Reached, Walk, leading
from auditkit.adapters.protocol import Batch, Joining, Memory, Support

_SPARED = 0.05
"""Share of a block's parameters below which sparing a part is not worth a trial when the model is opened."""

_WHAT = "restarting from a block"


class Restarted(NamedTuple):
    """Answer logits (row, 2) in the order of joining, and tokens times blocks that were run."""

    logits: Tensor
    token_layers: int


class Blockwise:
    """Runs and restarts one module block by block.

    Attributes:
        parity_max_abs: largest difference between restarted and whole runs when the model was opened, in logits.
    """

    def __init__(self, module: PreTrainedModel, blocks: nn.ModuleList, accepts: set[str]) -> None:
        self.module, self.blocks = module, blocks
        self.parity_max_abs = float("nan")
        self._accepts = accepts
        self._finals: list[nn.Module] = []
        self._extras: list[int | None] = [None] * len(blocks)
        self._per_prompt: dict[Path, int] = {}
        self._finish: Callable[[Tensor], Tensor] | None = None
        head = module.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise ValueError("the model names no output embeddings")
        self._head: Any = head

    @torch.no_grad()
    def record(self, batch: Batch) -> tuple[Tensor, Memory]:
        """One whole run: logits (prompt, vocabulary) after the last token, and what restarts need of it."""
        logits, memory = extended(self.module, len(self.blocks), self._accepts, None, batch, 1)
        return logits[:, 0], memory

    @torch.no_grad()
    def restart(
        self,
        memory: Memory,
        tokens: int,
        joining: Mapping[int, Joining],
        answers: Tensor,
        *,
        whole: bool = False,
    ) -> Restarted:
        """Walk the blocks once on the last `tokens` positions.

        Args:
            memory: the base run.
            tokens: how many positions are restarted; all rows have the same.
            joining: block -> the rows that join after it; -1 joins before the first block.
            answers: (row, answers) token ids, rows in order of joining.
            whole: all parts of the last block see all tokens, where somebody looks at them.
        """
        walk, cache = self._setting_out(memory, tokens, joining, 1, whole)
        if self._finish is None:
            logits = self._forward(cache, tokens)[:, -1].float()
            logits = logits.gather(1, answers.to(logits.device))
        else:
            answers = answers.to(self._head.weight.device)
            last = self._forward(cache, tokens, stop=True).to(answers.device)
            rows, bias = self._head.weight[answers].float(), self._head.bias
            # A stream with one infinite element gives no logit, even where the answers' weights are zero there.
            last = last.float().masked_fill(~torch.isfinite(last).all(-1, keepdim=True), torch.nan)
            logits = (last[:, None] * rows).sum(-1)  # a product of matrices of one row each is slow
            logits = self._finish(logits if bias is None else logits + bias[answers].float())
        return self._arrived(walk, logits)

    @torch.no_grad()
    def restart_window(
        self, memory: Memory, tokens: int, joining: Mapping[int, Joining], window: int, *, whole: bool = False
    ) -> Restarted:
        """The same walk, read over the last `window` positions: logits (row, window, vocabulary) in float32."""
        walk, cache = self._setting_out(memory, tokens, joining, window, whole)
        return self._arrived(walk, self._forward(cache, tokens).float())

    def _setting_out(
        self, memory: Memory, tokens: int, joining: Mapping[int, Joining], window: int, whole: bool = False
    ) -> tuple[Walk, Cache]:
        """A walk, in which rows name their prompts among those that are used at all, and its cache."""
        layers = sorted(joining)
        prompts = torch.cat([joining[layer].prompts for layer in layers])
        used, templates = torch.unique(prompts, return_inverse=True)
        split = torch.split(templates, [len(joining[layer].prompts) for layer in layers])
        renamed = {layer: joining[layer]._replace(prompts=part) for layer, part in zip(layers, split, strict=True)}
        walk = Walk(renamed, memory.batch.mask[used, -tokens:].sum(1), window=window, whole=whole)
        return walk, Cache(memory, used, memory.batch.width - tokens, walk)

    def _arrived(self, walk: Walk, logits: Tensor) -> Restarted:
        if walk.blocks != len(self.blocks) or len(logits) != len(walk.prompts):
            raise RuntimeError(f"a restart passed {walk.blocks} blocks and answered {len(logits)} rows")
        # A spread model's head may be on another device; whole runs too give logits where their ids are.
        return Restarted(logits.to(walk.tokens.device), walk.token_layers)

    def _forward(self, cache: Cache, tokens: int, stop: bool = False) -> Tensor:
        """The model's own forward on the last `tokens` positions: (row, window, vocabulary), or the last head input."""
        batch, window = cache.memory.batch, cache.walk.window
        ids, mask = batch.ids[cache.used], batch.mask[cache.used]
        options = placed(self._accepts, mask, tokens, window)

        def reached(module: nn.Module, args: tuple[Any, ...]) -> None:
            raise Reached(args[0][:, -1])

        handles = [self._head.register_forward_pre_hook(reached)] if stop else []
        try:
            with self._walking(cache.walk), multiplying(self._head):
                output = self.module(
                    input_ids=ids[:, -tokens:],
                    attention_mask=mask,
                    use_cache=True,
                    **remembering(self._accepts, cache),
                    **options,
                )
                logits: Tensor = output.logits[:, -window:]
                return logits
        except Reached as at:
            return at.value
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _walking(self, walk: Walk) -> Iterator[None]:
        """Let every block work on the rows of `walk`; the blocks are as before afterwards, whatever happens."""
        before = [block.__dict__.get("forward") for block in self.blocks]
        try:
            for layer, block in enumerate(self.blocks):
                block.forward = self._on_rows(walk, layer, block.forward)
            yield
        finally:
            for block, own in zip(self.blocks, before, strict=True):
                if own is None:
                    block.__dict__.pop("forward", None)
                else:
                    block.forward = own

    def _on_rows(self, walk: Walk, layer: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            given = args[0] if args else kwargs.pop("hidden_states")
            rest = args[1:]
            if walk.sizes is not None:
                walk.sizes.update(leading((layer,), (rest, kwargs)))
            if len(walk.prompts):
                walk.stream = given  # what the block before gave, as it was touched on the way
            walk.join(layer - 1)
            if len(walk.prompts):
                rest, kwargs = self._for_rows((layer,), (rest, kwargs), walk.prompts)
                with self._only_last(walk.window == 1 and not walk.whole and layer == len(self.blocks) - 1):
                    output = forward(walk.stream, *rest, **kwargs)
                walk.stream = output if isinstance(output, Tensor) else output[0]
                walk.token_layers += int(walk.tokens[walk.prompts].sum())
            walk.blocks += 1
            if layer == len(self.blocks) - 1:
                walk.join(layer)
            value = walk.stream if len(walk.prompts) else given
            extras = self._extras[layer]
            return value if extras is None else (value, *[None] * extras)

        return wrapped

    @contextmanager
    def _only_last(self, spare: bool) -> Iterator[None]:
        """Where nothing else is read after it, parts of the last block see the last token only.

        What they give is added to every token's stream alike; only that of the last token means anything.
        """

        def only(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            # Contiguous, since torch takes a strided one for a batch of products of one row each, which is slow.
            return (args[0][:, -1:].contiguous(), *args[1:])

        handles = [part.register_forward_pre_hook(only) for part in (self._finals if spare else ())]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _for_rows(self, path: Path, value: Any, prompts: Tensor) -> Any:
        """What the model passes to a block, with every tensor that belongs to prompts repeated by row."""
        if isinstance(value, dict):
            return {key: self._for_rows((*path, key), part, prompts) for key, part in value.items()}
        if isinstance(value, (tuple, list)):
            return tuple(self._for_rows((*path, i), part, prompts) for i, part in enumerate(value))
        if not isinstance(value, Tensor) or not value.ndim or path not in self._per_prompt:
            return value
        each = self._per_prompt[path]
        if each == 1 and len(value) == 1:
            return value.expand(len(prompts), *value.shape[1:])
        return value.reshape(-1, each, *value.shape[1:])[prompts.to(value.device)].flatten(0, 1)

    # -- opening ---------------------------------------------------------------------------------------------------

    def learn(self, memory: Memory) -> None:
        """Find which tensors that the blocks are given belong to prompts: those that grow with their number."""
        sizes: list[dict[Path, int]] = []
        for prompts in ([0, 1], [0, 1, 0]):
            used = torch.tensor(prompts, device=memory.batch.ids.device)
            walk = Walk({}, torch.ones_like(used), {})
            self._forward(Cache(memory, used, memory.batch.width - 2, walk), 2, stop=True)
            sizes.append(walk.sizes or {})
        if sizes[0].keys() != sizes[1].keys():
            raise ValueError("what a block is given depends on the number of prompts")
        for path, two in sizes[0].items():
            three = sizes[1][path]
            if two != three:
                each = three - two
                if (two, three) != (2 * each, 3 * each):
                    raise ValueError(f"{path[-1]} has {two} rows for two prompts and {three} for three")
                self._per_prompt[path] = each

    def learn_head(self, last: Tensor, logits: Tensor) -> None:
        """Find whether the logits are a linear map of the head's input, and what the family does to them after it."""
        weight = getattr(self._head, "weight", None)
        if not isinstance(self._head, nn.Linear) or not isinstance(weight, Tensor):
            return
        with multiplying(self._head):
            linear = self._head(last).float().to(logits.device)
        config = self.module.config.get_text_config()
        cap = getattr(config, "final_logit_softcapping", None)
        scale = getattr(config, "logit_scale", None)
        divisor = getattr(config, "logits_scaling", None)
        candidates: list[Callable[[Tensor], Tensor]] = [lambda x: x]
        if cap:
            candidates.append(lambda x: torch.tanh(x / cap) * cap)
        if isinstance(scale, (int, float)):
            candidates.append(lambda x: x * scale)
        if divisor:
            candidates.append(lambda x: x / divisor)
        bound = allowed(logits, self.module.dtype)
        self._finish = next((f for f in candidates if float((f(linear) - logits).abs().max()) <= bound), None)

    def shorten(self, miss: Callable[[], float], bound: float) -> None:
        """Spare parts of the last block all tokens but the last, where `miss` then stays within `bound`.

        In most families these are the MLP and the projection of what was attended to; never keys and values. Where
        a family's block does not allow it (Falcon adds in place what its MLP gives), all tokens are run.
        """
        block = self.blocks[-1]
        sizes = {part: sum(p.numel() for p in part.parameters()) for part in block.modules() if part is not block}
        small = _SPARED * sum(p.numel() for p in block.parameters())
        spared: set[nn.Module] = set()
        for part in sorted(sizes, key=lambda part: -sizes[part]):
            if sizes[part] < small or part in spared:
                continue
            self._finals.append(part)
            try:
                difference = miss()
            except FAMILY_ERRORS:  # whatever the block does with it, it does not allow this
                difference = float("inf")
            if difference <= bound:
                self.parity_max_abs = max(self.parity_max_abs, difference)
                spared |= set(part.modules())
            else:
                self._finals.pop()

    @contextmanager
    def observing(self) -> Iterator[tuple[list[Tensor], dict[int, Tensor]]]:
        """The head's inputs and the residual stream after each block (-1: before the first) of a whole run."""
        heads: list[Tensor] = []
        streams: dict[int, Tensor] = {}

        def entered(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            streams[-1] = (args[0] if args else kwargs["hidden_states"]).detach().clone()

        def left(layer: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                single = isinstance(output, Tensor)
                self._extras[layer] = None if single else len(output) - 1
                streams[layer] = (output if single else output[0]).detach().clone()

            return hook

        handles = [
            self.blocks[0].register_forward_pre_hook(entered, with_kwargs=True),
            self._head.register_forward_pre_hook(lambda module, args: heads.append(args[0][:, -1])),
            *(block.register_forward_hook(left(layer)) for layer, block in enumerate(self.blocks)),
        ]
        try:
            yield heads, streams
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def stopping(blocks: nn.ModuleList, after: int) -> Iterator[None]:
    """Forwards inside end in front of the block after the first `after`; a whole one where there is none."""

    def stop(module: nn.Module, args: tuple[Any, ...]) -> None:
        raise _Stopped

    # Behind hooks that are there already, which see the input of this block.
    handles = [block.register_forward_pre_hook(stop) for block in blocks[after : after + 1]]
    try:
        yield
    except _Stopped:
        pass
    finally:
        for handle in handles:
            handle.remove()


class _Stopped(Exception):
    """Nothing after this is wanted."""


def opened(
    module: PreTrainedModel, blocks: nn.ModuleList, accepts: set[str], batch: Batch, plain: Tensor
) -> tuple[Blockwise | None, Support]:
    """A `Blockwise` for this module if restarting gives the module's own logits, else the reason.

    Three rows are restarted two tokens before the end, from the embeddings and from the middle of the network, with
    the base run's own stream: they must give the whole run's logits within rounding. So must the whole run with
    the cache that records it.

    Args:
        batch: two prompts of different length, of at least three tokens.
        plain: the module's own logits (prompt, vocabulary) for them.
    """
    try:
        blockwise = Blockwise(module, blocks, accepts)
        with blockwise.observing() as (heads, streams):
            whole, memory = blockwise.record(batch)
        blockwise.learn(memory)
        blockwise.learn_head(heads[0], whole)
        order = torch.tensor([1, 0, 1], device=batch.ids.device)
        expected = plain[order].gather(1, answers := whole.topk(2).indices[order])
        middle = (len(blocks) - 1) // 2

        def joined(layer: int, rows: Tensor) -> Joining:
            return Joining(rows, streams[layer][rows.to(streams[layer].device), -2:])

        joining = {-1: joined(-1, order[:2]), middle: joined(middle, order[2:])}
        last = {len(blocks) - 2: joined(len(blocks) - 2, order)}

        def miss(walked: Mapping[int, Joining]) -> float:
            """How far restarts are from the model's own logits."""
            return float((blockwise.restart(memory, 2, walked, answers).logits - expected).abs().max())

        restarted = miss(joining)
    except Exception as error:  # a family may do anything with what it is given; the plain way remains
        return None, failed(_WHAT, error)
    bound = allowed(plain, module.dtype)
    measured = {
        "a run that records keys and values": float((whole - plain).abs().max()),
        "a restart from a block": restarted,
    }
    for what, difference in measured.items():
        if not difference <= bound:
            return None, Support(False, f"{what} misses the model's logits by {difference:.2g}, not by rounding")
    blockwise.parity_max_abs = max(measured.values())
    try:
        blockwise.shorten(lambda: miss(last), bound)  # which is about the last block, so only that is run
    except Exception as error:  # no answer of the family's: those are taken inside
        return None, failed(_WHAT, error)
    return blockwise, Support(True)
