"""What pytest loads: options and hooks, and nothing heavy before a claim has been collected.

A test is a claim when it uses this plugin's `audit_model` fixture, which is `model` for short, directly or through
other fixtures. A run without claims is left alone: no output, no file, no import beyond this module.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from auditkit.options import OPTIONS
from auditkit.pytest_plugin.command_line import check_options, keep_rootdir
from auditkit.pytest_plugin.options import (
    MODEL_FIXTURE,
    announced,
    dest,
    options_key,
    options_of,
    read_options,
    refusal,
    register,
    require_measuring,
)
from auditkit.pytest_plugin.selection import Seen, elsewhere, seen_key

if TYPE_CHECKING:
    from auditkit.pytest_plugin.measuring import Measuring
    from auditkit.pytest_plugin.session import Audit


_UNNAMED = "claims run in several processes only for a model that is named: add --model SPEC, or leave out -n"


class SuiteHooks:
    """Hooks of a suite's conftest beside pytest's own."""

    @pytest.hookspec(firstresult=True)
    def pytest_audit_read_data(self, suite: str, source: str, seed: int) -> Any:
        """Read a source of `--data SUITE=SOURCE`, once and before a model is opened.

        Args:
            suite: the suite that the user named; every other suite returns at once.
            seed: of the run, for what is drawn from the source.

        Returns:
            What the suite makes of the source, for its fixtures: `audit.given(suite)`. None: the suite is not this
            conftest's.

        Raises:
            DataError: the suite cannot read it, in one line.
        """

    @pytest.hookspec(firstresult=True)
    def pytest_audit_tokens(self, suite: str) -> int | Mapping[str, int] | None:
        """How many tokens the claims of a suite run, for `--budget`; any suite may be asked for.

        Returns:
            At `--effort standard`, or effort -> tokens; what is not said of an effort is in proportion to its items.
            None: the suite is not this conftest's.
        """


_audit_key: pytest.StashKey[Audit] = pytest.StashKey()
_measuring_key: pytest.StashKey[Measuring] = pytest.StashKey()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(SuiteHooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    register(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Offer `--model` and the other short names where no plugin or conftest has taken them.

    They cannot be registered sooner: a project whose own conftest adds `--model` would no longer start. Until
    then their values look like test paths, so they are taken out of those first: the folder of a model is data,
    and a conftest.py in it must not be imported.
    """
    short = {f"--{name}" for name in OPTIONS}
    values = {after for option, after in itertools.pairwise(args) if option in short}
    known = early_config.known_args_namespace
    known.file_or_dir = [path for path in known.file_or_dir if path not in values]
    long = {f"--audit-{name}" for name in (*OPTIONS, "dir")}
    values |= {after for option, after in itertools.pairwise(args) if option in long}
    if values:
        keep_rootdir(early_config, parser, args, values)
    with _imports() if announced(args, own_model=True) is not None else nullcontext():
        yield
    groups = {id(group): group for group in (parser._anonymous, *parser._groups)}.values()
    taken = {name for group in groups for option in group.options for name in option.names()}
    group = parser.getgroup("auditkit")
    for name, spec in OPTIONS.items():
        if f"--{name}" not in taken:
            group.addoption(
                f"--{name}",
                dest=dest(name),
                default=argparse.SUPPRESS,
                **{**spec, "help": f"short for --audit-{name}"},
            )
    reports = announced(args, "--model" not in taken)
    if reports is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        from auditkit.record.begun import begin

        begin(reports)  # now: a command that is refused later has begun, and has written nothing


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    require_measuring(config)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "claim(id, family): a claim about a model; `id` replaces the identity made from suite and function name, "
        "`family` names the claims among which a FAIL is judged",
    )
    config.addinivalue_line(
        "markers",
        "causal(edits, control): a claim that rests on edits inside the model (edits=False: it does not); `control` "
        "names the control that a fixture or helper measures",
    )
    try:
        options = config.stash[options_key] = read_options(config)
        if not _is_worker(config):
            processes = getattr(config.option, "tx", None)
            check_options(options, processes, getattr(config.option, "dist", "no"))
            if options.budget is not None:
                from auditkit.pytest_plugin.settings import check_budget

                check_budget(options, processes)
    except ValueError as error:
        raise refusal(error) from None


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Several models: each claim once per model, in the order of the models; with one, ids stay as they are."""
    specs = options_of(metafunc.config).models
    if len(specs) > 1 and _uses_model(metafunc.definition):
        from auditkit.pytest_plugin.claims import model_ids

        metafunc.parametrize(MODEL_FIXTURE, specs, indirect=True, scope="session", ids=model_ids(specs))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Remember every test that a file holds, before `--lf`, a node id or another plugin leaves some of them out."""
    report = yield
    seen = collector.config.stash.setdefault(seen_key, Seen())
    seen.items.update((item.nodeid, item) for item in report.result if isinstance(item, pytest.Item))
    seen.classes.update(part.nodeid for part in report.result if isinstance(part, pytest.Class))
    seen.classes.discard(collector.nodeid)
    if isinstance(collector, pytest.File) and (report.result or not _skips_files(collector)):
        seen.files.add(collector.path)  # one that --lf skips is not read, and comes out empty
    return report


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector,
    call: pytest.CallInfo[Any],
    report: pytest.CollectReport | pytest.TestReport,
) -> None:
    """End an audit in which a suite refuses what was asked while it is collected, as any other refusal ends it."""
    refused = call.excinfo.value if call.excinfo is not None and isinstance(report, pytest.CollectReport) else None
    if isinstance(refused, pytest.UsageError) and options_of(node.config).models:
        raise refused


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    config.stash.setdefault(seen_key, Seen()).whole = True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Plan what is going to run: now, since what other plugins leave out is final only here."""
    config, items = session.config, session.items
    options = options_of(config)
    seen = config.stash.get(seen_key, Seen())
    if not seen.whole:  # a path that is not there, say: pytest is about to refuse it
        return
    claims, final = [item for item in items if _uses_model(item)], {item.nodeid for item in items}
    deselected = [item for name, item in seen.items.items() if name not in final and _uses_model(item)]
    others: set[pytest.Item] = set()
    if claims and options.shard is not None and not session.testsfailed:
        from auditkit.pytest_plugin.declared import declared_tokens

        tokens = declared_tokens(config, {item.path.parent.name for item in claims})
        others = elsewhere(claims, *options.shard, tokens)
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=list(others))
    if not claims:
        if options.models and not _is_worker(config) and not session.testsfailed:
            raise refusal(f"no claim to measure: {_no_claim(items, len(deselected))}")
    elif not _is_worker(config):
        from auditkit.pytest_plugin.session import Audit

        audit = config.stash[_audit_key] = Audit(config, claims, deselected, seen, others)
        config.pluginmanager.register(audit, "auditkit-audit")
    elif "auditkit" in config.workerinput:  # type: ignore[attr-defined]  # xdist's
        from auditkit.pytest_plugin.processes.distribute import measure_in_worker

        config.stash[_measuring_key] = measure_in_worker(config, claims, deselected)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Plan and open a distributed run before its workers are started."""
    if options_of(config).models:
        from auditkit.pytest_plugin.processes.distribute import plan_here

        plan_here(_audit_key, config, config.pluginmanager.getplugin("session"), specs)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    if session.testsfailed and session.config.pluginmanager.hasplugin("dsession"):
        raise session.Interrupted(f"{session.testsfailed} errors during collection")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    config = session.config
    audit = config.stash.get(_audit_key, None)
    distributed = config.pluginmanager.hasplugin("auditkit-distributed")
    if audit is not None and not distributed and not config.option.collectonly and not session.testsfailed:
        audit.open(keep=True)
        config.stash[_measuring_key] = audit.measure_here()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and report.when == "setup" and _UNNAMED in report.longreprtext:
        pytest.exit(_UNNAMED, returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    verdict = getattr(report, "auditkit_verdict", None)
    if getattr(report, "auditkit_waived", False):
        return "waived", "w", f"{verdict} (waived)"
    return {
        "INCONCLUSIVE": ("inconclusive", "?", "INCONCLUSIVE"),
        "NOT_APPLICABLE": ("not applicable", "-", "NOT APPLICABLE"),
        "ERROR": ("error", "E", "ERROR"),
    }.get(verdict or "")


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    if config.stash.get(_measuring_key, None) is None:
        return None
    from auditkit.pytest_plugin.outcomes import explain

    return explain(op, left, right)


def _imports() -> AbstractContextManager[None]:
    from auditkit.adapters.imports import lasting_imports

    return lasting_imports()


def _skips_files(collector: pytest.Collector) -> bool:
    return collector.config.pluginmanager.hasplugin("lfplugin-collskip")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _uses_model(item: pytest.Item) -> bool:
    """Whether the test uses this plugin's `audit_model` fixture (and not one of the same name from elsewhere)."""
    return _fixture_of(item, MODEL_FIXTURE) == __name__


def _fixture_of(item: pytest.Item, name: str) -> str:
    """The module of the fixture of this name that the test uses; empty if it uses none."""
    info = getattr(item, "_fixtureinfo", None)
    definitions = list(info.name2fixturedefs.get(name) or []) if info is not None else []
    return str(getattr(definitions[-1].func, "__module__", "")) if definitions else ""


def _no_claim(items: Iterable[pytest.Item], deselected: int) -> str:
    """Why there is nothing to measure, where a model was named."""
    if deselected:
        return f"all {deselected} are deselected"
    others = {module for item in items if (module := _fixture_of(item, "model")) not in ("", __name__)}
    if others:
        return (
            f"{min(others)} has a fixture `model` of its own, so the tests do not use auditkit's; it is `audit_model` "
            "too"
        )
    return "no test uses the fixture `model`"


@pytest.fixture(scope="session")
def audit_model(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The audited model: an adapter (see `auditkit.adapters.protocol.Adapter`)."""
    spec = getattr(request, "param", None)
    measuring = request.config.stash.get(_measuring_key, None)
    if measuring is None:
        pytest.fail(_UNNAMED, pytrace=False)
    with measuring.model(spec) as adapter:
        yield adapter


@pytest.fixture(scope="session")
def audit_settings(pytestconfig: pytest.Config, audit_model: Any) -> Any:
    """Settings of the run: `audit.seed`, `audit.items` (None: the suite's own default), `audit.data` by suite, and
    `audit.given(suite)`, what the suite read of its data."""
    return pytestconfig.stash[_measuring_key].settings


@pytest.fixture
def audit_threshold(request: pytest.FixtureRequest) -> Any:
    """`threshold(0.30)`: the number a claim is compared with, and where it comes from.

    A file given with `--thresholds` replaces the number of a claim's first call, or of call N where its key ends
    in `#N`.
    """
    from auditkit.claims.outcomes import Threshold

    measuring = request.config.stash.get(_measuring_key, None)
    calls = itertools.count(1)

    def make(default: float, source: str = "suite default", counts_from: float = 0.0) -> Threshold:
        call = next(calls)
        override = measuring.override(request.node, call) if measuring is not None else None
        number, told = (default, source) if override is None else (override, override.source)
        return Threshold(number, told, call, counts_from)

    return make


@pytest.fixture
def audit_baseline(request: pytest.FixtureRequest, audit_model: Any) -> Any:
    """`baseline(estimate)`: the same estimate on the baseline, for `estimate.no_worse_than(baseline(estimate), ...)`.

    Without `--baseline` the claim is NOT_APPLICABLE, after the values were recorded.
    """
    return request.config.stash[_measuring_key].counterpart(request.node, audit_model.info)


@pytest.fixture(scope="session")
def model(audit_model: Any) -> Any:
    """Short for `audit_model`, where no conftest has a fixture of this name."""
    return audit_model


@pytest.fixture(scope="session")
def audit(audit_settings: Any) -> Any:
    """Short for `audit_settings`."""
    return audit_settings


@pytest.fixture
def threshold(audit_threshold: Any) -> Any:
    """Short for `audit_threshold`."""
    return audit_threshold


@pytest.fixture
def baseline(audit_baseline: Any) -> Any:
    """Short for `audit_baseline`."""
    return audit_baseline
