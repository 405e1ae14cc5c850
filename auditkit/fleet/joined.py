"""From jobs to models, and from models to one page: shards merged, missing ones as ERROR, never absent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.claims.verdicts import EXIT_INTEGRITY, exit_code
from auditkit.fleet.launch import JobResult
from auditkit.gate.merge import merge
from auditkit.gate.verified import Checked, require_verified
from auditkit.record.plan import PlannedClaim
from auditkit.record.schema import Claim, FamilyPlace, Run
from auditkit.record.store import RecordError, atomic_write, is_written, new_run_folder
from auditkit.report import AUDIT_HTML, write_folder
from auditkit.report.answers.headline import answer
from auditkit.report.several.matrix import scorecard
from auditkit.report.several.page import render_several
from auditkit.report.several.table import render_table
from auditkit.report.several.terminal import lines
from auditkit.report.wording import distrust

PAGE, TABLE = "compare.html", "compare.csv"
_UNKNOWN = "What this claim states is not known here, since no job that measures it left a record."


@dataclass(frozen=True)
class ModelRun:
    """What a fleet knows of one model.

    Attributes:
        folder, run: its run; None where no job of it left a record, or where its shards do not go together.
        reason: what is missing, in one line; empty where nothing is.
    """

    model: str
    folder: Path | None
    run: Run | None
    reason: str = ""

    @property
    def code(self) -> int:
        """The exit code; what was not measured is no good news."""
        if self.run is None:
            return EXIT_INTEGRITY
        return exit_code(self.run.summary, self.run.profile)

    def lines(self) -> Iterator[str]:
        """What it came to, for the terminal."""
        if self.run is not None and self.folder is not None:
            yield f"{self.model}: {self.run.summary.verdict}. {answer(self.run).sentence}"
            yield f"  page: {self.folder / AUDIT_HTML}"
        else:
            yield f"{self.model}: ERROR, it has no run"
        if self.reason:
            yield f"  missing: {self.reason}"


def planned_elsewhere(results: Iterable[JobResult]) -> dict[str, Claim]:
    """Claim -> how any job has it: where a claim stands, and what it states, is the same for every model."""
    return {claim.id: claim for one in results if one.done is not None for claim in one.done.run.claims}


def model_run(model: str, results: Sequence[JobResult], reports: Path, known: Mapping[str, Claim]) -> ModelRun:
    """The run of a model: that of its only job, or its shards merged under `reports`.

    Args:
        known: claims as other models' runs have them, for the statements of those that no job measured.

    Raises:
        OSError: the merged run cannot be written.
    """
    done = [one.done for one in results if one.done is not None]
    reason = "; ".join(f"{one.job.name} was not measured: {one.reason}" for one in results if one.done is None)
    if not done:
        return ModelRun(model, None, None, reason)
    if len(results) == 1:
        return ModelRun(model, done[0].folder, done[0].run, reason)
    try:
        before = None if reason else _merged_before(done, reports)
        if before is not None:
            return ModelRun(model, *before)
        shards = [one.recorded() for one in done]
        measured = {claim.id for shard in shards for claim in shard.run.claims}
        missing = [name for name in shards[0].run.plan.claims if name not in measured] if reason else []
        lost = {name: _lost(name, known.get(name), reason) for name in missing}
        run, items = merge(shards, distrust, lost)
        folder = new_run_folder(reports, run.model.name)
        run, _ = write_folder(folder, run, items)
    except RecordError as error:
        return ModelRun(model, None, None, str(error))
    return ModelRun(model, folder, run, reason)


def _merged_before(shards: Sequence[Checked], reports: Path) -> tuple[Path, Run] | None:
    """The run that an earlier launcher merged of the same shards, if it holds."""
    command = ("auditkit", "merge", *(shard.folder.name for shard in shards))
    for folder in sorted(reports.glob("2*"), reverse=True):
        if is_written(folder):
            try:
                run = require_verified(folder)
            except RecordError:
                continue
            if run.command == command:
                return folder, run
    return None


def _lost(name: str, elsewhere: Claim | None, reason: str) -> Claim:
    """A claim that no job measured: an ERROR with what another model's run says that it states."""
    planned = PlannedClaim(
        id=name,
        suite=name.split("/")[0] if elsewhere is None else elsewhere.suite,
        statement=_UNKNOWN if elsewhere is None else elsewhere.statement,
        source="" if elsewhere is None else elsewhere.source,
        rerun="",
        family=None if elsewhere is None or elsewhere.family is None else _place(elsewhere.family),
        location="" if elsewhere is None else elsewhere.location,
        question="" if elsewhere is None else elsewhere.question,
    )
    return planned.lost(reason)


def _place(family: FamilyPlace) -> FamilyPlace:
    """The family of a claim before it is judged."""
    return FamilyPlace(name=family.name, of_baseline=family.of_baseline)


def write_page(folder: Path, models: Sequence[ModelRun]) -> list[str]:
    """Write the page over the models and its table; the lines that say what it says first.

    A model without a run is named in a sentence at the top of the page.

    Raises:
        OSError: they cannot be written.
    """
    runs = [model.run for model in models if model.run is not None]
    note = " ".join(
        f"{model.model} has no run and counts as an ERROR: {model.reason}."
        for model in models
        if model.run is None
    )
    for name, text in {PAGE: render_several(runs, note), TABLE: render_table(runs)}.items():
        atomic_write(folder / name, text.encode())
    return list(lines(scorecard(runs)))
