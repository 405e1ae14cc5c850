"""Direct effects against the model's own final norm and unembedding, and against a planted circuit."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.loading.quiet import quiet
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine.pairs import PatchPair
from auditkit.engine.sites import SiteError, attention, head, mlp
from auditkit.methods.direct_effects import direct_effects
from tests.planted.circuits import Circuit, open_circuit

pytestmark = pytest.mark.unit


def _pairs(adapter: HFAdapter) -> list[PatchPair]:
    """Five pairs of two lengths that differ in one token."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for length in (9, 7, 9, 7, 9):
        ids = torch.randint(8, 60, (length,), generator=generator).tolist()
        other = [*ids[:3], (ids[3] + 1), *ids[4:]]
        made.append(PatchPair(Prompt("", tuple(ids)), Prompt("", tuple(other)), (61, 62), {"word": (3, 4)}))
    return made


def _open(family: str, **options: object) -> HFAdapter:
    tokenizer = open_circuit(Circuit()).tokenizer
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(1)
    with quiet():
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes, **options)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    module.requires_grad_(False)
    return HFAdapter(Loaded(family, family, "test", module, tokenizer, "0" * 64, "0" * 64))


LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}


@pytest.mark.parametrize(("family", "options"), [("llama", LLAMA), ("gpt2", GPT2)])
def test_the_direct_effect_is_the_contribution_through_the_frozen_norm(family: str, options: dict) -> None:
    adapter = _open(family, **options)
    pairs = _pairs(adapter)
    sites = [component.layer(layer) for component in (attention, mlp) for layer in range(3)]
    measured = direct_effects(adapter, pairs, [*sites, mlp.layer(1)["word"]])
    module, is_llama = adapter.module, family == "llama"
    blocks, norm = (
        (module.model.layers, module.model.norm) if is_llama else (module.transformer.h, module.transformer.ln_f)
    )
    parts = [b.self_attn if is_llama else b.attn for b in blocks] + [b.mlp for b in blocks]

    def contributions(prompt: Prompt) -> tuple[list[torch.Tensor], torch.Tensor]:
        kept: dict[int, torch.Tensor] = {}
        hooks = [
            part.register_forward_hook(
                lambda _, __, out, i=i: kept.__setitem__(i, (out[0] if isinstance(out, tuple) else out)[0, -1])
            )
            for i, part in enumerate(parts)
        ]
        hooks.append(norm.register_forward_pre_hook(lambda _, given: kept.__setitem__(-1, given[0][0, -1])))
        module(torch.tensor([prompt.ids]))
        for hook in hooks:
            hook.remove()
        return [kept[i] for i in range(len(parts))], kept[-1]

    for column, pair in enumerate(pairs):
        own, stream = contributions(pair.base)
        theirs, _ = contributions(pair.source)
        reader = module.lm_head.weight[61] - module.lm_head.weight[62]
        if is_llama:
            scale = (stream.square().mean() + norm.variance_epsilon).rsqrt()
        else:
            scale = (stream.var(unbiased=False) + norm.eps).rsqrt()
        for row in range(len(sites)):
            change = theirs[row] - own[row]
            change = change if is_llama else change - change.mean()
            expected = float((reader * norm.weight * scale) @ change)
            assert measured[row, column] == pytest.approx(expected, abs=1e-4)
    assert measured.abs().max() > 0.01
    assert (measured[-1] == 0).all(), "the word is not the last token"


def test_a_model_that_caps_its_logits_has_none() -> None:
    adapter = _open("gemma2", **LLAMA, head_dim=8, final_logit_softcapping=0.5)
    with pytest.raises(NotApplicable, match="does not read its answers that way"):
        direct_effects(adapter, _pairs(adapter), [mlp.layer(1)])


def test_sites_that_add_nothing_to_the_stream_are_refused() -> None:
    adapter = open_circuit(Circuit())
    with pytest.raises(SiteError, match="adds nothing to the stream"):
        direct_effects(adapter, _pairs(adapter), [head(1, 1)])
