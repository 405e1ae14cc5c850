"""One pytest session that audits: plan it, open its models, collect its claims, write its runs, say the verdict.

Made where the plan is made, which is the only process of a serial run and the controller of a distributed one.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

import msgspec
import pytest

from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.loading.locating import first_time
from auditkit.adapters.registry import NDIF, adapter_factory
from auditkit.claims.verdicts import EXIT_INTEGRITY, WORST_FIRST
from auditkit.engine.batching import speed
from auditkit.engine.sampling import Sample
from auditkit.gate.budget import fitting, taken
from auditkit.gate.planned import cannot_pass, cannot_pass_in_words, decided, earlier, planned
from auditkit.pytest_plugin import terminal
from auditkit.pytest_plugin.claims import check_claims, claim_id, model_of, suite_of
from auditkit.pytest_plugin.conditions import SLOW, slow_opening
from auditkit.pytest_plugin.crosscheck import cross_checked, other_than
from auditkit.pytest_plugin.declared import (
    check_declarations,
    remarks,
    required_efforts,
    token_layers,
    without_baseline,
)
from auditkit.pytest_plugin.gate import Gate
from auditkit.pytest_plugin.measuring import Measuring, Opened, let_go, open_model
from auditkit.pytest_plugin.options import check_data, options_key, options_of, refusal
from auditkit.pytest_plugin.processes.helping import HelpingShard, division_of_shard
from auditkit.pytest_plugin.resume import ResumedClaims, Stop, go_on
from auditkit.pytest_plugin.run import (
    IDENTITY,
    KnownModel,
    OpenRun,
    PlannedRun,
    WrittenRun,
    require_digest,
    unasked,
)
from auditkit.pytest_plugin.selection import Seen
from auditkit.pytest_plugin.settings import check_efforts, thresholds_of
from auditkit.record.begun import begin, finish
from auditkit.record.escaping import plain
from auditkit.record.identity import model_digest
from auditkit.record.journal import Entry
from auditkit.record.plan import STEPWISE, effort_of
from auditkit.record.schema import Claim, CrossCheck
from auditkit.record.store import NotVerified, RecordError, require_writable
from auditkit.report import wording
from auditkit.report.trackers.stores import logged


class Audit:
    """The runs of one session, one per model.

    Args:
        items: all claims that are planned.
        deselected: claims that the command line or a plugin left out.
        seen: what pytest met while it collected.
        others: those of `items` that other shards measure.

    Raises:
        pytest.UsageError: what is asked cannot be asked so, in one line.
    """

    def __init__(
        self,
        config: pytest.Config,
        items: Sequence[pytest.Item],
        deselected: Sequence[pytest.Item],
        seen: Seen,
        others: Collection[pytest.Item] = (),
    ) -> None:
        self.config = config
        self.options = options_of(config)
        self._everywhere = items
        self.items = [item for item in items if item not in others]
        check_data(config, self.options, [*items, *deselected])
        check_efforts(self.options.effort, [*items, *deselected])
        self._collected = [*items, *deselected]
        self.thresholds = thresholds_of(self.options, self._collected)
        self.gate = Gate(self.options, self._collected)
        self._opened: dict[str, Opened] = {}
        if self.options.budget is not None:
            self._choose_effort(self.options.budget)
        self.planned: dict[str, PlannedRun] = {}
        for spec in self.options.specs:
            ours, left_out = ([i for i in some if model_of(i) == spec] for some in (items, deselected))
            check_claims(ours)
            check_declarations(ours, left_out)
            if ours:
                self.planned[spec] = PlannedRun(config, spec, ours, left_out, seen, others, self.thresholds)
        self.plans = {spec: run.plan for spec, run in self.planned.items()}
        self.runs: dict[str, OpenRun] = {}
        """The runs whose model has been opened; none until `open`."""
        self.written: list[WrittenRun] = []
        """The runs that have a record; none until the session ends."""
        self._logged: list[str] = []
        """What came of logging them, in lines."""
        self.workers = 1
        self.threads: int | None = None
        """Threads of each worker; None: claims run in this process."""
        self._spec_of = {item.nodeid: model_of(item) for item in self.items}
        self._claim_of = {item.nodeid: claim_id(item) for item in self.items}
        self._sample = Sample(self.options.cross_check or 0, self.options.seed)
        self._foreign_failure = False
        self._interrupted = self._pressed = self._finished = False
        """By Ctrl-C or SIGTERM; whether the session was stopped by them; whether pytest has finished it."""
        self._full = False
        """The disk did not take a claim or a record."""
        begin(self.options.reports)
        self._stop = Stop()
        self._stop.listen(config)

    # -- before the claims -------------------------------------------------------------------------------------

    def open(self, keep: bool) -> None:
        """Open each model, then start the journals; what cannot be opened ends the session before any claim.

        Args:
            keep: the only model stays in memory, to be measured in this process. Several are opened again one by
                one, and workers open their own.
        """
        try:
            if self.options.cross_check:  # missing packages are found out now, not when all claims are done
                adapter_factory(other_than(self.options.adapter))
            earlier = {spec: run.interrupted() for spec, run in self.planned.items()}
            first, command = next(iter(self.planned.values())), self.config.invocation_params
            self.gate.open(first.plan_sha256, command, partial(terminal.say, self.config))
            known: dict[str, KnownModel] = {}
            for spec, before in earlier.items():
                require_writable(self.options.reports if before is None else before.folder)
                if self.options.exchange is not None:
                    require_writable(self.options.exchange)
                opened = self._opened.pop(spec, None) or self._open(spec)
                support = opened.adapter.support()
                require_digest(opened.info, self.options.profile)
                known[spec] = KnownModel(opened.info, tuple(unasked(support, opened.info)))
                for entry in known[spec].refused:
                    if entry.what == IDENTITY:
                        terminal.say(self.config, f"{IDENTITY}: {entry.reason}")
                for name, offered in support.items():
                    if not offered and offered.unexpected:
                        terminal.say(self.config, f"{name}: {offered.reason}; this run goes without it")
                if keep and len(self.planned) == 1:
                    self._opened[spec] = opened
                del opened
            if not self._opened:
                let_go()
            for spec, before in earlier.items():
                run = self.runs[spec] = OpenRun(self.planned[spec], known[spec], self.gate, before)
                if before is not None:
                    line = f"{len(run.resumed)} of {len(run.planned.claims)} claims are taken over"
                    terminal.say(self.config, f"resuming {before.folder}: {line}")
            alone = not (self.options.baseline or self.options.as_baseline)
            asked = without_baseline(self.items) if alone else ()
            for line in (*self._estimated(), *asked, *self._cannot_pass(), *remarks(self.config, self.items)):
                terminal.say(self.config, line)
        except (IntegrityError, NotVerified) as error:
            pytest.exit(plain(str(error)), returncode=EXIT_INTEGRITY)
        except (ModelError, RecordError) as error:
            raise refusal(error) from None

    def _open(self, spec: str) -> Opened:
        before = "" if self.options.adapter == NDIF else first_time(spec)
        terminal.say(self.config, f"opening {spec}{before}")
        with terminal.hint_after(self.config, SLOW, slow_opening):
            return open_model(self.options, spec, self.gate.names(spec)[0], self.thresholds)

    def _estimated(self) -> Iterator[str]:
        """What the run will take, where all its suites say how many tokens they run."""
        options = self.options
        chosen = options.items is not None or options.data or options.budget is not None
        if chosen or not self._opened or self.resumed or len(self.items) < len(self._collected):
            return
        try:
            tokens = required_efforts(self.config, self._suites)
        except ValueError:
            return
        (opened,) = self._opened.values()
        yield f"this run: {taken(options.effort, token_layers(tokens, opened.adapter.layers), speed(opened.adapter))}"

    def _cannot_pass(self) -> Iterator[str]:
        """Which claims of no difference the run cannot pass, by the variances of an earlier one."""
        options = self.options
        open_ended = options.items is not None or options.effort == STEPWISE
        if open_ended or options.data or self.resumed or len(self.planned) > 1:
            return
        (spec,) = self.planned
        own = set(self._claim_of.values())
        for suite, before in earlier(options.reports, self.gate.names(spec)[0], sorted(self._suites)).items():
            effort = effort_of(options.effort, suite)
            cannot = [claim for claim in cannot_pass(planned(before, suite), effort) if claim in own]
            if cannot:
                said = cannot_pass_in_words(cannot, effort)
                yield plain(f"{suite}: {said} (by the variances of {before.named()}; auditkit plan)")

    @property
    def _suites(self) -> set[str]:
        return set(map(suite_of, self.items))

    def _choose_effort(self, budget: str) -> None:
        """Open the only model and divide the budget, as if the command line had named the efforts.

        Raises:
            pytest.UsageError: none fits, a suite does not say what it runs, or the model cannot be opened.
        """
        (spec,) = self.options.specs
        try:
            tokens = required_efforts(self.config, self._suites)
            adapter = (opened := self._open(spec)).adapter
            name, seed = self.gate.names(spec)[0], self.options.seed
            before = earlier(self.options.reports, name, sorted(tokens), but=seed)
            work, gains = token_layers(tokens, adapter.layers), decided(before, set(map(claim_id, self.items)))
            effort, line = fitting(budget, work, speed(adapter), gains)
        except (ModelError, ValueError) as error:
            raise refusal(error) from None
        self._opened[spec] = opened
        self.options = self.config.stash[options_key] = replace(self.options, effort=effort)
        self.gate = Gate(self.options, self._collected)
        terminal.say(self.config, line)

    def measure_here(self) -> Measuring:
        """Let the claims run in this process."""
        resumed = self.resumed
        sample = self._sample if self.options.cross_check else None
        measuring = Measuring(
            self.config,
            self.items,
            set(resumed),
            self.digests,
            self.plans,
            self._opened,
            self.thresholds,
            self.gate,
            sample,
            division_of_shard(self.options, (run.plan_sha256 for run in self.planned.values()), self._everywhere),
        )
        self.config.pluginmanager.register(HelpingShard(measuring.help_others, self._is_whole), "auditkit-helping")
        self.config.pluginmanager.register(measuring, "auditkit-measuring")
        self.config.pluginmanager.register(ResumedClaims(self.items, resumed), "auditkit-resumed")
        return measuring

    @property
    def digests(self) -> dict[str, str]:
        """Model spec -> SHA-256 of the identity of the model that its run is about."""
        return {spec: model_digest(run.model) for spec, run in self.runs.items()}

    @property
    def resumed(self) -> dict[str, Claim]:
        """Node id -> claim that an earlier process measured, with its waiver."""
        return {name: self.gate.waived(claim) for run in self.runs.values() for name, claim in run.resumed.items()}

    # -- during and after --------------------------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        encoded = getattr(report, "auditkit_entry", None)
        if encoded is not None:
            run = self.runs[self._spec_of[report.nodeid]]
            try:
                run.receive(msgspec.json.decode(encoded, type=Entry))
            except OSError as error:
                self._no_room(error, f"the journal in {run.folder}")
        elif report.failed and getattr(report, "auditkit_verdict", None) is None:
            self._foreign_failure |= not (is_crash(report) and report.nodeid in self._spec_of)

    def lose(self, nodeid: str, reason: str) -> None:
        """The claim of this test will not come, unless it has come already."""
        if nodeid in self._spec_of:
            self.runs[self._spec_of[nodeid]].lose(self._claim_of[nodeid], reason)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write every run. The session's exit code is the worst of theirs.

        A session that pytest itself ended badly (interrupt, internal error) keeps its own code, and so does one
        in which a test that is no claim failed. One that was ended on purpose has the code of what it measured.
        """
        self._finished = True
        if self._full:  # a record would not fit either, and the journals have what was measured
            return
        if self._stop.told and exitstatus <= 1:
            exitstatus = session.exitstatus = pytest.ExitCode.INTERRUPTED
        ended = self._ended_on_purpose(session, exitstatus)
        self._interrupted = exitstatus == pytest.ExitCode.INTERRUPTED and not ended
        self._write(ended, stopped=exitstatus > 1 and not ended)
        if self.written and not any(run.cut_off for run in self.written):
            finish(self.options.reports)
        by_chance = {
            (run.spec, claim.id) for run in self.written for claim in run.record.claims if wording.by_chance(claim)
        }
        terminal.correct(
            self.config, {n for n, spec in self._spec_of.items() if (spec, self._claim_of[n]) in by_chance}
        )
        codes = [run.exit_code for run in self.written]
        if codes and (exitstatus <= 1 or ended):
            session.exitstatus = 1 if self._foreign_failure else min(codes, key=WORST_FIRST.index)
        for run in self.written:
            self._logged += [] if run.cut_off else logged(self.options.log_to, run.folder, run.record)

    def _is_whole(self) -> bool:
        """Every claim is recorded."""
        done = {claim.id for run in self.written for claim in run.record.claims}
        return bool(self.written) and not self._interrupted and done >= set(self._claim_of.values())

    def _write(self, ended: str = "", *, stopped: bool) -> None:
        """Write every run; see `OpenRun.write`."""
        try:
            with self._stop.finishing():
                self.written = [
                    run.write(self._cross_check(run, stopped), self.workers, self.threads, ended, stopped)
                    for run in self.runs.values()
                ]
        except OSError as error:  # the journal has what was measured
            self._no_room(error, f"the record to {self.options.reports}")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """What pytest says of tests that are no claims comes first; the answer stands last, where a reader looks."""
        with terminal.without_claims(terminalreporter):
            yield
        for run in self.written:
            terminal.summarize(terminalreporter, run)
        for line in self._logged:
            terminal.say(self.config, line)
        if len(self.written) > 1:
            terminal.compare(terminalreporter, [run.record for run in self.written])
        if self._interrupted:
            self._say_how_to_go_on()

    @pytest.hookimpl(specname="pytest_terminal_summary", trylast=True)
    def pytest_terminal_summary_list(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminal.leave_out_claims(terminalreporter)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._pressed = excinfo.errisinstance(KeyboardInterrupt)  # not where pytest.exit was called

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Close a session that was stopped while workers were started: pytest neither finishes nor sums it up."""
        if self._pressed and not self._finished:
            try:
                self._write(stopped=True)
            except pytest.exit.Exception as full:  # the disk; the line says how to go on, too
                terminal.say(self.config, str(full))
            else:
                self._say_how_to_go_on()

    def _say_how_to_go_on(self) -> None:
        args = list(map(str, self.config.invocation_params.args))
        for line in go_on(args, self.options, self.written, bool(self.runs)):
            terminal.say(self.config, line)

    def _no_room(self, error: OSError, what: str) -> NoReturn:
        """End the session where the disk is full or the like; the journals stay as they are, to be continued."""
        self._full = True
        for run in self.runs.values():
            run.journal.close()
        on = "each model alone and --resume FOLDER" if len(self.runs) > 1 else "--resume"
        reason = f"cannot write {what}: {error.strerror or error}; make room, and go on with {on}"
        pytest.exit(plain(reason), returncode=EXIT_INTEGRITY)

    def _ended_on_purpose(self, session: pytest.Session, exitstatus: int) -> str:
        """What pytest said when `-x`, `--maxfail` or `--stepwise` ended the session; empty where nothing did.

        To xdist and to `--stepwise` such an end is an interrupt, as Ctrl-C is; it is not to a serial `-x`.
        """
        manager = self.config.pluginmanager
        xdist = manager.getplugin("dsession")
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            if xdist is not None and 0 < (xdist.maxfail or 0) <= xdist.countfailures:  # None until tests are sent
                return f"stopping after {xdist.countfailures} failures"
            return str(session.shouldstop) if manager.hasplugin("stepwiseplugin") and session.shouldstop else ""
        return str(session.shouldfail) if exitstatus <= 1 and session.shouldfail else ""

    def _cross_check(self, run: OpenRun, stopped: bool) -> CrossCheck | None:
        """The sampled sites measured again, if that was asked for."""
        if not self.options.cross_check:
            return None
        other = other_than(self.options.adapter)
        if self._sample.kept and not stopped:
            terminal.say(self.config, f"measuring {len(self._sample.kept)} sites again through {other}")
        loaded = self._opened[run.planned.spec].loaded
        return cross_checked(loaded, run.model, self._sample, other, len(run.resumed), stopped)


def is_crash(report: pytest.TestReport) -> bool:
    """Whether xdist made the report, since the worker that ran the test died."""
    when: str | None = report.when
    return when == "???"
