"""The options of an audit: their table, their defaults, the frozen `RunOptions` that everything else reads, and what
can be refused from the command line alone.

Every session loads this, so nothing heavy is imported before an option asks for it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from auditkit.options import FLAGS, OPTIONS

DIR = "reports"
"""Folder for run folders, where the command line names none."""

MODEL_FIXTURE = "audit_model"
SETTINGS_FIXTURE = "audit_settings"
"""The fixture that every fixture depends on whose measurements have a number of items."""
"""The fixture that makes a test a claim; `model` is short for it."""

DEFAULTS: dict[str, Any] = dict.fromkeys(OPTIONS) | {
    "seed": 0, "effort": "standard", "device": "auto", "dtype": "auto", "adapter": "hf", "profile": "pr"
}  # fmt: skip


def register(parser: pytest.Parser) -> None:
    """Add every option under its long name, `--audit-NAME`."""
    group = parser.getgroup("auditkit", "auditkit: audits of language models")
    for name, spec in OPTIONS.items():
        group.addoption(f"--audit-{name}", dest=dest(name), default=DEFAULTS[name], **spec)
    text = f"folder for run folders (default: {DIR})"
    group.addoption("--audit-dir", dest="audit_dir", default=DIR, metavar="DIR", help=text)
    for name, text in FLAGS.items():
        group.addoption(f"--audit-{name}", dest=dest(name), action="store_true", help=text)


def dest(name: str) -> str:
    return f"audit_{name.replace('-', '_')}"


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks of a run: made once from pytest's options, and read by everything else.

    Attributes:
        models: the models that are named; none where the command line names none.
        effort: of all suites, and behind commas those of single suites (`auditkit.record.plan.effort_of`).
        budget: time that the run may take, as the user wrote it; the session chooses the effort by it.
        data: suite -> source of its questions.
        data_texts: the same as the user wrote it, SUITE=SOURCE.
        template_arguments: variable of the chat template -> value.
        template_texts: the same as the user wrote it, NAME=VALUE.
        tokenizer: whose tokenizer every model is given; None for its own.
        shard: (which, of how many), counted from 1.
        shard_text: the same as the user wrote it.
        exchange: folder in which shards divide their largest measurements; None where they do not.
        resume: folder of the run to continue; "" for the newest one, None where nothing is continued.
        log_to: trackers that the run is logged to when it has ended.
        reports: folder for run folders.
    """

    models: tuple[str, ...]
    seed: int
    items: int | None
    effort: str
    budget: str | None
    data: Mapping[str, str]
    data_texts: tuple[str, ...]
    template_arguments: Mapping[str, Any]
    template_texts: tuple[str, ...]
    tokenizer: str | None
    device: str
    dtype: str
    adapter: str
    cross_check: int | None
    profile: Literal["pr", "release"]
    thresholds: str | None
    baseline: str | None
    waivers: str | None
    shard: tuple[int, int] | None
    shard_text: str | None
    exchange: Path | None
    resume: str | None
    log_to: tuple[str, ...]
    reports: Path
    as_baseline: bool
    trust_remote_code: bool

    @property
    def specs(self) -> tuple[str, ...]:
        """The models to measure, as the user wrote them: the default model where none is named."""
        if self.models:
            return self.models
        from auditkit.adapters.loading.catalogue import DEFAULT_MODEL

        return (DEFAULT_MODEL,)

    @property
    def settings(self) -> dict[str, str]:
        """What of the options changes numbers and belongs to the plan."""
        from auditkit.record.differences import TEMPLATE_ARGUMENT

        named = {"seed": self.seed, "items": self.items, "dtype": self.dtype, "adapter": self.adapter}
        named |= {} if self.effort == DEFAULTS["effort"] else {"effort": self.effort}
        given = {
            f"{TEMPLATE_ARGUMENT}{name}": json.dumps(value) for name, value in self.template_arguments.items()
        }
        return {**{name: str(value) for name, value in named.items()}, **given}

    def data_digests(self) -> dict[str, str]:
        """Suite -> SHA-256 of the data given for it."""
        from auditkit.data.sources import source_sha256

        return {suite: source_sha256(source) for suite, source in self.data.items()}


options_key: pytest.StashKey[RunOptions] = pytest.StashKey()


def options_of(config: pytest.Config) -> RunOptions:
    """The options of the session, as `pytest_configure` has read them."""
    return config.stash[options_key]


