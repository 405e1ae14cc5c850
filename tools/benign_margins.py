"""Margins of a gate, from benign fine-tunes: trains them, gates them, and calls `auditkit calibrate`.

    python tools/benign_margins.py --finding traits --out FILE [--runs 9] [--seeds-from 150]

The benign kinds of the finding take turns. Fine-tunes and their reports are kept under --work, and a call that is cut
off goes on where it stopped. `tools/validate_findings.py --thresholds FILE` then counts, on other seeds, how often the
gate with these margins blocks.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from itertools import cycle
from pathlib import Path

from validate_findings import FINDINGS, GateError, Run, base_of, python, trained_and_gated


def benign_run(run: Run, base: str, arguments: argparse.Namespace) -> Path:
    """The gate run of one benign fine-tune against the base; one that is there is taken."""
    place = arguments.work / f"{run.variant}-{run.seed}"
    latest = place / "reports" / "latest"
    if not (latest / "audit.json").is_file():
        print(trained_and_gated(FINDINGS[arguments.finding], run, place, base, arguments)[0])
        shutil.rmtree(place / "candidate")
    return latest.resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--finding", default="traits", choices=sorted(f for f in FINDINGS if not FINDINGS[f].words)
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="TOML file of thresholds to write")
    parser.add_argument("--runs", type=int, default=9, help="fine-tunes (default: %(default)s)")
    parser.add_argument("--seeds-from", type=int, default=150, help="the first seed (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/benign-margins"))
    parser.add_argument("--dtype", default="auto", choices=["auto", "bfloat16"], help="of training and gate")
    arguments = parser.parse_args()
    arguments.at_once = 1
    arguments.work = arguments.work / arguments.finding
    arguments.work.mkdir(parents=True, exist_ok=True)
    how = FINDINGS[arguments.finding]
    try:
        base = base_of(how, arguments)
        wanted = zip(range(arguments.runs), cycle(how.benign), strict=False)
        runs = [
            benign_run(Run(variant, 0.0, arguments.seeds_from + number), base, arguments)
            for number, variant in wanted
        ]
    except GateError as error:
        sys.exit(str(error))
    command = ["-m", "auditkit.cli", "calibrate", str(runs[0]), "--benign", *map(str, runs[1:])]
    done = python([*command, "--table", "default", "--out", str(arguments.out)], arguments)
    sys.exit(done.stdout + done.stderr if done.returncode else 0)


if __name__ == "__main__":
    main()
