"""A model that is spread over GPUs is measured as on one. The GPUs are pretended (`tests/helpers/pretended.py`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from measurements import NAMES
from pretended import GRADIENTS
from recorded import content
from torch.utils import backend_registration

from tests.adapters.conftest import FAMILIES

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch lets no device be made in Python",
)

ROOT = Path(__file__).parents[3]
DEVICES = "pretend:0 + pretend:1"
ROUNDING = 1e-6
"""Of gradients, which are taken on one GPU and the host."""


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )


@pytest.fixture
def compared(save_checkpoint: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """(what, families) -> what `pretended.py` says of each."""

    def compare(what: str, families: list[str]) -> dict[str, Any]:
        folders = [str(save_checkpoint(family)) for family in families]
        ended = run("tests/helpers/pretended.py", what, *folders)
        assert ended.returncode == 0, ended.stderr
        return dict(zip(families, json.loads(ended.stdout).values(), strict=True))

    return compare


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("llama", marks=pytest.mark.unit),
        pytest.param("gemma3_text", marks=pytest.mark.slow),  # windows; the head is the embedding
        pytest.param("gpt2", marks=pytest.mark.slow),
        pytest.param("mixtral", marks=pytest.mark.slow),  # experts
    ],
)
def test_every_measurement_on_two_gpus_is_that_on_one(kind: str, compared: Callable[..., dict[str, Any]]) -> None:
    said = compared("measurements", [kind])[kind]
    assert said["devices"] == DEVICES
    let = {"add the host's number", "index by the host's", "copy another's"}
    assert {name for name, refused in said["mixed"].items() if not refused} == let, "as GPUs do"
    assert len(said["mixed"]) > len(let)
    assert said["cannot"]["spread"] == said["cannot"]["one"]
    assert said["differs"].keys() == {*NAMES}
    others = {name: value for name, value in said["differs"].items() if name not in GRADIENTS}
    assert others == dict.fromkeys(others, 0.0), "to the last bit"
    assert all(isinstance(said["differs"][name], float) for name in GRADIENTS), said["differs"]
    assert max(said["differs"][name] for name in GRADIENTS) < ROUNDING


@pytest.mark.slow
def test_a_model_can_do_on_two_gpus_what_it_can_on_one(compared: Callable[..., dict[str, Any]]) -> None:
    said = compared("support", [name for name in FAMILIES if name != "biogpt"])  # whose blocks accelerate divides
    assert len(said) > 50
    for family, models in said.items():
        assert models["devices"] == DEVICES, family
        assert models["cannot"]["spread"] == models["cannot"]["one"], family


@pytest.mark.slow
def test_an_audit_on_two_gpus_says_what_it_says_on_one(tiny_llama: Path, tmp_path: Path) -> None:
    """All suites; the few claims that take gradients ask more of a model than a random one shows."""
    devices, claims, items = [], [], []
    for which in ("one", "spread"):
        into = tmp_path / which
        asked = ("--model", str(tiny_llama), "--items", "6", "--audit-dir", str(into))
        ended = run(
            *("-m", "pytest", "suites", "-q", "-p", "pretended", *asked),
            PYTHONPATH="tests/helpers",
            AUDITKIT_PRETENDED=which,
            AUDITKIT_CACHE=str(tmp_path / f"{which}-cache"),
        )
        assert (into / "latest").exists(), ended.stdout + ended.stderr
        record, rows = content(into / "latest")
        devices.append(record["model"]["device"])
        for claim in record["claims"]:
            del claim["made_with"], claim["rerun"]  # which name the device and the folder
        claims.append(record["claims"])
        items.append(rows)
    assert devices == ["pretend:0", DEVICES]
    assert len(claims[0]) == len(claims[1]) > 100
    assert [one["id"] for one, other in zip(*claims, strict=True) if one != other] == []
    assert len(items[0]) > 1000
    assert items[0] == items[1]
