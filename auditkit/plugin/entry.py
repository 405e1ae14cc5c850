"""What pytest loads: options and hooks, and nothing heavy before a claim has been collected.

A test is a claim when it uses this plugin's `model` fixture, directly or through other fixtures. A run without
claims is left alone: no output, no file, no import beyond this module.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from auditkit.plugin.seen import Seen, seen_key

if TYPE_CHECKING:
    from auditkit.plugin.measuring import Measuring
    from auditkit.plugin.session import Audit

_OPTIONS: dict[str, dict[str, Any]] = {
    "model": {
        "action": "append",
        "metavar": "SPEC",
        "help": "model to audit: an alias ('auditkit models' lists them), a directory, a .gguf file or a hub id; "
        "given several times, every claim is measured on each",
    },
    "seed": {"type": int, "metavar": "N", "help": "seed that every random stream derives from (default 0)"},
    "items": {"type": int, "metavar": "N", "help": "items per measurement (default: each suite's own)"},
    "data": {
        "action": "append",
        "metavar": "SUITE=SOURCE",
        "help": "questions for a suite in place of its own: a file, a folder or a hub data set, each perhaps with "
        "#subject,subject; may be given once per suite",
    },
    "device": {"metavar": "DEVICE", "help": "auto, cpu, cuda, cuda:N, or spread over all GPUs (default auto)"},
    "dtype": {"metavar": "DTYPE", "help": "auto, float32, bfloat16, float16 (default auto: float32 on cpu)"},
    "adapter": {"metavar": "NAME", "help": "how the model is touched: hf (default), nnterp, or one registered"},
    "cross-check": {
        "type": int,
        "metavar": "N",
        "help": "measure N random sites of the run again through the other adapter; a difference ends with 11",
    },
    "profile": {
        "choices": ["pr", "release"],
        "help": "what an undecided claim means: 'pr' warns (default), 'release' blocks",
    },
    "thresholds": {
        "metavar": "FILE",
        "help": "TOML file of thresholds that replace the suites' own, per model, family or by default",
    },
    "baseline": {
        "metavar": "SPEC|RUN",
        "help": "model, recorded run or its name ('auditkit baseline') to compare with, item by item",
    },
    "waivers": {
        "metavar": "FILE",
        "help": "TOML file of claims that need not block, each with owner, reason and expiry",
    },
    "shard": {
        "metavar": "I/N",
        "help": "measure the I-th of N parts of the claims, by suite; 'auditkit merge' makes one run of all parts",
    },
    "resume": {
        "nargs": "?",
        "const": "",
        "metavar": "FOLDER",
        "help": "continue an interrupted run: its finished claims are taken over (default: the newest cut-off run)",
    },
}
_DEFAULTS: dict[str, Any] = {
    "model": None,
    "seed": 0,
    "items": None,
    "data": None,
    "device": "auto",
    "dtype": "auto",
    "adapter": "hf",
    "cross-check": None,
    "profile": "pr",
    "thresholds": None,
    "baseline": None,
    "waivers": None,
    "shard": None,
    "resume": None,
}

_UNNAMED = "claims run in several processes only for a model that is named: add --model SPEC, or leave out -n"

audit_key: pytest.StashKey[Audit] = pytest.StashKey()
_measuring_key: pytest.StashKey[Measuring] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("auditkit", "auditkit: audits of language models")
    for name, spec in _OPTIONS.items():
        group.addoption(f"--audit-{name}", dest=_dest(name), default=_DEFAULTS[name], **spec)
    group.addoption(
        "--audit-dir",
        dest="audit_dir",
        default="reports",
        metavar="DIR",
        help="folder for run folders (default: reports)",
    )
    group.addoption(
        "--audit-trust-remote-code",
        dest="audit_trust_remote_code",
        action="store_true",
        help="run code from the model's repository; the report says so in red",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Offer `--model` and the other short names where no plugin or conftest has taken them.

    They cannot be registered sooner: a project whose own conftest adds `--model` would no longer start. Until
    then their values look like test paths, so they are taken out of those first: the folder of a model is data,
    and a conftest.py in it must not be imported.
    """
    short = {f"--{name}" for name in _OPTIONS}
    values = {after for option, after in itertools.pairwise(args) if option in short}
    known = early_config.known_args_namespace
    known.file_or_dir = [path for path in known.file_or_dir if path not in values]
    yield
    groups = {id(group): group for group in (parser._anonymous, *parser._groups)}.values()
    taken = {name for group in groups for option in group.options for name in option.names()}
    group = parser.getgroup("auditkit")
    for name, spec in _OPTIONS.items():
        if f"--{name}" not in taken:
            group.addoption(
                f"--{name}",
                dest=_dest(name),
                default=argparse.SUPPRESS,
                **{**spec, "help": f"short for --audit-{name}"},
            )


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
    if not _is_worker(config):
        try:
            _check_options(config)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Several models: each claim once per model, in the order of the models; with one, ids stay as they are."""
    specs = metafunc.config.getoption("audit_model") or []
    if len(specs) > 1 and _uses_model(metafunc.definition):
        from auditkit.plugin.claims import model_ids

        metafunc.parametrize("model", specs, indirect=True, scope="session", ids=model_ids(specs))


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    config.stash.setdefault(seen_key, Seen()).whole = True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Plan what is going to run: now, since what other plugins leave out is final only here."""
    config, items = session.config, session.items
    seen = config.stash.get(seen_key, Seen())
    if not seen.whole:  # a path that is not there, say: pytest is about to refuse it
        return
    claims, final = [item for item in items if _uses_model(item)], {item.nodeid for item in items}
    deselected = [item for name, item in seen.items.items() if name not in final and _uses_model(item)]
    others: set[pytest.Item] = set()
    if claims and config.getoption("audit_shard") and not session.testsfailed:
        from auditkit.plugin.shards import elsewhere

        others = elsewhere(claims, config.getoption("audit_shard"))
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=list(others))
    if not claims:
        if config.getoption("audit_model") and not _is_worker(config) and not session.testsfailed:
            said = f"all {len(deselected)} are deselected" if deselected else "no test uses the fixture `model`"
            raise pytest.UsageError(f"no claim to measure: {said}")
    elif not _is_worker(config):
        from auditkit.plugin.session import Audit

        audit = config.stash[audit_key] = Audit(config, claims, deselected, seen, others)
        config.pluginmanager.register(audit, "auditkit-audit")
    elif "auditkit" in config.workerinput:  # type: ignore[attr-defined]  # xdist's
        from auditkit.plugin.distribute import measure_in_worker

        config.stash[_measuring_key] = measure_in_worker(config, claims, deselected)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Plan and open a distributed run before its workers are started."""
    if config.getoption("audit_model"):
        from auditkit.plugin.distribute import plan_here

        plan_here(config, config.pluginmanager.getplugin("session"), specs)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    if session.testsfailed and session.config.pluginmanager.hasplugin("dsession"):
        raise session.Interrupted(f"{session.testsfailed} errors during collection")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    config = session.config
    audit = config.stash.get(audit_key, None)
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
    from auditkit.plugin.outcomes import explain

    return explain(op, left, right)


def _check_options(config: pytest.Config) -> None:
    """Refuse what can be told from the command line alone.

    Raises:
        ValueError: in one line.
    """
    option = config.option
    specs = option.audit_model or []
    if option.audit_shard is not None:
        from auditkit.plugin.shards import read_shard

        read_shard(option.audit_shard)
    if option.audit_items is not None and option.audit_items < 1:
        raise ValueError(f"--items {option.audit_items}: at least 1 item is needed to measure anything")
    if option.audit_data:
        from auditkit.plugin.given import given_data

        given_data(config)
    sites = option.audit_cross_check
    if sites is not None and sites < 1:
        raise ValueError(f"--cross-check {sites}: at least 1 site is needed to compare two adapters")
    if len(specs) > 1:
        if len(set(specs)) < len(specs):
            raise ValueError(f"--model {next(s for s in specs if specs.count(s) > 1)} is given twice")
        if option.audit_resume is not None:
            raise ValueError(
                "--resume continues one run: give the --model and the folder of each in a call of its own"
            )
        if sites is not None:
            raise ValueError("--cross-check compares the adapters on one model; give one --model")
    if specs and getattr(option, "tx", None) and option.dist != "no":
        if option.dist != "load":
            raise ValueError(f"--dist {option.dist}: claims are sent out by suite; leave out --dist")
        if sites is not None:
            raise ValueError("--cross-check samples what one process has measured; leave out -n")
    if option.audit_adapter != _DEFAULTS["adapter"]:
        from auditkit.adapters.errors import ModelError
        from auditkit.adapters.registry import require_known

        try:
            require_known(option.audit_adapter)
        except ModelError as error:
            raise ValueError(f"--adapter: {error}") from None
    if option.audit_resume:  # now, since in `--resume suites/` the option takes the path of the suites for its own
        from auditkit.record.resume import named_folder
        from auditkit.record.store import RecordError

        try:
            named_folder(option.audit_resume)
        except RecordError as error:
            raise ValueError(f"{error} (test paths go before --resume)") from None
    if specs:
        from auditkit.adapters.catalogue import classify
        from auditkit.adapters.errors import ModelError

        try:
            for spec in specs:
                classify(spec)
        except ModelError as error:
            raise ValueError(str(error)) from None


def _skips_files(collector: pytest.Collector) -> bool:
    return collector.config.pluginmanager.hasplugin("lfplugin-collskip")


def _dest(name: str) -> str:
    return f"audit_{name.replace('-', '_')}"


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _uses_model(item: pytest.Item) -> bool:
    """Whether the test uses this plugin's `model` fixture (and not one of the same name from elsewhere)."""
    info = getattr(item, "_fixtureinfo", None)
    definitions = list(info.name2fixturedefs.get("model") or []) if info is not None else []
    return bool(definitions) and getattr(definitions[-1].func, "__module__", "") == __name__


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The audited model: an adapter (see `auditkit.adapters.protocol.Adapter`)."""
    spec = getattr(request, "param", None)
    measuring = request.config.stash.get(_measuring_key, None)
    if measuring is None:
        pytest.fail(_UNNAMED, pytrace=False)
    with measuring.model(spec) as adapter:
        yield adapter


@pytest.fixture(scope="session")
def audit(pytestconfig: pytest.Config, model: Any) -> Any:
    """Settings of the run: `audit.seed`, `audit.items` (None: the suite's own default), and `audit.data` by suite."""
    return pytestconfig.stash[_measuring_key].settings


@pytest.fixture
def threshold(request: pytest.FixtureRequest) -> Any:
    """`threshold(0.30)`: the number a claim is compared with, and where it comes from.

    A file given with `--thresholds` replaces the number of a claim's first call, or of call N where its key ends
    in `#N`.
    """
    from auditkit.stats.verdicts import Threshold

    measuring = request.config.stash.get(_measuring_key, None)
    calls = itertools.count(1)

    def make(default: float, source: str = "suite default") -> Threshold:
        call = next(calls)
        override = measuring.override(request.node, call) if measuring is not None else None
        return Threshold(default, source, call) if override is None else Threshold(override, override.source, call)

    return make


@pytest.fixture
def baseline(request: pytest.FixtureRequest, model: Any) -> Any:
    """`baseline(estimate)`: the same estimate on the baseline, for `estimate.no_worse_than(baseline(estimate), ...)`.

    Without `--baseline` the claim is NOT_APPLICABLE, after the values were recorded.
    """
    return request.config.stash[_measuring_key].counterpart(request.node, model.info)
