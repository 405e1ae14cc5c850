"""Shared by all tests: tiers, and a tiny random model that opens like a real one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import browser
from hypothesis import settings

from auditkit.claims.verdicts import summarize
from auditkit.record import schema
from auditkit.record.differences import plan_digest
from auditkit.record.schema import Run, Verdict

__all__ = ["browser"]

# Timings on shared cores say nothing about the code.
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")

# Tests run in one process per core; torch would start as many threads in each, and they spin while they wait. It is set
# before torch is imported, and the audits that tests start inherit it.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) - 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // (workers + 1))))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

TIERS = ("unit", "model", "slow")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-conformance",
        action="store_true",
        help="write docs/conformance.md anew instead of comparing it with what the checks find",
    )
    parser.addoption(
        "--write-layouts",
        action="store_true",
        help="write the tables of layouts in the docs anew instead of comparing them with what is tested",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of the project belongs to exactly one tier (tests written by tests do not count).

    It is that of its file, out of which the mark `slow` takes single tests.
    """
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        tiers = {name for name in TIERS if item.get_closest_marker(name)}
        if not tiers or len(tiers - {"slow"}) > 1:
            raise pytest.UsageError(
                f"{item.nodeid} must carry exactly one of the marks {', '.join(TIERS)}: {sorted(tiers)}"
            )


@pytest.fixture(autouse=True, scope="module")
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny models are quicker on one thread. The real model has all, and tests without torch do not load it."""
    torch = sys.modules.get("torch")
    if torch is None or not request.node.get_closest_marker("unit"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of three blocks with a byte-level tokenizer and a chat template, as a local directory."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    text = [
        "What is the capital of France? The capital of France is Paris, not London.",
        "You are a good student.",
    ]
    special = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|begin|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(text * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-llama")
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def a_run() -> Run:
    """A run of two claims, with an effect, a control, notes and text beyond ASCII."""
    effect = schema.Effect(
        name="recovery", estimate=0.5, lower=0.4, upper=0.6, unit="of the total effect", relation=">=",
        threshold=0.3, alpha=0.05, n=20, clusters=10, standardized=None, mde=0.1, items_needed=None, method="mean",
    )  # fmt: skip
    claims = tuple(
        schema.Claim(
            id=f"suite/claim{i}", suite="suite", statement="says “so”", source="a paper", verdict=Verdict.PASS,
            reason="the whole interval is above", threshold_source="table 2", effect=effect, notes=("a", "b"),
            controls=(schema.Control(name="wrong donor", effect=None, verdict=None, reason="shown"),),
            cost=schema.Cost(seconds=1.5, token_layers=7, share_of_minimum=None),
        )
        for i in range(2)
    )  # fmt: skip
    model = schema.ModelInfo(
        spec="m", name="m", source="directory", weights_sha256="ab", tokenizer_sha256="cd",
        chat_template_sha256=None, prompt_format="plain", family="llama", parameters=1, layers=2, heads=3,
        dtype="float32", device="cpu", adapter="hf", parity_max_abs=0.0, identity={"config/rms_norm_eps": "1e-06"},
    )  # fmt: skip
    plan = schema.Plan(
        claims={claim.id: "digest" for claim in claims}, thresholds={}, data={}, code={}, methods={}, settings={},
        versions={},
    )  # fmt: skip
    return Run(
        schema_version=schema.SCHEMA_VERSION, created="2025-07-11T00:00:00Z", seed=7, profile="pr", command=("pytest",),
        tool=schema.Tool(version="0", git=None), plan_sha256=plan_digest(plan), items_sha256="", model=model, plan=plan,
        baseline=None,
        environment=schema.Environment(python="3.11", packages={"numpy": "2"}, cpu="c", gpu=None, threads=2),
        summary=summarize(claims),
        claims=claims, untested=(schema.Untested(what="attention", reason="no tap"),),
    )  # fmt: skip
