"""Python in the docs: a block is run, one after the other on a tiny model, or is marked as a sketch and compiles."""

from __future__ import annotations

from pathlib import Path

import pytest
from docpages import PAGES, ROOT, blocks, named

import auditkit

pytestmark = pytest.mark.unit

RUNNABLE, SKETCH = "python runnable", "python sketch"
FOUND = {path: list(blocks(path.read_text(encoding="utf-8"))) for path in PAGES}
RUN = [path for path, found in FOUND.items() if any(kind == RUNNABLE for kind, *_ in found)]


def test_there_are_examples() -> None:
    assert "docs/engine.md" in map(named, RUN)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_is_run_or_is_a_sketch(page: Path) -> None:
    kinds = {kind for kind, *_ in FOUND[page] if kind.startswith("py")}
    assert kinds <= {RUNNABLE, SKETCH}, f"{named(page)} has a block of another kind"
    assert page.read_text(encoding="utf-8").count("```py") == sum(
        kind.startswith("py") for kind, *_ in FOUND[page]
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_sketches_compile(page: Path) -> None:
    for kind, text, line in FOUND[page]:
        if kind == SKETCH:
            compile("\n" * line + text, named(page), "exec")


@pytest.mark.parametrize("page", RUN, ids=named)
def test_examples_run(page: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from auditkit.adapters import open_model

    monkeypatch.setattr(auditkit, "open_model", lambda spec: open_model(str(tiny_llama)), raising=False)
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path))
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {"__name__": page.stem}
    for kind, text, line in FOUND[page]:
        if kind == RUNNABLE:  # the line is that of the page, so that an error names it
            exec(compile("\n" * line + text, str(page), "exec"), names)
