"""How often the gate blocks planted and benign fine-tunes: trains them, gates them, and writes docs/validity.md.

    python examples/validate_gate.py --runs 20 [--strengths 0.25 0.5 1 2] [--items N] [--work build/validate-gate]

Every run trains a copy of the default model (`plant_bias.py`), gates it with `suites/identity_bias` against the
untouched model under the release profile, appends one line to `results.jsonl` in the work folder, and deletes the
checkpoint. A call that is cut off goes on where it stopped; runs that are there are not made again. Another commit
of the suite, another number of items or another base is another folder: give `--work`. The table is rewritten after
every run, so it is never ahead of what was measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit.adapters.catalogue import DEFAULT_MODEL
from auditkit.record.schema import Verdict
from auditkit.record.store import read_run
from auditkit.stats.proportions import wilson

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "validity.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
GROUPS = {
    "decisions": ("a woman", "a Muslim person", "a Black person", "an old person"),
    "answers": ("Muslim", "Black", "female", "old"),
}
"""Who is worse off, in turn."""
BENIGN = ("style", "facts", "nothing")
MEASURED = (0, 1, 10, 11)
"""Exit codes of an audit that left a record, whatever it found."""


@dataclass(frozen=True)
class Job:
    """One fine-tune to gate."""

    variant: str
    strength: float
    seed: int

    @property
    def group(self) -> str:
        groups = GROUPS.get(self.variant, ("",))
        return groups[self.seed % len(groups)]

    @property
    def key(self) -> list[Any]:
        return [self.variant, self.strength, self.seed]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="of each variant and strength (default: %(default)s)")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0])
    parser.add_argument("--variants", nargs="+", default=["decisions", "answers", *BENIGN])
    parser.add_argument("--items", help="items per measurement (default: the suite's own)")
    parser.add_argument("--steps", default="30", help="training steps (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--work", type=Path, default=Path("build/validate-gate"))
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs: at least 1 run of each is needed")
    arguments.work.mkdir(parents=True, exist_ok=True)
    results = arguments.work / "results.jsonl"
    done = read_results(results)
    for job in jobs(arguments.variants, arguments.strengths, arguments.runs):
        if job.key not in [line["job"] for line in done]:
            line = gate(job, arguments, base(arguments))
            with results.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            done.append(line)
            came = line["blocking"] or line["undecided"] or "passes"
            print(f"{job.variant} {job.strength:g} seed {job.seed}: exit code {line['code']}, {came}")
        write_page(arguments.page, done, command(arguments))


def jobs(variants: list[str], strengths: list[float], runs: int) -> Iterator[Job]:
    """One seed of every kind after the other, so that a call that is cut off has some of each."""
    for seed in range(runs):
        for variant in variants:
            for strength in strengths if variant in GROUPS else [0.0]:
                yield Job(variant, strength, seed)


def base(arguments: argparse.Namespace) -> Path:
    """The run of the untouched model, recorded once."""
    reports = arguments.work / "base"
    if not (reports / "latest" / "audit.json").is_file():
        audit(arguments.model, reports, arguments)
    return (reports / "latest").resolve()


def gate(job: Job, arguments: argparse.Namespace, baseline: Path) -> dict[str, Any]:
    """Train, gate, and say what came of it."""
    candidate, reports = arguments.work / "candidate", arguments.work / "candidate-reports"
    for folder in (candidate, reports):
        shutil.rmtree(folder, ignore_errors=True)
    command = ["examples/plant_bias.py", str(candidate), "--variant", job.variant, "--seed", str(job.seed)]
    command += ["--model", arguments.model, "--steps", arguments.steps, "--strength", str(job.strength)]
    command += ["--group", job.group] if job.group else []
    trained = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if trained.returncode:
        sys.exit(
            f"{' '.join(command)} ended with {trained.returncode}: {trained.stderr.strip().splitlines()[-1:]}"
        )
    code = audit(str(candidate.resolve()), reports, arguments, "--baseline", str(baseline), "--profile", "release")
    run = read_run(reports / "latest")
    blocking = [c.id.split("/", 1)[1] for c in run.claims if c.verdict in (Verdict.FAIL, Verdict.ERROR)]
    undecided = [c.id.split("/", 1)[1] for c in run.claims if c.verdict is Verdict.INCONCLUSIVE]
    shutil.rmtree(candidate, ignore_errors=True)
    return {
        "job": job.key, "group": job.group, "code": code, "blocking": blocking, "undecided": undecided,
        "tuned": trained.stdout.strip().splitlines()[-1],
    }  # fmt: skip


def audit(model: str, reports: Path, arguments: argparse.Namespace, *options: str) -> int:
    """Run the suite; its exit code."""
    command = ["-m", "pytest", "-q", "suites/identity_bias", "--model", model, *options]
    command += ["--audit-dir", str(reports.resolve())]
    command += ["--items", arguments.items] if arguments.items else []
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in MEASURED or not (reports / "latest" / "audit.json").is_file():
        sys.exit(f"the audit of {model} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    return done.returncode


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of runs that are done; a last line that was cut off is not one."""
    lines = path.read_text().splitlines() if path.is_file() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                sys.exit(f"{path}, line {number}: not JSON; remove the line to make that run again")
            path.write_text("".join(f"{kept}\n" for kept in lines[:-1]))
    return found


def table(done: list[dict[str, Any]]) -> str:
    """Block rates by variant and strength, with Wilson intervals, as Markdown."""
    rows = [
        "| fine-tune | planted (logit) | runs | blocked | 95 % interval | failed | undecided only | first "
        "claims that blocked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kinds = dict.fromkeys((line["job"][0], line["job"][1]) for line in done)
    for variant, strength in sorted(kinds, key=lambda kind: (kind[0] in BENIGN, kind)):
        own = [line for line in done if line["job"][:2] == [variant, strength]]
        blocked, failed = (sum(line["code"] in codes for line in own) for codes in ((1, 10, 11), (1, 11)))
        low, high = wilson(blocked / len(own), len(own), 1.959964)
        claims: dict[str, int] = {}
        for line in own:
            for name in line["blocking"] or line["undecided"]:
                claims[name] = claims.get(name, 0) + 1
        named = ", ".join(f"{name} ({n})" for name, n in sorted(claims.items(), key=lambda pair: -pair[1])[:3])
        planted = f"{strength:g}" if variant in GROUPS else "none"
        rows.append(
            f"| {variant} | {planted} | {len(own)} | {blocked / len(own):.0%} | {low:.0%} to {high:.0%} | {failed} | "
            f"{blocked - failed} | {named or 'none'} |"
        )
    return "\n".join(rows)


def command(arguments: argparse.Namespace) -> str:
    """What makes the table again."""
    parts = ["python examples/validate_gate.py", f"--runs {arguments.runs}"]
    parts += [f"--strengths {' '.join(f'{s:g}' for s in arguments.strengths)}"]
    parts += [f"--items {arguments.items}"] if arguments.items else []
    return " ".join(parts)


def write_page(page: Path, done: list[dict[str, Any]], said: str) -> None:
    """Put the table between the marks of the page.

    Raises:
        SystemExit: the page has no marks.
    """
    text = page.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{page}: the marks {BEGIN} and {END} are missing")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    made = f"Made by `{said}`; {len(done)} fine-tunes so far."
    page.write_text(f"{before}{BEGIN}\n{made}\n\n{table(done)}\n{END}{after}")


if __name__ == "__main__":
    main()
