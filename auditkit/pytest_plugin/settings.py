"""The options of a run as its parts need them: for suites, for a journal, for a command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from auditkit.adapters.registry import DEFAULT_ADAPTER
from auditkit.claims.suites import packaged
from auditkit.gate.budget import seconds_of
from auditkit.gate.thresholds import Thresholds, ThresholdsError, read_thresholds
from auditkit.pytest_plugin.claims import claim_id, suite_of
from auditkit.pytest_plugin.options import DEFAULTS, RunOptions, refusal
from auditkit.record.escaping import shell
from auditkit.record.plan import LOOKS, STEPWISE, of_single_suites, share_of
from auditkit.stats.intervals import MIN_CLUSTERS

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from auditkit.methods.worst_case import WorstCase

T = TypeVar("T")

LEAST = MIN_CLUSTERS + 1
"""Items below which no effort goes: one more than the clusters that an interval needs."""


@dataclass(frozen=True)
class Settings:
    """What suites may ask of the run."""

    seed: int
    items: int | None
    data: Mapping[str, str]
    """Suite -> where its questions come from, where not the suite's own: see `auditkit.data.sources`."""
    effort: str = "standard"
    """Of all suites, and behind commas those of single suites."""
    suite: Callable[[], str] = str
    """The suite of the claim under way."""
    look: int = 0
    """Which look at a claim is under way, from 0, where there are several."""
    given: Callable[[str], Any] = lambda _: None
    """Suite -> what it read of its source (hook `pytest_audit_read_data`); None where it was given none."""

    def sized(self, own: int | None) -> int | None:
        """How many items a measurement has: what `--items` says, else `own` as `--effort` scales it.

        Args:
            own: how many it has by default; None for data of the user's own, which are measured whole.

        Returns:
            None: all that there are.
        """
        if self.items is not None or own is None:
            return self.items
        share = LOOKS[self.look].share if self.effort == STEPWISE else share_of(self.effort, self.suite())
        return max(min(own, LEAST), round(own * share))

    def worst_case(
        self,
        strategy: SearchStrategy[T],
        score: Callable[[T], float],
        prompts: Callable[[T], Mapping[str, str]],
        **search: Any,
    ) -> WorstCase:
        """Search what a Hypothesis strategy draws for the example with the highest score, under the run's seed; see
        `auditkit.methods.worst_case.search`."""
        from auditkit.methods.worst_case import search as searched

        return searched(strategy, score, prompts, seed=self.seed, **search)


def check_budget(options: RunOptions, processes: object) -> None:
    """Refuse what a budget cannot go with: an effort that is chosen otherwise, or for more than this process.

    Raises:
        ValueError: in one line.
    """
    seconds_of(options.budget or "")
    otherwise = {"--effort": options.effort != "standard", "--items": options.items is not None}
    if other := next((name for name, given in otherwise.items() if given), None):
        raise ValueError(f"--budget and {other} both say how many items are measured; leave one of them out")
    if options.data:
        raise ValueError(
            "--budget chooses how many items are measured, and --data is measured whole; leave one out"
        )
    shared = {
        "--baseline": options.baseline is not None,
        "--shard": options.shard is not None,
        "--resume": options.resume is not None,
        "a second --model": len(options.models) > 1,
        "-n": bool(processes),
    }
    if other := next((name for name, given in shared.items() if given), None):
        raise ValueError(
            f"--budget chooses an effort for one model in one process, and cannot go with {other}; give --effort: a "
            "run with --budget says which it chose"
        )


def check_efforts(effort: str, collected: Iterable[pytest.Item]) -> None:
    """Refuse an effort for a suite that does not exist. A run of some claims may name suites that it does not collect.

    Raises:
        pytest.UsageError: in one line.
    """
    named = of_single_suites(effort).keys()
    known = {*map(suite_of, collected), *packaged()} if named else set()
    if missing := sorted(named - known):
        raise refusal(f"--effort {effort}: there is no suite {missing[0]!r}, only {', '.join(sorted(known))}")


def header_settings(options: RunOptions, spec: str, thresholds: Thresholds | None) -> dict[str, str]:
    """Option -> value, for the journal: what a refusal to resume can name."""
    digests = options.data_digests()
    data = [f"{suite}={source} ({digests[suite][:12]})" for suite, source in options.data.items()]
    settings = {
        "model": spec,
        "items": options.items,
        "effort": None if options.effort == DEFAULTS["effort"] else options.effort,
        "tokenizer": options.tokenizer,
        "dtype": options.dtype,
        "device": options.device,
        "adapter": None if options.adapter == DEFAULT_ADAPTER else options.adapter,
        "baseline": options.baseline,
        "shard": options.shard_text,
        "data": " ".join(data) or None,
        "template-arg": " ".join(sorted(options.template_texts)) or None,
        "thresholds": thresholds and f"{options.thresholds} ({thresholds.sha256[:12]})",
    }
    return {f"--{name}": str(value) for name, value in settings.items() if value is not None}


def rerun_options(options: RunOptions, spec: str) -> str:
    """Command-line options that measure the same thing again."""
    parts = [f"--model {shell(spec)}", f"--seed {options.seed}"]
    parts += [
        f"--{name} {shell(str(getattr(options, name)))}"
        for name in ("items", "effort", "device", "dtype", "adapter")
        if getattr(options, name) != DEFAULTS[name]
    ]
    parts += [f"--tokenizer {shell(options.tokenizer)}"] if options.tokenizer else []
    parts += [f"--data {shell(text)}" for text in options.data_texts]
    parts += [f"--template-arg {shell(text)}" for text in options.template_texts]
    parts += [
        f"--{name} {shell(getattr(options, name))}"
        for name in ("thresholds", "baseline", "waivers")
        if getattr(options, name) is not None
    ]
    return " ".join(parts)


def thresholds_of(options: RunOptions, claims: Sequence[pytest.Item]) -> Thresholds | None:
    """The file of thresholds, if one is given; deselected claims may stand in it too.

    Raises:
        pytest.UsageError: it cannot be read, or does not fit the claims.
    """
    path = options.thresholds
    try:
        return None if path is None else read_thresholds(Path(path), [claim_id(item) for item in claims])
    except ThresholdsError as error:
        raise refusal(error) from None
