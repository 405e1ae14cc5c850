"""Make the example reports under reports/examples again.

    python examples/reports.py [--only REPORT] [--items N] [--model SPEC] [--out FOLDER] [--runs FOLDER]

`audit` is the default audit with every suite. `comparison` is a candidate gated against its base with identity_bias
alone: a copy of the model with a little noise in its MLPs (`perturbed.py`), with both runs side by side. In
`role-conditioning` the candidate is a short fine-tune of the model on how it speaks of itself (`role_finetune.py`).
`checkpoints` has ten checkpoints of a training that plants a bias against women (`plant_bias.py`), each gated against
the model from which it starts, on one page.

Run it from the top folder of the repository. Everything but the reports is written to build/examples and removed again;
with --runs it is kept, and what stands there already is not measured a second time: its pages are made again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL

sys.path.insert(0, str(Path(__file__).parent))
from plant_bias import CHECK

WORK = Path("build/examples")
KEPT = ("audit.html", "summary.md", "claims.csv", "model-card.md")
REPORTS = ("audit", "comparison", "role-conditioning", "checkpoints")
LAST_STEP = 36
"""Of the training whose checkpoints are compared."""
MEASURED = (0, 1, 10)
"""Exit codes of an audit that came to its end, whatever it found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=REPORTS, help="make this one (default: all)")
    parser.add_argument("--items", help="items per measurement (default: what each suite takes)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to audit (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("reports/examples"), help="default: %(default)s")
    parser.add_argument("--runs", type=Path, help="keep models and runs there, and take those that are there")
    arguments = parser.parse_args()
    model, out, work = arguments.model, arguments.out, arguments.runs or WORK
    asked = ("--items", arguments.items) if arguments.items else ()
    shutil.rmtree(WORK, ignore_errors=True)
    runs = Runs(work)
    try:
        for name in [arguments.only] if arguments.only else REPORTS:
            match name:
                case "audit":
                    keep(runs.audit("whole", "suites/", "--model", model, *asked), out / name)
                case "comparison":
                    runs.make("candidate", "examples/perturbed.py", "--model", model)
                    released, candidate = runs.pair("suites/identity_bias", model, "candidate", *asked)
                    keep(candidate, out / name)
                    page = out / name / "diff.html"
                    run("-m", "auditkit.cli", "diff", str(released), str(candidate), "--out", str(page))
                case "role-conditioning":
                    runs.make("tuned", "examples/role_finetune.py", "--model", model, "--every", "0")
                    keep(runs.pair("suites/role_conditioning", model, "tuned", *asked)[1], out / name)
                case "checkpoints":
                    folders = runs.series("suites/identity_bias", model, *(asked or ("--effort", "quick")))
                    run("-m", "auditkit.cli", "compare", *map(str, folders), "--out", str(out / name))
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


class Runs:
    """Runs and models in a folder; what is there is taken as it is.

    Args:
        work: the folder.
    """

    def __init__(self, work: Path) -> None:
        self.work = work

    def make(self, name: str, script: str, *options: str) -> None:
        """Make the model of this name."""
        if not (self.work / name).exists():
            run(script, str(self.work / name), *options)

    def audit(self, name: str, *options: str) -> Path:
        """One audit; the run folder."""
        reports = self.work / name
        if (reports / "latest").exists():
            run("-m", "auditkit.cli", "report", str(reports / "latest"))
        else:
            run("-m", "pytest", "-q", *options, "--audit-dir", str(reports))
        return reports / (reports / "latest").readlink()

    def pair(self, suite: str, model: str, candidate: str, *asked: str) -> tuple[Path, Path]:
        """Run folders of a model, and of the candidate of this name against it."""
        base = self.audit(f"{candidate}-base", suite, "--model", model, *asked)
        against = ("--model", str(self.work / candidate), *asked, "--baseline", str(base))
        return base, self.audit(f"{candidate}-run", suite, *against)

    def series(self, suite: str, model: str, *asked: str) -> list[Path]:
        """Run folders of the checkpoints of a training, in their order; a checkpoint that was measured is removed."""
        base = self.audit("series-base", suite, "--model", model, *asked)
        steps = range(0, LAST_STEP + 1, CHECK)
        if not all((self.work / f"series-{step:02}-run" / "latest").exists() for step in steps):
            self.make(
                "series", "examples/plant_bias.py", "--model", model, "--steps", str(LAST_STEP), "--checkpoints"
            )
        found = []
        for step in steps:
            model_of = self.work / "series" / f"step-{step:02}"
            options = (suite, "--model", str(model_of), *asked, "--baseline", str(base))
            found.append(self.audit(f"series-{step:02}-run", *options))
            shutil.rmtree(model_of, ignore_errors=True)
        return found


def keep(folder: Path, to: Path) -> None:
    """Copy what a report is read by; the record of a run is too large to keep here."""
    to.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copy(folder / file, to / file)


def run(*arguments: str) -> None:
    code = subprocess.run([sys.executable, *arguments], check=False).returncode
    if code not in MEASURED:
        sys.exit(f"{' '.join(arguments)} ended with {code}; the example reports are not all made again")


if __name__ == "__main__":
    main()
