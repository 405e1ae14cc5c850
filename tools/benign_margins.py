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
from pathlib import Path

from validate_findings import FINDINGS, GateError, audited, base_of, python, recorded_of, trained


def benign_run(place: Path, variant: str, seed: int, base: str, arguments: argparse.Namespace) -> Path:
    """The gate run of one benign fine-tune against the base; one that `place` holds is taken."""
    how, reports = FINDINGS[arguments.finding], place / "reports"
    if not (reports / "latest" / "audit.json").is_file():
        shutil.rmtree(place, ignore_errors=True)
        model = place / "candidate"
        print(trained(how, [str(model), "--variant", variant, "--model", base, "--seed", str(seed)], arguments))
        recorded = recorded_of(how, base, "", arguments)
        audited(how, str(model.resolve()), reports, "", arguments, "--baseline", str(recorded))
        shutil.rmtree(model)
    return (reports / "latest").resolve()


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
        runs = []
        for number in range(arguments.runs):
            variant, seed = how.benign[number % len(how.benign)], arguments.seeds_from + number
            runs.append(benign_run(arguments.work / f"{variant}-{seed}", variant, seed, base, arguments))
    except GateError as error:
        sys.exit(str(error))
    command = ["-m", "auditkit.cli", "calibrate", str(runs[0]), "--benign", *map(str, runs[1:])]
    done = python([*command, "--table", "default", "--out", str(arguments.out)], arguments)
    sys.exit(done.stdout + done.stderr if done.returncode else 0)


if __name__ == "__main__":
    main()
