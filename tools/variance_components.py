"""Where the variance of each comparison lies.

    python tools/variance_components.py RUN [RUN ...]              every comparison
    python tools/variance_components.py --write RUN [RUN ...]      the deciding ones into docs/statistics.md

For every comparison of a recorded run that is a mean or a ratio of means over two crossed factors: how the variance of
one item is shared by the clusters of either factor and by what is left, the half-width of the interval, and what it
would be with as many items on twice the clusters of either factor. Components are by the method of moments around the
mean, and a negative one is taken as zero; a few clusters know their variance badly. Where
every cluster has one item, nothing can be told apart and all is "what is left". Prints Markdown; with `--write`, the
comparison that decides each claim goes into the table of the docs, the runs beside each other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from auditkit.record.schema import Effect
from auditkit.record.store import read_items, read_run
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.recomputed import ClaimItems, recomputed
from auditkit.stats.intervals import cluster_codes

PAGE = Path(__file__).parents[1] / "docs/statistics.md"
BEGIN, END = "<!-- measured: components -->", "<!-- end of components -->"
HEAD = (
    "run", "claim", "effect", "items", "clusters", "between them", "half-width", "with twice the first",
    "with twice the second", "distance to the threshold", "verdict",
)  # fmt: skip


def components(values: np.ndarray, clusters: pd.DataFrame) -> tuple[float, float, float]:
    """Variances of one item: between clusters of the first factor, between those of the second, and the rest."""
    centred, n = values - values.mean(), len(values)
    cells = pd.factorize(clusters.agg("|".join, axis=1))[0]
    codes = cluster_codes(clusters)
    sums = [float((np.bincount(c, weights=centred) ** 2).sum()) / n**2 for c in (*codes, cells)]
    evenness = [float((np.bincount(c) ** 2).sum()) / n**2 for c in (*codes, cells)]
    first, second = (max(0.0, (sums[k] - sums[2]) / max(evenness[k] - evenness[2], 1e-12)) for k in (0, 1))
    return first, second, max(0.0, sums[2] / evenness[2] - first - second)


def shrunk(parts: tuple[float, float, float], counts: tuple[int, int], n: int, twice: int) -> float:
    """What the standard error becomes, as a share, with twice the clusters of one factor and as many items."""
    more = [count * (1 + (k == twice)) for k, count in enumerate(counts)]
    now, then = (parts[0] / of[0] + parts[1] / of[1] + parts[2] / n for of in (list(counts), more))
    return float(np.sqrt(then / now)) if now > 0 else 1.0


def rows_of(folder: Path) -> list[list[str]]:
    run, items = read_run(folder), read_items(folder).astype(object)
    by_claim = dict(tuple(items.groupby("claim", sort=False)))
    rows = []
    for claim in run.claims:
        kept = ClaimItems(by_claim.get(claim.id, items.iloc[:0]))
        for effect in claim.compared:
            try:
                estimate = recomputed(effect, kept, beside=False)
            except ValueError:
                continue
            if isinstance(estimate, Estimate) and estimate.measurement.clusters.shape[1] == 2:
                row = _row(effect, estimate)
                if row:
                    rows.append([folder.name, claim.id, *row, str(claim.verdict)])
    return rows


def _row(effect: Effect, estimate: Estimate) -> list[str]:
    if effect.lower is None or effect.upper is None or effect.estimate is None:
        return []
    threshold = effect.threshold or 0.0
    bottom = 1.0 if estimate.denominator is None else estimate.denominator
    centre = effect.estimate
    values, clusters = estimate.numerator - centre * bottom, estimate.measurement.clusters.astype(str)
    known = np.isfinite(values)
    values, clusters = values[known], clusters[known]
    parts, counts = components(values, clusters), tuple(int(n) for n in clusters.nunique())
    whole = sum(parts) or 1.0
    half = (effect.upper - effect.lower) / 2
    names = " x ".join(f"{n} {name}" for n, name in zip(counts, clusters.columns, strict=True))
    between = " : ".join(f"{part / whole:.0%}" for part in parts) if sum(parts) else "not estimable"
    more = [half * shrunk(parts, (counts[0], counts[1]), len(values), k) for k in (0, 1)]
    away = effect.estimate - threshold
    return [effect.name, str(len(values)), names, between, *(f"{x:.3g}" for x in (half, *more, away))]


def table(folders: Sequence[Path]) -> str:
    """The comparison that decides each claim: for each run its clusters and how the variance is shared."""
    rows: dict[str, dict[Path, str]] = {}
    for folder in folders:
        seen = set[str]()
        for _, claim, _, _, clusters, between, half, *_ in rows_of(folder):
            if claim not in seen:  # the deciding effect comes first
                seen.add(claim)
                rows.setdefault(claim, {})[folder] = f"{clusters}: {between}, ±{half}"
    runs = [read_run(folder) for folder in folders]
    head = ("claim", *(f"{run.model.name}, seed {run.seed}" for run in runs))
    lines = [(claim, *(of.get(folder, "") for folder in folders)) for claim, of in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *lines))


def main() -> None:
    write, folders = "--write" in sys.argv, [Path(text) for text in sys.argv[1:] if text != "--write"]
    if write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table(folders)}\n{END}{after}", encoding="utf-8")
        return
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for folder in folders:
        for row in rows_of(folder):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
