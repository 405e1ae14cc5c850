"""The project's Markdown: its pages, headings, links and blocks of code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import auditkit

ROOT = Path(auditkit.__file__).parents[1]
PAGES = sorted(
    {*ROOT.glob("*.md")}
    | {path for top in ("docs", "examples", "benchmarks") for path in (ROOT / top).rglob("*.md")}
)
PAGES = [path for path in PAGES if "/." not in path.relative_to(ROOT).as_posix()]  # what a tool left is no page

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<kind>[^`\n]*)\n(?P<text>.*?)^(?P=indent)(?P=ticks) *$", re.M | re.S
)
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.M)
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\]\([^()]*\))*\]\(([^()\s]+)\)")


def named(path: Path) -> str:
    """A page's path from the root of the repository, as tests are named by it."""
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[tuple[str, str, int]]:
    """Each block of code: its kind (what stands behind the fence), its text, and the lines of the page before it."""
    for block in _FENCE.finditer(text):
        yield block["kind"].strip(), block["text"], text[: block.start("text")].count("\n")


def without_blocks(text: str) -> str:
    return _FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(without_blocks(text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(text: str) -> list[str]:
    """Targets of a page's links, without those in code."""
    return _LINK.findall(re.sub(r"`[^`\n]+`", "code", without_blocks(text)))
