"""One model on several processes: how even their work is, with and without the help of those that are done.

    python benchmarks/one_model.py [--suites SUITE ...] [--workers N ...] [--effort EFFORT] [--write]

Each row is one audit with `-n N`, one thread in each process. What each worker has run is counted in token-layers,
without what it has read of the others; so the largest of these, against what one process runs, says how much sooner
forward passes end where every worker has a GPU of its own, whatever the cores of this machine. Workers do not help with
`--maxfail`, which makes the row without help. Verdicts, estimates and items of every run are compared with those of one
process. With --write the table goes to benchmarks/results/one_model.md.

Loaded by pytest (`-p one_model`), this module counts what a worker runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from common import MODEL, ROOT, report, table, timed

COUNTED = "AUDITKIT_COUNTED"
"""Variable that names the folder for counts."""
CODES = (0, 1, 10, 11)
_meters: list[Any] = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Keep every meter of this process."""
    from auditkit.adapters.protocol import Meter

    made = Meter.__init__

    def kept(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        _meters.append(self)

    Meter.__init__ = kept  # type: ignore[method-assign]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what a worker has run, and what it has read of other processes."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    exchange = getattr(session.config.pluginmanager.get_plugin("auditkit-measuring"), "_exchange", None)
    received = None if exchange is None else exchange.received
    read = 0 if received is None else received.token_layers
    run = sum(meter.token_layers for meter in _meters if meter is not received) - read
    Path(os.environ[COUNTED], f"{worker['workerid']}.json").write_text(json.dumps({"run": run, "read": read}))


def audited(suites: Sequence[str], effort: str, into: Path, *options: str) -> tuple[float, list[int]]:
    """Seconds of the clock, and the token-layers that each worker has run."""
    counts = into / "counts"
    counts.mkdir(parents=True)
    here = str(Path(__file__).parent)
    python = [sys.executable, "-m", "pytest", "-q", "-p", "one_model", "-p", "no:cacheprovider"]
    named = ["--model", MODEL, "--effort", effort, "--audit-dir", str(into / "reports"), *options]
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    environment = {**os.environ, **threads, "PYTHONPATH": here, COUNTED: str(counts)}

    def run() -> int:
        return subprocess.run(
            [*python, *suites, *named], cwd=ROOT, env=environment, capture_output=True
        ).returncode

    seconds, code = timed(run)
    if code not in CODES:
        sys.exit(f"pytest {' '.join([*suites, *named])} ended with {code}")
    return seconds, [json.loads(file.read_text())["run"] for file in sorted(counts.iterdir())]


def answers(into: Path) -> Any:
    """What a run says of each claim, without its cost and what it was made with, and its items."""
    from auditkit.record.schema import Claim
    from auditkit.record.store import read_items, read_run

    folder = into / "reports" / "latest"
    fields = {*Claim.__struct_fields__} - {"cost", "made_with", "rerun"}
    claims = [{name: getattr(claim, name) for name in fields} for claim in read_run(folder).claims]
    return claims, read_items(folder)


def token_layers(into: Path) -> int:
    from auditkit.record.store import read_run

    return sum(claim.cost.token_layers for claim in read_run(into / "reports" / "latest").claims)


HEAD = (
    *("workers", "idle ones help", "seconds", "all run, M token-layers", "the busiest one, M"),
    *("times less than one process", "equal to one process"),
)


def measured(suites: Sequence[str], effort: str, workers: Sequence[int], scratch: Path) -> Iterator[list[str]]:
    """The rows of the table, that of one process first."""
    alone = scratch / "alone"
    seconds, _ = audited(suites, effort, alone)
    expected, items = answers(alone)
    whole = token_layers(alone)
    yield ["1", "-", f"{seconds:.0f}", *[f"{whole / 1e6:.2f}"] * 2, "1.0", "-"]
    for number in workers:
        for helped, options in (("no", ["--maxfail=100000"]), ("yes", [])):
            into = scratch / f"{number}-{helped}"
            seconds, ran = audited(suites, effort, into, "-n", str(number), *options)
            got, values = answers(into)
            same = "yes" if got == expected and values.equals(items) else "NO"
            sizes = f"{sum(ran) / 1e6:.2f}", f"{max(ran) / 1e6:.2f}"
            yield [str(number), helped, f"{seconds:.0f}", *sizes, f"{whole / max(ran):.1f}", same]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", default=[], metavar="SUITE")
    parser.add_argument("--workers", nargs="+", type=int, default=[2, 4, 8], metavar="N")
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    suites = [f"suites/{name}" for name in arguments.suites] or ["suites/"]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in measured(suites, arguments.effort, arguments.workers, Path(scratch)):
            rows.append(row)
            print(*row, file=sys.stderr, flush=True)
    named = ", ".join(f"`{name}`" for name in arguments.suites) or "all suites"
    text = (
        f"`{MODEL}`, {named}, at `--effort {arguments.effort}`, one thread in each process. Equal to one process are "
        "verdicts, estimates, intervals, notes and items, all to the last bit. "
        f"{os.cpu_count()} cores run all workers, so more workers than that cannot save seconds here; times less is "
        f"that of token-layers, for one GPU for each worker.\n\n{table(HEAD, rows)}"
    )
    report("one_model", "One model on several processes", text, ("torch", "pytest-xdist"), arguments.write)


if __name__ == "__main__":
    main()
