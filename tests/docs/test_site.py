"""The documentation site: every page is in its navigation, every link leads somewhere, and nothing is fetched."""

from __future__ import annotations

import http.server
import json
import os
import re
import threading
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
from docpages import ROOT
from scripts import loaded

pytestmark = pytest.mark.unit

site = loaded(ROOT / "tools" / "docs_site.py")
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
NAVIGATION = re.findall(r"^ +- (?:[\w ]+: )?([\w./-]+\.md)$", CONFIG.split("\nnav:\n")[1], re.M)
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
GUIDE = "docs/" + "guide.md"
"""A page of a repository that is not this one."""


def test_the_navigation_has_every_page_once() -> None:
    pages = [*site.Layout.of(ROOT).pages.values(), *(place for place, _ in site.reference(ROOT))]
    assert sorted(NAVIGATION) == sorted(pages)


def test_the_reference_is_of_modules_that_are_there() -> None:
    modules = site.REFERENCE.findall(CONFIG)
    assert len(modules) > 40
    paths = {module: ROOT.joinpath(*module.split(".")) for module in modules}
    assert not [m for m, path in paths.items() if not (path.with_suffix(".py").is_file() or path.is_dir())]


def test_the_pages_are_written_with_every_link_led(tmp_path: Path) -> None:
    """It raises where a link leads to nothing; what pages lead to lies in the site."""
    layout = site.write(ROOT, tmp_path)
    assert (tmp_path / "index.md").read_text().startswith("# auditkit")
    for page, place in layout.pages.items():
        text = (tmp_path / place).read_text(encoding="utf-8")
        assert not re.search(r"^```\w+ +\w+$", text, re.M), f"{page}: a fence says how a test runs it"
        for link in re.findall(r"\]\(([^()\s#:]+)\)", re.sub(r"```.*?\n```|`[^`\n]*`", "", text, flags=re.S)):
            assert ((tmp_path / place).parent / link).exists(), f"{page}: {link}"
    assert (tmp_path / "reports/examples/induction/audit.html").is_file()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, text in {
        "README.md": f"# R\n[guide]({GUIDE}#a) [code](tool.py) [folder](docs) `[no](x.md)`\n",
        GUIDE: "# G\n[`up`](../README.md) ![i](img/a.svg)\n\n```python runnable\nx[0](y)\n```\n[web](https://a.b)\n",
        "docs/img/a.svg": "<svg/>",
        "tool.py": "1",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_links_lead_to_places_in_the_site(repository: Path) -> None:
    layout = site.Layout({"README.md": "index.md", GUIDE: "guide.md"})

    def page(name: str) -> str:
        text: str = site.rewritten(repository, layout, name, (repository / name).read_text())
        return text

    assert page("README.md") == "# R\n[guide](guide.md#a) [code](files/tool.py) folder `[no](x.md)`\n"
    assert page(GUIDE) == (
        "# G\n[`up`](index.md) ![i](img/a.svg)\n\n```python\nx[0](y)\n```\n[web](https://a.b)\n"
    )
    assert layout.files == {"tool.py": "files/tool.py", "docs/img/a.svg": "img/a.svg"}
    with pytest.raises(site.BrokenLink, match=r"guide\.md: 'gone\.md' leads to no page"):
        site.rewritten(repository, layout, GUIDE, "[x](gone.md)")
    with pytest.raises(site.BrokenLink, match="leads to no page"):
        site.rewritten(repository, layout, GUIDE, "[x](../../outside.md)")


def test_sources_are_written_into_an_empty_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    monkeypatch.setattr("sys.argv", ["docs_site.py", str(tmp_path)])
    assert site.main() == 4
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_what_its_cells_gave(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert loaded(ROOT / "tools" / "strip_notebooks.py").stripped({"cells": deepcopy(cells)})["cells"] == cells
    assert len(outputs) >= 3
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert notebook.stat().st_size < 300_000
    text = notebook.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|Users)/|Traceback|Warning", text), "what it prints names no machine"
    page = site.notebook_page({"cells": cells})
    assert page.startswith("# ")
    assert "```python\n" in page
    assert '<div class="output">' in page


def test_the_figures_of_the_course_are_those_that_are_simulated(tmp_path: Path) -> None:
    from auditkit.stats.simulations.course import FIGURES, write

    stored = ROOT / "docs" / "course" / "figures"
    write(tmp_path)
    assert {path.name for path in stored.iterdir()} == {f"{name}.svg" for name in FIGURES}
    stale = [path.name for path in stored.iterdir() if path.read_bytes() != (tmp_path / path.name).read_bytes()]
    assert not stale, "run make course"


def test_the_glossary_has_every_word_once_in_order() -> None:
    parts = [re.findall(r"^\| (?!word \|)([^|]+) \|", part, re.M) for part in GLOSSARY.split("\n## ")[1:]]
    assert len(parts) == 3
    for words in parts:
        assert words == sorted(words, key=str.casefold)
    every = [word for words in parts for word in words]
    assert len(every) == len(set(every)) > 50


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the built site is served: `AUDITKIT_SITE`, as `make docs` builds it."""
    built = os.environ.get("AUDITKIT_SITE")
    if not built:
        pytest.skip("AUDITKIT_SITE names no built site")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(Path(built).resolve()))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.slow
def test_the_built_site_asks_nobody_and_finds_words(address: str, browser) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("", "course/clusters/", "notebooks/holds_on_my_model/", "reference/auditkit.engine.sites/"):
        page.goto(f"{address}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    page.fill("input[name=query]", "Fieller")
    page.wait_for_selector(".md-search-result__item", timeout=20_000)
    assert "statistics" in page.inner_html(".md-search-result__list")
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    page.goto(f"{address}/reports/examples/induction/audit.html")
    assert "published findings" in page.inner_text("body")
    page.close()
