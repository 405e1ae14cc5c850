"""Write the sources of the documentation site: the repository's own pages, laid out for a site generator.

    python tools/docs_site.py FOLDER

The pages are written for a reader of the repository: links are relative, and lead to files beside docs/ as well. In the
site a page lies elsewhere, and there is no repository beside it. So every link is resolved here: to the place of a page
in the site, or to a copy of the file (an example report, a table), which travels with the site. A link that leads to
nothing is an error. Fences of code lose the word that says how a test runs them, notebooks become pages, and a page for
each module of the API is written, which the generator fills from docstrings. Nothing is fetched.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import relpath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages outside docs/ and where they lie in the site; those of benchmarks/results are added."""
REPORTS = "reports/examples"
"""A folder that travels as a whole, since the pages in it lead to each other."""

REFERENCE = re.compile(r"- reference/(auditkit[\w.]*)\.md")
"""A module of the API, as the navigation in mkdocs.yml lists it."""

_FENCE = re.compile(r"^( *)(`{3,})([^`\n]*)\n.*?^\1\2 *$", re.M | re.S)
_LINK = re.compile(r"`[^`\n]*`|\]\(([^()\s]+)\)")
"""Code, or the end of a link with where it leads."""
_FOLDER = re.compile(r"\[([^\[\]]+)\]\(([^()\s:#]+)\)")


class BrokenLink(ValueError):
    """A link that leads to no page and no file of the repository."""


@dataclass
class Layout:
    """Where everything of the repository lies in the site.

    Attributes:
        pages: path in the repository -> path in the site.
        files: other files that pages lead to, likewise; they are found while pages are written.
    """

    pages: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Layout:
        """The layout of a repository."""
        found = dict(PAGES)
        for path in sorted((root / "docs").rglob("*")):
            name = path.relative_to(root / "docs").as_posix()
            if "/." in f"/{name}":  # what a tool left, such as pytest's cache beside a notebook
                continue
            if path.suffix == ".md":
                found[f"docs/{name}"] = re.sub(r"(^|/)README\.md$", r"\1index.md", name)
            elif path.suffix == ".ipynb":
                found[f"docs/{name}"] = f"{name.removesuffix('.ipynb')}.md"
        for path in sorted((root / "benchmarks" / "results").glob("*.md")):
            found[path.relative_to(root).as_posix()] = f"benchmarks/{path.name}"
        return cls(found)

    def link(self, root: Path, page: str, link: str) -> str:
        """A link of a page of the repository, as it must be in the site.

        Raises:
            BrokenLink: it leads nowhere.
        """
        if re.match(r"[a-z]+:", link) or link.startswith("#"):
            return link
        path, _, anchor = link.partition("#")
        target = (root / page).parent.joinpath(path).resolve()
        name = target.relative_to(root).as_posix() if target.is_relative_to(root) else ""
        if name not in self.pages and not (name and target.is_file()):
            raise BrokenLink(f"{page}: '{link}' leads to no page and no file")
        place = self.pages.get(name) or self.files.setdefault(name, _place(name))
        return relpath(place, self.pages[page].rpartition("/")[0] or ".") + (f"#{anchor}" if anchor else "")


def _place(name: str) -> str:
    """Where a file lies that is no page: beside the pages of docs/, or under files/."""
    if name.endswith(".md"):
        name += ".txt"  # it is shown as it stands, and is no page
    if name.startswith(f"{REPORTS}/"):
        return name
    return name.removeprefix("docs/") if name.startswith("docs/") else f"files/{name}"


def rewritten(root: Path, layout: Layout, page: str, text: str) -> str:
    """A page's text with the links of the site; code is left as it is, but for the words behind its fence."""
    out, last = [], 0
    for block in _FENCE.finditer(text):
        out.append(_prose(root, layout, page, text[last : block.start()]))
        out.append(re.sub(r"^( *`{3,}\w*)[^`\n]*\n", r"\1\n", block[0], count=1))
        last = block.end()
    return "".join((*out, _prose(root, layout, page, text[last:])))


def _prose(root: Path, layout: Layout, page: str, text: str) -> str:
    here = (root / page).parent
    text = _FOLDER.sub(lambda m: m[1] if (here / m[2]).is_dir() else m[0], text)  # a site shows no folders

    def led(found: re.Match[str]) -> str:
        return f"]({layout.link(root, page, found[1])})" if found[1] else found[0]

    return _LINK.sub(led, text)


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook as a page: text as it stands, code as code, and what each cell gave as it was stored."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        parts += [shown for output in cell.get("outputs", []) if (shown := _output(output))]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data: dict[str, Any] = output.get("data", {})
    for kind in ("text/html", "image/svg+xml"):
        if kind in data:
            return f'<div class="output">\n{"".join(data[kind]).strip()}\n</div>'
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def reference(root: Path) -> Iterator[tuple[str, str]]:
    """The pages of the API, which the generator fills: path in the site, and text."""
    modules = REFERENCE.findall((root / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = "\n".join(f"- [`{module}`]({module}.md)" for module in modules)
    yield (
        "reference/index.md",
        f"# Reference\n\nFrom the docstrings of what suites and notebooks import.\n\n{listed}\n",
    )
    for module in modules:
        # The navigation has little room, and says the room of the module above it.
        *room, name = module.removeprefix("auditkit.").split(".")
        title = ".".join((*room[1:], name))
        yield f"reference/{module}.md", f"---\ntitle: {title}\n---\n\n# `{module}`\n\n::: {module}\n"


def write(root: Path, folder: Path) -> Layout:
    """Write the site's sources of a repository into an empty folder.

    Raises:
        BrokenLink: a page leads to nothing.
    """
    layout = Layout.of(root)
    for name, place in ((REPORTS, REPORTS), ("docs/assets", "assets")):
        shutil.copytree(root / name, folder / place, ignore=shutil.ignore_patterns("*.md"))
    for page, place in layout.pages.items():
        path, text = root / page, (root / page).read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            layout.files[page] = page.removeprefix("docs/")
            text = notebook_page(json.loads(text))
        text = rewritten(root, layout, page, text)
        if path.suffix == ".ipynb":
            title, _, rest = text.partition("\n")
            text = f"{title}\n\n[Download the notebook]({path.name})\n{rest}"
        _write(folder / place, text)
    for place, text in reference(root):
        _write(folder / place, text)
    for name, place in layout.files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / place)
    return layout


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> int:
    if len(sys.argv) != 2:
        print("python tools/docs_site.py FOLDER: name the folder that the sources are written to", file=sys.stderr)
        return 4
    folder = Path(sys.argv[1])
    if folder.exists() and any(folder.iterdir()):
        print(f"{folder} is not empty; remove it first, or name another folder", file=sys.stderr)
        return 4
    try:
        layout = write(ROOT, folder)
    except BrokenLink as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(layout.pages)} pages and {len(layout.files)} files in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
