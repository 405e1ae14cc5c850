"""Data given on the command line, `--data SUITE=SOURCE`, in place of what a suite brings along."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from auditkit.data.errors import DataError
from auditkit.data.sources import source_sha256


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
    return {suite: source_sha256(source) for suite, source in given_data(config).items()}
