"""The default adapter: the plain transformers module, touched with forward hooks.

The module's weights and arithmetic are never rewritten; `common` checks that when a model is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor

from auditkit.adapters.chat import require_room
from auditkit.adapters.common import ModuleAdapter
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf import blockwise, continuing, products, projections, tap
from auditkit.adapters.hf.layout import Layout, discover
from auditkit.adapters.hf.touches import keep
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.protocol import (
    Answers,
    Batch,
    Capability,
    Component,
    Joining,
    Look,
    Memory,
    Meter,
    Place,
    Support,
    Touch,
)


class HFAdapter(ModuleAdapter):
    """A causal language model of transformers, opened for measurement.

    Attributes:
        info: identity of the model, as it enters the record; others as `ModuleAdapter`.
        blockwise: restarts from a block, where `support()[Capability.BLOCKWISE]`; else None.
        generation_parity: largest difference that going on from a run made when the model was opened, in logits.

    Raises:
        IntegrityError: batched logits differ from plain ones beyond rounding, or are not finite.
        ModelError: the module has no attention heads or no recognisable list of blocks, or the tokenizer is not
            this model's.
    """

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        short, alone = self._short, self._alone
        seen: list[Tensor] = []
        self._layout: Layout = discover(self.module, lambda: seen.append(self._window(short)[:, 0]))
        self._tap = tap.opened(self._layout, self.heads, self._window, [short, alone])
        self.groups = self._tap.groups or self.groups
        self.sizes = {**self._layout.sizes(self.width), **self._tap.sizes}
        parity = self._parity(self.run)
        self.blockwise, self._blockwise_support = blockwise.opened(
            self.module, self._layout.blocks, self._accepts, short, seen[0]
        )
        self._generation_support, self.generation_parity = continuing.checked(
            self.module, self.layers, self._accepts, short, seen[0]
        )

        self._swaps_support = self._swappable()
        restarts = self.blockwise.parity_max_abs if self.blockwise else 0.0
        self.info = self._describe(loaded, "hf", max(parity, restarts))
        self.meter = Meter()  # opening is not part of any claim's cost

    def support(self) -> Mapping[str, Support]:
        """Component or capability -> yes, or no with the reason."""
        return {
            **self._layout.support(),
            **self._tap.support(),
            Capability.BLOCKWISE: self._blockwise_support,
            Capability.SWAPS: self._swaps_support,
            Capability.GENERATION: self._generation_support,
            Capability.GRADIENTS: Support(True),
        }

    def run(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> Tensor:
        """Logits (batch, vocabulary) in float32 after the last token; touches fire on the way."""
        return self.predict(batch, touches)[:, 0]

    @torch.no_grad()
    def predict(self, batch: Batch, touches: Mapping[Place, Touch] | None = None, tokens: int = 1) -> Tensor:
        """Logits (batch, tokens, vocabulary) in float32 after each of the last `tokens` positions.

        Raises:
            ValueError: more tokens than the batch has positions, or a place that this model does not have.
        """
        self._check_tokens(batch, tokens)
        with self._touching(touches or {}):
            logits = self._window(batch, tokens)
        self._count(batch)
        return logits

    @torch.no_grad()
    def attend(
        self, batch: Batch, looks: Mapping[int, Look], touches: Mapping[Place, Touch] | None = None
    ) -> Tensor:
        """A run as `run` makes it, in which the attention of some layers is looked at: layer -> look.

        Raises:
            ValueError: a place that this model does not have, or attention that it does not show.
        """
        with self._touching(touches or {}, looks):
            logits = self._window(batch)[:, 0]
        self._count(batch)
        return logits

    @cached_property
    def projections(self) -> Sequence[Tensor]:
        """For each layer, (head, size, width) of the output projection; see `auditkit.adapters.hf.projections`.

        Raises:
            NotApplicable: they are not known on this model.
        """
        return projections.projections(self._layout, self._tap, lambda: self._window(self._short))

    def gradients(
        self, batch: Batch, places: Collection[Place], answers: Sequence[Answers]
    ) -> tuple[Tensor, dict[Place, Tensor], dict[Place, Tensor]]:
        """A run as `run` makes it, and the gradient of each row's answer difference: logits, values, gradients.

        Raises:
            ValueError: a place that this model does not have.
        """
        values: dict[Place, Tensor] = {}

        def enter(value: Tensor) -> Tensor:
            return value.detach().clone().requires_grad_()

        def watch(place: Place) -> Touch:
            def touch(value: Tensor) -> Tensor:
                values[place] = value.clone() if value.requires_grad else enter(value)
                return values[place]

            return touch

        first = (Component.EMBEDDINGS, 0)
        if first not in places:
            first = (Component.BLOCK_INPUT, 0)
        touches: dict[Place, Touch] = {first: enter, **{place: watch(place) for place in places}}
        with torch.enable_grad(), self._touching(touches):
            logits = self._forward(batch)[:, 0]
            ids = torch.tensor(answers, device=logits.device)
            picked = logits.gather(1, ids)
            kept = list(values)
            differences = picked[:, 0] - picked[:, 1:].mean(1)
            found = torch.autograd.grad(differences.sum(), [values[place] for place in kept])
        # A pass back through a block costs about two passes forward.
        self._count(batch, 3)
        detached = {place: value.detach() for place, value in values.items()}
        return logits.detach(), detached, dict(zip(kept, found, strict=True))

    @torch.no_grad()
    def extend(
        self,
        past: Memory | None,
        batch: Batch,
        touches: Mapping[Place, Touch] | None = None,
        tokens: int = 1,
        looks: Mapping[int, Look] | None = None,
    ) -> tuple[Tensor, Memory]:
        """Run `batch` on the keys and values of `past`; logits as `predict`, and the memory of the whole.

        Raises:
            ModelError: this model cannot go on from a run; `support()[Capability.GENERATION]` says why.
            ValueError: padding between tokens, another number of prompts, or as `predict` and `attend`.
            Unsupported: the whole is longer than the model's context.
        """
        if past is not None:  # `batch` has checked its own length
            require_room(_longest(past.batch, batch), self.context)
        if not self._generation_support:
            raise ModelError(self._generation_support.reason)
        with self._touching(touches or {}, looks):
            extended = continuing.extended(self.module, self.layers, self._accepts, past, batch, tokens)
        self._count(batch)
        return extended

    @torch.no_grad()
    def record(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> tuple[Tensor, Memory]:
        """A run as `run` makes it, and what restarts need of it.

        Raises:
            ModelError: this model cannot be restarted; `support()` says why.
        """
        with self._touching(touches or {}):
            recorded = self._restarting().record(batch)
        self._count(batch)
        return recorded

    @torch.no_grad()
    def reach(self, batch: Batch, touches: Mapping[Place, Touch], blocks: int) -> None:
        """Run the first `blocks` blocks only, for what touches see there.

        Raises:
            ModelError: this model cannot be restarted; `support()` says why.
            ValueError: a place that this model does not have.
        """
        self._restarting()
        with self._touching(touches), blockwise.stopping(self._layout.blocks, blocks):
            self._window(batch)
        self.meter.token_layers += int(batch.mask.sum()) * blocks
        self.meter.runs += 1

    def restart(
        self,
        memory: Memory,
        tokens: int,
        joining: Mapping[int, Joining],
        answers: Tensor,
        touches: Mapping[Place, Touch] | None = None,
    ) -> Tensor:
        """Answer logits (row, answers) of rows that join a walk on the last `tokens` positions.

        Raises:
            ModelError: this model cannot be restarted; `support()` says why.
            ValueError: a place that this model does not have.
        """
        touches = touches or {}
        with self._touching(touches):
            whole = self._at_the_end(touches)
            return self._counted(self._restarting().restart(memory, tokens, joining, answers, whole=whole))

    def restart_window(
        self,
        memory: Memory,
        tokens: int,
        joining: Mapping[int, Joining],
        window: int,
        touches: Mapping[Place, Touch] | None = None,
    ) -> Tensor:
        """The same, read over the last `window` positions: logits (row, window, vocabulary) in float32.

        Raises:
            ModelError, ValueError: as `restart`.
        """
        touches = touches or {}
        with self._touching(touches):
            whole = self._at_the_end(touches)
            return self._counted(self._restarting().restart_window(memory, tokens, joining, window, whole=whole))

    def _at_the_end(self, touches: Mapping[Place, Touch]) -> bool:
        """Whether somebody looks at the last block, which then must see all tokens."""
        return any(layer == self.layers - 1 for _, layer in touches)

    def _counted(self, restarted: blockwise.Restarted) -> Tensor:
        self.meter.token_layers += restarted.token_layers
        self.meter.runs += 1
        return restarted.logits

    def _swappable(self) -> Support:
        """Whether the cache keeps the keys and values that attention meets (DeepSeek's keeps a compressed form)."""
        offered = [self._blockwise_support, *(self._tap.support()[part] for part in (Component.K, Component.V))]
        for one in offered:
            if not one:
                return one
        met: dict[Place, Tensor] = {}
        places = [(part, layer) for part in (Component.K, Component.V) for layer in range(self.layers)]
        _, memory = self.record(self._short, {place: keep(met, place) for place in places})
        for place in places:
            kept = (memory.keys if place[0] is Component.K else memory.values)[place[1]].transpose(1, 2)
            if not torch.equal(kept, met[place]):
                return Support(
                    False, f"the cache of layer {place[1]} keeps another {place[0]} than attention meets"
                )
        return Support(True)

    @contextmanager
    def _touching(self, touches: Mapping[Place, Touch], looks: Mapping[int, Look] | None = None) -> Iterator[None]:
        headed = {place: touch for place, touch in touches.items() if place[0] in tap.HEADED}
        others = {place: touch for place, touch in touches.items() if place[0] not in tap.HEADED}
        with self._tap.touching(headed, looks), self._layout.touching(others):
            yield

    def _restarting(self) -> blockwise.Blockwise:
        if self.blockwise is None:
            raise ModelError(self._blockwise_support.reason)
        return self.blockwise

    @torch.no_grad()
    def _window(self, batch: Batch, tokens: int = 1) -> Tensor:
        return self._forward(batch, tokens)

    def _forward(self, batch: Batch, tokens: int = 1) -> Tensor:
        with products.multiplying(self.module.get_output_embeddings()):
            last: Tensor = self.module(**self._inputs(batch, tokens)).logits[:, -tokens:]
        return last.float()


def _longest(past: Batch, batch: Batch) -> int:
    """Tokens of the longest row of a run and what goes on from it."""
    pads = zip(past.pads, batch.pads, strict=False)
    return past.width + batch.width - min(one + other for one, other in pads)
