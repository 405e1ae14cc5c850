"""Write docs/gallery.md: every finding, what it asks and needs, how long it takes, and what it says of some models.

    python tools/gallery.py reports/RUN [reports/OTHER ...]

Questions, needs and costs are those of the suites in this repository. Answers are those of the recorded runs that are
named, with their models, seeds and dates; a suite that no run of a column asked has an empty cell, and of two runs of
one model, seed and day that asked it the later one counts. Nothing is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from auditkit.claims.suites import Suite, packaged
from auditkit.cli.audit import AT, LAYERS
from auditkit.gate.budget import REST, duration
from auditkit.record.schema import Run
from auditkit.record.store import read_run
from auditkit.report.answers.scorecard import counted

PAGE = Path("docs/gallery.md")
INTRO = """# Gallery

This page lists every finding that comes with auditkit: what it asks, what a model must offer for all of its claims, and
how long its suite takes. Times are those of the default model once it is open, at `--effort standard` and 20,000
token-layers a second, as two cores do. A token-layer is one token through one block.
`python tools/gallery.py RUN ...` writes this page from recorded runs.

These example reports show what the result looks like: [an audit with all
suites](../reports/examples/audit/audit.html), [the induction suite
alone](../reports/examples/induction/audit.html), [a fine-tune beside its
base](../reports/examples/role-conditioning/audit.html), [a gate](../reports/examples/comparison/audit.html) with [both
runs side by side](../reports/examples/comparison/diff.html), and [ten models on one
page](../reports/examples/checkpoints/compare.html).
"""
MEASURED = """## What it says of some models

Each cell is the sentence of the report's scorecard, without the names of claims. These runs have no base to compare
with, so claims about a change are not decided in them. A cell is empty where the suite was not asked.
"""


def write(suites: Sequence[Suite], runs: Sequence[Run]) -> str:
    """The page."""
    rows = [f"| [{s.name}](findings/{s.name}.md) | {s.question} | {s.needs or '—'} | {_time(s)} |" for s in suites]
    head = "| suite | question | needs | time |\n|---|---|---|---|"
    parts = [INTRO, "\n".join([head, *rows]) + "\n"]
    if runs:
        parts += [MEASURED, _table(suites, runs)]
    return "\n".join(parts)


def _time(suite: Suite) -> str:
    """What `auditkit suites` says of the default model."""
    return "—" if suite.tokens is None else duration(REST * suite.tokens * LAYERS / AT)


def _table(suites: Sequence[Suite], runs: Sequence[Run]) -> str:
    answered: dict[str, dict[str, str]] = {}
    for run in runs:  # several runs of one model, each of some suites, share a column
        answered.setdefault(f"{run.model.name}, seed {run.seed}, {run.created[:10]}", {}).update(counted(run))
    lines = [f"| suite | {' | '.join(answered)} |", f"|---|{'---|' * len(answered)}"]
    for suite in suites:
        cells = [answers.get(suite.name, "").replace("|", "\\|") for answers in answered.values()]
        lines.append(f"| {suite.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if not (PAGE.parent / "findings").is_dir():
        sys.exit("run it from the top folder of the repository, which holds docs/findings")
    runs = [read_run(Path(one)) for one in sys.argv[1:]]
    PAGE.write_text(write(list(packaged().values()), runs), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
