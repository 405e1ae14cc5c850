"""What a run is held against besides its thresholds: a baseline, and the waivers of those who answer for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from auditkit.gate.changes import Counterpart, Past, compare, judged
from auditkit.gate.waivers import WaiversError, read_waivers, settled, waived
from auditkit.pytest_plugin.baseline import measured_baseline, recorded_baseline
from auditkit.pytest_plugin.claims import claim_id
from auditkit.pytest_plugin.options import RunOptions, refusal
from auditkit.record.baseline import Recorded, measured_before, read_recorded
from auditkit.record.escaping import line
from auditkit.record.schema import Claim, ItemRow, ModelInfo, Plan, Run
from auditkit.report import wording


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
        path = options.waivers
        try:
            known, today = [claim_id(item) for item in claims], datetime.now(UTC).date()
            self._waivers = {} if path is None else read_waivers(Path(path), known, today)
        except WaiversError as error:
            raise refusal(error) from None

    def open(self, plan_sha256: str, command: pytest.Config.InvocationParams, say: Callable[[str], None]) -> None:
        """Read the baseline, or measure it, before the candidate is opened.

        A run that is continued has measured it already, under the same plan.

        Args:
            command: how this session was called; a baseline that is a model is measured by the same command.
        """
        text, reports = self.options.baseline, self.options.reports
        if text is None:
            return
        before = None if self.options.resume is None else measured_before(reports, text, plan_sha256)
        self.baseline = recorded_baseline(text if before is None else str(before), reports)
        if self.baseline is None:
            self.baseline = measured_baseline(text, command, reports, say)

    def take(self, folder: str | None) -> None:
        """In a worker: the baseline that the controller has read or measured."""
        if folder is not None and self.options.baseline is not None:
            self.baseline = read_recorded(Path(folder), self.options.baseline)

    def counterpart(self, item: pytest.Item, plan: Plan, model: ModelInfo) -> Counterpart:
        """What a claim may ask about its past."""
        past = None if self.baseline is None else Past(self.baseline, plan, model)
        return Counterpart(claim_id(item), item.path.parent.name, past)

    def judged(self, claim: Claim, rows: Sequence[ItemRow], plan: Plan, model: ModelInfo) -> Claim:
        """The claim; a behaviour that the baseline shows and this model does not is lost."""
        if self.baseline is None:
            return claim
        return judged(claim, [row for row in rows if row.effect], Past(self.baseline, plan, model))

    def waived(self, claim: Claim) -> Claim:
        """The claim with the waiver that keeps it from blocking, if one does."""
        return waived(claim, self._waivers)

    def passed(self, run: Run, rows: Sequence[ItemRow]) -> Run:
        """The run with what became of each waiver, and with its changes since the baseline."""
        run = msgspec.structs.replace(run, waivers=settled(self._waivers, run.claims))
        return run if self.baseline is None else compare(run, rows, self.baseline)


def write_gate(reporter: pytest.TerminalReporter, run: Run, every: bool) -> None:
    """The baseline, and the waivers that are not applied; the applied ones too where every line is wanted.

    An applied waiver is named in the run's verdict as well.
    """
    if run.baseline is not None:
        reporter.write_line(line(wording.changes(run)))
        for difference in run.baseline.plan_differences:
            reporter.write_line(line(f"  the plan differs: {difference}"), yellow=True)
        if run.baseline.model.weights_sha256 == run.model.weights_sha256:
            same = f"  the same weights (SHA-256 {run.model.weights_sha256[:12]})"
            reporter.write_line(line(f"{same}: this run compares a model with itself"), yellow=True, bold=True)
    for waiver in run.waivers:
        if waiver.state == "applied" and not every:
            continue
        reporter.write_line(line(wording.waiver(waiver)), yellow=True, bold=waiver.state != "applied")
