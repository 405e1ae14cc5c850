"""How often the gate blocks planted and benign fine-tunes: trains them, gates them, and writes docs/validity.md.

    python examples/validate_gate.py --runs 20 [--strengths 0.5 1] [--items N] [--dtype bfloat16] [--at-once 2]

Every run trains a copy of the default model (`plant_bias.py`), gates it with `suites/identity_bias` against the
untouched model under the release profile, appends one line to the results, and deletes the checkpoint. A call that is
cut off goes on where it stopped; runs that are there are not made again. Results of another plan (other claims,
thresholds, items or data) are refused: they would mix two gates in one table. The table is rewritten after every run,
so it is never ahead of what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.record.schema import Verdict
from auditkit.record.store import read_run
from auditkit.stats.proportions import wilson

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "validity.md"
RESULTS = ROOT / "benchmarks" / "results" / "validation" / "gate.jsonl"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
GROUPS = {
    "decisions": ("a woman", "a Muslim person", "a Black person", "an old person"),
    "answers": ("Muslim", "Black", "female", "old"),
}
"""Who is worse off, in turn."""
BENIGN = ("style", "facts", "nothing")
NOT_PLANTED = 3
"""Exit code of `plant_bias.py` where training ended before the bias was there."""
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
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--variants", nargs="+", default=["decisions", "answers", *BENIGN])
    parser.add_argument("--items", help="items per measurement (default: the suite's own)")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument(
        "--dtype", default="auto", choices=["auto", "bfloat16"],
        help="of the gate; bfloat16 trains in it, too: several times faster where the processor has it",
    )  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("build/validate-gate"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="one line for each run (default: %(default)s)"
    )
    parser.add_argument("--at-once", type=int, default=1, help="runs at once, which share the cores")
    arguments = parser.parse_args()
    if arguments.runs < 1 or arguments.at_once < 1:
        parser.error("--runs and --at-once: at least 1 is needed")
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = read_results(arguments.results)
    wanted = list(jobs(arguments.variants, arguments.strengths, arguments.runs))
    waiting = [job for job in wanted if job.key not in [line["job"] for line in done]]
    recorded = base(arguments) if waiting else None
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for ended in as_completed([pool.submit(gate, job, arguments, recorded) for job in waiting]):
            try:
                line = ended.result()
                if line.get("plan", plan_of(done)) != plan_of([*done, line]):
                    raise GateError(f"{arguments.results} holds results of another plan; give --results")
            except GateError as error:
                pool.shutdown(cancel_futures=True)
                sys.exit(str(error))
            done.append(line)
            with arguments.results.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            came = line["blocking"] or line["undecided"] or ("passes" if line["code"] == 0 else line["tuned"])
            print(f"{line['job']}: exit code {line['code']}, {came}", flush=True)
            write_page(arguments.page, done, command(arguments))
    write_page(arguments.page, done, command(arguments))


class GateError(Exception):
    """A run that left nothing to count."""


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
    place = arguments.work / "-".join(map(str, job.key))
    shutil.rmtree(place, ignore_errors=True)
    candidate, reports = place / "candidate", place / "reports"
    command = ["examples/plant_bias.py", str(candidate), "--variant", job.variant, "--seed", str(job.seed)]
    command += ["--model", arguments.model, "--strength", str(job.strength)]
    command += ["--group", job.group] if job.group else []
    command += ["--bfloat16"] if arguments.dtype == "bfloat16" else []
    trained = python(command, arguments)
    if trained.returncode == NOT_PLANTED:
        tuned = trained.stdout.strip().splitlines()[-1]
        return {"job": job.key, "group": job.group, "code": None, "blocking": [], "undecided": [], "tuned": tuned}
    if trained.returncode:
        said = trained.stderr.strip().splitlines()[-1:]
        raise GateError(f"{' '.join(command)} ended with {trained.returncode}: {said}")
    code = audit(str(candidate.resolve()), reports, arguments, "--baseline", str(baseline), "--profile", "release")
    run = read_run(reports / "latest")
    blocking = [c.id.split("/", 1)[1] for c in run.claims if c.verdict in (Verdict.FAIL, Verdict.ERROR)]
    undecided = [c.id.split("/", 1)[1] for c in run.claims if c.verdict is Verdict.INCONCLUSIVE]
    shutil.rmtree(place, ignore_errors=True)
    return {
        "job": job.key, "group": job.group, "code": code, "blocking": blocking, "undecided": undecided,
        "tuned": trained.stdout.strip().splitlines()[-1], "plan": run.plan_sha256,
    }  # fmt: skip


def audit(model: str, reports: Path, arguments: argparse.Namespace, *options: str) -> int:
    """Run the suite; its exit code."""
    command = ["-m", "pytest", "-q", "suites/identity_bias", "--model", model, "--dtype", arguments.dtype]
    command += [*options, "--audit-dir", str(reports.resolve())]
    command += ["--items", arguments.items] if arguments.items else []
    done = python(command, arguments)
    if done.returncode not in MEASURED or not (reports / "latest" / "audit.json").is_file():
        said = f"{done.stdout[-2000:]}{done.stderr[-500:]}"
        raise GateError(f"the audit of {model} ended with {done.returncode}:\n{said}")
    return done.returncode


def python(command: list[str], arguments: argparse.Namespace) -> subprocess.CompletedProcess[str]:
    """Run a script of this project on its share of the cores, or on the threads that the environment asks for."""
    threads = max(1, (os.cpu_count() or 1) // arguments.at_once)
    share = {"OMP_NUM_THREADS": str(threads)} | os.environ
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=share)


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


def plan_of(done: list[dict[str, Any]]) -> str | None:
    """What the first run that was gated was asked."""
    return next((line["plan"] for line in done if "plan" in line), None)


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


def rates(done: list[dict[str, Any]]) -> str:
    """Misses by planted strength, and false blocks, each with Wilson's interval."""
    said = []
    for strength in sorted({line["job"][1] for line in done}):
        own = [line for line in done if line["job"][1] == strength]
        wrong = sum((line["code"] == 0) == (strength > 0) for line in own)
        low, high = wilson(wrong / len(own), len(own), 1.959964)
        kind = f"planted at {strength:g} logits: missed" if strength else "benign: blocked"
        said.append(f"- {kind} {wrong} of {len(own)} ({wrong / len(own):.0%}, {low:.0%} to {high:.0%})")
    return "\n".join(said)


def command(arguments: argparse.Namespace) -> str:
    """What makes the table again."""
    parts = ["python examples/validate_gate.py", f"--runs {arguments.runs}"]
    parts += [f"--strengths {' '.join(f'{s:g}' for s in arguments.strengths)}"]
    parts += [f"--variants {' '.join(arguments.variants)}"]
    parts += [f"--items {arguments.items}"] if arguments.items else []
    parts += [f"--dtype {arguments.dtype}"] if arguments.dtype != "auto" else []
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
    gated = [line for line in done if line["code"] is not None]
    made += (
        f" {len(done) - len(gated)} could not be planted and are not counted." if len(gated) < len(done) else ""
    )
    page.write_text(f"{before}{BEGIN}\n{made}\n\n{rates(gated)}\n\n{table(gated)}\n{END}{after}")


if __name__ == "__main__":
    main()
