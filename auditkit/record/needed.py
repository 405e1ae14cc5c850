"""What an undecided comparison would need, in words: how many times the clusters, and how many times the runs.

The number of items that would decide comes from an estimate that is itself uncertain, so it is a range. It is said
against what the data have, since "94 topics" means something else where there are 17 than where there are thousands.

Where the whole interval lies nearer to the threshold than the least distance that counts, nothing more is needed.
"""

from __future__ import annotations

from auditkit.record.schema import Effect

BOTH = " and "
"""Joins the factors that must grow together, in `items_assume`."""
OUT_OF_REACH = 100
"""Times the items from which on more of them are no way to decide: another design or a larger effect is."""


NOTHING_MORE = "more items would not matter"


def at_threshold(effect: Effect) -> bool:
    """Whether the whole interval lies so near to the threshold that what is left open does not count."""
    if effect.lower is None or effect.upper is None or effect.threshold is None or not effect.counts_from:
        return False
    return max(effect.threshold - effect.lower, effect.upper - effect.threshold) <= effect.counts_from


def needed(effect: Effect) -> str:
    """ "needs 4 to 11 times the clusters of topic (17 now), and as many times the runs"; empty where not known."""
    if effect.items_range is None or not effect.n:
        return ""
    if at_threshold(effect):
        return NOTHING_MORE
    least, most = effect.items_range
    runs = (least / effect.n, most / effect.n if most is not None else None)
    what = f"the clusters of {effect.items_assume}" if effect.items_assume else "the items"
    if runs[0] > OUT_OF_REACH:
        return f"out of reach: needs more than {OUT_OF_REACH} times the runs"
    if BOTH not in effect.items_assume:
        return f"needs {_span(*runs)} times {what} ({effect.clusters} now), and as many times the runs"
    roots = (runs[0] ** 0.5, runs[1] ** 0.5 if runs[1] is not None else None)
    return (
        f"needs {_span(*roots)} times {what}, crossed as they are ({effect.clusters} now of the fewer), and "
        f"{_span(*runs)} times the runs"
    )


def _span(low: float, high: float | None) -> str:
    if high is None or high > OUT_OF_REACH:
        return f"at least {_times(low)}"
    return _times(low) if _times(low) == _times(high) else f"{_times(low)} to {_times(high)}"


def _times(multiple: float) -> str:
    return f"{multiple:.1f}".removesuffix(".0") if multiple < 10 else f"{multiple:.0f}"
