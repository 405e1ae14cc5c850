"""Which combinations of two crossed factors are run, where all of them would be too many.

With C1 and C2 clusters of two factors and n runs, the variance of a mean is a / C1 + b / C2 + e / n, where a and b are
the variances between the clusters of each factor and e the rest. So, for a given number of runs, an interval is
shortest where every run meets another cluster as long as there are some. Complete crossings spend most of their runs on
clusters that were met before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditkit.stats.streams import stream


def incomplete_crossing(
    rows: Sequence[str], columns: Sequence[str], each: int, *, seed: int, name: str
) -> list[tuple[str, str]]:
    """Combinations of rows and columns: first one for every row, then a second one for every row, and so on.

    A row meets `each` different columns, or all where there are fewer. In every turn the columns are met equally often,
    give or take one. The combinations of the first rows, or of a smaller `each`, are among those of all rows and of a
    larger `each`: a larger design repeats the smaller one and adds to it.

    Args:
        rows, columns: names of the clusters, or of items within them, without repetition.
        each: number of columns that a row meets.
        seed: of the run.
        name: of what is drawn; designs of another name are drawn independently.

    Raises:
        ValueError: `each` is less than one, or a name occurs twice.
    """
    if each < 1:
        raise ValueError(f"a row meets at least one column, not {each}")
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        raise ValueError("a row or a column occurs twice")
    order = sorted(columns, key=lambda column: stream(seed, name, column).random())
    # Turns start at columns far apart (van der Corput's sequence), so that what one turn leaves out others meet.
    places = [int(f"{turn:b}"[::-1], 2) / 2 ** turn.bit_length() for turn in range(len(order))]
    starts = np.argsort(np.argsort(places)).tolist()
    return [
        (row, order[(number + start) % len(order)]) for start in starts[:each] for number, row in enumerate(rows)
    ]
