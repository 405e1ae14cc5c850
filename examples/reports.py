"""Make the example reports under reports/examples again.

    python examples/reports.py [--only REPORT] [--items N] [--model SPEC] [--out FOLDER] [--runs FOLDER]

`audit` is the default audit with every suite. `comparison` is a candidate gated against its base with identity_bias
alone: a copy of the model with a little noise in its MLPs (`perturbed.py`), with both runs side by side. It passes.
`blocked` is a gate with induction alone, which a copy with twice as much noise does not pass: it stands for a model
that was quantised too far. `induction` is the suite of that name, the shortest audit that decides. In
`role-conditioning` the candidate is a short fine-tune of the model on how it speaks of itself (`role_finetune.py`).
`checkpoints` has ten models on one page: copies with more and more noise in their MLPs, in place of the checkpoints of
a training, which would take hours.

Run it from the top folder of the repository. Everything but the reports is written to build/examples and removed again;
with --runs it is kept, and what stands there already is not measured a second time: its pages are made again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL

WORK = Path("build/examples")
KEPT = ("audit.html", "summary.md", "claims.csv", "model-card.md")
SHARES = ("0.00", "0.04", "0.08", "0.12", "0.16", "0.20", "0.24", "0.28", "0.32", "0.36")
"""Standard deviations of the noise in the ten copies, as shares of that of the weights."""
SERIES = (
    "Copies of {model} with more and more Gaussian noise in every MLP weight: noise-04 has noise with a standard "
    "deviation of 4 % of that of its matrix. They stand for the checkpoints of a training."
)
ASKED = {
    "audit": ("suites/",),
    "comparison": ("suites/identity_bias",),
    "blocked": ("suites/induction/test_against_baseline.py",),
    "induction": ("suites/induction",),
    "role-conditioning": ("suites/role_conditioning",),
    "checkpoints": (
        "suites/identity_bias",
        "suites/role_conditioning",
        "-k",
        "role_conditioning or know or same_distribution",
    ),
}
"""Which claims each report asks, as pytest is told; of ten models, claims that take little time."""
FEW = ("--items", "6")
"""How much is asked of ten models."""
MEASURED = (0, 1, 10)
"""Exit codes of an audit that came to its end, whatever it found."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=ASKED, help="make this one (default: all)")
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
        for name in [arguments.only] if arguments.only else ASKED:
            claims = ASKED[name]
            match name:
                case "audit":
                    keep(runs.audit("whole", *claims, "--model", model, *asked), out / name)
                case "comparison":
                    runs.make("candidate", "examples/perturbed.py", "--model", model)
                    released, candidate = runs.pair(claims, model, "candidate", *asked)
                    keep(candidate, out / name)
                    page = out / name / "diff.html"
                    run("-m", "auditkit.cli", "diff", str(released), str(candidate), "--out", str(page))
                case "blocked":
                    runs.make("noisy", "examples/perturbed.py", "--model", model, "--share", "0.1")
                    keep(runs.pair(claims, model, "noisy", *asked)[1], out / name)
                case "induction":
                    keep(runs.audit(name, *claims, "--model", model, *asked), out / name)
                case "role-conditioning":
                    runs.make("tuned", "examples/role_finetune.py", "--model", model, "--every", "0")
                    keep(runs.pair(claims, model, "tuned", *asked)[1], out / name)
                case "checkpoints":
                    folders = map(str, runs.series(claims, model))
                    note = ("--note", SERIES.format(model=model))
                    run("-m", "auditkit.cli", "compare", *folders, *note, "--out", str(out / name))
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

    def pair(self, claims: Sequence[str], model: str, candidate: str, *asked: str) -> tuple[Path, Path]:
        """Run folders of a model, and of the candidate of this name against it."""
        base = self.audit(f"{candidate}-base", *claims, "--model", model, *asked)
        against = ("--model", str(self.work / candidate), *asked, "--baseline", str(base))
        return base, self.audit(f"{candidate}-run", *claims, *against)

    def series(self, claims: Sequence[str], model: str) -> list[Path]:
        """Run folders of copies with more and more noise, which are removed once they are measured."""
        reports, names = self.work / "series", [f"noise-{share[2:]}" for share in SHARES]
        if not reports.exists():
            for name, share in zip(names, SHARES, strict=True):
                self.make(name, "examples/perturbed.py", "--model", model, "--share", share)
            models = [word for name in names for word in ("--model", str(self.work / name))]
            run("-m", "pytest", "-q", *claims, *models, *FEW, "--audit-dir", str(reports))
            for name in names:
                shutil.rmtree(self.work / name)
        return [next(reports.glob(f"*-{name}")) for name in names]


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
