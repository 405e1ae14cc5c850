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
_OWN = {"id", "d", "x", "y", "href", "transform"}
"""Attributes that say what an element is; the others say how it looks, and are inherited or hold for a whole group."""
_LONG = 60
"""Characters of a path from which on it is written once, however often it is drawn."""


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


def inline(
    document: bytes, texts: Texts, prefix: str, *, title: str, description: str, apart: bool = False
) -> str:
    """The document as an `svg` element; `prefix` makes its identifiers unique within the page.

    All that is drawn stands in one group, `prefix` with "-all", so that a small copy can refer to it.

    Args:
        apart: title and description stand beside the drawing already, in elements `prefix` with "-title" and "-desc".
    """
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
    _define_first(root)
    _stamp(root)
    _share(root, prefix)
    _write(root, texts)
    for name in ("clip-path", "shape-rendering"):
        _hoist(root, name)
    _gather(root)
    # Attributes of the group are inherited: the joins of matplotlib's style sheet, the page's text colour.
    # The page's style sheet says the same of drawings that stand in it.
    looks = {} if apart else {"fill": "currentColor", "stroke-linejoin": "round", "stroke-linecap": "butt"}
    group = ET.Element("g", {"id": f"{prefix}-all"} | looks)
    group[:] = root[:]
    root[:] = [group]
    root.attrib = {
        "xmlns": _SVG.strip("{}"),
        "viewBox": root.attrib["viewBox"],
        "class": "plot",
        "role": "img",
        "aria-labelledby": f"{prefix}-title {prefix}-desc",
    }
    for position, (tag, text) in enumerate(() if apart else (("title", title), ("desc", description))):
        element = ET.Element(tag, id=f"{prefix}-{tag}")
        element.text = text
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode").replace(" />", "/>")


