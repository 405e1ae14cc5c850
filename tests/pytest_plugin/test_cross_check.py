"""--adapter and --cross-check: another engine measures again, and every way in which it cannot is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Imported here and not in a run: pytester forgets modules that a run has imported, and torch's patches with them.
from auditkit.adapters import nnterp
from auditkit.adapters.errors import ModelError
from auditkit.adapters.nnterp import NnterpAdapter
from auditkit.adapters.protocol import Component, Support
from auditkit.engine.patching import sweep as wavefront
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run
from auditkit.report import wording

pytestmark = pytest.mark.unit

SUITE = '''"""A finding (Somebody 2020)."""
import numpy as np
import pandas as pd
import pytest
from auditkit import control
from auditkit.adapters.chat import Prompt
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.sites import attention, mlp, residual
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.adapters.protocol import Component


def pairs():
    rows = np.random.default_rng(0).integers(10, 300, (4, 8)).tolist()
    return [
        PatchPair(Prompt("", tuple(ids)), Prompt("", (*ids[:3], 301, *ids[4:])), (11, 12), {"word": (3, 4)})
        for ids in rows
    ]


def estimate(values):
    index = pd.Index([f"item{i}" for i in range(len(values))], name="item")
    labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(len(values))]}, index=index)
    table = pd.DataFrame({"planted": values}, index=index)
    return Estimate("planted", "logit", Measurement("m", "logit", table, labels), np.asarray(values))


def planted():
    return estimate(1 + 0.1 * np.random.default_rng(1).normal(size=60))


@pytest.mark.causal(edits=False)
def test_patched(model):
    """A claim that patches."""
    patch(model, pairs(), {"mlp": [[mlp.layer(1)["word"]]] * 4, "nothing": [[]] * 4})
    with control("planted too"):
        assert planted() >= 0.0
    assert planted() >= 0.5


@pytest.mark.causal(edits=False)
def test_swept(model):
    """A claim that sweeps."""
    sweep(model, pairs(), grid([Component.RESIDUAL, Component.ATTENTION], range(6), [3, -1]))
    assert planted() >= 0.5
'''
EDITS = 4 + 4 * 2 * 6 * 2


@pytest.fixture
def audit(pytester: pytest.Pytester, tiny_llama: Path):
    """Run the suite (or another) on the tiny model: result of pytest and record."""

    def run(*args: str, suite: str = SUITE) -> tuple[pytest.RunResult, Run | None]:
        folder = pytester.path / "suite"
        folder.mkdir(exist_ok=True)
        (folder / "test_finding.py").write_text(suite)
        result = pytester.runpytest_inprocess("suite", "--model", str(tiny_llama), *args)
        latest = pytester.path / "reports" / "latest"
        return result, read_run(latest) if latest.exists() else None

    return run


@pytest.mark.parametrize(("adapter", "other"), [("hf", "nnterp"), ("nnterp", "hf")])
def test_two_engines_agree(audit, pytester: pytest.Pytester, adapter: str, other: str) -> None:
    result, run = audit("--adapter", adapter, "--cross-check", "20")
    assert result.ret == 0
    assert run.model.adapter == adapter
    check = run.cross_check
    assert (check.adapter, check.asked, check.offered, check.measured) == (other, 20, EDITS, 20)
    assert (check.agrees, check.reason, check.missing, check.claims_taken_over) == (True, "", {}, 0)
    assert 0 < check.allowed < 1e-2
    assert 0 <= check.largest <= 1e-4
    assert check.where
    line = wording.cross_check(check)
    assert f"20 of {EDITS} sites were measured again through {other}" in line
    result.stdout.fnmatch_lines([f"cross-check: 20 of {EDITS} sites were measured again through {other}: *"])
    latest = pytester.path / "reports" / "latest"
    assert line in (latest / "audit.html").read_text()
    assert f"through {other}: the largest difference is" in (latest / "summary.md").read_text()
    assert ("--adapter nnterp" in run.claims[0].rerun) == (adapter == "nnterp")
    assert not [untested for untested in run.untested if untested.what == "cross-check"]


def test_the_same_seed_samples_the_same_sites(audit) -> None:
    first = audit("--cross-check", "5", "--seed", "3")[1].cross_check
    assert audit("--cross-check", "5", "--seed", "3")[1].cross_check == first


def test_a_difference_beyond_rounding_ends_with_11(audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose sweep answers are off by a hundredth of a logit."""
    real = wavefront.offer
    monkeypatch.setattr(
        wavefront, "offer", lambda pairs, measured: real(pairs, [(c, logits + 0.01) for c, logits in measured])
    )
    result, run = audit("--cross-check", "200")
    assert result.ret == 11
    check = run.cross_check
    assert check.agrees is False
    assert check.measured == check.offered == EDITS
    assert check.largest == pytest.approx(0.01, rel=0.05)
    assert [claim.verdict for claim in run.claims] == [Verdict.PASS, Verdict.PASS]
    assert run.summary.verdict is Verdict.ERROR
    assert run.summary.reason.startswith("the two adapters do not agree, so the numbers cannot be trusted: ")
    result.stdout.fnmatch_lines(
        ["verdict: ERROR (the two adapters do not agree*", "cross-check: the two adapters*"]
    )


