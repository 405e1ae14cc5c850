"""What adapters over one transformers module share: sizes, padding, inputs, identity, and the parity check.

When a model is opened, its batched and padded logits, as the adapter gives them with touches in place, are compared
with those of plain, one-at-a-time calls. The largest difference is the noise floor that later guards use, and a
difference that rounding cannot explain refuses the model. Before that, a prompt is run without its last tokens: where
that changes the logits of the tokens that are left, the model is no causal language model and is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from auditkit.adapters import ends
from auditkit.adapters.chat import ChatEncoder, Prompt, require_room
from auditkit.adapters.errors import IntegrityError, ModelError, first_line
from auditkit.adapters.hf import continuing
from auditkit.adapters.loading import devices
from auditkit.adapters.loading.causal import parameters_of
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.protocol import Batch, Component, Meter, Place, Support, Touch
from auditkit.claims.outcomes import Unsupported
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


def context_of(config: Any) -> int | None:
    """Tokens that a model can read at once, by its text config; None where it states no limit.

    A context that the config stretches (`rope_parameters` with a factor and the original length) counts as stretched.
    """
    stated = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len", "n_ctx"))
    length = next((value for value in stated if isinstance(value, int) and value > 0), None)
    stretched = getattr(config, "rope_parameters", None)
    if length is None or not isinstance(stretched, dict):
        return length
    original, factor = stretched.get("original_max_position_embeddings"), stretched.get("factor")
    if isinstance(original, int | float) and isinstance(factor, int | float):
        return max(length, int(original * factor))
    return length


class ModuleAdapter:
    """The part of an adapter that does not depend on how activations are reached.

    Attributes:
        module, tokenizer: what was loaded, unchanged.
        chat: turns chats into prompts.
        layers, heads, groups, width: sizes of the model.
        sizes: place -> length of the last axis of its values, as measured; empty until the model is open.
        context: tokens that the model can read at once; None where its config states no limit.
        meter: work done so far.
        ends: token ids that end a text, by the model's generation config, the tokenizer or the chat template.

    Raises:
        IntegrityError: the module's own logits are not finite.
        ModelError: the module has no attention heads, or later tokens change its earlier logits; the tokenizer is not
            this model's, or a token that ends a text is none of its tokens.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.module = loaded.module
        self.tokenizer = loaded.tokenizer
        self.context = context_of(self.module.config.get_text_config())
        self.chat = ChatEncoder(loaded.tokenizer, loaded.template_arguments, self.context)
        self.meter = Meter()
        self.layers, self.heads, self.width = (
            self._size(name) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
        )
        own = getattr(self.module.config.get_text_config(), "num_key_value_heads", None)
        self.groups = own if isinstance(own, int) else self.heads
        self.sizes: dict[Place, int] = {}
        self._accepts = set(inspect.signature(self.module.forward).parameters)
        try:
            self._prompts = [self.chat(chat) for chat in _PARITY_CHATS]
        except Unsupported as error:
            raise ModelError(f"{loaded.source} cannot be checked when it is opened: {error}") from error
        weight: Any = self.module.get_input_embeddings().weight
        rows = self._rows = int(weight.shape[0])
        pads = (loaded.tokenizer.pad_token_id, loaded.tokenizer.eos_token_id)
        # padding is masked, so any token may stand there; one that fine-tuning has added may have no embedding
        self._pad_id = next((int(i) for i in pads if i is not None and i < rows), 0)
        highest = max(token for prompt in self._prompts for token in prompt.ids)
        if highest >= rows:
            raise ModelError(
                f"the tokenizer gives token id {highest}, but the model embeds {rows} tokens: they do not "
                "belong together"
            )
        self.ends = ends.of(self.module, self.chat, rows)
        start = self._prompts[-1].ids[:6]
        self._short = self.batch([Prompt("", start), Prompt("", start[2:])])
        self._alone = self.batch([Prompt("", start)])
        self._plain = self._plain_logits(loaded.source)

    def __repr__(self) -> str:
        """The model, as far as it is open."""
        info: ModelInfo | None = getattr(self, "info", None)
        if info is None:
            return f"{type(self).__name__}: not open"
        sizes = f"{self.layers} layers of {self.heads} heads, width {self.width}"
        return f"{type(self).__name__}: {info.name}, {sizes}, {info.dtype} on {info.device}"

    def batch(self, prompts: Sequence[Prompt]) -> Batch:
        """Left-padded batch on the model's device.

        Raises:
            ValueError: no prompts, or an empty one.
            Unsupported: a prompt is longer than the model's context.
            ModelError: a token of a prompt has no embedding.
        """
        if not prompts or not all(prompts):
            raise ValueError("a batch needs at least one prompt, and every prompt at least one token")
        highest = max(token for prompt in prompts for token in prompt.ids)
        if highest >= self._rows:
            raise ModelError(
                f"a prompt holds token id {highest}, but the model embeds {self._rows} tokens: the tokenizer was given "
                "tokens that the model was not trained with"
            )
        longest = max(len(prompt) for prompt in prompts)
        require_room(longest, self.context)
        pads = tuple(longest - len(prompt) for prompt in prompts)
        ids = torch.tensor(
            [[self._pad_id] * pad + list(prompt.ids) for pad, prompt in zip(pads, prompts, strict=True)]
        )
        mask = torch.tensor([[0] * pad + [1] * len(prompt) for pad, prompt in zip(pads, prompts, strict=True)])
        return Batch(ids.to(self._device), mask.to(self._device), pads)

    @property
    def _device(self) -> torch.device:
        """Where batches are made."""
        return self.module.device

    def _inputs(self, batch: Batch, tokens: int = 1) -> dict[str, Any]:
        """What the module's forward is given to answer after each of the last `tokens` positions."""
        placed = continuing.placed(self._accepts, batch.mask, batch.width, tokens)
        return {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False, **placed}

    @staticmethod
    def _check_tokens(batch: Batch, tokens: int) -> None:
        if not 1 <= tokens <= batch.width:
            raise ValueError(
                f"logits after the last {tokens} tokens asked for, this batch has {batch.width} positions"
            )

    def _require_place(self, place: Place, offered: Support) -> None:
        """
        Raises:
            ValueError: a layer that the model does not have, or a component that is not offered.
        """
        component, layer = place
        last = 0 if component is Component.EMBEDDINGS else self.layers - 1
        if not 0 <= layer <= last:
            raise ValueError(f"{component} of layer {layer}: this model has layers 0 to {last}")
        if not offered:
            raise ValueError(f"{component} is not available on this model: {offered.reason}")

    def _count(self, batch: Batch, times: int = 1) -> None:
        self.meter.token_layers += int(batch.mask.sum()) * self.layers * times
        self.meter.runs += 1

    @torch.no_grad()
    def _plain_logits(self, source: str) -> Tensor:
        """Logits (prompt, vocabulary) of plain calls of the module on one unpadded prompt at a time.

        Raises:
            IntegrityError: they are not finite.
            ModelError: the module does not run at all, or later tokens change earlier logits.
        """
        whole = [self._run_alone(prompt.ids, source) for prompt in self._prompts]
        if not all(torch.isfinite(logits).all() for logits in whole):
            dtype = str(self.module.dtype).removeprefix("torch.")
            raise IntegrityError(
                f"the model's own logits contain NaN or infinity in {dtype}; the weights are damaged, or this dtype "
                "overflows (try --dtype float32)"
            )
        longest = max(range(len(whole)), key=lambda row: len(whole[row]))
        left = len(whole[longest]) // 2
        shortened = self._run_alone(self._prompts[longest].ids[:left], source)
        moved = float((shortened - whole[longest][:left]).abs().max())
        if not moved <= self._rounding(whole[longest]):
            raise ModelError(
                f"{source} is no causal language model: tokens that come later change the logits of earlier ones by "
                f"{moved:.2g} (rounding explains {self._rounding(whole[longest]):.2g}), as in an encoder that looks "
                "both ways"
            )
        return torch.stack([logits[-1] for logits in whole])

    def _run_alone(self, ids: tuple[int, ...], source: str) -> Tensor:
        """Logits (position, vocabulary) in float32 of one prompt, as the model itself gives them."""
        if all(parameter.is_meta for parameter in self.module.parameters()):
            raise ModelError(f"the weights are not here but on a server: {source}")
        try:
            logits: Tensor = self.module(torch.tensor([ids], device=self.module.device)).logits[0]
        except Exception as error:  # a family's code, or a warning that the run turns into an error
            raise ModelError(f"{source} does not run: {type(error).__name__}: {first_line(error)}") from error
        return logits.float()

    def _rounding(self, logits: Tensor) -> float:
        """How far logits may move by rounding alone when the same text is run in another batch."""
        return _PARITY_EPSILONS * torch.finfo(self.module.dtype).eps * float(logits.abs().max())

    @torch.no_grad()
    def _parity(self, run: Callable[[Batch, Mapping[Place, Touch]], Tensor]) -> float:
        """Largest difference between batched logits with touches in place and plain unpadded calls."""
        identity: dict[Place, Touch] = {
            (Component.RESIDUAL, layer): lambda value: value for layer in range(self.layers)
        }
        ours = run(self.batch(self._prompts), identity)
        difference = float((ours - self._plain).abs().max())
        allowed = self._rounding(self._plain)
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

    def _describe(self, loaded: Loaded, adapter: str, parity: float) -> ModelInfo:
        return ModelInfo(
            spec=loaded.spec,
            name=loaded.name,
            source=loaded.source,
            weights_sha256=loaded.weights_sha256,
            tokenizer_sha256=loaded.tokenizer_sha256,
            chat_template_sha256=self.chat.template_sha256,
            prompt_format=self.chat.format,
            family=str(self.module.config.model_type),
            parameters=parameters_of(self.module, text_alone=bool(loaded.text_of)),
            layers=self.layers,
            heads=self.heads,
            dtype=str(self.module.dtype).removeprefix("torch."),
            device=devices.described(self.module),
            adapter=adapter,
            parity_max_abs=parity,
            trust_remote_code=loaded.trust_remote_code,
            revision=loaded.revision,
            code_sha256=loaded.code_sha256,
            text_of=loaded.text_of,
            context=self.context,
            fine_tune=loaded.fine_tune,
            identity=dict(loaded.identity),
        )