def _present(element: ET.Element) -> None:
    """Turn the element's inline style into presentation attributes."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name and (name, value) != ("stroke-dashoffset", "0"):
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


def _define_first(root: ET.Element) -> None:
    """Bring all definitions together, so that what is drawn stands side by side, and groups of one into their child."""
    found = ET.Element("defs")

    def rest(element: ET.Element) -> None:
        children: list[ET.Element] = []
        for child in element:
            if child.tag == "defs":
                found.extend(child)
                continue
            rest(child)
            if child.tag == "g" and len(child) == 1 and not child.attrib.keys() & (child[0].attrib.keys() | _OWN):
                child[0].attrib.update(child.attrib)
                child = child[0]
            if child.tag != "g" or len(child):
                children.append(child)
        element[:] = children

    rest(root)
    if len(found):
        root.insert(0, found)


def _stamp(root: ET.Element) -> None:
    """Draw neighbours that repeat one small path in one path, and drop definitions that nothing refers to any more."""
    shapes = {child.get("id"): child for child in root.iter("path") if "id" in child.attrib}
    for parent in [*root.iter("g"), root]:
        children: list[ET.Element] = []
        for (tag, href, looks), run in groupby(
            parent, lambda child: (child.tag, child.get("href"), _looks(child))
        ):
            alike = list(run)
            shape = shapes.get((href or "").removeprefix("#"))
            moved = any("transform" in child.attrib for child in alike)
            if tag != "use" or shape is None or moved or len(shape.attrib["d"]) >= _LONG:
                children += alike
                continue
            dots = _dots(shape, alike, dict(looks))
            if dots is not None:
                children.append(dots)
                continue
            around = {name: value for name, value in shape.attrib.items() if name not in _OWN} | dict(looks)
            path = "".join(
                f"M{child.get('x', '0')} {child.get('y', '0')}m{shape.attrib['d'][1:]}" for child in alike
            )
            children.append(ET.Element("path", {"d": path} | around))
        parent[:] = children
    used = {name for element in root.iter() for value in element.attrib.values() for name in _references(value)}
    for defs in root.findall("defs"):
        defs[:] = [child for child in defs if child.get("id") in used]
        if not len(defs):
            root.remove(defs)


def _dots(shape: ET.Element, places: Sequence[ET.Element], looks: dict[str, str]) -> ET.Element | None:
    """Round markers of one colour as dots of a round pen; None where the marker is another."""
    around = {name: value for name, value in shape.attrib.items() if name not in _OWN} | looks
    round_one = re.fullmatch(r"M-([\d.]+) 0a.*z", shape.attrib["d"])
    if round_one is None or around.get("fill") != around.get("stroke"):
        return None
    width = 2 * float(round_one[1]) + float(around.get("stroke-width", 1))
    path, here = "", (0, 0)
    for place in places:
        there = (round(10 * float(place.get("x", 0))), round(10 * float(place.get("y", 0))))
        path += f"{'m' if path else 'M'}{_joined([there[0] - here[0], there[1] - here[1]])}h0"
        here = there
    kept = {
        name: value for name, value in around.items() if name not in ("fill", "stroke-width", "stroke-linejoin")
    }
    return ET.Element("path", {"d": path} | kept | {"stroke-width": f"{width:g}", "stroke-linecap": "round"})


def _hoist(element: ET.Element, name: str) -> None:
    """Say an attribute that neighbours share once, on a group around them; one that moves its content keeps it."""
    children: list[ET.Element] = []
    for value, run in groupby(element, lambda child: None if "transform" in child.attrib else child.get(name)):
        alike = list(run)
        if value is None or len(alike) == 1:
            for child in alike:
                if child.tag in ("g", "svg"):
                    _hoist(child, name)
            children += alike
            continue
        for child in alike:
            del child.attrib[name]
        group = ET.Element("g", {name: value})
        group[:] = alike
        children.append(group)
    element[:] = children


def _share(root: ET.Element, prefix: str) -> None:
    """Write a long path that is drawn more than once into `defs`, and refer to it."""
    drawn: dict[str, list[ET.Element]] = {}
    for element in root.iter("path"):
        if "id" not in element.attrib and len(element.attrib["d"]) >= _LONG:
            drawn.setdefault(element.attrib["d"], []).append(element)
    several = [(path, elements) for path, elements in drawn.items() if len(elements) > 1]
    if not several:
        return
    defs = ET.Element("defs")
    for number, (path, elements) in enumerate(several):
        ET.SubElement(defs, "path", {"id": f"{prefix}-s{number}", "d": path})
        for element in elements:
            element.tag = "use"
            del element.attrib["d"]
            element.set("href", f"#{prefix}-s{number}")
    if len(root) and root[0].tag == "defs":
        root[0].extend(defs)
    else:
        root.insert(0, defs)


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
    own = (
        _OWN | {"clip-path"} if "transform" in element.attrib else _OWN
    )  # a clip is cut in the element's own places
    return tuple((name, value) for name, value in element.attrib.items() if name not in own)


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
    """The same path in steps from point to point, rounded to a tenth of a point; circles are written as arcs."""
    steps = [(step, []) if step.isalpha() else step for step in _STEP.findall(data)]
    commands: list[tuple[str, list[int]]] = []
    for step in steps:
        if isinstance(step, tuple):
            commands.append((step[0], []))
        else:
            commands[-1][1].append(round(10 * float(step)))
    radius = _radius(commands)
    if radius:
        return f"M{_tenths(-radius)} 0{_circle(radius)}"
    written, x, y, start = "", 0, 0, (0, 0)
    for command, values in commands:
        if command == "Z" or command == "z":
            written, (x, y) = written + "z", start
            continue
        ends = list(zip(values[::2], values[1::2], strict=True))
        if command == "M" and not written:
            written = "M" + _joined(ends[0])
        elif command == "L" and ends[0][1] == y:
            written += "h" + _tenths(ends[0][0] - x)
        elif command == "L" and ends[0][0] == x:
            written += "v" + _tenths(ends[0][1] - y)
        else:
            written += command.lower() + _joined([value for a, b in ends for value in (a - x, b - y)])
        x, y = ends[-1]
        start = (x, y) if command == "M" else start
    return written


def _radius(commands: Sequence[tuple[str, list[int]]]) -> int:
    """Radius, in tenths, of the marker that matplotlib draws as eight curves around 0; 0 where the path is another."""
    if [command for command, _ in commands] != ["M", *["C"] * 8, "z"] and len(commands) != 10:
        return 0
    x, radius = commands[0][1]
    ends = [tuple(values[-2:]) for command, values in commands[1:-1] if command == "C"]
    around = [(radius, 0), (0, -radius), (-radius, 0), (0, radius)]
    return radius if x == 0 and radius > 0 and ends[1::2] == around else 0


def _circle(radius: int) -> str:
    r, across = _tenths(radius), _tenths(2 * radius)
    return f"a{r} {r} 0 1 0 {across} 0a{r} {r} 0 1 0-{across} 0z"


def _tenths(value: int) -> str:
    whole, tenth = divmod(abs(value), 10)
    text = f"{whole or ''}.{tenth}" if tenth else str(whole)
    return f"-{text}" if value < 0 else text


def _joined(values: Sequence[int]) -> str:
    """Numbers of a path with no more between them than it takes to tell them apart."""
    written = ""
    for value in values:
        text = _tenths(value)
        close = text.startswith("-") or (
            text.startswith(".") and "." in written.rsplit(" ", 1)[-1].rsplit("-", 1)[-1]
        )
        written += text if not written or close else f" {text}"
    return written


def _references(value: str) -> list[str]:
    return [first or second for first, second in _REFERENCE.findall(value) if not _is_colour(second)]


def _is_colour(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{6}", text) is not None
