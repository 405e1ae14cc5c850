"""Compare recorded runs of suites/role_conditioning by relative depth, without loading a model.

    python examples/role_models.py RUN RUN ... [--index RFC] [--out page.html]

With `RUN:BASE` in place of RUN it is the change since BASE that is compared.
"""

from __future__ import annotations

import argparse
import html
from pathlib import Path

from auditkit.findings.role_conditioning.measurements.models import compare, read_profile
from auditkit.record.figures import Table, drawing_of
from auditkit.report.figures.drawing import render_svg


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders, or RUN:BASE for a change")
    parser.add_argument("--index", default="RFC", choices=("RFC", "RSI"))
    parser.add_argument("--out", type=Path, default=None, help="write the figures to a page")
    arguments = parser.parse_args()
    profiles = []
    for text in arguments.runs:
        run, _, base = text.partition(":")
        profile = read_profile(Path(run), arguments.index)
        profiles.append(profile.minus(read_profile(Path(base), arguments.index)) if base else profile)
    figures = compare(profiles)
    parts = []
    for number, figure in enumerate(figures):
        drawing = drawing_of(figure)
        parts.append(f"<h2>{html.escape(figure.title)}</h2><p>{html.escape(drawing.caption)}</p>")
        if isinstance(drawing, Table):
            rows = [list(drawing.columns), *drawing.rows]
            print("\n".join("  ".join(str(cell) for cell in row) for row in rows))
            cells = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows)
            parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
        else:
            parts.append(render_svg(figure, f"f{number}"))
    if arguments.out is not None:
        arguments.out.write_text("<!doctype html><meta charset='utf-8'>" + "".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
