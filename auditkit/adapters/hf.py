"""The default adapter: the plain transformers module, touched with forward hooks.

The module's weights and arithmetic are never rewritten; `common` checks that when a model is opened.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from auditkit.adapters import blockwise
from auditkit.adapters.common import ModuleAdapter
from auditkit.adapters.errors import ModelError
from auditkit.adapters.layout import Layout, discover
from auditkit.adapters.loading import Loaded
from auditkit.adapters.protocol import Batch, Joining, Memory, Meter, Place, Support, Touch


class HFAdapter(ModuleAdapter):
    """A causal language model of transformers, opened for measurement.

    Attributes:
        info: identity of the model, as it enters the record.
        chat: turns chats into prompts.
        layers, heads, groups, width: sizes of the model.
        meter: work done so far.
        blockwise: restarts from a block, where `support()["blockwise"]`; else None.

    Raises:
        IntegrityError: batched logits differ from plain ones beyond rounding, or are not finite.
        ModelError: the module has no attention heads or no recognisable list of blocks, or the tokenizer is not
            this model's.
    """

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        short = self._short
        seen: list[Tensor] = []
        self._layout: Layout = discover(self.module, lambda: seen.append(self._logits(short)))
        self.info = self._describe(loaded, "hf", self._parity(self.run))
        self.blockwise, self._blockwise_support = blockwise.opened(
            self.module, self._layout.blocks, self._accepts, short, seen[0]
        )
        self.meter = Meter()  # opening is not part of any claim's cost

    def support(self) -> Mapping[str, Support]:
        """Component, and "blockwise" -> yes, or no with the reason."""
        return {**self._layout.support(), "blockwise": self._blockwise_support}

    @torch.no_grad()
    def run(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> Tensor:
        """Logits (batch, vocabulary) in float32 after the last token; touches fire on the way."""
        with self._layout.touching(dict(touches or {})):
            logits = self._logits(batch)
        self.meter.token_layers += int(batch.mask.sum()) * self.layers
        self.meter.runs += 1
        return logits

    @torch.no_grad()
    def record(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> tuple[Tensor, Memory]:
        """A run as `run` makes it, and what restarts need of it.

        Raises:
            ModelError: this model cannot be restarted; `support()` says why.
        """
        with self._layout.touching(dict(touches or {})):
            recorded = self._restarting().record(batch)
        self.meter.token_layers += int(batch.mask.sum()) * self.layers
        self.meter.runs += 1
        return recorded

    def restart(self, memory: Memory, tokens: int, joining: Mapping[int, Joining], answers: Tensor) -> Tensor:
        """Answer logits (row, 2) of rows that join a walk on the last `tokens` positions.

        Raises:
            ModelError: this model cannot be restarted; `support()` says why.
        """
        restarted = self._restarting().restart(memory, tokens, joining, answers)
        self.meter.token_layers += restarted.token_layers
        self.meter.runs += 1
        return restarted.logits

    def _restarting(self) -> blockwise.Blockwise:
        if self.blockwise is None:
            raise ModelError(self._blockwise_support.reason)
        return self.blockwise

    @torch.no_grad()
    def _logits(self, batch: Batch) -> Tensor:
        output = self.module(**self._inputs(batch))
        last: Tensor = output.logits[:, -1]
        return last.float()
