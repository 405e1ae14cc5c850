"""Make the example reports under reports/examples again.

    python examples/reports.py [--only REPORT] [--items N] [--model SPEC] [--out FOLDER]

`audit` is the default audit with every suite. `comparison` is a candidate gated against its base with identity_bias
alone: a copy of the model with a little noise in its MLPs (`perturbed.py`), with both runs side by side. In
`role-conditioning` the candidate is a short fine-tune of the model on how it speaks of itself (`role_finetune.py`).

Run it from the top folder of the repository. Everything but the reports is written to build/examples and removed again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL

WORK = Path("build/examples")
KEPT = ("audit.html", "summary.md", "claims.csv", "model-card.md")
REPORTS = ("audit", "comparison", "role-conditioning")
MEASURED = (0, 1, 10)
"""Exit codes of an audit that came to its end, whatever it found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=REPORTS, help="make this one (default: all)")
    parser.add_argument("--items", help="items per measurement (default: what each suite takes)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to audit (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("reports/examples"), help="default: %(default)s")
    arguments = parser.parse_args()
    model, out = arguments.model, arguments.out
    asked = ("--items", arguments.items) if arguments.items else ()
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        for name in [arguments.only] if arguments.only else REPORTS:
            match name:
                case "audit":
                    keep(audit("whole", "suites/", "--model", model, *asked), out / name)
                case "comparison":
                    run("examples/perturbed.py", str(WORK / "candidate"), "--model", model)
                    released, candidate = pair("suites/identity_bias", model, "candidate", *asked)
                    keep(candidate, out / name)
                    page = out / name / "diff.html"
                    run("-m", "auditkit.cli", "diff", str(released), str(candidate), "--out", str(page))
                case "role-conditioning":
                    run("examples/role_finetune.py", str(WORK / "tuned"), "--model", model, "--every", "0")
                    keep(pair("suites/role_conditioning", model, "tuned", *asked)[1], out / name)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


def pair(suite: str, model: str, candidate: str, *asked: str) -> tuple[Path, Path]:
    """Run folders of a model, and of the candidate of this name against it."""
    base = audit(f"{candidate}-base", suite, "--model", model, *asked)
    return base, audit(
        f"{candidate}-run", suite, "--model", str(WORK / candidate), *asked, "--baseline", str(base)
    )


def keep(folder: Path, to: Path) -> None:
    """Copy what a report is read by; the record of a run is too large to keep here."""
    to.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copy(folder / file, to / file)


def audit(name: str, *options: str) -> Path:
    """One audit; the run folder."""
    reports = WORK / name
    run("-m", "pytest", "-q", *options, "--audit-dir", str(reports))
    return reports / (reports / "latest").readlink()


def run(*arguments: str) -> None:
    code = subprocess.run([sys.executable, *arguments], check=False).returncode
    if code not in MEASURED:
        sys.exit(f"{' '.join(arguments)} ended with {code}; the example reports are not all made again")


if __name__ == "__main__":
    main()
