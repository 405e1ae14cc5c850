"""The report's figures beside the same figures by drawing libraries: size, time, safety, legibility.

Three figures of fixed data are drawn: a forest plot of 40 claims, a heat map of 30 layers by 9 components, two curves
with bands. The project's own drawings are always measured; a library is measured where it is installed apart, so that
it never becomes a dependency:

    python -m venv PEERS/altair && PEERS/altair/bin/pip install altair vl-convert-python
    python -m venv PEERS/seaborn && PEERS/seaborn/bin/pip install seaborn
    npm install --prefix PEERS/plot @observablehq/plot jsdom
    python benchmarks/drawing_libraries.py --peers PEERS --write
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import report, table, timed

HERE = Path(__file__).resolve().parent / "drawing"
FIGURES = ("forest", "heat", "curves")
WIDTHS = (360, 720)
"""Pixels to which a figure is scaled: a phone, and a column of the page."""
DARK = (0x12, 0x16, 0x1B)
"""The page's background in the dark."""
READABLE = 4.5
"""Contrast of a text that follows the page; a figure with a white ground of its own has less."""


def data() -> dict[str, list[dict[str, Any]]]:
    """Values without chance, so that two runs of a library can be compared byte by byte."""
    claims = []
    for i in range(40):
        middle, half = 1.6 * math.sin(1.7 * i), 0.08 + 0.6 * abs(math.cos(2.3 * i))
        name = f"claim {i:02d}: early layers carry the persona"
        claims.append({"name": name, "estimate": middle, "lower": middle - half, "upper": middle + half})
    heat = [
        {
            "component": f"component {row}",
            "layer": layer,
            "value": round(math.sin(0.4 * layer + row) / (row + 1), 4),
        }
        for row in range(9)
        for layer in range(30)
    ]
    curves = []
    for name, centre in (("MLP output", 4), ("attention output", 16)):
        for layer in range(30):
            value = 0.25 * math.exp(-((layer - centre) ** 2) / 12)
            curves.append(
                {"series": name, "layer": layer, "value": value, "lower": value - 0.02, "upper": value + 0.02}
            )
    return {"forest": claims, "heat": heat, "curves": curves}


def commands(peers: Path | None) -> dict[str, list[str]]:
    """Library -> what draws with it, without data and folder; those that are not installed are left out."""
    found = {"own drawings": [sys.executable, str(HERE / "figures.py"), "own"]}
    if peers is None:
        return found
    for library in ("seaborn", "altair"):
        python = peers / library / "bin" / "python"
        if python.exists():
            found[library] = [str(python), str(HERE / "figures.py"), library]
    if (peers / "plot" / "node_modules").exists():
        found["Observable Plot"] = ["node", str(HERE / "plot.mjs")]
    return found


def drawn(
    command: Sequence[str], values: Path, folder: Path, extra: Sequence[str]
) -> tuple[float, dict[str, float]]:
    """Seconds of a process that draws the three figures, and seconds of each figure inside it."""
    folder.mkdir()
    whole, done = timed(
        lambda: subprocess.run(
            [*command, str(values), str(folder), *extra], check=True, capture_output=True, text=True
        )
    )
    return whole, json.loads(done.stdout.splitlines()[-1])


def bare(text: str) -> str:
    """A figure as it can stand in a page: without the XML declaration and document type."""
    return text[max(0, text.find("<svg")) :] if text.lstrip().startswith("<?xml") else text


def looked_at(figures: dict[str, str]) -> dict[str, float]:
    """The worst of all figures in Chromium under the page's policy: blocked styles, overlaps, sizes, contrast."""
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(HERE.parents[1]))
    from auditkit.report.html import own, policy

    look = (HERE / "look.js").read_text("utf-8").split("\n", 2)[2].rstrip(";\n")
    style = own("style.css") + "\nmain svg { max-width: 100%; height: auto; }"
    found = {"blocked": 0, "overlaps": 0, "smallest": math.inf, "contrast": math.inf}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        for figure in figures.values():
            html = (
                f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
                f'content="{policy(style)}"><style>{style}</style><body><main>{bare(figure)}</main>'
            )
            for width in WIDTHS:
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
                blocked: list[str] = []
                page.on("console", lambda message, all=blocked: all.append(message.text))
                page.set_content(html)
                seen = page.evaluate(look, [list(DARK)])
                found["blocked"] += sum("Content Security Policy" in text for text in blocked)
                found["overlaps"] += seen["overlaps"]
                found["smallest"] = min(found["smallest"], seen["smallest"])
                found["contrast"] = min(found["contrast"], seen["contrast"])
                page.close()
        browser.close()
    return found


def installed(command: Sequence[str], peers: Path | None) -> str:
    """Megabytes that the library and what it needs take."""
    if peers is None or not command[0].startswith(str(peers)):
        folder = peers / "plot" / "node_modules" if peers is not None and command[0] == "node" else None
    else:
        folder = next((peers / command[2] / "lib").glob("python*/site-packages"))
    if folder is None:
        return "nothing"
    packages = [path for path in folder.iterdir() if not path.name.startswith(("pip", "setuptools"))]
    files = [
        file for path in packages for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()
    ]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.0f} MB"


def measured(name: str, command: list[str], values: Path, scratch: Path, peers: Path | None) -> list[str]:
    """A row of the table."""
    extra = [str(peers / "plot" / "node_modules")] if peers is not None and command[0] == "node" else []
    whole, seconds = drawn(command, values, scratch / f"{name} 1", extra)
    drawn(command, values, scratch / f"{name} 2", extra)
    texts = {figure: (scratch / f"{name} 1" / f"{figure}.svg").read_text("utf-8") for figure in FIGURES}
    again = {figure: (scratch / f"{name} 2" / f"{figure}.svg").read_text("utf-8") for figure in FIGURES}
    sizes = [
        f"{len(text.encode()) / 1000:.0f} ({len(gzip.compress(text.encode(), mtime=0)) / 1000:.1f})"
        for text in texts.values()
    ]
    styled = sum(len(re.findall(r"\sstyle=|<style", text)) for text in texts.values())
    look = looked_at(texts)
    return [
        name, *sizes, f"{whole:.1f}", f"{sum(seconds.values()):.2f}", "yes" if texts == again else "no",
        f"{styled} ({look['blocked']:.0f})", f"{look['overlaps']:.0f}", f"{look['smallest']:.1f}",
        "yes" if look["contrast"] >= READABLE else "no", installed(command, peers),
    ]  # fmt: skip


HEAD = [
    "library", "forest plot, kB (gzip)", "heat map, kB (gzip)", "curves, kB (gzip)", "s in all", "s drawing",
    "same bytes", "inline styles (blocked)", "texts that overlap", "smallest text, px",
    "follows a dark page", "installed",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder with altair/, seaborn/ and plot/ (see above)")
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    parser.add_argument("--keep", type=Path, help="keep the figures in this folder")
    options = parser.parse_args()
    peers = options.peers.resolve() if options.peers else None
    found = commands(peers)
    if options.write and len(found) < 4:
        print("not every library is installed under --peers, so the stored table stays as it is")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or Path(temporary)
        scratch.mkdir(exist_ok=True)
        values = scratch / "data.json"
        values.write_text(json.dumps(data()), encoding="utf-8")
        rows = [measured(name, command, values, scratch, peers) for name, command in found.items()]
    write = options.write and len(found) == 4
    report("drawing_libraries", "Drawing libraries", table(HEAD, rows), ["matplotlib", "playwright"], write)


if __name__ == "__main__":
    main()
