"""Jobs: one model, or one shard of a model, measured by the ordinary command. What a job's folder says of it.

A job can be started any number of times. What counts is what lies in its folder: a record that holds is its result, a
run that was cut off is gone on with, and a run that does not hold is set aside, so that everything in it is measured
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.fleet.command import Command
from auditkit.gate.verified import Checked, checked, require_decided
from auditkit.record.journal import has_header, read_journal
from auditkit.record.locks import is_locked
from auditkit.record.resume import Interrupted
from auditkit.record.schema import Run
from auditkit.record.store import AUDIT_JSON, JOURNAL, RecordError, is_written, read_run

LOG = "log.txt"
_RUNS = "2*"
"""Run folders begin with the year."""
_SET_ASIDE = "damaged-"


@dataclass(frozen=True)
class Job:
    """One process of the ordinary command.

    Attributes:
        name: in paths and lines: the model, and which shard.
        model: the model's spec.
        shard: (which, of how many), counted from 1.
        folder: for its run folders and its log.
        options: pytest's arguments besides model, shard and folders.
        apart: modules in the current folder are not imported, as `auditkit audit` has it for the package's suites.
    """

    name: str
    model: str
    shard: tuple[int, int]
    folder: Path
    options: tuple[str, ...]
    apart: bool
    exchange: Path | None = None
    """Folder in which the shards of a model divide measurements; None for a model of one job."""

    @property
    def arguments(self) -> list[str]:
        """pytest's arguments, without those that go on with a run."""
        which, number = self.shard
        shard = [f"--audit-shard={which}/{number}"] if number > 1 else []
        exchange = [] if self.exchange is None else [f"--audit-exchange={self.exchange}"]
        return [*self.options, f"--audit-model={self.model}", *shard, *exchange, f"--audit-dir={self.folder}"]

    def command(self, cpus: int, gpus: float) -> Command:
        """What is started now: the run that was cut off is gone on with."""
        earlier = self.unfinished()
        resume = [] if earlier is None else [f"--audit-resume={earlier}"]
        python = ["-P", "-m", "pytest"] if self.apart else ["-m", "pytest"]
        self.folder.mkdir(parents=True, exist_ok=True)
        log = str(self.log.resolve())
        return Command((*python, *self.arguments, *resume), str(Path.cwd()), log, {}, cpus, gpus)

    @property
    def log(self) -> Path:
        """The file that its output is added to."""
        return self.folder / LOG

    def measured(self) -> Checked | None:
        """The newest run of this job that is whole and holds; one that does not hold is set aside."""
        for folder in self._runs():
            if not is_written(folder):
                continue
            try:
                run = read_run(folder / AUDIT_JSON)
                if not self._is_own(run):
                    continue
                return checked(folder)
            except RecordError:
                set_aside(folder)
        return None

    def unfinished(self) -> Path | None:
        """The newest run of this job that was cut off and can be gone on with; one that does not hold is set aside."""
        paired = any(option.startswith("--audit-baseline=") for option in self.options)
        for folder in self._runs():
            if is_written(folder) or not has_header(folder / JOURNAL):
                continue
            try:
                header, entries = read_journal(folder / JOURNAL)
                require_decided(Interrupted(folder, header, entries), paired=paired)
            except RecordError:
                set_aside(folder)
                continue
            return folder
        return None

    def is_busy(self) -> bool:
        """Whether a process of an earlier launcher still measures it."""
        return any(is_locked(folder / JOURNAL) for folder in self._runs())

    def printed(self) -> int:
        """Bytes of its log, which grows when the job starts."""
        return self.log.stat().st_size if self.log.exists() else 0

    def claims_measured(self) -> int:
        """Claims in the journal of its newest run, whether that holds or not: how far it is."""
        for folder in self._runs():
            if has_header(folder / JOURNAL):
                return (folder / JOURNAL).read_bytes().count(b"\n") - 1
        return 0

    def last_line(self) -> str:
        """The last line that the job printed."""
        try:
            lines = self.log.read_bytes().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _is_own(self, run: Run) -> bool:
        """Whether a record is that of this job; where its folders lie does not matter."""
        own, other = (
            [part for part in args if not part.startswith(("--audit-dir=", "--audit-exchange="))]
            for args in (("pytest", *self.arguments), run.command)
        )
        return own == other

    def _runs(self) -> list[Path]:
        """Run folders of this job, the newest first."""
        return sorted((path for path in self.folder.glob(_RUNS) if path.is_dir()), reverse=True)


def set_aside(run: Path) -> Path:
    """Rename a run folder that does not hold, so that nothing reads it as a run of the job any more."""
    for number in range(1, 1000):
        to = run.with_name(f"{_SET_ASIDE}{run.name}" + (f"-{number}" if number > 1 else ""))
        if not to.exists():
            return run.rename(to)
    raise RecordError(f"{run.parent} holds 1000 damaged runs of one name; remove them")


def jobs_of(name: str, model: str, shards: int, top: Path, options: Sequence[str], apart: bool) -> list[Job]:
    """The jobs of one model.

    Args:
        name: of the model in paths.
        top: the fleet's folder. A model of one job has its runs where merged ones would lie.
    """
    if shards == 1:
        return [Job(name, model, (1, 1), top / "runs" / name, tuple(options), apart)]
    return [
        Job(
            f"{name} {which}/{shards}",
            model,
            (which, shards),
            top / "jobs" / f"{name}-{which}of{shards}",
            tuple(options),
            apart,
            top / "jobs" / f"{name}-exchange",
        )
        for which in range(1, shards + 1)
    ]
