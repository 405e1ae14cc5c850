"""One audit: plan, open the model, gather each claim, write the record, say the verdict."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import pytest

from auditkit.adapters.catalogue import DEFAULT_MODEL
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.registry import DEFAULT_ADAPTER, adapter_factory
from auditkit.engine.progress import progress_to
from auditkit.engine.sampling import Sample, sampling
from auditkit.plugin.claims import check_claims, claim_id, conclude, lost, plan_of
from auditkit.plugin.crosscheck import cross_checked, other_than
from auditkit.plugin.gate import Gate, write_gate
from auditkit.plugin.surroundings import environment, tool
from auditkit.record.canonical import canonical
from auditkit.record.differences import plan_digest
from auditkit.record.evidence import Evidence, gathering
from auditkit.record.journal import Entry, Header, Journal
from auditkit.record.resume import Interrupted, find_interrupted
from auditkit.record.schema import SCHEMA_VERSION, Claim, Cost, CrossCheck, Relation, Run, Untested, Verdict
from auditkit.record.store import (
    JOURNAL,
    RecordError,
    new_run_folder,
    point_latest,
    require_writable,
    write_run,
)
from auditkit.report import wording, write_outputs
from auditkit.stats.families import holm
from auditkit.stats.thresholds import Thresholds, ThresholdsError, read_thresholds
from auditkit.stats.verdicts import EXIT_INTEGRITY, Threshold, exit_code, summarize

_evidence_key = pytest.StashKey[Evidence]()
_started_key = pytest.StashKey[tuple[float, int]]()
_taken_key = pytest.StashKey[Claim]()

_AGREEMENT = {True: {"green": True}, False: {"red": True}, None: {"yellow": True}}
_MARKUP = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.ERROR: "red"}


@dataclass(frozen=True)
class Settings:
    """What suites may ask of the run."""

    seed: int
    items: int | None


class AuditRun:
    """The state of one audit; made at collection, when at least one claim was found."""

    def __init__(self, config: pytest.Config, claims: list[pytest.Item], deselected: list[pytest.Item]) -> None:
        check_claims(claims)
        if hasattr(config, "workerinput"):
            raise pytest.UsageError("claims share one model and run in one process; leave out -n")
        option = config.option
        self.config = config
        self.claims = claims
        self.settings = Settings(seed=option.audit_seed, items=option.audit_items)
        self.spec: str = option.audit_model or DEFAULT_MODEL
        self.reports = Path(option.audit_dir)
        self.thresholds = self._read_thresholds([*claims, *deselected])
        self.gate = Gate(config, [*claims, *deselected])
        asked = {name: getattr(option, f"audit_{name}") for name in ("seed", "items", "dtype", "adapter")}
        self.plan = plan_of(claims, config.rootpath, self.thresholds.listed() if self.thresholds else {}, asked)
        self.plan_sha256 = plan_digest(self.plan)
        self.untested = [
            Untested(what=item.nodeid, reason="deselected on the command line") for item in deselected
        ]
        self.sample = Sample(option.audit_cross_check, option.audit_seed) if option.audit_cross_check else None
        self.adapter: Any = None
        self.folder: Path | None = None
        self.result: Run | None = None
        self._entries: list[Entry] = []
        self._taken: list[pytest.Item] = []
        self._overrides: dict[tuple[str, int], Threshold] = {}
        self._asked: set[tuple[str, int]] = set()
        self._foreign_failure = False
        self._remark = ""

    # -- before, during and after the claims -------------------------------------------------------------------

    def open(self) -> None:
        """Open the model and start the journal; what cannot be opened ends the run before any claim."""
        from auditkit.adapters.loading import load

        option = self.config.option
        self.gate.open(self.plan_sha256, self._say)
        header = self._header()
        try:
            factory = adapter_factory(option.audit_adapter)
            if self.sample is not None:  # missing packages are found out now, not when all claims are done
                adapter_factory(other_than(option.audit_adapter))
            earlier = None if option.audit_resume is None else self._interrupted(header, option.audit_resume)
            require_writable(self.reports if earlier is None else earlier.folder)
            self._say(f"opening {self.spec} (the first time, weights are fetched and converted)")
            self.loaded = load(
                self.spec,
                device=option.audit_device,
                dtype=option.audit_dtype,
                trust_remote_code=option.audit_trust_remote_code,
            )
            self.adapter = factory(self.loaded)
            header = msgspec.structs.replace(header, model_sha256=self.adapter.info.weights_sha256)
            if earlier is not None:
                earlier.require_same(header)
            folder = earlier.folder if earlier else new_run_folder(self.reports, self.adapter.info.name)
            self.journal = Journal(folder / JOURNAL, header)
            if earlier is not None:  # read again: until the lock was ours, another process may have gone on
                earlier = self._interrupted(header, str(folder))
        except IntegrityError as error:
            pytest.exit(str(error), returncode=EXIT_INTEGRITY)
        except (ModelError, RecordError) as error:
            raise pytest.UsageError(str(error)) from None
        if self.thresholds is not None:
            info = self.adapter.info
            self._overrides = self.thresholds.applying_to([info.name, self.spec], info.family)
        self.folder = folder
        self.header = earlier.header if earlier else header
        if earlier is not None:
            self._take_over(earlier)
        self.untested += [
            Untested(what=str(name), reason=support.reason)
            for name, support in self.adapter.support().items()
            if not support
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Run nothing for a claim that was taken over; its report is made from the journal."""
        return True if _taken_key in pyfuncitem.stash else None

    def override(self, item: pytest.Item, call: int) -> Threshold | None:
        """The threshold that the file puts in place of what the claim's call asks for, if it names one."""
        self._asked.add((claim_id(item), call))
        return self._overrides.get((claim_id(item), call))

    @contextmanager
    def measuring(self, item: pytest.Item) -> Iterator[None]:
        """Gather the evidence of one claim over setup and call; long work shows its progress."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        stream = reporter._tw._file if reporter is not None else StringIO()
        sampled = nullcontext() if self.sample is None else sampling(self.sample)
        with gathering() as evidence, progress_to(stream), sampled:
            item.stash[_evidence_key] = evidence
            item.stash[_started_key] = (time.perf_counter(), self.adapter.meter.token_layers)
            yield

    def conclude(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Turn a finished test into a claim, and its pytest outcome into the claim's verdict."""
        earlier = item.stash.get(_taken_key, None)
        if earlier is not None:  # it is in the journal already
            _set_outcome(report, self.gate.waived(earlier), item, self.config.option.audit_profile)
            vars(report).update(auditkit_verdict=str(earlier.verdict))
            return
        evidence = item.stash[_evidence_key]
        started, layers = item.stash[_started_key]
        cost = Cost(
            seconds=round(time.perf_counter() - started, 3),
            token_layers=self.adapter.meter.token_layers - layers,
            share_of_minimum=None,
        )
        error = call.excinfo.value if call.excinfo is not None else None
        skipped = str(error) if isinstance(error, pytest.skip.Exception) else None
        if evidence.decisions:  # a claim that ended sooner may have had more to ask
            evidence.notes += self._not_asked(claim_id(item))
        claim = conclude(item, evidence, error, skipped, cost, self._options())
        rows = tuple(msgspec.structs.replace(row, claim=claim.id) for row in evidence.items.values())
        _set_outcome(report, self.gate.waived(claim), item, self.config.option.audit_profile)
        # JSON text, so that the report can travel between processes like any other.
        entry = msgspec.json.encode(canonical(Entry(claim=claim, items=rows))).decode()
        vars(report).update(auditkit_verdict=str(claim.verdict), auditkit_entry=entry)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        encoded = getattr(report, "auditkit_entry", None)
        if encoded is not None:
            entry = msgspec.json.decode(encoded, type=Entry)
            self._entries.append(entry)
            self.journal.append(entry)
        elif report.failed and getattr(report, "auditkit_verdict", None) is None:
            self._foreign_failure = True

    def finish(self, exitstatus: int) -> int:
        """Write the record and its outputs; the exit code of the session."""
        if self.folder is None:
            return exitstatus
        done = {entry.claim.id: entry.claim for entry in self._entries}
        judged = holm(
            done.get(claim_id(item)) or lost(item, "not measured: the run ended before this claim")
            for item in self.claims
        )
        claims = tuple(map(self.gate.waived, judged))
        option = self.config.option
        check = self._cross_check(stopped=exitstatus > 1)
        summary = summarize(claims)
        if check is not None and check.agrees is False:  # whatever the claims came to, it rests on these numbers
            reason = wording.cross_check(check)
            summary = msgspec.structs.replace(summary, verdict=Verdict.ERROR, reason=reason)
        self.result = Run(
            schema_version=SCHEMA_VERSION,
            created=self.header.created,
            seed=self.settings.seed,
            profile=option.audit_profile,
            command=self.header.command,
            tool=tool(self.config.rootpath),
            plan=self.plan,
            plan_sha256=self.plan_sha256,
            items_sha256="",
            model=self.adapter.info,
            baseline=None,
            environment=environment(),
            summary=summary,
            claims=claims,
            untested=tuple(self.untested),
            cross_check=check,
        )
        rows = [row for entry in self._entries for row in entry.items]
        self.result = write_run(self.folder, self.gate.passed(self.result, rows), rows)
        write_outputs(self.folder, self.result)
        self.journal.close()
        try:
            point_latest(self.folder)
        except RecordError as error:  # the run itself is written; only the short way to it is missing
            self._remark = str(error)
        # A session that pytest itself ended badly (interrupt, internal error) keeps its own code, and so does
        # one in which a test that is no claim failed.
        return (
            exitstatus
            if exitstatus > 1 or self._foreign_failure
            else exit_code(self.result.summary, option.audit_profile)
        )

    def summarize(self, reporter: pytest.TerminalReporter) -> None:
        """The table of claims and the path of the report."""
        if self.result is None or self.folder is None:
            return
        reporter.ensure_newline()
        reporter.section(f"audit of {self.result.model.name}")
        for claim in self.result.claims:
            reporter.write(f"{claim.verdict.replace('_', ' '):<16}", **_markup(claim.verdict))
            reporter.write(f"{claim.id}\n")
            reporter.write_line(f"{'':<16}{wording.line(claim.effect) if claim.effect else claim.reason}")
            if claim.effect and claim.verdict is not Verdict.PASS:
                reporter.write_line(f"{'':<16}{claim.reason}")
            for line in wording.remarks(claim):
                reporter.write_line(f"{'':<16}{line}")
        summary = self.result.summary
        reporter.write_line("")
        reporter.write(f"verdict: {summary.verdict}", bold=True, **_markup(summary.verdict))
        reporter.write(f" ({summary.reason})\n")
        write_gate(reporter, self.result)
        check = self.result.cross_check
        if check is not None:
            reporter.write_line(f"cross-check: {wording.cross_check(check)}", **_AGREEMENT[check.agrees])
        if self._remark:
            reporter.write_line(self._remark, yellow=True)
        reporter.write_line(f"report: {self.folder / 'audit.html'}")

    def _cross_check(self, stopped: bool) -> CrossCheck | None:
        """The sampled sites measured again, if that was asked for; a comparison of nothing counts as untested."""
        if self.sample is None:
            return None
        other, taken = other_than(self.config.option.audit_adapter), len(self._taken)
        if self.sample.kept and not stopped:
            self._say(f"\nmeasuring {len(self.sample.kept)} sites again through {other}")
        check = cross_checked(self.loaded, self.adapter.info, self.sample, other, taken, stopped)
        if check.agrees is None:
            self.untested.append(Untested(what="cross-check", reason=check.reason))
        return check

    # -- details -----------------------------------------------------------------------------------------------

    def _header(self) -> Header:
        """What this run is, as far as it is known before the model is open."""
        option = self.config.option
        settings = {"model": self.spec, **{k: getattr(option, f"audit_{k}") for k in ("items", "dtype", "device")}}
        adapter = option.audit_adapter
        settings["adapter"] = None if adapter == DEFAULT_ADAPTER else adapter
        settings["baseline"] = option.audit_baseline
        settings["thresholds"] = self.thresholds and f"{option.audit_thresholds} ({self.thresholds.sha256[:12]})"
        return Header(
            plan_sha256=self.plan_sha256,
            model_sha256="",
            seed=self.settings.seed,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            command=("pytest", *map(str, self.config.invocation_params.args)),
            settings={f"--{name}": str(value) for name, value in settings.items() if value is not None},
        )

    def _interrupted(self, header: Header, folder: str) -> Interrupted:
        """The run to continue, refused before the model is opened where that can be told."""
        earlier = find_interrupted(self.reports, folder)
        earlier.require_same(header)
        earlier.require_missing({claim_id(item) for item in self.claims})
        return earlier

    def _take_over(self, earlier: Interrupted) -> None:
        """Let finished claims stand: pytest runs them with its hooks, but without fixtures and body."""
        self._entries = list(earlier.entries)
        finished = {entry.claim.id: entry.claim for entry in earlier.entries}
        self._taken = taken = [item for item in self.claims if claim_id(item) in finished]
        for item in taken:
            item.stash[_taken_key] = finished[claim_id(item)]
            # Replaced, not emptied: parametrised tests share the list. What no item asks for is not built.
            item.fixturenames = []  # type: ignore[attr-defined]  # of functions, not of items in general
        self._say(f"resuming {earlier.folder}: {len(taken)} of {len(self.claims)} claims are taken over")

    def _read_thresholds(self, claims: list[pytest.Item]) -> Thresholds | None:
        """The file of thresholds, if one is given; deselected claims may stand in it too."""
        path = self.config.option.audit_thresholds
        try:
            return None if path is None else read_thresholds(Path(path), [claim_id(item) for item in claims])
        except ThresholdsError as error:
            raise pytest.UsageError(str(error)) from None

    def _not_asked(self, claim: str) -> list[str]:
        """What the reader must know when the file has a threshold that the claim made no use of."""
        return [
            f"a threshold of {override:g} from {override.source} was not used: the claim asks for no threshold "
            f"number {number}"
            for (name, number), override in self._overrides.items()
            if name == claim and (name, number) not in self._asked
        ]

    def _say(self, line: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(line)

    def _options(self) -> str:
        option = self.config.option
        parts = [f"--model {self.spec}", f"--seed {self.settings.seed}"]
        parts += [
            f"--{name} {getattr(option, f'audit_{name}')}"
            for name in ("items", "device", "dtype", "adapter")
            if getattr(option, f"audit_{name}") not in (None, "auto", DEFAULT_ADAPTER)
        ]
        parts += [
            f"--{name} {shlex.quote(getattr(option, f'audit_{name}'))}"
            for name in ("thresholds", "baseline", "waivers")
            if getattr(option, f"audit_{name}") is not None
        ]
        return " ".join(parts)


def explain(op: str, left: object, right: object) -> list[str] | None:
    """Explanation of a failed `assert estimate >= number` for pytest."""
    from auditkit.stats.comparing import Comparable

    if not isinstance(left, Comparable) or op not in get_args(Relation):
        return None
    relation = cast(Relation, op)
    if isinstance(right, Comparable):
        return [f"{left.name} {op} {right.name}", wording.line((left - right).describe(relation, 0.0))]
    if isinstance(right, int | float):
        return [f"{left.name} {op} {right:g}", wording.line(left.describe(relation, float(right)))]
    return None


def _set_outcome(report: pytest.TestReport, claim: Claim, item: pytest.Item, profile: str) -> None:
    if claim.waiver is not None:
        vars(report).update(auditkit_waived=True)
    blocks = claim.waiver is None and claim.verdict in (Verdict.FAIL, Verdict.ERROR)
    blocks |= claim.waiver is None and claim.verdict is Verdict.INCONCLUSIVE and profile == "release"
    if claim.verdict is Verdict.PASS:
        report.outcome, report.longrepr = "passed", None
    elif blocks:
        report.outcome = "failed"
        if claim.verdict is not Verdict.FAIL or not report.longrepr:
            report.longrepr = f"{claim.id}: {claim.reason}"
    else:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{claim.verdict}: {claim.reason}")


def _markup(verdict: Verdict) -> dict[str, bool]:
    return {_MARKUP.get(verdict, "yellow"): True}
