"""How a time is divided among suites, by the tokens that they say they run and the speed of the model.

Each suite gets an effort, and nothing between two efforts, so that a run with a budget is the run with these efforts:
it can be continued, compared and gated like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from auditkit.record.plan import EFFORTS, LOOKS, OF_SUITE, STEPWISE, effort_of

REST = 2.0
"""Seconds of a run per second of plain batches with as many token-layers: also for logits, captures and intervals.

Default audits of SmolLM2 took 1.65 to 1.90 times as long, and 2 leaves room; `benchmarks/default_audit.py` measures it.
"""
_UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """A time such as 90s, 5m or 1.5h.

    Raises:
        ValueError: in one line.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or not float(match[1]):
        raise ValueError(f"--budget {text}: give a time, such as 90s, 5m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def duration(seconds: float) -> str:
    """A time as people say it, rounded up, so that it can be given as a budget."""
    if seconds < 90:
        return f"{max(1, -int(-seconds // 1))}s"
    return f"{-int(-seconds // 60)}m" if seconds < 5400 else f"{-int(-seconds // 360) / 10:.1f}h"


def taken(effort: str, token_layers: Mapping[str, Mapping[str, float]], rate: float) -> str:
    """What an effort will take, as the terminal says it.

    Args:
        effort: of all suites, and perhaps others of some (`auditkit.record.plan.effort_of`).
        token_layers: suite -> effort -> what it runs.
        rate: token-layers per second in plain batches.
    """
    if effort == STEPWISE:
        whole = sum(of["standard"] for of in token_layers.values())
        least, most = (whole * share for share in (LOOKS[0].share, sum(look.share for look in LOOKS)))
        times = f"between {duration(REST * least / rate)} and {duration(REST * most / rate)}"
        work = f"{_counted(least)} to {_counted(most)}"
    else:
        most = sum(of[effort_of(effort, suite)] for suite, of in token_layers.items())
        times, work = f"about {duration(REST * most / rate)}", _counted(most)
    return f"{effort}, {times} ({work} token-layers, at {rate:,.0f} a second in plain batches)"


def _counted(token_layers: float) -> str:
    return f"{token_layers / 1e6:.2g} million" if token_layers >= 1e5 else f"{token_layers:,.0f}"


def fitting(
    text: str,
    token_layers: Mapping[str, Mapping[str, float]],
    rate: float,
    decided: Mapping[str, Mapping[str, float]],
) -> tuple[str, str]:
    """The efforts that a budget is divided into, and a line that says what they will take.

    All suites begin with the least effort. As long as some step up fits into what is left, the one that can be
    expected to decide most claims per second is taken. Where nothing is known of a suite, its steps come last, the
    cheapest first.

    Args:
        text: the budget.
        token_layers, rate: see `taken`.
        decided: suite -> effort -> claims that can be expected to be decided (`auditkit.gate.planned.decided`).

    Raises:
        ValueError: the least effort does not fit; the line says what it takes.
    """
    seconds = {
        suite: {effort: REST * work / rate for effort, work in of.items()} for suite, of in token_layers.items()
    }
    least, *_, most = sorted(EFFORTS, key=lambda effort: EFFORTS[effort])
    needed, whole = (sum(of[effort] for of in seconds.values()) for effort in (least, most))
    chosen, left = dict.fromkeys(seconds, least), seconds_of(text) - needed
    if left < 0:
        raise ValueError(
            f"--budget {text} is too short for the least effort on this model and machine: "
            f"{taken(least, token_layers, rate)}; give --budget {duration(needed)}, or fewer suites"
        )
    while steps := list(_steps(chosen, seconds, decided, left)):
        _, saved, suite, effort = max(steps)
        chosen[suite], left = effort, left + saved
    best = _said(chosen)
    further = "" if best == most else f"; {most} would take about {duration(whole)}"
    return best, f"--budget {text}: {taken(best, token_layers, rate)}{further}"


def _steps(
    chosen: Mapping[str, str],
    seconds: Mapping[str, Mapping[str, float]],
    decided: Mapping[str, Mapping[str, float]],
    left: float,
) -> Iterator[tuple[float, float, str, str]]:
    """Each step up that fits into the seconds that are left, the best of which is the greatest: claims that it decides
    per second, minus its seconds, suite, effort."""
    for suite, now in chosen.items():
        gains = decided.get(suite, {})
        # What measures no more than a lesser effort does, where a suite has no more items, is not offered.
        offered = {takes: effort for effort, takes in reversed(list(seconds[suite].items()))}
        for takes, effort in offered.items():
            costs = takes - seconds[suite][now]
            if 0 < costs <= left:
                yield (gains.get(effort, 0.0) - gains.get(now, 0.0)) / costs, -costs, suite, effort


def _said(chosen: Mapping[str, str]) -> str:
    """Efforts as `--effort` takes them: the commonest for all suites, and those of the others by name."""
    general = max(EFFORTS, key=lambda effort: list(chosen.values()).count(effort))
    return ",".join(
        [general, *(f"{suite}{OF_SUITE}{own}" for suite, own in sorted(chosen.items()) if own != general)]
    )
