"""Imports point downward only: each layer may use those below it, and none above or beside by accident."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import auditkit

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parent

# From the top down (docs: design, Layers).
LAYERS = ("plugin", "report", "analyses", "engine", "adapters", "stats", "record", "data")

# What a layer must not know, besides the layers above it.
FOREIGN = {
    "report": {"torch", "transformers", "pytest"},
    "analyses": {"pytest"},
    "engine": {"pytest"},
    "adapters": {"pytest"},
    "stats": {"torch", "transformers", "pytest"},
    "record": {"torch", "transformers", "pytest", "scipy", "matplotlib"},
    "data": {"torch", "transformers", "pytest", "pandas", "numpy"},
}


def _modules() -> list[tuple[str, Path]]:
    return [(layer, path) for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def _imports(path: Path) -> set[str]:
    """Every module named in an import statement, at any depth of the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the module in full"
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize(("layer", "path"), _modules(), ids=lambda value: getattr(value, "stem", value))
def test_imports_point_downward(layer: str, path: Path) -> None:
    allowed = LAYERS[LAYERS.index(layer) :]
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "auditkit" and len(parts) > 1 and parts[1] in LAYERS:
            assert parts[1] in allowed, f"{path}: {layer} must not import {name}"
        assert parts[0] not in FOREIGN.get(layer, set()), f"{path}: {layer} must not import {name}"


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LAYERS)


@pytest.mark.parametrize(("layer", "path"), _modules(), ids=lambda value: getattr(value, "stem", value))
def test_modules_stay_readable(layer: str, path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, f"{path} has outgrown one subject; split it"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("auditkit", {"torch", "transformers", "numpy", "pandas", "scipy", "pytest", "msgspec"}),
        ("auditkit.plugin.entry", {"torch", "transformers", "numpy", "pandas", "scipy", "jinja2", "msgspec"}),
        ("auditkit.adapters.catalogue", {"torch", "transformers", "numpy"}),
        ("auditkit.record.store", {"torch", "transformers", "numpy", "pandas", "pyarrow"}),
        ("auditkit.report", {"torch", "transformers", "pytest"}),
        ("auditkit.stats.estimates", {"torch", "transformers", "pytest"}),
    ],
)
def test_importing_stays_light(module: str, heavy: set[str]) -> None:
    """What a module really loads, with everything it imports: measured in a fresh interpreter."""
    code = f"import sys, {module}; print(' '.join(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded)
