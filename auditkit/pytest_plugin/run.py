"""The run of one model: its plan and journal, and the record that is written at the end.

It measures nothing. The claims come from `auditkit.pytest_plugin.measuring`, in this process or in workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from auditkit.adapters.errors import ModelError
from auditkit.adapters.protocol import Support
from auditkit.claims.suites import installed
from auditkit.claims.verdicts import exit_code, summarize
from auditkit.gate.thresholds import Thresholds
from auditkit.gate.verified import require_decided
from auditkit.pytest_plugin.claims import claim_id, planned
from auditkit.pytest_plugin.conditions import made_with, measured_before, plan_of
from auditkit.pytest_plugin.gate import Gate
from auditkit.pytest_plugin.options import options_of
from auditkit.pytest_plugin.selection import DESELECTED, Seen, not_selected
from auditkit.pytest_plugin.settings import header_settings, rerun_options
from auditkit.record.differences import plan_digest
from auditkit.record.identity import has_digest, model_digest, parts_of
from auditkit.record.journal import Entry, Header, Journal
from auditkit.record.manifest import record_digest
from auditkit.record.plan import OTHER_SHARDS, completed
from auditkit.record.resume import Interrupted, find_interrupted
from auditkit.record.schema import SCHEMA_VERSION, Claim, CrossCheck, ModelInfo, Run, Untested
from auditkit.record.store import JOURNAL, RecordError, new_run_folder
from auditkit.record.surroundings import environment, tool
from auditkit.report import write_folder
from auditkit.stats.families import holm


class PlannedRun:
    """What one run is going to ask of one model: fixed at collection, before the model is opened.

    Args:
        spec: the model.
        items: the claims that are planned on it.
        left_out: the claims that were collected and are not planned.
        seen: what pytest met while it collected.
        others: those of `items` that other shards measure.
    """

    def __init__(
        self,
        config: pytest.Config,
        spec: str,
        items: Sequence[pytest.Item],
        left_out: Sequence[pytest.Item],
        seen: Seen,
        others: Collection[pytest.Item],
        thresholds: Thresholds | None,
    ) -> None:
        options = options_of(config)
        self.spec = spec
        self.options = options
        own = any(installed(item.path.parent) for item in items)
        self.repository = None if own else config.rootpath
        """Where the commit of the suites is asked for."""
        self.items = [item for item in items if item not in others]
        self.claims = [planned(item, rerun_options(options, spec)) for item in self.items]
        self.plan = plan_of(options, config.rootpath, items, thresholds)
        self.plan_sha256 = plan_digest(self.plan)
        self.left_out = dict.fromkeys(map(claim_id, left_out), DESELECTED)
        """Claim -> why it is not planned."""
        self.elsewhere = frozenset(claim_id(item) for item in items if item in others)
        """Claims of the plan that other shards measure."""
        self.untested = not_selected(config, items, left_out, seen)
        if others:
            left = f"{len(items) - len(self.items)} of {len(items)} claims of the plan"
            reason = f"this is shard {options.shard_text}, and other shards measure {left}"
            self.untested.append(Untested(what=OTHER_SHARDS, reason=reason))
        self.header = Header(
            plan_sha256=self.plan_sha256,
            model_sha256="",
            seed=options.seed,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            command=("pytest", *map(str, config.invocation_params.args)),
            settings=header_settings(options, spec, thresholds),
            versions=self.plan.versions,
        )

    def interrupted(self) -> Interrupted | None:
        """The run to continue, if that was asked for; refused before the model is opened where that can be told.

        Raises:
            RecordError: there is none, it is another run, or it has nothing left to measure.
            NotVerified: its journal was changed, or says what does not follow from its values.
        """
        folder = self.options.resume
        if folder is None:
            return None
        earlier = self.same(folder, self.header)
        require_decided(earlier, paired=self.options.baseline is not None)
        return earlier

    def same(self, folder: str, header: Header) -> Interrupted:
        """The interrupted run of a folder, once it is sure that this run continues it.

        Raises:
            RecordError: as `interrupted`.
        """
        earlier = find_interrupted(self.options.reports, folder)
        earlier.require_same(header)
        earlier.require_missing({claim.id for claim in self.claims})
        return earlier


IDENTITY = "identity of the weights"
"""What is untested where weights have no digest."""


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model once it was opened."""

    info: ModelInfo
    refused: tuple[Untested, ...]
    """What it cannot be asked."""


def unasked(support: Mapping[str, Support], info: ModelInfo) -> Iterator[Untested]:
    """What the adapter refuses on this model, and whether it is known which weights ran."""
    for name, offered in support.items():
        if not offered:
            yield Untested(what=str(name), reason=offered.reason)
    if not has_digest(info):
        reason = (
            f"no digest of them is known ({info.source}), so other weights may have run, and may have changed during "
            "the run, without a sign"
        )
        yield Untested(what=IDENTITY, reason=reason)


def require_digest(info: ModelInfo, profile: str) -> None:
    """Refuse a release gate on weights that nobody can identify.

    Raises:
        ModelError: the weights have no digest, and the profile is that of a release.
    """
    if profile == "release" and not has_digest(info):
        raise ModelError(
            f"--profile release: a release gate vouches for the weights that it measured, and those of {info.name} "
            "have no digest; give --profile pr, or measure the weights themselves with --adapter hf"
        )


