"""Audits of a model on an NDIF server, from the command line to the record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpcore  # noqa: F401  # loaded once, as in conftest.py: httpx imports it when it is first used
import ndif
import pytest
from audits import audit
from transformers import AutoModelForCausalLM, AutoTokenizer

import auditkit.adapters.ndif.adapter  # noqa: F401
from auditkit.adapters.loading.load import load
from auditkit.adapters.loading.locating import locate
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.slow

COMMIT = "0123456789" * 4
CONFTEST = """
import numpy as np
import pandas as pd
import pytest
from auditkit.engine.edits import Edited
from auditkit.engine.forward import Donated, execute
from auditkit.data.prompts import Chat
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

@pytest.fixture
def answers(model):
    "Edits -> the effect that they have on a logit, over 30 items of 15 topics."
    def measured(*edits):
        prompts = [model.chat(Chat(user=f"What is the capital of number {i}?")) for i in range(30)]
        runs = [Edited(prompt, edits) for prompt in prompts]
        values = execute(model, runs, Donated())[0][:, 5].numpy().astype(float)
        index = pd.Index([f"item{i}" for i in range(30)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i % 15}" for i in range(30)]}, index=index)
        measurement = Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels)
        return Estimate("e", "logit", measurement, values)
    return measured
"""
SUITE = '''"""A finding."""
import ndif
import torch
import pytest
from auditkit import beside, residual
from auditkit.data.prompts import Chat
from auditkit.engine.attention import probabilities
from auditkit.engine.edits import add

@pytest.mark.causal(edits=False)
def test_answers(answers, threshold):
    """The logit is above a limit that it cannot miss."""
    assert answers() > threshold(-1000)

@pytest.mark.causal(control="no edit")
def test_edited(answers, model, threshold):
    """So is that of an edited run."""
    beside("no edit", answers())
    assert answers(add(residual.layer(1)[-1], torch.ones(model.width))) > threshold(-1000)

@pytest.mark.causal(edits=False)
def test_attention(answers, model, threshold):
    """Attention is read."""
    probabilities(model, [model.chat(Chat(user="Hello."))], -1)
    assert answers() > threshold(0)

@pytest.mark.causal(edits=False)
def test_lost(answers, threshold):
    """The connection is lost."""
    ndif.current.instead["/request"] = ndif.dropped
    try:
        assert answers() > threshold(-1000)
    finally:
        ndif.current.instead.clear()
'''


def in_hubs_cache(home: Path, source: Path) -> None:
    """What the hub's cache has of the repository that the server names: everything but weights."""
    place = home / "hub" / "models--owner--tiny"
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    for file in (*source.glob("*.json"), *source.glob("*.jinja")):
        shutil.copy(file, place / "snapshots" / COMMIT)


@pytest.fixture
def server(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ndif.Ndif]:
    module, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    home = tmp_path / "home"
    in_hubs_cache(home, tiny_llama)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with ndif.serving(module.eval(), tokenizer) as serving:
        monkeypatch.setenv("NDIF_HOST", serving.address)
        monkeypatch.setenv("NDIF_API_KEY", ndif.KEY)
        monkeypatch.setattr(ndif, "current", serving, raising=False)
        yield serving


@pytest.fixture
def audited(
    server: ndif.Ndif, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    suite = pytester.mkdir("suite")
    (suite / "conftest.py").write_text(CONFTEST)
    (suite / "test_finding.py").write_text(SUITE)
    command = ("suite", "--model", ndif.REPOSITORY, "--adapter", "ndif")
    return lambda *more: pytester.runpytest_inprocess(*command, *more)


def record(folder: Path) -> tuple[Run, dict[str, Claim]]:
    run = read_run(folder / "reports" / "latest" / "audit.json")
    return run, {claim.id.split("/")[1]: claim for claim in run.claims}


def test_what_can_be_measured_is_and_the_rest_says_why(
    audited: Callable[..., pytest.RunResult], pytester: pytest.Pytester, server: ndif.Ndif
) -> None:
    result = audited("--cross-check", "5")
    run, claims = record(pytester.path)
    assert {name: claim.verdict for name, claim in claims.items()} == {
        "answers": Verdict.PASS,
        "edited": Verdict.PASS,
        "attention": Verdict.NOT_APPLICABLE,
        "lost": Verdict.ERROR,
    }
    assert result.ret == 11
    assert "through an NDIF server auditkit reads and replaces the residual stream" in claims["attention"].reason
    assert "does not answer (" in claims["lost"].reason
    untested = {entry.what: entry.reason for entry in run.untested}
    assert "names repository owner/tiny at no stated revision" in untested["identity of the weights"]
    assert untested["cross-check"] == "this run restored no activations at any site"
    assert run.model.identity["hub/commit of config and tokenizer"] == COMMIT
    page = (pytester.path / "reports" / "latest" / "audit.html").read_text()
    assert "no digest known" in page
    result.stdout.fnmatch_lines(["identity of the weights: no digest of them is known (NDIF server 127.0.0.1*"])


@pytest.mark.parametrize(
    ("name", "value", "more", "said"),
    [
        ("NDIF_API_KEY", "", [], "*an NDIF server asks for an API key: set NDIF_API_KEY*"),
        ("NDIF_API_KEY", "wrong", [], "*refuses the API key; give one that it knows in NDIF_API_KEY*"),
        ("NDIF_HOST", "http://127.0.0.1:9", [], "*the NDIF server 127.0.0.1:9 does not answer*"),
        ("AUDITKIT_NDIF_TIMEOUT", "30", ["--profile", "release"], "*those of tiny have no digest*"),
        ("AUDITKIT_NDIF_TIMEOUT", "30", ["--dtype", "float16"], "*the server decides it*"),
        ("AUDITKIT_NDIF_TIMEOUT", "30", ["--model", "owner/other"], "*has no model owner/other; it runs owner/tiny*"),
    ],
)  # fmt: skip
def test_what_ends_a_run_before_its_claims_is_one_line(
    audited: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    more: list[str],
    said: str,
) -> None:
    monkeypatch.setenv(name, value)
    result = audited(*more)
    assert result.ret == 4
    assert len([line for line in result.stderr.lines if line.startswith("ERROR: ")]) == 1
    result.stderr.fnmatch_lines([said])


def test_a_suite_on_the_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("smollm2-135m-instruct")
    in_hubs_cache(tmp_path / "home", locate("smollm2-135m-instruct")[0])
    for name, value in {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "NDIF_API_KEY": ndif.KEY,
    }.items():
        monkeypatch.setenv(name, value)
    asked = ("suites/persona_patching", "--items", "6")
    with ndif.serving(loaded.module, loaded.tokenizer) as server:
        monkeypatch.setenv("NDIF_HOST", server.address)
        there = read_run(
            audit(tmp_path / "there", *asked, "--model", ndif.REPOSITORY, "--adapter", "ndif") / "audit.json"
        )
    here = read_run(audit(tmp_path / "here", *asked, "--model", "smollm2-135m-instruct") / "audit.json")
    same = [(a, b) for a, b in zip(there.claims, here.claims, strict=True) if a.effect and b.effect]
    assert len(same) >= 4
    for ours, theirs in same:
        assert ours.effect.estimate == pytest.approx(theirs.effect.estimate, abs=1e-3)
    refused = [claim.reason for claim in there.claims if "through an NDIF server" in claim.reason]
    assert len(refused) >= 5
