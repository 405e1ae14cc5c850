"""Three figures by one library: python figures.py LIBRARY DATA.json FOLDER. Run by benchmarks/drawing_libraries.py.

Each library draws what a user of it would write, without a rewrite of its SVG behind it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Data = dict[str, list[dict[str, Any]]]


def own(data: Data) -> dict[str, Callable[[], str]]:
    """The project's drawings: paths of its own, and a template for forest plots."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from auditkit.record.figures import Curves, Heatmap, Series
    from auditkit.record.schema import Effect
    from auditkit.report.figures import forest
    from auditkit.report.figures.drawing import render_svg
    from auditkit.report.html import environment

    def rows() -> str:
        made = []
        for row in data["forest"]:
            effect = Effect(
                name=row["name"], estimate=row["estimate"] + 1, lower=row["lower"] + 1, upper=row["upper"] + 1,
                unit="logit", relation=">=", threshold=1.0, alpha=0.05, n=96, clusters=24, standardized=None, mde=None,
                items_needed=None, method="t",
            )  # fmt: skip
            made.append(forest.Row(row["name"], effect, forest.drawn(effect)))
        template = environment().from_string(
            "{% import '_macros.html.j2' as m %}{% import '_forest.html.j2' as forests with context %}"
            "{{ forests.table([('', rows)], verdicts=False) }}"
        )
        return template.render(rows=made)

    def heat() -> str:
        components = list(dict.fromkeys(cell["component"] for cell in data["heat"]))
        values = [[cell["value"] for cell in data["heat"] if cell["component"] == name] for name in components]
        layers = [str(layer) for layer in range(len(values[0]))]
        heatmap = Heatmap("layer", "", "recovered share", "", layers, components, values, scale="centred")
        return render_svg(heatmap.titled("Heat map"), "h")

    def curves() -> str:
        names = dict.fromkeys(point["series"] for point in data["curves"])
        series = [
            Series(name, *([p[key] for p in data["curves"] if p["series"] == name] for key in KEYS))
            for name in names
        ]
        return render_svg(Curves("layer", "recovered share", "", series).titled("Curves"), "c")

    return {"forest": rows, "heat": heat, "curves": curves}


KEYS = ("layer", "value", "lower", "upper")


def seaborn(data: Data) -> dict[str, Callable[[], str]]:
    """seaborn on matplotlib, with text kept as text and the salt that makes identifiers repeat."""
    import io

    matplotlib, pandas, sns = (importlib.import_module(name) for name in ("matplotlib", "pandas", "seaborn"))
    matplotlib.use("svg")
    plt = importlib.import_module("matplotlib.pyplot")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "x"})
    frames = {name: pandas.DataFrame(rows) for name, rows in data.items()}

    def saved(figure: Any) -> str:
        stream = io.StringIO()
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        return stream.getvalue()

    def forest() -> str:
        rows = frames["forest"]
        figure, axes = plt.subplots(figsize=(7.5, 0.3 + 0.21 * len(rows)))
        away = [rows.estimate - rows.lower, rows.upper - rows.estimate]
        axes.errorbar(rows.estimate, rows.name, xerr=away, fmt="o", markersize=4, capsize=3)
        axes.axvline(0, color="black")
        axes.axvspan(0, 3, alpha=0.1)
        axes.set(xlim=(-2, 3), xlabel="units from the threshold")
        axes.invert_yaxis()
        sns.despine(figure)
        return saved(figure)

    def heat() -> str:
        wide = frames["heat"].pivot(index="component", columns="layer", values="value")
        figure, axes = plt.subplots(figsize=(7.5, 2.4))
        sns.heatmap(wide, center=0, cmap="RdBu", ax=axes)
        return saved(figure)

    def curves() -> str:
        figure, axes = plt.subplots(figsize=(7.5, 2.9))
        sns.lineplot(frames["curves"], x="layer", y="value", hue="series", style="series", ax=axes)
        for _, one in frames["curves"].groupby("series"):
            axes.fill_between(one.layer, one.lower, one.upper, alpha=0.2)
        return saved(figure)

    return {"forest": forest, "heat": heat, "curves": curves}


def altair(data: Data) -> dict[str, Callable[[], str]]:
    """Altair's charts, drawn by vl-convert."""
    alt, convert = (importlib.import_module(name) for name in ("altair", "vl_convert"))
    frames = {name: alt.Data(values=rows) for name, rows in data.items()}

    def svg(chart: Any) -> str:
        return str(convert.vegalite_to_svg(chart.to_json()))

    def forest() -> str:
        x = alt.Scale(domain=[-2, 3], clamp=True)
        base = alt.Chart(frames["forest"]).encode(
            y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=300))
        )
        lines = base.mark_errorbar(ticks=True).encode(
            x=alt.X("lower:Q", scale=x, title="units from the threshold"), x2="upper"
        )
        dots = base.mark_point(filled=True).encode(x=alt.X("estimate:Q", scale=x))
        line = alt.Chart(alt.Data(values=[{"x": 0, "end": 3}]))
        shade = line.mark_rect(opacity=0.1).encode(x="x:Q", x2="end:Q")
        return svg((shade + line.mark_rule().encode(x="x:Q") + lines + dots).properties(width=400))

    def heat() -> str:
        colour = alt.Color("value:Q", scale=alt.Scale(scheme="redblue", domainMid=0))
        return svg(
            alt.Chart(frames["heat"])
            .mark_rect()
            .encode(x="layer:O", y="component:N", color=colour)
            .properties(width=560)
        )

    def curves() -> str:
        base = alt.Chart(frames["curves"]).encode(x="layer:Q", color="series:N")
        band = base.mark_area(opacity=0.2).encode(y="lower:Q", y2="upper:Q")
        return svg(
            (band + base.mark_line().encode(y="value:Q", strokeDash="series:N")).properties(width=560, height=200)
        )

    return {"forest": forest, "heat": heat, "curves": curves}


def main() -> None:
    library, data, folder = sys.argv[1:]
    draw = {"own": own, "seaborn": seaborn, "altair": altair}[library](json.loads(Path(data).read_text()))
    seconds = {}
    for name, work in draw.items():
        started = time.perf_counter()
        (Path(folder) / f"{name}.svg").write_text(work(), encoding="utf-8")
        seconds[name] = time.perf_counter() - started
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