@dataclass(frozen=True)
class WrittenRun:
    """A run that has a record and a report."""

    spec: str
    record: Run
    folder: Path
    exit_code: int
    remark: str
    """What the user should know about how it was written, if anything."""
    cut_off: bool = False
    """It was interrupted before its last claim: its folder is one to be continued."""
    record_sha256: str = ""
    """Digest of its audit.json."""


class OpenRun:
    """A run that measures: its model was opened, and its journal is being written.

    Args:
        earlier: the interrupted run that this one continues; None starts a new journal.

    Raises:
        RecordError: the folder cannot be written, or the run that is to be continued is another one.
    """

    def __init__(self, planned: PlannedRun, known: KnownModel, gate: Gate, earlier: Interrupted | None) -> None:
        self.planned = planned
        self.model = known.info
        self.gate = gate
        self.untested = [*planned.untested, *known.refused]
        self.header = msgspec.structs.replace(
            planned.header, model_sha256=model_digest(known.info), model=parts_of(known.info)
        )
        if earlier is not None:
            earlier.require_same(self.header)
        try:
            self.folder = earlier.folder if earlier else new_run_folder(planned.options.reports, known.info.name)
            self.journal = Journal(self.folder / JOURNAL, self.header)
        except OSError as error:
            raise RecordError(
                f"cannot begin a journal in {planned.options.reports}: {error.strerror or error}; nothing was "
                "measured, so make room, and run the same command again"
            ) from None
        self.resumed: dict[str, Claim] = {}
        """Node id -> claim that an earlier process measured."""
        self._entries: dict[str, Entry] = {}
        self._lost: dict[str, str] = {}
        if earlier is not None:  # read again: until the lock was ours, another process may have gone on
            before, earlier = earlier, planned.same(str(self.folder), self.header)
            if earlier.entries != before.entries:
                require_decided(earlier, paired=planned.options.baseline is not None)
            self.header = earlier.header
            self._entries = {entry.claim.id: entry for entry in earlier.entries}
            finished = {claim_id(item): item.nodeid for item in planned.items}
            self.resumed = {
                finished[name]: entry.claim for name, entry in self._entries.items() if name in finished
            }

    def receive(self, entry: Entry) -> None:
        """Keep a finished claim. The first verdict of a claim stands, whoever measures it again.

        Raises:
            OSError: the journal cannot be written; the claim then counts as not measured.
        """
        if entry.claim.id not in {*self._entries, *self._lost}:
            self.journal.append(entry)
            self._entries[entry.claim.id] = entry

    def lose(self, claim: str, reason: str) -> None:
        """A claim will not come; it is not written to the journal, so a continued run measures it."""
        self._lost[claim] = reason

    def _judged(self, done: Mapping[str, Claim], ended: str) -> tuple[tuple[Claim, ...], dict[str, str]]:
        """The planned claims, judged in their families and waived, and why the run did not reach the others."""
        claims = holm(self.gate.in_families(completed(self.planned.claims, done, self._lost)))
        unreached: dict[str, str] = {}
        if ended:  # after Holm's correction: every planned claim counts in its family
            left = [claim.id for claim in claims if claim.id not in done and claim.id not in self._lost]
            unreached = dict.fromkeys(left, f"not reached: {ended}")
        return tuple(self.gate.waived(claim) for claim in claims if claim.id not in unreached), unreached

    def write(
        self, check: CrossCheck | None, workers: int, threads: int | None, ended: str = "", stopped: bool = False
    ) -> WrittenRun:
        """Write the record and its outputs.

        Args:
            stopped: the session was interrupted; a run with claims left is then one to be continued.
            ended: why the run was ended on purpose before its last claim, as `-x` does; what it did not reach is then
                untested. Otherwise a claim that was not reached is an ERROR.
            workers: processes that measured claims.
            threads: threads of each; None: those of this process.
        """
        import torch

        threads = torch.get_num_threads() if threads is None else threads
        resumed, now = {claim.id for claim in self.resumed.values()}, made_with(threads)
        done = {
            name: measured_before(entry.claim, now) if name in resumed else entry.claim
            for name, entry in self._entries.items()
        }
        claims, unreached = self._judged(done, ended)
        self.untested += [Untested(what=name, reason=reason) for name, reason in unreached.items()]
        if check is not None and check.agrees is None:  # a comparison of nothing counts as untested
            self.untested.append(Untested(what="cross-check", reason=check.reason))
        plan, options = self.planned, self.planned.options
        record = Run(
            schema_version=SCHEMA_VERSION,
            created=self.header.created,
            seed=options.seed,
            profile=options.profile,
            command=self.header.command,
            tool=tool(plan.repository),
            plan=plan.plan,
            plan_sha256=plan.plan_sha256,
            items_sha256="",
            model=self.model,
            baseline=None,
            environment=environment(
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                threads=threads,
                workers=workers,
            ),
            summary=summarize(claims),
            claims=claims,
            untested=tuple(self.untested),
            cross_check=check,
        )
        rows = [row for claim in claims if claim.id in self._entries for row in self._entries[claim.id].items]
        with closing(self.journal):
            record = self.gate.passed(record, rows, plan.elsewhere, {**plan.left_out, **unreached})
            cut_off = stopped and not {claim.id for claim in plan.claims} <= {*self._entries}
            record, remark = write_folder(self.folder, record, rows, cut_off=cut_off)
        code = exit_code(record.summary, options.profile)
        return WrittenRun(plan.spec, record, self.folder, code, remark, cut_off, record_digest(self.folder))
