"""matplotlib's SVG document, rewritten so that it can stand inside the page.

The page forbids inline styles, follows the reader's light or dark setting and may hold many figures. So `style`
attributes and the style sheet become presentation attributes, black becomes `currentColor`, identifiers that nothing
refers to are dropped and the others get a prefix of their own, and coordinates are rounded to a tenth of a point.
Text stays text, so that it can be searched, copied and read aloud.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

INK = "#000000"
"""Drawn in the page's text colour."""
CRISP = "crisp"
"""`gid` of what is drawn without smoothed edges: cells that meet would otherwise show a seam."""

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")
_STEP = re.compile(r"[A-Za-z]|-?\d+(?:\.\d+)?(?:e-?\d+)?")


def inline(document: bytes, prefix: str, *, title: str, description: str) -> str:
    """The document as an `svg` element; `prefix` makes its identifiers unique within the page."""
    root = ET.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}style", f"{_SVG}metadata"):
                parent.remove(child)
    used = {match for element in root.iter() for value in element.attrib.values() for match in _references(value)}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _present(element)
        _rename(element, used, prefix)
        _shorten(element)
        if element.tag != "text":
            element.text = None  # line breaks that matplotlib puts between elements
        element.tail = None
    _unwrap(root)
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
    return ET.tostring(root, encoding="unicode")


def _present(element: ET.Element) -> None:
    """Turn the element's inline style into presentation attributes."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # a shorthand has no attribute of its own; without its family
            size = re.search(r"([\d.]+)px", value)
            if re.match(r"bold\b|[67]00\b", value):
                element.set("font-weight", "600")
            name, value = "font-size", size.group(1) if size else "10"
        if name and name != "font-family":  # the page's
            element.set(name, value)
    for name in ("fill", "stroke"):
        if element.get(name) == INK:
            element.set(name, "currentColor")


def _rename(element: ET.Element, used: set[str], prefix: str) -> None:
    if _HREF in element.attrib:
        element.set("href", element.attrib.pop(_HREF))
    if element.get("id") == CRISP:
        element.set("shape-rendering", "crispEdges")
    for name, value in list(element.attrib.items()):
        if name == "id" and value not in used:
            del element.attrib[name]
        elif name == "id":
            element.set(name, f"{prefix}-{value}")
        else:
            for reference in _references(value):
                element.set(name, value.replace(f"#{reference}", f"#{prefix}-{reference}"))


def _shorten(element: ET.Element) -> None:
    """Round coordinates to a tenth of a point, and drop turns by nothing."""
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for name in ("x", "y"):
        if name in element.attrib:
            element.set(name, _rounded(element.attrib[name]))
    if "d" in element.attrib:
        element.set("d", _short_path(element.attrib["d"]))


def _rounded(number: str) -> str:
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


def _unwrap(element: ET.Element) -> None:
    """Replace groups that say nothing by what they hold."""
    children: list[ET.Element] = []
    for child in element:
        _unwrap(child)
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    element[:] = children


def _references(value: str) -> list[str]:
    return [first or second for first, second in _REFERENCE.findall(value) if not _is_colour(second)]


def _is_colour(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{6}", text) is not None
