"""What several drawings of one page share is written once: looks as classes, and axes by reference.

A page holds a hundred drawings with few pens, and many with the same axes. A set of attributes that occurs often
becomes a class of the page's style sheet, which is named by digest like all of it. A path or a group of labels that
another drawing holds already is drawn by reference to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_LOOKS = (
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linecap",
    "font-size", "font-weight", "text-anchor",
)  # fmt: skip
"""Attributes that a style sheet sets as well."""
_SET = re.compile(rf'(?: (?:{"|".join(_LOOKS)})="[^"]*")+')
_TAG = re.compile(r"<(?:path|g|text|use)\b[^<>]*>")
"""Tags of our own writing: no text and no value in a drawing has one of these signs, since they are escaped."""
_PART = re.compile(r"<path [^<>]*/>|<g [^<>]*>(?:<text [^<>]*>[^<>]*</text>)+</g>")
_REFERENCE = len('<use href="#s100"/>')


def shared(drawings: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The same drawings in fewer bytes, by name, and the rules of their classes.

    Args:
        drawings: SVG by the name of the figure, in the order of the page; see `svg.inline`.
    """
    classes = _classes(drawings.values())
    said = {name: _TAG.sub(lambda tag: _classed(tag[0], classes), text) for name, text in drawings.items()}
    rules = "".join(f".{name}{{{_rule(looks)}}}" for looks, name in classes.items())
    counts = Counter(part for text in said.values() for part in _PART.findall(text))
    often = {part for part, count in counts.items() if (count - 1) * (len(part) - _REFERENCE) > _REFERENCE}
    names: dict[str, str] = {}

    def once(part: re.Match[str]) -> str:
        text = part[0]
        if text not in often:
            return text
        if text in names:
            return f'<use href="#{names[text]}"/>'
        names[text] = f"s{len(names) + 1}"
        return re.sub(r"^<(\w+)", rf'<\1 id="{names[text]}"', text)

    return {name: _PART.sub(once, text) for name, text in said.items()}, rules


def _classes(drawings: Iterable[str]) -> dict[str, str]:
    """Looks that are shorter as a class -> its name, the most frequent first."""
    counts = Counter(looks for text in drawings for tag in _TAG.findall(text) for looks in _SET.findall(tag))
    worth = [looks for looks, count in counts.most_common() if (count - 1) * (len(looks) - len(" class=k1")) > 20]
    return {
        looks: f"k{place}" for place, looks in enumerate(sorted(worth, key=lambda s: (-counts[s], s)), start=1)
    }


def _classed(tag: str, classes: Mapping[str, str]) -> str:
    return _SET.sub(lambda found: f' class="{classes[found[0]]}"' if found[0] in classes else found[0], tag)


def _rule(looks: str) -> str:
    """Declarations of a style sheet that say the same as the attributes."""
    pairs = re.findall(r'([\w-]+)="([^"]*)"', looks)
    return ";".join(f"{name}:{value}{'px' if name == 'font-size' else ''}" for name, value in pairs)
