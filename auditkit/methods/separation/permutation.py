"""Exchangeability: what may be swapped under a null hypothesis, and in which order rows are taken.

A permutation test compares a statistic with the same statistic after flags (positive or not, background or not) were
dealt anew. That is exact when, under the null, every such dealing was as likely as the real one. Rows that belong
together (duplicates, paraphrases, a statement and its negation) are not exchangeable one by one, so whole groups are
dealt: all flags of a group of one kind go to another group of the same size, and a group with both kinds keeps them and
deals them out within itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditkit.stats.streams import stream

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
Groups = Sequence[str] | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Significance:
    """A statistic among its values with the flags dealt anew; the larger, the less like chance.

    `p` is (1 + #{null >= score}) / (permutations + 1).
    """

    score: float
    null: NDArray[np.float64]

    @property
    def p(self) -> float:
        # Room for rounding: the real dealing may come up again, its rows summed in another order.
        level = self.score - 1e-9 * abs(self.score)
        return float((1 + (self.null >= level).sum()) / (1 + len(self.null)))


def group_codes(groups: Groups | None, activations: NDArray[Any]) -> NDArray[np.str_]:
    """(rows,) a name for each row's group. Without groups a row is its own, and rows with equal activations are one.

    Raises:
        ValueError: another number of groups than rows.
    """
    if groups is None:
        return np.array([hashlib.sha256(row.tobytes()).hexdigest() for row in np.ascontiguousarray(activations)])
    names = np.asarray(groups).astype(str)
    if names.shape != (len(activations),):
        raise ValueError(f"{len(activations)} rows need as many groups, got {names.shape}")
    return names


def canonical(activations: NDArray[Any], groups: NDArray[np.str_]) -> Indices:
    """The order of rows by group and content, in which results do not depend on the order that they came in."""
    rows = np.ascontiguousarray(activations)
    return np.array(sorted(range(len(rows)), key=lambda i: (groups[i], rows[i].tobytes())), dtype=np.intp)


def both_kinds(flags: NDArray[Any], rows: int, label: str) -> Flags:
    """The flags, if there are as many as rows and both kinds occur.

    Raises:
        ValueError: flags that are not true or false, of another number, or all alike.
    """
    values = np.asarray(flags)
    if values.shape != (rows,) or not np.isin(values, (0, 1)).all():
        raise ValueError(f"{label} must be true or false for each of {rows} rows")
    checked: Flags = values.astype(bool)
    if checked.all() or not checked.any():
        raise ValueError(f"{label} is {bool(checked.all())} for all {rows} rows; both kinds are needed")
    return checked


def dealt(
    flags: Flags, groups: NDArray[np.str_], count: int, rng: np.random.Generator,
    within: NDArray[Any] | None = None,
) -> NDArray[np.bool_]:  # fmt: skip
    """(count, rows) the flags dealt anew, exchanging whole groups of equal size.

    Args:
        within: (rows,) a stratum, such as a fold; groups are exchanged only inside theirs.
    """
    drawn = np.broadcast_to(flags, (count, len(flags))).copy()
    for units in _exchangeable(flags, groups, np.zeros(len(flags), int) if within is None else within):
        of_unit = np.broadcast_to(flags[units[:, 0]], (count, len(units)))
        drawn[:, units] = rng.permuted(of_unit, axis=1)[:, :, None]
    return drawn


def permuted(
    statistic: Callable[[NDArray[Any], Flags], float], activations: NDArray[Any], positive: NDArray[Any], *,
    groups: Groups | None = None, permutations: int = 1000, seed: int = 0, name: str = "labels",
) -> Significance:  # fmt: skip
    """Any statistic of rows and flags, against its values with the flags dealt anew to whole groups.

    Args:
        statistic: takes (rows, units) and (rows,) flags; larger means less like chance.
        groups: (rows,) what belongs together; by default each row is its own, equal rows together.
    """
    values = np.asarray(activations)
    flags, codes = both_kinds(positive, len(values), "positive"), group_codes(groups, values)
    order = canonical(values, codes)
    values, flags, codes = values[order], flags[order], codes[order]
    drawn = dealt(flags, codes, permutations, stream(seed, "permutations", name))
    return Significance(statistic(values, flags), np.array([statistic(values, one) for one in drawn]))


def _exchangeable(flags: Flags, groups: NDArray[np.str_], within: NDArray[Any]) -> Iterator[Indices]:
    """Sets of units that may change places, each (units, rows per unit)."""
    pure: dict[tuple[Any, int], list[Indices]] = {}
    for name in np.unique(groups):
        members = np.flatnonzero(groups == name)
        if flags[members].min() != flags[members].max():
            yield members[:, None]
        else:
            pure.setdefault((within[members[0]], len(members)), []).append(members)
    for units in pure.values():
        yield np.stack(units)
