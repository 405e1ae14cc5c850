"""Which effort fits into a time, by the tokens that suites say they run and the speed of the model.

An effort is chosen, and nothing between two efforts, so that a run with a budget is the run with that effort: it can be
continued, compared and gated like any other.
"""

from __future__ import annotations

import re

from auditkit.record.plan import EFFORTS, LOOKS, STEPWISE

REST = 2.0
"""Seconds of a run per second of plain batches with as many token-layers: also for logits, captures and intervals.

Default audits of SmolLM2 took 1.65 to 1.80 times as long, and 2 leaves room; `benchmarks/default_audit.py` measures it.
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


def taken(effort: str, token_layers: float, rate: float) -> str:
    """What an effort will take, as the terminal says it.

    Args:
        token_layers: that the run takes at `standard`.
        rate: token-layers per second in plain batches.
    """
    if effort == STEPWISE:
        least, most = (token_layers * share for share in (LOOKS[0].share, sum(look.share for look in LOOKS)))
        times = f"between {duration(REST * least / rate)} and {duration(REST * most / rate)}"
        work = f"{_counted(least)} to {_counted(most)}"
    else:
        most = token_layers * EFFORTS[effort]
        times, work = f"about {duration(REST * most / rate)}", _counted(most)
    return f"{effort}, {times} ({work} token-layers, at {rate:,.0f} a second in plain batches)"


def _counted(token_layers: float) -> str:
    return f"{token_layers / 1e6:.2g} million" if token_layers >= 1e5 else f"{token_layers:,.0f}"


def fitting(text: str, token_layers: float, rate: float) -> tuple[str, str]:
    """The greatest effort that fits into the budget `text`, and a line that says what it will take.

    Args:
        token_layers, rate: see `taken`.

    Raises:
        ValueError: none fits; the line says what the least takes.
    """
    takes = {effort: REST * token_layers * share / rate for effort, share in EFFORTS.items()}
    fits = [effort for effort, seconds in takes.items() if seconds <= seconds_of(text)]
    if not fits:
        least = min(takes, key=lambda effort: takes[effort])
        raise ValueError(
            f"--budget {text} is too short for the least effort on this model and machine: "
            f"{taken(least, token_layers, rate)}; give --budget {duration(takes[least])}, or fewer suites"
        )
    best = max(fits, key=lambda effort: takes[effort])
    more = [effort for effort in EFFORTS if takes[effort] > takes[best]]
    further = f"; {more[0]} would take about {duration(takes[more[0]])}" if more else ""
    return best, f"--budget {text}: {taken(best, token_layers, rate)}{further}"
