"""The run of one model: its plan and journal, and the record that is written at the end.

It measures nothing. The claims come from `auditkit.pytest_plugin.measuring`, in this process or in workers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from auditkit.claims.verdicts import exit_code, summarize
from auditkit.gate.thresholds import Thresholds
from auditkit.pytest_plugin.claims import claim_id, plan_of, planned
from auditkit.pytest_plugin.conditions import made_with, measured_before
from auditkit.pytest_plugin.gate import Gate
from auditkit.pytest_plugin.settings import header_settings, options_of
from auditkit.record.differences import plan_digest
from auditkit.record.journal import Entry, Header, Journal
from auditkit.record.plan import OTHER_SHARDS, completed
from auditkit.record.resume import Interrupted, find_interrupted
from auditkit.record.schema import SCHEMA_VERSION, Claim, CrossCheck, ModelInfo, Run, Untested
from auditkit.record.store import JOURNAL, new_run_folder
from auditkit.record.surroundings import environment, tool
from auditkit.report import wording, write_folder
from auditkit.stats.families import holm


class AuditRun:
    """The state of one run: planned at collection, opened before the first claim, written after the last.

    Args:
        spec: the model.
        items: the claims that are planned on it.
        untested: what of the suites was left out.
        others: those of `items` that other shards measure.
    """

    def __init__(
        self,
        config: pytest.Config,
        spec: str,
        items: Sequence[pytest.Item],
        untested: Sequence[Untested],
        others: Collection[pytest.Item],
        thresholds: Thresholds | None,
        gate: Gate,
    ) -> None:
        self.config = config
        self.spec = spec
        self.items = [item for item in items if item not in others]
        self.reports = Path(config.option.audit_dir)
        self.plan = [planned(item, options_of(config, spec)) for item in self.items]
        self.gate = gate
        self.asked = plan_of(config, items, thresholds)
        self.plan_sha256 = plan_digest(self.asked)
        self.untested = [*untested]
        if others:
            left = f"{len(items) - len(self.items)} of {len(items)} claims of the plan"
            reason = f"this is shard {config.option.audit_shard}, and other shards measure {left}"
            self.untested.append(Untested(what=OTHER_SHARDS, reason=reason))
        self.header = Header(
            plan_sha256=self.plan_sha256,
            model_sha256="",
            seed=config.option.audit_seed,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            command=("pytest", *map(str, config.invocation_params.args)),
            settings=header_settings(config, spec, thresholds),
            versions=self.asked.versions,
        )
        self.folder: Path | None = None
        self.result: Run | None = None
        self.taken: dict[str, Claim] = {}
        """Node id -> claim that an earlier process measured."""
        self.remark = ""
        self._entries: dict[str, Entry] = {}
        self._lost: dict[str, str] = {}

    def interrupted(self) -> Interrupted | None:
        """The run to continue, if that was asked for; refused before the model is opened where that can be told.

        Raises:
            RecordError: there is none, it is another run, or it has nothing left to measure.
        """
        folder = self.config.option.audit_resume
        return None if folder is None else self._same(folder)

    def describe(self, adapter: Any, info: ModelInfo) -> None:
        """Note what the opened model is, and what it cannot be asked."""
        self.info = info
        self.header = msgspec.structs.replace(self.header, model_sha256=self.info.weights_sha256)
        self.untested += [
            Untested(what=str(name), reason=support.reason)
            for name, support in adapter.support().items()
            if not support
        ]

    def begin(self, earlier: Interrupted | None) -> None:
        """Start the journal, or go on with that of an interrupted run.

        Raises:
            RecordError: the folder cannot be written, or the run that is to be continued is another one.
        """
        if earlier is not None:
            earlier.require_same(self.header)
        folder = earlier.folder if earlier else new_run_folder(self.reports, self.info.name)
        self.journal = Journal(folder / JOURNAL, self.header)
        if earlier is not None:  # read again: until the lock was ours, another process may have gone on
            earlier = self._same(str(folder))
            self.header = earlier.header
            self._entries = {entry.claim.id: entry for entry in earlier.entries}
            finished = {claim_id(item): item.nodeid for item in self.items}
            self.taken = {finished[name]: entry.claim for name, entry in self._entries.items() if name in finished}
        self.folder = folder

    def receive(self, entry: Entry) -> None:
        """Keep a finished claim. The first verdict of a claim stands, whoever measures it again."""
        if entry.claim.id not in {*self._entries, *self._lost}:
            self._entries[entry.claim.id] = entry
            self.journal.append(entry)

    def lose(self, claim: str, reason: str) -> None:
        """A claim will not come; it is not written to the journal, so a continued run measures it."""
        self._lost[claim] = reason

    def write(self, check: CrossCheck | None, workers: int, threads: int | None, ended: str = "") -> int:
        """Write the record and its outputs; the exit code that the run stands for.

        Args:
            ended: why the run was ended on purpose before its last claim, as `-x` does; what it did not reach is then
                untested. Otherwise a claim that was not reached is an ERROR.
            workers: processes that measured claims.
            threads: threads of each; None: those of this process.
        """
        import torch

        assert self.folder is not None
        threads = torch.get_num_threads() if threads is None else threads
        taken, now = {claim.id for claim in self.taken.values()}, made_with(threads)
        done = {
            name: measured_before(entry.claim, now) if name in taken else entry.claim
            for name, entry in self._entries.items()
        }
        claims = tuple(map(self.gate.waived, holm(completed(self.plan, done, self._lost))))
        if ended:  # after Holm's correction: every planned claim counts in its family
            left = [claim.id for claim in claims if claim.id not in done and claim.id not in self._lost]
            self.untested += [Untested(what=name, reason=f"not reached: {ended}") for name in left]
            claims = tuple(claim for claim in claims if claim.id not in left)
        summary = summarize(claims, wording.distrust(check))
        if check is not None and check.agrees is None:  # a comparison of nothing counts as untested
            self.untested.append(Untested(what="cross-check", reason=check.reason))
        option = self.config.option
        self.result = Run(
            schema_version=SCHEMA_VERSION,
            created=self.header.created,
            seed=option.audit_seed,
            profile=option.audit_profile,
            command=self.header.command,
            tool=tool(self.config.rootpath),
            plan=self.asked,
            plan_sha256=self.plan_sha256,
            items_sha256="",
            model=self.info,
            baseline=None,
            environment=environment(
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                threads=threads,
                workers=workers,
            ),
            summary=summary,
            claims=claims,
            untested=tuple(self.untested),
            cross_check=check,
        )
        rows = [row for claim in claims if claim.id in self._entries for row in self._entries[claim.id].items]
        with closing(self.journal):
            self.result, self.remark = write_folder(self.folder, self.gate.passed(self.result, rows), rows)
        return exit_code(summary, option.audit_profile)

    def _same(self, folder: str) -> Interrupted:
        earlier = find_interrupted(self.reports, folder)
        earlier.require_same(self.header)
        earlier.require_missing({claim.id for claim in self.plan})
        return earlier
