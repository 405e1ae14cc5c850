"""Write the package's reference run, by whose variances `auditkit plan --model` plans runs of models without any.

    python tools/reference_run.py RUN

RUN is the folder of a default audit of the default model. A comparison keeps its interval and threshold, and nothing
of its items.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

import auditkit.gate
from auditkit.gate.planned import EarlierRun
from auditkit.record.schema import Effect
from auditkit.record.store import read_run

FILE = Path(auditkit.gate.__file__).with_name("reference.json")


def main() -> None:
    (folder,) = map(Path, sys.argv[1:])
    run = EarlierRun.of(read_run(folder), "")
    claims = ",\n".join(
        f"{json.dumps(claim)}: {json.dumps([msgspec.to_builtins(bare(effect)) for effect in effects])}"
        for claim, effects in run.claims.items()
    )
    head = f'"model": {json.dumps(run.model)}, "run": "", "effort": {json.dumps(run.effort)}'
    FILE.write_text(f'{{{head}, "claims": {{\n{claims}\n}}}}\n', encoding="utf-8")
    print(f"{FILE}: {len(run.claims)} claims of {run.model}")


def bare(effect: Effect) -> Effect:
    """Only what a plan reads."""
    kept = ("name", "estimate", "lower", "upper", "unit", "relation", "threshold", "alpha", "n", "clusters", "df")
    nothing = {"standardized": None, "mde": None, "items_needed": None, "method": ""}
    return Effect(**{name: getattr(effect, name) for name in kept}, **nothing)


if __name__ == "__main__":
    main()
