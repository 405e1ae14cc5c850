"""The options of an audit: their table, their defaults, and what can be refused from the command line alone.

Every session loads this, so nothing heavy is imported before an option asks for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import pytest

OPTIONS: dict[str, dict[str, Any]] = {
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

DEFAULTS: dict[str, Any] = {
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


def register(parser: pytest.Parser) -> None:
    """Add every option under its long name, `--audit-NAME`."""
    group = parser.getgroup("auditkit", "auditkit: audits of language models")
    for name, spec in OPTIONS.items():
        group.addoption(f"--audit-{name}", dest=dest(name), default=DEFAULTS[name], **spec)
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


def dest(name: str) -> str:
    return f"audit_{name.replace('-', '_')}"


def check_options(config: pytest.Config) -> None:
    """Refuse what can be told from the command line alone.

    Raises:
        ValueError: in one line.
    """
    option = config.option
    specs = option.audit_model or []
    if option.audit_shard is not None:
        from auditkit.pytest_plugin.shards import read_shard

        read_shard(option.audit_shard)
    if option.audit_items is not None and option.audit_items < 1:
        raise ValueError(f"--items {option.audit_items}: at least 1 item is needed to measure anything")
    if option.audit_data:
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
    _check_names(option, specs)


def _check_names(option: argparse.Namespace, specs: Sequence[str]) -> None:
    """Refuse an adapter, a run to go on from, and models that the command line names and nobody knows.

    Raises:
        ValueError: in one line.
    """
    if option.audit_adapter != DEFAULTS["adapter"]:
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
        from auditkit.adapters.errors import ModelError
        from auditkit.adapters.loading.catalogue import classify

        try:
            for spec in specs:
                classify(spec)
        except ModelError as error:
            raise ValueError(str(error)) from None


def given_data(config: pytest.Config) -> dict[str, str]:
    """Suite -> source of its questions, as `--data` gives them.

    Raises:
        ValueError: an entry that is not of the form SUITE=SOURCE, or two for one suite.
    """
    given: dict[str, str] = {}
    for text in config.option.audit_data or []:
        suite, equals, source = text.partition("=")
        if not (suite and equals and source):
            raise ValueError(f"--data {text}: write SUITE=SOURCE, as in --data persona_patching=./mmlu")
        if suite in given:
            raise ValueError(f"--data: {suite} is given two sources")
        given[suite] = source
    return given


def check_data(config: pytest.Config, claims: Sequence[pytest.Item]) -> None:
    """Refuse data that no collected suite could use, or that cannot be found.

    Raises:
        pytest.UsageError: in one line.
    """
    from auditkit.data.errors import DataError
    from auditkit.data.sources import source_sha256

    suites = sorted({item.path.parent.name for item in claims})
    for suite, source in given_data(config).items():
        if suite not in suites:
            raise pytest.UsageError(
                f"--data {suite}={source}: no suite {suite!r} was collected, only {', '.join(suites)}"
            )
        try:
            source_sha256(source)
        except DataError as error:
            raise pytest.UsageError(f"--data {suite}: {error}") from None


def given_digests(config: pytest.Config) -> dict[str, str]:
    """Suite -> SHA-256 of the data given for it."""
    from auditkit.data.sources import source_sha256

    return {suite: source_sha256(source) for suite, source in given_data(config).items()}