def test_what_the_other_adapter_cannot_measure_is_counted(audit, monkeypatch: pytest.MonkeyPatch) -> None:
    real = NnterpAdapter.support
    less = {Component.ATTENTION: Support(False, "no attention here")}
    monkeypatch.setattr(NnterpAdapter, "support", lambda self: {**real(self), **less})
    result, run = audit("--cross-check", str(EDITS))
    assert result.ret == 0
    check = run.cross_check
    assert check.measured == 4 + 4 * 6 * 2
    assert check.missing == {"no attention here": 4 * 6 * 2}
    result.stdout.fnmatch_lines(["cross-check: *; 48 were not measured again: no attention here"])
    less |= dict.fromkeys(Component, Support(False, "nothing here"))
    result, run = audit("--cross-check", "3")
    assert (run.cross_check.agrees, run.cross_check.measured, run.cross_check.largest) == (None, 0, None)
    assert [u.reason for u in run.untested if u.what == "cross-check"] == [
        "the other adapter can make none of the sampled edits on this model"
    ]
    result.stdout.fnmatch_lines(["cross-check: the cross-check through nnterp compared nothing: *"])


def test_a_model_that_the_other_adapter_cannot_open_is_said(audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(loaded: object) -> None:
        raise ModelError("nnterp does not know this model")

    monkeypatch.setattr(nnterp, "_standardize", refuse)
    result, run = audit("--cross-check", "3")
    assert result.ret == 0
    assert run.cross_check.reason == "nnterp does not know this model"
    assert run.cross_check.agrees is None


def test_a_run_that_patches_nothing_has_nothing_to_compare(audit) -> None:
    suite = SUITE.partition("def test_patched")[0] + (
        'def test_plain(model):\n    """A claim without patching."""\n    assert planted() >= 0.5\n'
    )
    result, run = audit("--cross-check", "3", suite=suite)
    assert result.ret == 0
    assert run.cross_check.offered == 0
    assert run.cross_check.reason == "this run restored no activations at any site"


def test_claims_taken_over_are_not_sampled_and_counted(audit, pytester: pytest.Pytester) -> None:
    audit("-x", "--cross-check", "3", "-k", "patched or swept")
    folder = (pytester.path / "reports" / "latest").resolve()
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:2]))  # as if killed during the second claim
    (folder / "audit.json").unlink()
    result, run = audit("--cross-check", "3", "-k", "patched or swept", "--resume")
    assert result.ret == 0
    check = run.cross_check
    assert (check.claims_taken_over, check.offered, check.agrees) == (1, EDITS - 4, True)
    assert "; 1 claims were measured by an earlier process and not sampled" in wording.cross_check(check)


def test_without_the_option_nothing_is_recorded(audit, pytester: pytest.Pytester) -> None:
    _, run = audit()
    assert run.cross_check is None
    page = (pytester.path / "reports" / "latest" / "audit.html").read_text()
    assert "no sites were measured again through another adapter (--cross-check N)" in page


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--adapter", "nterp"], "*unknown adapter 'nterp'; known are hf, ndif, nnterp, vllm*"),
        (["--cross-check", "0"], "*--cross-check 0: at least 1 site is needed to compare two adapters*"),
    ],
)
def test_bad_options_are_usage_errors(audit, args: list[str], message: str) -> None:
    result, run = audit(*args)
    assert result.ret == 4
    assert run is None
    result.stderr.fnmatch_lines([message])


def test_a_missing_package_is_a_usage_error_before_anything_runs(audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "auditkit.adapters.nnterp", raising=False)
    monkeypatch.setitem(sys.modules, "nnterp", None)
    result, run = audit("--cross-check", "3")
    assert result.ret == 4
    assert run is None
    result.stderr.fnmatch_lines(["*pip install 'interp-auditkit[[]nnterp[]]'*"])
