"""Stand-ins for interp-engine and vLLM, with as much of their interfaces as the adapter calls.

The model is opened anew from the folder that the adapter names, as vLLM opens it, and run without a cache, one prompt
at a time. Signatures and forms are those of interp-engine 1.14.2: coroutines and asynchronous generators, one event
loop in a thread, tensors without a batch axis, values by address, and of the likeliest tokens only log-probabilities.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


@dataclass
class Step:
    token_id: int
    token_str: str
    logits: None
    logprobs: list[dict[str, Any]]


class StandInModel:
    """What `load_model` returns; `wrong` is added to each score of a text, `endless` gives more tokens than asked."""

    wrong = 0.0
    endless = False

    def __init__(self, folder: str, dtype: str) -> None:
        self.module = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.warm = self.shut = False
        self.together = self.most = 0
        """Requests under way, and the most of them at a time."""

    async def warmup(self) -> None:
        self.warm = True

    async def shutdown(self) -> None:
        self.shut = True

    @torch.no_grad()
    def _logits(self, ids: Sequence[int]) -> Tensor:
        logits: Tensor = self.module(torch.tensor([list(ids)]), use_cache=False).logits[0]
        return logits

    async def generate_steps(
        self,
        prompt_token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        presence_penalty: float,
        stop_at_eos: bool,
        n_logprobs: int,
    ) -> AsyncIterator[Step]:
        assert (temperature, top_k, top_p, presence_penalty) == (0.0, 0, 1.0, 0.0)
        ids = list(prompt_token_ids)
        for _ in range(max_tokens + self.endless):
            await asyncio.sleep(0)
            scores = self._logits(ids)[-1].float().log_softmax(-1)
            best = scores.topk(n_logprobs)
            ids.append(int(best.indices[0]))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            likely = [{"token_id": token, "logprob": score + self.wrong} for token, score in pairs]
            yield Step(ids[-1], "", None, likely)

    async def capture(self, prompt_token_ids: Sequence[int], points: Sequence[str]) -> dict[str, Tensor]:
        assert points == [f"resid_post.{self.module.config.num_hidden_layers - 1}"]
        self.together += 1
        self.most = max(self.most, self.together)
        await asyncio.sleep(0)
        seen: list[Tensor] = []
        hook = self.module.model.layers[-1].register_forward_hook(lambda _, args, out: seen.append(out))
        self._logits(prompt_token_ids)
        hook.remove()
        self.together -= 1
        return {points[0]: (seen[0][0] if isinstance(seen[0], tuple) else seen[0])[0]}

    async def decode_residuals(self, residuals: Tensor) -> Tensor:
        logits: Tensor = self.module.lm_head(self.module.model.norm(residuals))
        return logits


class Runner:
    """One event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)


class Behind:
    """What `sync_model` returns."""

    def __init__(self, model: StandInModel) -> None:
        self.model, self.runner = model, Runner()

    def shutdown(self) -> None:
        self.runner.submit(self.model.shutdown()).result()
        self.runner.loop.call_soon_threadsafe(self.runner.loop.stop)


@dataclass
class StandIn:
    """The two packages as they stand in `sys.modules`.

    Attributes:
        asked: how each model was opened.
        models: those that were opened.
        instead: folder that is opened in place of the one that is asked for.
        fails: what opening raises.
    """

    asked: list[dict[str, Any]] = field(default_factory=list)
    models: list[StandInModel] = field(default_factory=list)
    instead: str = ""
    fails: Exception | None = None
    installed: bool = True

    def load_model(self, hf_model_id: str, *, backend: str, dtype: str, **options: Any) -> StandInModel:
        if self.fails is not None:
            raise self.fails
        self.asked.append({"folder": hf_model_id, "backend": backend, "dtype": dtype, **options})
        self.models.append(StandInModel(self.instead or hf_model_id, dtype))
        return self.models[-1]


def stand_in(monkeypatch: pytest.MonkeyPatch, device: str = "cuda") -> StandIn:
    """Put stand-ins in place of both packages.

    Args:
        device: what vLLM says that it runs on; empty where it finds nothing.
    """
    made = StandIn()
    engine: Any = ModuleType("interp_engine")
    engine.load_model, engine.sync_model = made.load_model, Behind
    engine.vllm_installed = lambda: made.installed
    platforms: Any = ModuleType("vllm.platforms")
    platforms.current_platform = SimpleNamespace(device_type=device)
    vllm: Any = ModuleType("vllm")
    vllm.platforms = platforms
    for name, module in (("interp_engine", engine), ("vllm", vllm), ("vllm.platforms", platforms)):
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "1")
    return made
