"""The examples in the docs run: every block marked `python runnable`, one after the other, on a tiny model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import auditkit

pytestmark = pytest.mark.unit

DOCS = Path(auditkit.__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python runnable\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if BLOCK.search(path.read_text())]


def test_there_are_examples() -> None:
    assert "engine.md" in [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from auditkit.adapters import open_model

    monkeypatch.setattr(auditkit, "open_model", lambda spec: open_model(str(tiny_llama)), raising=False)
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path))
    text = page.read_text()
    names: dict[str, object] = {"__name__": page.stem}
    for block in BLOCK.finditer(text):
        lines = "\n" * text[: block.start(1)].count("\n")  # so that an error names the page's own line
        exec(compile(lines + block[1], str(page), "exec"), names)
