"""Fine-tunes in a run: an adapter against its own base, `--tokenizer`, and models whose folders end alike."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from auditkit.record.store import read_run
from tests.adapters.layouts import finetunes
from tests.adapters.layouts.finetunes import lora

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter in a folder of its own, beside its base."""
    return finetunes.adapter(lora())(tmp_path_factory.mktemp("tuned"))


@pytest.mark.slow
def test_an_adapter_is_compared_with_its_own_base_in_one_command(audits: Any, tuned: Path) -> None:
    audits.plant(shift=0.0, lora={"shift": -0.2})
    result = audits("--baseline", "base", model=tuned)
    assert result.ret == 0, result.stdout.str()
    run = audits.run
    assert run.model.fine_tune.base == str(tuned.parent / "base")
    assert run.baseline.model.spec == str(tuned.parent / "base")
    assert run.baseline.model.weights_sha256 == run.model.fine_tune.base_sha256
    assert (run.model.name, run.baseline.model.name) == ("lora", "base")
    assert audits.claim("kept").verdict == "PASS"
    page = (audits.folder / "audit.html").read_text()
    assert f"a LORA adapter merged into directory {tuned.parent}/base" in page
    for digest in (run.model.weights_sha256, run.model.fine_tune.sha256, run.model.fine_tune.base_sha256):
        assert digest in page


@pytest.mark.parametrize(("model", "words"), [("base", "names no base"), ("lora", "different bases")])
def test_a_baseline_that_nothing_names_is_one_line(audits: Any, tuned: Path, model: str, words: str) -> None:
    other = shutil.copytree(tuned, audits.path / "other")
    finetunes.stated(base_model_name_or_path=str(shutil.copytree(tuned.parent / "base", audits.path / "b")))(other)
    more = ["--model", str(other)] if words == "different bases" else []
    result = audits("--baseline", "base", *more, model=tuned.parent / model)
    assert result.ret == 4
    (line,) = [line for line in result.stderr.lines if line.startswith("ERROR")]
    assert line.startswith("ERROR: --baseline base: ")
    assert words in line


def test_a_checkpoint_without_a_tokenizer_is_given_one(audits: Any, tuned: Path) -> None:
    bare = finetunes.checkpoint()(audits.path / "run")
    result = audits(model=bare)
    assert result.ret == 4
    assert "holds no tokenizer and names no base that could have it" in result.stderr.str()
    assert "--tokenizer" in result.stderr.str()
    result = audits("--tokenizer", str(tuned.parent / "base"), model=bare)
    assert result.ret == 0, result.stdout.str()
    assert audits.run.model.source == f"directory {bare}, with the tokenizer of {tuned.parent}/base"
    assert f"--tokenizer {tuned.parent}/base" in (audits.folder / "audit.html").read_text()


def test_models_whose_folders_end_alike_are_told_apart_everywhere(audits: Any, tuned: Path) -> None:
    first, second = (shutil.copytree(tuned.parent / "base", audits.path / name / "final") for name in "ab")
    result = audits("--model", str(second), "-v", model=first)
    assert result.ret == 0
    names = {read_run(folder).model.name for folder in (audits.path / "reports").glob("2*")}
    assert names == {"a/final", "b/final"}
    for words in ("audit of a/final", "audit of b/final", "a/final*b/final*claim"):
        result.stdout.fnmatch_lines([f"*{words}*"])
    assert [line for line in result.outlines if "test_once[a-final]" in line]
    audits(model=first)
    was = audits.folder
    result = audits("--baseline", str(was), model=second)
    assert (audits.run.model.name, audits.run.baseline.model.name) == ("b/final", "a/final")
