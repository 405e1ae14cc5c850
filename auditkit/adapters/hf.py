"""The default adapter: the plain transformers module, touched with forward hooks.

The module's weights and arithmetic are never rewritten. When a model is opened, its batched and padded logits
are compared with those of plain, one-at-a-time calls; the largest difference is the noise floor that later
guards use, and a difference that rounding cannot explain refuses the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from auditkit.adapters import blockwise, continuing, devices, tap
from auditkit.adapters.chat import ChatEncoder, Prompt
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.layout import Layout, discover
from auditkit.adapters.loading import Loaded
from auditkit.adapters.protocol import Batch, Component, Joining, Look, Memory, Meter, Place, Support, Touch
from auditkit.data.prompts import Chat
from auditkit.record.schema import ModelInfo

_PARITY_CHATS = (
    Chat(user="Hello."),
    Chat(
        user="What is the capital of France?",
        system="You are a student.",
        assistant="The capital of France is",
    ),
)

# Rounding of a deep residual stream, in units of the dtype's epsilon times the largest logit.
_PARITY_EPSILONS = 256


class HFAdapter:
    """A causal language model of transformers, opened for measurement.

    Attributes:
        info: identity of the model, as it enters the record.
        chat: turns chats into prompts.
        layers, heads, groups, width: sizes of the model.
        ends: token ids that end a text, by the model's generation config, else the tokenizer.
        meter: work done so far.
        blockwise: restarts from a block, where `support()["blockwise"]`; else None.
        generation_parity: largest difference that going on from a run made when the model was opened, in logits.

    Raises:
        IntegrityError: batched logits differ from plain ones beyond rounding, or are not finite.
        ModelError: the module has no attention heads or no recognisable list of blocks, or the tokenizer is not
            this model's.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.module = loaded.module
        self.tokenizer = loaded.tokenizer
        self.chat = ChatEncoder(loaded.tokenizer)
        self.meter = Meter()
        self.layers, self.heads, self.width = (
            self._size(name) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
        )
        self._accepts = set(inspect.signature(self.module.forward).parameters)
        self._pad_id = next(
            (int(i) for i in (loaded.tokenizer.pad_token_id, loaded.tokenizer.eos_token_id) if i is not None),
            0,
        )
        own_ends = getattr(getattr(self.module, "generation_config", None), "eos_token_id", None)
        ends = loaded.tokenizer.eos_token_id if own_ends is None else own_ends
        self.ends = tuple(ends) if isinstance(ends, list) else () if ends is None else (int(ends),)
        prompts = [self.chat(chat) for chat in _PARITY_CHATS]
        highest = max(token for prompt in prompts for token in (*prompt.ids, self._pad_id))
        weight: Any = self.module.get_input_embeddings().weight
        rows = int(weight.shape[0])
        if highest >= rows:
            raise ModelError(
                f"the tokenizer gives token id {highest}, but the model embeds {rows} tokens: they do not "
                "belong together"
            )
        start = prompts[-1].ids[:6]
        short = self.batch([Prompt("", start), Prompt("", start[2:])])
        seen: list[Tensor] = []
        self._layout: Layout = discover(self.module, lambda: seen.append(self._window(short)[:, 0]))
        alone = self.batch([Prompt("", start)])
        self._tap = tap.opened(self._layout, self.heads, self._window, [short, alone])
        own = getattr(self.module.config.get_text_config(), "num_key_value_heads", None)
        self.groups = self._tap.groups or (own if isinstance(own, int) else self.heads)
        parity = self._parity(prompts)
        self.blockwise, self._blockwise_support = blockwise.opened(
            self.module, self._layout.blocks, self._accepts, short, seen[0]
        )
        self._generation_support, self.generation_parity = continuing.checked(
            self.module, self.layers, self._accepts, short, seen[0]
        )

        restarts = self.blockwise.parity_max_abs if self.blockwise else 0.0
        self.info = self._describe(loaded, max(parity, restarts))
        self.meter = Meter()  # opening is not part of any claim's cost

    def support(self) -> Mapping[str, Support]:
        """Component, "blockwise", "generation" and "gradients" -> yes, or no with the reason."""
        return {
            **self._layout.support(),
            **self._tap.support(),
            "blockwise": self._blockwise_support,
            "generation": self._generation_support,
            "gradients": Support(True),
        }

    def batch(self, prompts: Sequence[Prompt]) -> Batch:
        """Left-padded batch on the model's device.

        Raises:
            ValueError: no prompts, or an empty one.
        """
        if not prompts or not all(prompts):
            raise ValueError("a batch needs at least one prompt, and every prompt at least one token")
        longest = max(len(prompt) for prompt in prompts)
        pads = tuple(longest - len(prompt) for prompt in prompts)
        ids = torch.tensor(
            [[self._pad_id] * pad + list(prompt.ids) for pad, prompt in zip(pads, prompts, strict=True)]
        )
        mask = torch.tensor([[0] * pad + [1] * len(prompt) for pad, prompt in zip(pads, prompts, strict=True)])
        device = self.module.device
        return Batch(ids.to(device), mask.to(device), pads)

    def run(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> Tensor:
        """Logits (batch, vocabulary) in float32 after the last token; touches fire on the way."""
        return self.predict(batch, touches)[:, 0]

    @torch.no_grad()
    def predict(self, batch: Batch, touches: Mapping[Place, Touch] | None = None, tokens: int = 1) -> Tensor:
        """Logits (batch, tokens, vocabulary) in float32 after each of the last `tokens` positions.

        Raises:
            ValueError: more tokens than the batch has positions, or a place that this model does not have.
        """
        if not 1 <= tokens <= batch.width:
            raise ValueError(
                f"logits after the last {tokens} tokens asked for, this batch has {batch.width} positions"
            )
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

    def gradients(
        self, batch: Batch, places: Collection[Place], answers: Sequence[tuple[int, int]]
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
            right, wrong = logits.gather(1, ids).unbind(1)
            kept = list(values)
            found = torch.autograd.grad((right - wrong).sum(), [values[place] for place in kept])
        # A pass back through a block costs about two passes forward.
        self._count(batch, 3)
        detached = {place: value.detach() for place, value in values.items()}
        return logits.detach(), detached, dict(zip(kept, found, strict=True))

    @torch.no_grad()
    def extend(
        self, past: Memory | None, batch: Batch, touches: Mapping[Place, Touch] | None = None, tokens: int = 1
    ) -> tuple[Tensor, Memory]:
        """Run `batch` on the keys and values of `past`; logits as `predict`, and the memory of the whole.

        Raises:
            ModelError: this model cannot go on from a run; `support()["generation"]` says why.
            ValueError: padding between tokens, another number of prompts, or as `predict`.
        """
        if not self._generation_support:
            raise ModelError(self._generation_support.reason)
        with self._touching(touches or {}):
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

    def restart(self, memory: Memory, tokens: int, joining: Mapping[int, Joining], answers: Tensor) -> Tensor:
        """Answer logits (row, 2) of rows that join a walk on the last `tokens` positions.

        Raises:
            ModelError: this model cannot be restarted; `support()` says why.
        """
        restarted = self._restarting().restart(memory, tokens, joining, answers)
        self.meter.token_layers += restarted.token_layers
        self.meter.runs += 1
        return restarted.logits

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

    def _count(self, batch: Batch, times: int = 1) -> None:
        self.meter.token_layers += int(batch.mask.sum()) * self.layers * times
        self.meter.runs += 1

    @torch.no_grad()
    def _window(self, batch: Batch, tokens: int = 1) -> Tensor:
        return self._forward(batch, tokens)

    def _forward(self, batch: Batch, tokens: int = 1) -> Tensor:
        options = continuing.placed(self._accepts, batch.mask, batch.width, tokens)
        output = self.module(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False, **options)
        last: Tensor = output.logits[:, -tokens:]
        return last.float()

    @torch.no_grad()
    def _parity(self, prompts: Sequence[Prompt]) -> float:
        """Largest difference between batched logits with touches in place and plain unpadded calls."""
        identity: dict[Place, Touch] = {
            (Component.RESIDUAL, layer): lambda value: value for layer in range(self.layers)
        }
        ours = self.run(self.batch(prompts), identity)
        device = self.module.device
        plain = torch.stack(
            [self.module(torch.tensor([prompt.ids], device=device)).logits[0, -1].float() for prompt in prompts]
        )
        if not torch.isfinite(plain).all():
            dtype = str(self.module.dtype).removeprefix("torch.")
            raise IntegrityError(
                f"the model's own logits contain NaN or infinity in {dtype}; the weights are damaged, or this dtype "
                "overflows (try --dtype float32)"
            )
        difference = float((ours - plain).abs().max())
        allowed = _PARITY_EPSILONS * torch.finfo(self.module.dtype).eps * float(plain.abs().max())
        if not difference <= allowed:
            raise IntegrityError(
                f"batched logits differ from one-at-a-time logits by {difference:.2g} (rounding explains "
                f"{allowed:.2g}): padding changes numbers on this model, so nothing measured here could be trusted"
            )
        return difference

    def _size(self, name: str) -> int:
        config = self.module.config.get_text_config()
        size = getattr(config, name, None)
        if not isinstance(size, int):
            raise ModelError(
                f"{type(config).__name__} has no {name}: auditkit measures transformers with attention in every block"
            )
        return size

    def _describe(self, loaded: Loaded, parity: float) -> ModelInfo:
        return ModelInfo(
            spec=loaded.spec,
            name=loaded.name,
            source=loaded.source,
            weights_sha256=loaded.weights_sha256,
            tokenizer_sha256=loaded.tokenizer_sha256,
            chat_template_sha256=self.chat.template_sha256,
            prompt_format=self.chat.format,
            family=str(self.module.config.model_type),
            parameters=sum(p.numel() for p in self.module.parameters()),
            layers=self.layers,
            heads=self.heads,
            dtype=str(self.module.dtype).removeprefix("torch."),
            device=devices.described(self.module),
            adapter="hf",
            parity_max_abs=parity,
            trust_remote_code=loaded.trust_remote_code,
        )
