"""matplotlib's SVG document, rewritten so that it can stand inside the page, with the texts written into it.

The page forbids inline styles, follows the reader's light or dark setting and may hold many figures. So `style`
attributes and the style sheet become presentation attributes, said once for neighbours that share them, black becomes
`currentColor`, identifiers that nothing refers to are dropped and the others get short names of their own, and
coordinates are rounded to a tenth of a point. Text stays text, so that it can be searched, copied and read aloud.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

INK = "#000000"
"""Drawn in the page's text colour."""
CRISP = "crisp"
"""`gid` of what is drawn without smoothed edges: cells that meet would otherwise show a seam."""

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")
_STEP = re.compile(r"[A-Za-z]|-?\d+(?:\.\d+)?(?:e-?\d+)?")
_OWN = {"id", "d", "x", "y", "href", "transform", "clip-path"}
"""Attributes that say what an element is; the others say how it looks, and are inherited."""


@dataclass(frozen=True)
class Style:
    """How a text is written."""

    size: float
    anchor: Literal["start", "middle", "end"] = "middle"
    turn: float = 0.0
    """Degrees, clockwise."""
    bold: bool = False
    colour: str = INK


Texts = Mapping[Style, Sequence[tuple[float, float, str]]]
"""By style: where each baseline is, in points from the left and the top, and what is written there."""


def inline(document: bytes, texts: Texts, prefix: str, *, title: str, description: str) -> str:
    """The document as an `svg` element; `prefix` makes its identifiers unique within the page."""
    root = ET.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}style", f"{_SVG}metadata"):
                parent.remove(child)
    found = (name for element in root.iter() for value in element.attrib.values() for name in _references(value))
    names = {name: f"{prefix}-{number}" for number, name in enumerate(dict.fromkeys(found))}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.text = element.tail = None  # line breaks that matplotlib puts between elements
        _present(element)
        _rename(element, names)
        for name in ("x", "y"):
            if name in element.attrib:
                element.set(name, _rounded(element.attrib[name]))
        if "d" in element.attrib:
            element.set("d", _short_path(element.attrib["d"]))
    _unwrap(root)
    _write(root, texts)
    _gather(root)
    # Attributes of the root are inherited: the joins of matplotlib's style sheet, the page's text colour.
    root.attrib = {
        "xmlns": _SVG.strip("{}"),
        "viewBox": root.attrib["viewBox"],
        "class": "plot",
        "role": "img",
        "aria-labelledby": f"{prefix}-title {prefix}-desc",
        "fill": "currentColor",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, id=f"{prefix}-{tag}")
        element.text = text
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode").replace(" />", "/>")


def _present(element: ET.Element) -> None:
    """Turn the element's inline style into presentation attributes."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name:
            element.set(name, value)
    for name in ("fill", "stroke"):
        if element.get(name) == INK:
            element.set(name, "currentColor")


def _rename(element: ET.Element, names: Mapping[str, str]) -> None:
    if _HREF in element.attrib:
        element.set("href", element.attrib.pop(_HREF))
    if element.get("id") == CRISP:
        element.set("shape-rendering", "crispEdges")
    for name, value in list(element.attrib.items()):
        if name == "id" and value not in names:
            del element.attrib[name]
        elif name == "id":
            element.set(name, names[value])
        else:
            for reference in _references(value):
                element.set(name, value.replace(f"#{reference}", f"#{names[reference]}"))


def _write(root: ET.Element, texts: Texts) -> None:
    for style, lines in texts.items():
        looks = {"font-size": f"{style.size:g}", "text-anchor": style.anchor}
        looks |= {"font-weight": "600"} if style.bold else {}
        looks |= {"fill": style.colour} if style.colour != INK else {}
        for x, y, line in lines:
            across, down = _rounded(x), _rounded(y)
            turned = {"transform": f"rotate({style.turn:g} {across} {down})"} if style.turn else {}
            ET.SubElement(root, "text", {"x": across, "y": down} | turned | looks).text = line


def _gather(element: ET.Element) -> None:
    """Move the attributes that neighbouring elements share to a group around them."""
    children: list[ET.Element] = []
    for (_, looks), run in groupby(element, lambda child: (child.tag, _looks(child))):
        alike = list(run)
        if len(alike) > 1 and looks and alike[0].tag != "g":
            group = ET.Element("g", dict(looks))
            group[:] = alike
            for child in alike:
                for name, _ in looks:
                    del child.attrib[name]
            children.append(group)
        else:
            for child in alike:
                _gather(child)
            children += alike
    element[:] = children


def _looks(element: ET.Element) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in element.attrib.items() if name not in _OWN)


def _unwrap(element: ET.Element) -> None:
    """Replace groups without attributes by their children, and drop empty groups."""
    children: list[ET.Element] = []
    for child in element:
        _unwrap(child)
        if child.tag == "g" and not child.attrib:
            children += child
        elif child.tag not in ("g", "defs") or len(child):
            children.append(child)
    element[:] = children


def _rounded(number: str | float) -> str:
    text = f"{float(number):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _short_path(data: str) -> str:
    """The same path, rounded, with upright and level lines written as such."""
    steps, place = _STEP.findall(data), ("", "")
    short: list[str] = []
    position = 0
    while position < len(steps):
        command = steps[position]
        position += 1
        numbers: list[str] = []
        while position < len(steps) and not steps[position].isalpha():
            numbers.append(_rounded(steps[position]))
            position += 1
        if command != "L":
            short.append(command + " ".join(numbers))
        elif numbers[1] == place[1]:
            short.append(f"H{numbers[0]}")
        elif numbers[0] == place[0]:
            short.append(f"V{numbers[1]}")
        else:
            short.append("L" + " ".join(numbers))
        if numbers:
            place = (numbers[-2], numbers[-1])
    return "".join(short)


def _references(value: str) -> list[str]:
    return [first or second for first, second in _REFERENCE.findall(value) if not _is_colour(second)]


def _is_colour(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{6}", text) is not None
