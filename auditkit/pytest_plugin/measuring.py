"""Where claims run: the process that has the model open, gathers evidence and sends each finished claim as JSON.

That is the only process of a serial run, and each worker of a distributed one. Nothing is written here; the run
(`auditkit.pytest_plugin.run`) reads the claims off the reports, wherever they come from.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from io import StringIO
from typing import Any

import msgspec
import pytest
from _pytest.runner import runtestprotocol  # as pytest's own protocol does; there is no public name

from auditkit.adapters import sandbox
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.loading.bounds import opening
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.protocol import Adapter
from auditkit.adapters.registry import adapter_factory, loader_of
from auditkit.adapters.rendering import rendered_prompt, rendered_sha256
from auditkit.claims.evidence import Evidence, gathering
from auditkit.claims.outcomes import Inconclusive, NotReadable, Threshold
from auditkit.engine.exchange.folder import Exchange, exchanging
from auditkit.engine.guards import EditedRuns, counting_edits
from auditkit.engine.progress import progress_to
from auditkit.engine.sampling import Sample, sampling
from auditkit.gate.changes import Counterpart
from auditkit.gate.thresholds import Thresholds
from auditkit.pytest_plugin.claims import claim_id, conclude, model_of, planned, suite_of
from auditkit.pytest_plugin.conditions import made_with
from auditkit.pytest_plugin.declared import forgotten, promised_control
from auditkit.pytest_plugin.gate import Gate
from auditkit.pytest_plugin.looks import FurtherLooks, looked_at_again
from auditkit.pytest_plugin.options import RunOptions, options_of, read_data
from auditkit.pytest_plugin.outcomes import set_outcome
from auditkit.pytest_plugin.processes.helping import Division, Helped, help_with
from auditkit.pytest_plugin.settings import Settings, rerun_options
from auditkit.pytest_plugin.terminal import say
from auditkit.record.canonical import canonical
from auditkit.record.identity import has_digest, model_digest
from auditkit.record.journal import Entry
from auditkit.record.plan import LOOKS, STEPWISE
from auditkit.record.schema import Cost, ModelInfo, Plan, Verdict
from auditkit.stats.intervals import spending


@dataclass(frozen=True)
class Opened:
    """A model in memory, its adapter, and the thresholds that a file has for it."""

    loaded: Loaded
    adapter: Any
    overrides: dict[tuple[str, int], Threshold] = field(default_factory=dict)

    @cached_property
    def info(self) -> ModelInfo:
        """What the adapter says of the model, with what its chat template makes of prompts.

        Raises:
            ModelError: the template fails.
        """
        chat = self.adapter.chat
        info: ModelInfo = msgspec.structs.replace(
            self.adapter.info,
            identity=self.adapter.info.identity or dict(self.loaded.identity),
            rendered_sha256=rendered_sha256(chat),
            rendered_prompt=rendered_prompt(chat),
            template_arguments={name: json.dumps(value) for name, value in getattr(chat, "arguments", {}).items()},
            template_date=getattr(chat, "template_date", None),
        )
        return info


def open_model(options: RunOptions, spec: str, name: str, thresholds: Thresholds | None) -> Opened:
    """Open a model as the options say.

    Raises:
        ModelError: it cannot be opened so, in one line.
    """
    sandbox.begin()  # it imports for a second, and so does the next line
    factory = adapter_factory(options.adapter)
    opened_as = loader_of(factory)(
        spec,
        device=options.device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        template_arguments=options.template_arguments,
        tokenizer=options.tokenizer,
    )
    loaded = replace(opened_as, name=name)
    with opening(loaded.source):  # what a template or a tokenizer of the checkpoint runs into is found out now
        adapter = factory(loaded)
        named = [name, opened_as.name, spec]
        overrides = thresholds.applying_to(named, adapter.info.family) if thresholds else {}
        opened = Opened(loaded, adapter, overrides)
        _ = opened.info
    return opened


def _unreadable(item: pytest.Item, current: _CurrentClaim, error: BaseException | None) -> NotReadable | None:
    """Why a claim that came to an answer cannot be read, if its mark is missing or promised what was not measured."""
    unmarked, promised = forgotten(item, current.edited.runs), promised_control(item)
    if unmarked is not None and (error is None or isinstance(error, AssertionError | Inconclusive)):
        return NotReadable(unmarked)
    if error is None and promised is not None and not current.evidence.controls:
        return NotReadable(f"the control that its mark promises was not measured: {promised}")
    return None


def give_back() -> None:
    """Give the system back what freed tensors took.

    glibc keeps it, in pieces between what is still in use, which the next claim's tensors may not fit into.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def let_go() -> None:
    """Give back the memory of models that nothing refers to any more, an accelerator's too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass
class _CurrentClaim:
    """One claim under way."""

    suite: str
    evidence: Evidence
    started: float
    token_layers: int
    edited: EditedRuns
    asked: set[int] = field(default_factory=set)
    """Which thresholds the claim has asked for, counted from 1."""
    in_call: bool = False
    concluded: bool = False


class Measuring:
    """Runs the claims of this process.

    Args:
        items: the claims to run, resumed ones included (they run, but come to nothing of their own).
        resumed: node ids of those that an earlier process has measured.
        digests: model spec -> SHA-256 of the identity of the model that the run is about.
        plans: model spec -> what the run asks of the model.
        opened: models that are open already; others are opened when the first claim asks, and closed after the last.
        division: how other processes divide measurements with this one; None where they do not.
    """

    def __init__(
        self,
        config: pytest.Config,
        items: Sequence[pytest.Item],
        resumed: set[str],
        digests: Mapping[str, str],
        plans: Mapping[str, Plan],
        opened: dict[str, Opened],
        thresholds: Thresholds | None,
        gate: Gate,
        sample: Sample | None = None,
        division: Division | None = None,
    ) -> None:
        self.config = config
        self.options = options_of(config)
        self._looks = FurtherLooks() if self.options.effort == STEPWISE else None
        self.sample = sample
        self._claims = {item.nodeid for item in items}
        self._resumed = resumed
        self._digests = digests
        self._opened = opened
        self._thresholds = thresholds
        self._gate = gate
        self._current: _CurrentClaim | None = None
        self._plans = plans
        self._division, self._exchange = division, None
        if division is not None:
            self._exchange = Exchange(division.folder, division.asked, self._identity)
            self._exchange.join((model_of(item), claim_id(item)) for item in items if item.nodeid not in resumed)

    def _identity(self, adapter: Adapter) -> str | None:
        """The digest of a model that this run is about, and where it runs; None where its weights have no digest."""
        for spec, opened in self._opened.items():
            if opened.adapter is adapter and has_digest(opened.info):
                return f"{self._digests[spec]} on {opened.info.device.partition(':')[0]}"
        return None

    @property
    def settings(self) -> Settings:
        """What suites may ask of the run, at the look under way."""
        options, look = self.options, 0 if self._looks is None else self._looks.look
        given = partial(read_data, self.config)
        return Settings(options.seed, options.items, options.data, options.effort, self._suite, look, given)

    def _suite(self) -> str:
        return self._current.suite if self._current is not None else ""

    @contextmanager
    def model(self, spec: str | None) -> Iterator[Any]:
        """The adapter of a model (None: the only one), for as long as its claims run.

        Raises:
            ModelError: it cannot be opened, or is no longer the one that the run is about.
        """
        spec = spec or self.options.specs[0]
        known = self._opened.get(spec)
        if known is not None:
            yield known.adapter
            return
        began = time.perf_counter()
        opened = open_model(self.options, spec, self._gate.names(spec)[0], self._thresholds)
        if model_digest(opened.info) != self._digests[spec]:
            raise IntegrityError(
                f"the model {spec} has changed since the run began: its weights, config, tokenizer or template"
            )
        self._opened[spec] = opened
        if self._current is not None:  # opening is no cost of the claim that happens to be first
            self._current.token_layers = opened.adapter.meter.token_layers
            self._current.started += time.perf_counter() - began
        try:
            yield opened.adapter
        finally:
            del self._opened[spec], opened
            let_go()

    def override(self, item: pytest.Item, call: int) -> Threshold | None:
        """The threshold that the file puts in place of what the claim's call asks for, if it names one."""
        if self._current is not None:
            self._current.asked.add(call)
        opened = self._opened.get(model_of(item))
        return opened.overrides.get((claim_id(item), call)) if opened is not None else None

    def counterpart(self, item: pytest.Item, info: ModelInfo) -> Counterpart:
        """What the claim may ask about its past."""
        opened = self._opened.get(model_of(item))
        return self._gate.counterpart(item, self._plans[model_of(item)], info if opened is None else opened.info)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a claim as pytest itself does, and not through a plugin that runs failed tests again."""
        if item.nodeid not in self._claims:
            return None
        with self._gathering(item, self.sample):
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            runtestprotocol(item, nextitem=nextitem)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        give_back()
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Reports that are made while a claim's body runs are subtests', not the claim's."""
        if self._current is None:
            return (yield)
        self._current.in_call = True
        try:
            return (yield)
        finally:
            self._current.in_call = False

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """A claim that is undecided at the first of several looks gets more items."""
        current, looks = self._current, self._looks
        if current is None or looks is None or not looked_at_again(pyfuncitem):
            return (yield)
        error: Exception | None = None
        try:
            result = yield
        except Exception as ended:
            result, error = True, ended
        error = looks.take(pyfuncitem, current.evidence, error)
        if error is not None:
            raise error
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        current = self._current
        if current is None or current.in_call or current.concluded or item.nodeid in self._resumed:
            return report
        if call.when == "call" or (call.when == "setup" and not report.passed):
            current.concluded = True
            self._conclude(item, current, call, report)
        return report

    def help_others(self) -> None:
        """Measure what other processes have too much of, until they have decided their claims."""
        exchange, division = self._exchange, self._division
        if exchange is None or division is None:
            return

        def wanted(items: Sequence[pytest.Item]) -> list[pytest.Item]:
            said = exchange.wanted((model_of(item), claim_id(item)) for item in items)
            return list(itertools.compress(items, said))

        def measure(item: pytest.Item, after: pytest.Item | None) -> Helped:
            before = exchange.handed
            with exchange.helping(model_of(item), claim_id(item)), self._gathering(item, None) as current:
                current.concluded = True  # whatever it comes to, another process decides it
                reports = runtestprotocol(item, log=False, nextitem=after)
            give_back()
            return Helped(reports[0].passed, exchange.gave_way, exchange.handed - before)

        if claims := wanted(division.from_here()):
            say(self.config, "its own claims are measured; helping other processes with theirs")
            begun = help_with(claims, wanted, measure)
            say(self.config, f"helped with {begun} claims that other processes decide")

    @contextmanager
    def _gathering(self, item: pytest.Item, sample: Sample | None) -> Iterator[_CurrentClaim]:
        """Gather the evidence of one claim over setup and call; long work shows its progress."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        stream = reporter._tw._file if reporter is not None else StringIO()
        sampled = nullcontext() if sample is None else sampling(sample)
        first = LOOKS[0].spends if self._looks is not None and looked_at_again(item) else 1.0
        with (
            gathering() as evidence,
            counting_edits() as edited,
            progress_to(stream),
            sampled,
            spending(first),
            exchanging(self._exchange),
        ):
            began, before = time.perf_counter(), self._token_layers(item)
            self._current = _CurrentClaim(suite_of(item), evidence, began, before, edited)
            try:
                yield self._current
            finally:
                self._current = None

    def _conclude(
        self, item: pytest.Item, current: _CurrentClaim, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Turn a finished test into a claim, and its pytest outcome into the claim's verdict."""
        evidence = current.evidence
        cost = Cost(
            seconds=round(time.perf_counter() - current.started, 3),
            token_layers=self._token_layers(item) - current.token_layers,
            share_of_minimum=None,
        )
        error = call.excinfo.value if call.excinfo is not None else None
        skipped = str(error) if isinstance(error, pytest.skip.Exception) else None
        if evidence.decisions:  # a claim that ended sooner may have had more to ask
            evidence.notes += self._not_asked(item, current.asked)
        error = _unreadable(item, current, error) or error
        error = NotReadable(str(error)) if isinstance(error, ModelError) else error
        plan = planned(item, rerun_options(self.options, model_of(item)))
        claim = conclude(plan, evidence, error, skipped, cost)
        claim = msgspec.structs.replace(claim, made_with=made_with())
        rows = tuple(msgspec.structs.replace(row, claim=claim.id) for row in evidence.items.values())
        opened = self._opened.get(model_of(item))
        if opened is not None and claim.verdict is Verdict.NOT_APPLICABLE:
            claim = self._gate.judged(claim, rows, self._plans[model_of(item)], opened.info)
        set_outcome(report, self._gate.waived(claim), item)
        # JSON text, so that the report can travel between processes like any other.
        entry = msgspec.json.encode(canonical(Entry(claim=claim, items=rows))).decode()
        vars(report).update(auditkit_entry=entry)
        if self._exchange is not None:
            self._exchange.decide(model_of(item), claim.id)

    def _token_layers(self, item: pytest.Item) -> int:
        opened = self._opened.get(model_of(item))
        return opened.adapter.meter.token_layers if opened is not None else 0

    def _not_asked(self, item: pytest.Item, asked: set[int]) -> list[str]:
        """What the reader must know when the file has a threshold that the claim made no use of."""
        opened = self._opened.get(model_of(item))
        return [
            f"a threshold of {override:g} from {override.source} was not used: the claim asks for no threshold "
            f"number {number}"
            for (name, number), override in (opened.overrides.items() if opened is not None else ())
            if name == claim_id(item) and number not in asked
        ]
