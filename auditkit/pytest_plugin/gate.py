"""What a run is held against besides its thresholds: a baseline, and the waivers of those who answer for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import msgspec
import pytest

from auditkit.claims.verdicts import summarize
from auditkit.gate.changes import Counterpart, Past, compare, judged
from auditkit.gate.lost import loosened
from auditkit.gate.waivers import WaiversError, read_waivers, settled, waived
from auditkit.pytest_plugin.baseline import asked_baseline, measured_baseline, recorded_baseline
from auditkit.pytest_plugin.claims import claim_id
from auditkit.pytest_plugin.options import RunOptions, refusal
from auditkit.record.baseline import Recorded, measured_before, read_recorded
from auditkit.record.escaping import line
from auditkit.record.identity import compared_in_words, differences_of, is_known
from auditkit.record.naming import told_apart
from auditkit.record.schema import Claim, ItemRow, ModelInfo, Plan, Run
from auditkit.report import wording
from auditkit.report.terminal import wrapped
from auditkit.stats.families import in_families_of


class Gate:
    """The baseline and the waivers of a session.

    Args:
        claims: all that were collected, deselected ones included.

    Raises:
        pytest.UsageError: the file of waivers cannot be used.
    """

    def __init__(self, options: RunOptions, claims: Sequence[pytest.Item]) -> None:
        self.options = options
        self.baseline: Recorded | None = None
        self._read: dict[str, Recorded | None] = {}
        path = options.waivers
        try:
            known, today = {claim_id(item) for item in claims}, datetime.now(UTC).date()
            if path is not None and options.baseline is not None:  # a claim that was lost since then can be waived
                earlier = self._recorded(self._asked)
                known |= set() if earlier is None else {claim.id for claim in earlier.run.claims}
            self._waivers = {} if path is None else read_waivers(Path(path), known, today)
        except WaiversError as error:
            raise refusal(error) from None

    def open(self, plan_sha256: str, command: pytest.Config.InvocationParams, say: Callable[[str], None]) -> None:
        """Read the baseline, or measure it, before the candidate is opened.

        A run that is continued has measured it already, under the same plan.

        Args:
            command: how this session was called; a baseline that is a model is measured by the same command.
        """
        reports = self.options.reports
        if self.options.baseline is None:
            return
        before = None if self.options.resume is None else measured_before(reports, self._asked, plan_sha256)
        self.baseline = self._recorded(self._asked if before is None else str(before))
        if self.baseline is None:
            self.baseline = measured_baseline(self._asked, command, reports, say)

    @cached_property
    def _asked(self) -> str:
        """What to compare with, where "base" stands for the models' own base."""
        assert self.options.baseline is not None
        return asked_baseline(self.options.baseline, self.options.specs, self.options.reports)

    def _recorded(self, text: str) -> Recorded | None:
        """`recorded_baseline`, read and derived again once: waivers and the comparison both need it."""
        if text not in self._read:
            self._read[text] = recorded_baseline(text, self.options.reports)
        return self._read[text]

    def take(self, folder: str | None) -> None:
        """In a worker: the baseline that the controller has read or measured."""
        if folder is not None and self.options.baseline is not None:
            self.baseline = read_recorded(Path(folder), self.options.baseline)

    def counterpart(self, item: pytest.Item, plan: Plan, model: ModelInfo) -> Counterpart:
        """What a claim may ask about its past."""
        past = None if self.baseline is None else Past(self.baseline, plan, model)
        return Counterpart(claim_id(item), item.path.parent.name, past, self.options.as_baseline)

    def judged(self, claim: Claim, rows: Sequence[ItemRow], plan: Plan, model: ModelInfo) -> Claim:
        """The claim; a behaviour that the baseline shows and this model does not is lost."""
        if self.baseline is None:
            return claim
        return judged(claim, [row for row in rows if row.effect], Past(self.baseline, plan, model))

    def waived(self, claim: Claim) -> Claim:
        """The claim with the waiver that keeps it from blocking, if one does."""
        return waived(claim, self._waivers)

    def in_families(self, claims: Iterable[Claim]) -> tuple[Claim, ...]:
        """The claims, each in the family in which the baseline judged it."""
        return tuple(claims) if self.baseline is None else in_families_of(claims, self.baseline.run.claims)

    def passed(self, run: Run, rows: Sequence[ItemRow], elsewhere: Collection[str], why: Mapping[str, str]) -> Run:
        """The run with what became of each waiver, with its changes since the baseline, and with its verdict.

        Args:
            elsewhere: claims that other shards measure.
            why: claim -> why it was not measured.
        """
        if self.baseline is not None:
            run = compare(run, rows, self.baseline, elsewhere, why)
        claims = tuple(map(self.waived, run.claims))  # those that were lost too
        run = msgspec.structs.replace(
            run,
            claims=claims,
            waivers=settled(self._waivers, claims),
            summary=summarize(claims, wording.distrust(run.cross_check)),
        )
        if self.baseline is None or run.baseline is None:
            return run
        model = msgspec.structs.replace(self.baseline.run.model, name=self.names(run.model.spec)[1])
        shown = msgspec.structs.replace(run.baseline, model=model, loosened=loosened(run, self.baseline.run))
        return msgspec.structs.replace(run, baseline=shown)

    def names(self, spec: str) -> tuple[str, str]:
        """Names of one of the session's models and of the baseline's, which tell all of them apart; "" for no
        baseline."""
        specs = list(self.options.specs)
        past = [] if self.baseline is None else [self.baseline.run.model.spec]
        found = told_apart([*specs, *past])
        return found[specs.index(spec)], found[-1] if past else ""


def write_gate(reporter: pytest.TerminalReporter, run: Run, every: bool) -> None:
    """The baseline, and the waivers that are not applied; the applied ones too where every line is wanted.

    An applied waiver is named in the run's verdict as well.
    """
    if run.baseline is not None:
        for text in wrapped(wording.changes(run)):
            reporter.write_line(text)
        for looser in wording.looser(run):
            reporter.write_line(line(f"  {looser}"), yellow=True, bold=True)
        for difference in run.baseline.plan_differences:
            reporter.write_line(line(f"  the plan differs: {difference}"), yellow=True)
        if not differences_of(run.baseline.model, run.model):
            known = is_known(run.baseline.model, run.model)
            itself = "this run compares a model with itself" if known else "the baseline may be the model itself"
            same = compared_in_words(run.baseline.model, run.model)
            reporter.write_line(line(f"  {same}: {itself}"), yellow=True, bold=True)
    for waiver in run.waivers:
        if waiver.state == "applied" and not every:
            continue
        reporter.write_line(line(wording.waiver(waiver)), yellow=True, bold=waiver.state != "applied")
