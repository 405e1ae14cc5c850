"""Claims in several processes with pytest-xdist: parts of the suites side by side, one process that plans and writes.

The controller collects too, which xdist itself does not: so it plans, refuses, opens the model once and starts the
journal exactly as a serial run does, and only then are workers started. A worker opens the model when its first claim
asks, measures, and sends each finished claim on its report. Claims that share what fixtures have measured go to one
worker, by the same parts as those of shards (`auditkit.pytest_plugin.selection.parts`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from auditkit.engine.exchange.folder import Exchange
from auditkit.pytest_plugin.claims import claim_id, model_of
from auditkit.pytest_plugin.declared import declared_tokens
from auditkit.pytest_plugin.gate import Gate
from auditkit.pytest_plugin.measuring import Measuring
from auditkit.pytest_plugin.options import options_of
from auditkit.pytest_plugin.processes.helping import Division, HelpingWorker, asked
from auditkit.pytest_plugin.resume import ResumedClaims
from auditkit.pytest_plugin.selection import parts
from auditkit.pytest_plugin.session import Audit, is_crash
from auditkit.pytest_plugin.settings import thresholds_of
from auditkit.record.schema import Claim, Plan

INPUT = "auditkit"


class WorkerInput(msgspec.Struct):
    """What the controller tells each worker, as JSON."""

    threads: int
    digests: dict[str, str]
    plans: dict[str, Plan]
    """Model spec -> what the run asks of the model."""
    resumed: dict[str, Claim]
    baseline: str | None
    """Folder of the recorded run to compare with."""
    exchange: str
    """Folder in which workers divide measurements; empty where they divide none."""
    asked: tuple[str, ...]


class PartScheduling(LoadScopeScheduling):  # type: ignore[misc]  # has no types
    """Sends all tests of a scope to one worker; a test that killed its worker is not run again.

    Args:
        scope_of: node id -> scope.
        load_of: scope -> what it takes, in any unit; the largest that waits goes first.
    """

    def __init__(
        self, config: pytest.Config, log: Any, scope_of: Mapping[str, str], load_of: Mapping[str, float]
    ) -> None:
        super().__init__(config, log)
        self.scope_of, self.load_of = scope_of, load_of

    def _split_scope(self, nodeid: str) -> str:
        return self.scope_of.get(nodeid) or nodeid.split("::", 1)[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        largest = max(self.workqueue, key=lambda scope: self.load_of.get(scope, 0.0))
        self.workqueue.move_to_end(largest, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        """Keep two tests waiting at a worker: it begins one only when it knows the next, or that there is none."""
        if node not in self.registered_collections or node.shutting_down:  # a replacement is still collecting
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()

    def remove_node(self, node: WorkerController) -> str | None:
        """The test that a worker died of; what it had not begun goes to the others."""
        workload = self.assigned_work.pop(node)
        waiting = [nodeid for unit in workload.values() for nodeid, done in unit.items() if not done]
        for scope, unit in workload.items():
            rest = {nodeid: done for nodeid, done in unit.items() if nodeid in waiting[1:]}
            if rest:
                self.workqueue[scope] = rest
        for other in self.assigned_work:
            self._reschedule(other)
        return waiting[0] if waiting else None


class Distributed:
    """The controller's side: what workers are told, which tests go together, and what a crash means."""

    def __init__(self, audit: Audit, items: Sequence[pytest.Item], specs: list[Any]) -> None:
        import torch

        self.audit = audit
        self._claim_of = {item.nodeid: (model_of(item), claim_id(item)) for item in audit.items}
        tokens = declared_tokens(audit.config, {item.path.parent.name for item in audit.items})
        found = parts(audit.items, len(specs), tokens, model_of)
        names = {f"part {number}": part for number, part in enumerate(found)}
        self._load_of = {name: part.load for name, part in names.items()}
        self._scope_of = {item.nodeid: str(item.path) for item in items}  # of tests that are no claims
        self._scope_of |= {item.nodeid: name for name, part in names.items() for item in part.claims}
        # One that stops at a failure is to end then, and a worker that helps would not.
        shared = len(specs) > 1 and not audit.config.option.maxfail
        if not shared:
            del specs[len(set(self._scope_of.values())) :]  # a worker more would have nothing to do
        audit.workers = len(specs)
        audit.threads = max(1, torch.get_num_threads() // audit.workers)
        self._asked = asked(run.plan_sha256 for run in audit.planned.values())
        self._exchange = self._new_exchange() if shared else None
        self._worker_input = msgspec.json.encode(
            WorkerInput(
                threads=audit.threads,
                digests=audit.digests,
                plans=audit.plans,
                resumed=audit.resumed,
                baseline=None if audit.gate.baseline is None else str(audit.gate.baseline.folder),
                exchange=str(self._exchange.folder) if self._exchange is not None else "",
                asked=self._asked,
            )
        ).decode()

    def _new_exchange(self) -> Exchange:
        """A new folder in which workers exchange rows; it is removed at the end."""
        folder = tempfile.mkdtemp(prefix="auditkit-exchange-")
        self.audit.config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))
        return Exchange(Path(folder), self._asked, lambda _: None)

    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput[INPUT] = self._worker_input

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Callable[..., None]) -> PartScheduling:
        return PartScheduling(config, log, self._scope_of, self._load_of)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if is_crash(report):
            self.audit.lose(report.nodeid, "the worker process that measured it died")
            if self._exchange is not None and report.nodeid in self._claim_of:
                self._exchange.decide(*self._claim_of[report.nodeid])  # so that no other one dies of it


def plan_here(
    key: pytest.StashKey[Audit], config: pytest.Config, session: pytest.Session, specs: list[Any]
) -> None:
    """Collect in the controller, plan, and open the models.

    Args:
        key: where the session keeps its audit.
        specs: the workers that are going to be started.
    """
    session.perform_collect()
    audit = config.stash.get(key, None)
    if audit is not None and not session.testsfailed:
        audit.open(keep=False)
        config.pluginmanager.register(Distributed(audit, session.items, specs), "auditkit-distributed")
        config.option.tx = config.option.tx[: len(specs)]


def measure_in_worker(
    config: pytest.Config, claims: list[pytest.Item], deselected: list[pytest.Item]
) -> Measuring:
    """Let the claims that the controller sends run in this process."""
    import torch

    told = msgspec.json.decode(config.workerinput[INPUT], type=WorkerInput)  # type: ignore[attr-defined]  # xdist's
    torch.set_num_threads(told.threads)
    options = options_of(config)
    thresholds = thresholds_of(options, [*claims, *deselected])
    gate = Gate(options, [*claims, *deselected])
    gate.take(told.baseline)
    division = None
    which, number = int(config.workerinput["workerid"].removeprefix("gw")), config.workerinput["workercount"]  # type: ignore[attr-defined]
    if told.exchange and which < number:  # and not one that replaces a worker that died, perhaps while it helped
        division = Division(Path(told.exchange), told.asked, claims, (which + 0.5) / number)
    measuring = Measuring(
        config,
        claims,
        set(told.resumed),
        told.digests,
        told.plans,
        {},
        thresholds,
        gate,
        division=division,
    )
    config.pluginmanager.register(measuring, "auditkit-measuring")
    config.pluginmanager.register(ResumedClaims(claims, told.resumed), "auditkit-resumed")
    config.pluginmanager.register(HelpingWorker(measuring.help_others), "auditkit-helping")
    return measuring
