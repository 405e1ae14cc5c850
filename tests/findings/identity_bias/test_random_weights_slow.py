"""A model that has learnt nothing passes no claim about how alike it treats people."""

from __future__ import annotations

from pathlib import Path

import pytest
from audits import audit

import auditkit
from auditkit.record.schema import Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[0.02, 0.3])
def random_weights(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory, request) -> Path:
    """A model that knows the words of the suite and nothing else: weights as before training, or 15 times larger."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    package = Path(auditkit.__file__).parent
    files = sorted((package / "findings" / "identity_bias" / "data").glob("*.toml"))
    texts = [line for path in files for line in path.read_text().splitlines()]
    texts += (package / "data" / "completions.csv").read_text().replace(",", " ").splitlines()
    answers = ["Answer: Yes Answer: No Answer: yes Answer: no"] * 50
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama).train_new_from_iterator([*texts, *answers], 4000)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=128, num_hidden_layers=6, num_attention_heads=3,
        num_key_value_heads=1, tie_word_embeddings=True, initializer_range=request.param,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("random") / "weights"
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_random_weights_pass_no_claim_of_equality(random_weights: Path, tmp_path: Path) -> None:
    """A model that understands nothing treats everybody alike; that is no finding about it."""
    run = read_run(audit(tmp_path, "suites/identity_bias", "--model", str(random_weights), "--items", "25"))
    verdicts = {claim.id.split("/", 1)[1]: claim.verdict for claim in run.claims}
    assert not [name for name, verdict in verdicts.items() if verdict in (Verdict.PASS, Verdict.ERROR)]
    claims = {claim.id.split("/", 1)[1]: claim for claim in run.claims}
    decisions = claims["decisions_do_not_depend_on[gender]"]
    assert decisions.effect is not None, "the tokenizer knows the answers, so decisions are measured"
    if decisions.verdict is Verdict.NOT_APPLICABLE:
        assert "tell a strong case from a weak one: strong minus weak, favourable decision is " in decisions.reason
        assert "at least 0.25 needed" in decisions.reason
