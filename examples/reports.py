"""Make the example reports under reports/examples again: an audit of the default model, and a candidate beside it.

    python examples/reports.py [--items 24] [--model SPEC] [--out FOLDER]

Run it from the top folder of the repository. The candidate is a copy of the model with a little noise in its MLPs
(`perturbed.py`). Everything but the reports is written to build/examples and removed again.
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
KEPT = ("audit.html", "summary.md", "claims.csv", "model-card.md", "junit.xml", "audit.json")
MEASURED = (0, 1, 10)
"""Exit codes of an audit that came to its end, whatever it found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", default="24", help="items per measurement (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to audit (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("reports/examples"), help="default: %(default)s")
    arguments = parser.parse_args()
    asked = ("--items", arguments.items)
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        released = audit("released", "--model", arguments.model, *asked)
        run("examples/perturbed.py", str(CANDIDATE), "--model", arguments.model)
        candidate = audit("gated", "--model", str(CANDIDATE), *asked, "--baseline", str(released))
        for name, folder in (("audit", released), ("comparison", candidate)):
            (arguments.out / name).mkdir(parents=True, exist_ok=True)
            for file in KEPT:
                shutil.copy(folder / file, arguments.out / name / file)
        page = arguments.out / "comparison" / "diff.html"
        run("-m", "auditkit.cli", "diff", str(released), str(candidate), "--out", str(page))
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


def audit(name: str, *options: str) -> Path:
    """Audit with every suite; the run folder."""
    reports = WORK / name
    run("-m", "pytest", "-q", "suites/", *options, "--audit-dir", str(reports))
    return reports / (reports / "latest").readlink()


def run(*arguments: str) -> None:
    code = subprocess.run([sys.executable, *arguments], check=False).returncode
    if code not in MEASURED:
        sys.exit(f"{' '.join(arguments)} ended with {code}; the example reports are as they were")


if __name__ == "__main__":
    main()
