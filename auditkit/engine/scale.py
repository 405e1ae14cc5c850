"""What a fleet takes, by simulation: hours, GPU-hours, traffic and memory of many models on many GPUs.

Jobs are one shard of one model each. A job starts a process, reads the weights, and measures its parts of the suites:

    seconds = START + weights / DISK + share * (HOST + token-layers * FLOP per token-layer / RATE)

The longest job goes first to the GPUs that are free first, as a queue without other users does it. What shards measure
twice (what all claims of a suite build on) is left out, so times of many shards are lower bounds.

    python -m auditkit.engine.scale     writes the tables between the marks of docs/scale.md
"""

from __future__ import annotations

import heapq
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.claims.suites import packaged
from auditkit.engine.costs import LENGTH, RATE, SIZES, Size, memory

HOST = 182.0
"""Measured: seconds that all suites took on two cores beside their plain batches (410 s in all, 10.19 million
token-layers at 44,631 a second: benchmarks/results/default_audit.md). They go to statistics, tokenizing and small
batches, are the same for every model, and are not fewer on a GPU."""
START = 15.0
"""Assumed: seconds from the start of a job to its first claim, without reading weights."""
DISK = 1e9
"""Assumed: bytes per second at which one job reads weights."""
PARTS: dict[str, tuple[int, ...]] = {
    "finetune_traces": (3,),
    "identity_bias": (24, 5, 3, 3, 2, 2),
    "induction": (4, 4, 2),
    "persona_composition": (11, 2),
    "persona_localization": (10, 4),
    "persona_patching": (6, 5, 4),
    "refusal": (7, 2, 1),
    "role_conditioning": (10,),
    "sycophancy": (7, 3),
    "traits": (25,),
}
"""Suite -> claims of each part that shards can share out (`auditkit.pytest_plugin.selection.groups`)."""
GPU_MEMORY = 80e9
MARKS = "<!-- simulated: scale -->", "<!-- end -->"


@dataclass(frozen=True)
class Workload:
    """Models of one size on GPUs of one kind."""

    models: int
    size: Size
    gpus: int
    shards: int

    @property
    def per_job(self) -> int:
        """GPUs that hold one copy of the model in bfloat16, with a tenth left for activations."""
        return -int(-2 * self.size.parameters // (0.9 * GPU_MEMORY))

    @property
    def slots(self) -> int:
        """Jobs that run at once."""
        return self.gpus // self.per_job

    def jobs(self) -> list[float]:
        """Seconds of each job."""
        flops = 2 * self.size.block + 4 * self.size.heads * self.size.head_size * LENGTH
        work = sum(parts_tokens()) * self.size.layers * flops / RATE
        fixed = START + 2 * self.size.parameters / DISK
        return [fixed + share * (HOST + work) for share in shares(self.shards)] * self.models

    def hours(self) -> float:
        """From the first start to the last end."""
        return makespan(self.jobs(), self.slots) / 3600


def parts_tokens() -> list[float]:
    """Tokens of every part of the suites at `--effort standard`, by the suites' own word."""
    tokens = {suite.name: suite.tokens or 0 for suite in packaged().values()}
    return [tokens[name] * claims / sum(parts) for name, parts in PARTS.items() for claims in parts]


def shares(shards: int) -> list[float]:
    """The share of all work that each shard has: the largest part first, to the shard with the least."""
    loads = [0.0] * shards
    for tokens in sorted(parts_tokens(), reverse=True):
        loads[loads.index(min(loads))] += tokens
    return [load / sum(loads) for load in loads]


def makespan(jobs: Sequence[float], slots: int) -> float:
    """Seconds until the last job has ended, the longest jobs started first."""
    free = [0.0] * slots
    for seconds in sorted(jobs, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def best(models: int, size: Size, gpus: int) -> Workload | None:
    """The fleet with the fewest hours among all numbers of shards; None where the model does not fit."""
    most = len(parts_tokens())
    fleets = [Workload(models, size, gpus, shards) for shards in range(1, most + 1)]
    return min(fleets, key=lambda fleet: (round(fleet.hours(), 3), fleet.shards)) if fleets[0].slots else None


def rows() -> Iterator[str]:
    """The lines of the table."""
    head = (
        "models",
        "GPUs",
        "copies at once",
        "shards",
        "hours",
        "hours with one shard",
        "GPU-hours",
        "idle",
        "TB read",
    )
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for models, size in ((100, SIZES[0]), (1, SIZES[1])):
        for gpus in (1, 8, 64):
            fleet = best(models, size, gpus)
            name = f"{models} x {size.name}"
            if fleet is None:
                need = Workload(models, size, gpus, 1).per_job
                yield f"| {name} | {gpus} | 0 | - | does not fit: {need} GPUs hold one copy | - | - | - | - |"
                continue
            paid = fleet.hours() * gpus
            busy = sum(fleet.jobs()) / 3600 * fleet.per_job
            read = models * fleet.shards * 2 * size.parameters / 1e12
            alone = Workload(models, size, gpus, 1).hours()
            yield (
                f"| {name} | {gpus} | {fleet.slots} | {fleet.shards} | {fleet.hours():.2f} | {alone:.2f} | "
                f"{paid:,.1f} | {1 - busy / paid:.0%} | {read:.2f} |"
            )


def job_rows() -> Iterator[str]:
    """One audit in one job: where its seconds go, and the memory of its GPUs."""
    yield "| model | GPUs of a job | start, s | reading weights, s | host, s | GPU, s | memory, GB |"
    yield "|---|---|---|---|---|---|---|"
    for size in SIZES:
        fleet = Workload(1, size, 64, 1)
        reading = 2 * size.parameters / DISK
        gpu = fleet.jobs()[0] - START - reading - HOST
        held = sum(memory(size, LENGTH, 2).values()) / 1e9
        yield f"| {size.name} | {fleet.per_job} | {START:.0f} | {reading:.0f} | {HOST:.0f} | {gpu:.0f} | {held:.0f} |"


def tables() -> str:
    """What stands between the marks of docs/scale.md."""
    return "\n".join([MARKS[0], "", *job_rows(), "", *rows(), "", MARKS[1]])


def written(text: str) -> str:
    """The page with the tables made anew."""
    return re.sub(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", lambda _: tables(), text, flags=re.DOTALL)


if __name__ == "__main__":
    page = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/scale.md")
    page.write_text(written(page.read_text("utf-8")), "utf-8")
