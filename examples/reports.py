"""Make the example reports under reports/examples again: the default audit, and a candidate gated against its base.

    python examples/reports.py [--items N] [--model SPEC] [--out FOLDER]

Run it from the top folder of the repository. The audit has every suite; the gate has identity_bias alone, and its
candidate is a copy of the model with a little noise in its MLPs (`perturbed.py`). Everything but the reports is written
to build/examples and removed again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from auditkit.adapters.catalogue import DEFAULT_MODEL

WORK = Path("build/examples")
CANDIDATE = WORK / "candidate"
KEPT = ("audit.html", "summary.md", "claims.csv", "model-card.md")
GATE = "suites/identity_bias"
MEASURED = (0, 1, 10)
"""Exit codes of an audit that came to its end, whatever it found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", help="items per measurement (default: what each suite takes)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to audit (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("reports/examples"), help="default: %(default)s")
    arguments = parser.parse_args()
    asked = ("--items", arguments.items) if arguments.items else ()
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        whole = audit("whole", "suites/", "--model", arguments.model, *asked)
        released = audit("released", GATE, "--model", arguments.model, *asked)
        run("examples/perturbed.py", str(CANDIDATE), "--model", arguments.model)
        candidate = audit("gated", GATE, "--model", str(CANDIDATE), *asked, "--baseline", str(released))
        for name, folder in (("audit", whole), ("comparison", candidate)):
            (arguments.out / name).mkdir(parents=True, exist_ok=True)
            for file in KEPT:
                shutil.copy(folder / file, arguments.out / name / file)
        page = arguments.out / "comparison" / "diff.html"
        run("-m", "auditkit.cli", "diff", str(released), str(candidate), "--out", str(page))
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


def audit(name: str, *options: str) -> Path:
    """One audit; the run folder."""
    reports = WORK / name
    run("-m", "pytest", "-q", *options, "--audit-dir", str(reports))
    return reports / (reports / "latest").readlink()


def run(*arguments: str) -> None:
    code = subprocess.run([sys.executable, *arguments], check=False).returncode
    if code not in MEASURED:
        sys.exit(f"{' '.join(arguments)} ended with {code}; the example reports are as they were")


if __name__ == "__main__":
    main()
