"""What drawings share is written once, and every drawing looks as it did alone."""

from __future__ import annotations

import re

import pytest

from auditkit.record.figures import Curves, Series
from auditkit.report.figures.drawing import render_svg
from auditkit.report.figures.sharing import shared

pytestmark = pytest.mark.unit


def curves(shift: float, name: str = "raw") -> str:
    """A drawing; all have one level axis."""
    lines = [
        Series(label, [float(x) for x in range(20)], [y + shift * i for i in range(20)], [None] * 20, [None] * 20)
        for y, label in ((0.0, name), (1.0, "other"))
    ]
    return render_svg(Curves("layer", "value", "A line.", lines).titled("t"), "f", apart=True)


def resolved(svg: str, shapes: str, rules: str) -> str:
    """The drawing with classes and references undone, by the rules and the shapes that the page defines."""
    styles = dict(re.findall(r"\.(k\d+)\{([^}]*)\}", rules))
    parts = {m[2]: m[0] for m in re.finditer(r'<(\w+) id="(s\d+)"[^>]*?/>|<g id="(s\d+)".*?</g>', shapes)}
    parts |= {m[1]: m[0] for m in re.finditer(r'<g id="(s\d+)".*?</g>', shapes)}
    svg = re.sub(r'<use href="#(s\d+)"/>', lambda m: parts[m[1]], svg)
    svg = re.sub(r' id="s\d+"', "", svg)

    def attributes(found: re.Match[str]) -> str:
        pairs = (rule.split(":") for rule in styles[found[1]].split(";"))
        return "".join(
            f' {name}="{value.removesuffix("px") if name == "font-size" else value}"' for name, value in pairs
        )

    return re.sub(r' class="(k\d+)"', attributes, svg)


def test_classes_and_references_say_the_same() -> None:
    alone = {f"f{i}": curves(0.1 * i).replace("f-", f"f{i}-") for i in range(6)}
    made, rules = shared(alone)
    assert list(made) == list(alone)
    together = "".join(made.values())
    assert "<use href" in together
    assert len(together) + len(rules) < 0.75 * len("".join(alone.values()))
    assert {name: resolved(svg, together, rules) for name, svg in made.items()} == alone


def test_text_that_looks_like_a_look_stays_text() -> None:
    """Quotes in a text are no attribute, and what occurs once is no class."""
    name = 'a fill="red" stroke="#000" b'
    made, _ = shared({f"f{i}": curves(0.1 * i, name) for i in range(4)})
    assert sum(svg.count(f">{name}<") for svg in made.values()) >= 1
    assert shared({"f1": curves(1.0)})[0]["f1"].count("<use") == 0
    assert shared({}) == ({}, "")


def test_the_same_drawings_give_the_same_classes() -> None:
    alone = {f"f{i}": curves(0.1 * i) for i in range(5)}
    assert shared(alone) == shared(dict(alone))