def read_options(config: pytest.Config) -> RunOptions:
    """Read pytest's options: the only place that does.

    Raises:
        ValueError: one has a value that means nothing, in one line.
    """
    option = config.option
    return RunOptions(
        models=tuple(option.audit_model or ()),
        seed=option.audit_seed,
        shard=None if option.audit_shard is None else _read_shard(option.audit_shard),
        shard_text=option.audit_shard,
        exchange=None if option.audit_exchange is None else Path(option.audit_exchange),
        items=_at_least_one(option.audit_items, "--items", "item is needed to measure anything"),
        effort=option.audit_effort,
        budget=option.audit_budget,
        data=_read_data(option.audit_data or ()),
        data_texts=tuple(option.audit_data or ()),
        template_arguments=_read_template_arguments(option.audit_template_arg or ()),
        template_texts=tuple(option.audit_template_arg or ()),
        tokenizer=option.audit_tokenizer,
        device=option.audit_device,
        dtype=option.audit_dtype,
        adapter=option.audit_adapter,
        cross_check=_at_least_one(
            option.audit_cross_check, "--cross-check", "site is needed to compare two adapters"
        ),
        profile=option.audit_profile,
        thresholds=option.audit_thresholds,
        baseline=option.audit_baseline,
        waivers=option.audit_waivers,
        resume=option.audit_resume,
        log_to=tuple(dict.fromkeys(option.audit_log_to or ())),
        reports=Path(option.audit_dir),
        as_baseline=option.audit_as_baseline,
        trust_remote_code=option.audit_trust_remote_code,
    )


_LOOKS = {
    "collectonly": "--collect-only", "showfixtures": "--fixtures", "show_fixtures_per_test": "--fixtures-per-test",
    "markers": "--markers", "cacheshow": "--cache-show", "setuponly": "--setup-only", "setupplan": "--setup-plan",
    "version": "--version", "help": "--help",
}  # fmt: skip
"""pytest's options that measure nothing and end with 0, by the name of their value."""


def require_measuring(config: pytest.Config) -> None:
    """Refuse a command that names a model and measures nothing: it would end as a gate that has passed.

    Raises:
        pytest.UsageError: naming pytest's option, wherever it was given.
    """
    values = vars(config.option)
    looks = next((text for name, text in _LOOKS.items() if values.get(name)), None)
    if looks is not None and values.get("audit_model"):
        raise pytest.UsageError(
            f"{looks} measures nothing, and would end like a run that has passed: leave out --model, or {looks} (in "
            "the command, PYTEST_ADDOPTS or addopts of an ini file)"
        )


def asks_for_reruns(config: pytest.Config) -> bool:
    """Whether another plugin is told to run failed tests again."""
    return bool(vars(config.option).get("reruns"))


def announced(args: Sequence[str], own_model: bool) -> Path | None:
    """The folder for run folders, where a command line names a model; nothing else of it need be right.

    Args:
        own_model: `--model` is ours, and not a conftest's.
    """
    given = dict(itertools.pairwise([part for arg in args for part in arg.split("=", 1)]))
    if "--audit-model" in given or (own_model and "--model" in given):
        return Path(given.get("--audit-dir", DIR))
    return None


def _at_least_one(number: int | None, name: str, why: str) -> int | None:
    if number is not None and number < 1:
        raise ValueError(f"{name} {number}: at least 1 {why}")
    return number


def _read_shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    which, number = map(int, found.groups()) if found else (0, 0)
    if not 1 <= which <= number:
        raise ValueError(f"--shard {text}: write I/N, from 1/N to N/N")
    return which, number


def _read_data(texts: Sequence[str]) -> dict[str, str]:
    """Suite -> source of its questions, as `--data` gives them."""
    sources: dict[str, str] = {}
    for text in texts:
        suite, equals, source = text.partition("=")
        if not (suite and equals and source):
            raise ValueError(f"--data {text}: write SUITE=SOURCE, as in --data persona_patching=./mmlu")
        if suite in sources:
            raise ValueError(f"--data: {suite} is given two sources")
        sources[suite] = source
    return sources


def _read_template_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Variable of the chat template -> value, as `--template-arg` gives them."""
    if not texts:
        return {}
    from auditkit.adapters.thoughts import read_arguments

    return read_arguments(texts)


_read_key: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def read_data(config: pytest.Config, suite: str) -> Any:
    """What a suite makes of the source that `--data` names for it, read once in a session; None without one.

    Raises:
        pytest.UsageError: it cannot be found or read, in one line.
    """
    from auditkit.data.errors import DataError
    from auditkit.data.sources import check_source, source_sha256

    options = options_of(config)
    read = config.stash.setdefault(_read_key, {})
    if suite in options.data and suite not in read:
        source = options.data[suite]
        try:
            source_sha256(source)
            check_source(source)
            read[suite] = config.hook.pytest_audit_read_data(suite=suite, source=source, seed=options.seed)
        except DataError as error:
            raise refusal(f"--data {suite}: {error}") from None
    return read.get(suite)


def check_data(config: pytest.Config, options: RunOptions, claims: Sequence[pytest.Item]) -> None:
    """Refuse data that no collected suite could use, that cannot be found, or that its suite cannot read.

    Raises:
        pytest.UsageError: in one line.
    """
    suites = sorted({item.path.parent.name for item in claims})
    for suite, source in options.data.items():
        if suite not in suites:
            raise refusal(f"--data {suite}={source}: no suite {suite!r} was collected, only {', '.join(suites)}")
        read_data(config, suite)


def refusal(why: object) -> pytest.UsageError:
    """The error that ends a session with exit code 4 and one line, in which nothing is obeyed by a terminal."""
    from auditkit.record.escaping import plain

    return pytest.UsageError(plain(str(why)))
