"""The pictures of the suite: the loss token by token, the map of heads, and what one induction head attends to."""

from __future__ import annotations

import numpy as np

from auditkit.claims.evidence import Section
from auditkit.findings.induction.measurements.heads import INDUCTION, PREVIOUS_TOKEN, InductionHeads, Kind
from auditkit.findings.induction.measurements.repeats import FIRST, ORDER, REPEAT, Repeats
from auditkit.findings.induction.measurements.scores import (
    BEFORE,
    DISTANCE,
    DUPLICATE,
    MATCH,
    PREVIOUS,
    SHUFFLED_MATCH,
)
from auditkit.methods.head_search import Head, label, map_of_means
from auditkit.record.figures import Curves, Figure, Heatmap, Series, Table

SHOWN = (MATCH, SHUFFLED_MATCH, DISTANCE, DUPLICATE, BEFORE, PREVIOUS)
FEWEST = 5
"""Heads in the table where none was found."""


def loss_by_token(repeats: Repeats) -> Figure:
    """The loss of each token of the first copy, of the repeat, and of the same tokens in another order."""
    length = repeats.sequences.length
    series = [
        Series.through(
            where,
            [n + 2 + (0 if where == FIRST else length) for n in range(length - 1)],
            [estimate.describe() for estimate in repeats.by_token(where)],
        )
        for where in (FIRST, REPEAT, ORDER)
    ]
    return Curves(
        "random token of the sequence",
        "loss in nats",
        f"Mean loss of each token. From token {length + 1} on, the same {length} tokens come again, in the same order "
        "or in another one. A model that looks up what followed a token before predicts the repeat and not the other "
        "order.",
        series,
    ).titled("The loss, token by token")


def map_of_heads(heads: InductionHeads, kind: Kind = INDUCTION) -> Figure:
    """All heads by layer, with the score of their kind; confirmed heads are framed."""
    repeats, searched = heads.repeats, heads.searched(kind)
    what = {
        INDUCTION: "to the token after the previous occurrence of the current one",
        PREVIOUS_TOKEN: "to the token before the current one",
    }[kind]
    caption = f"How much of its attention each head gives {what}. Framed: confirmed {kind.name}; {searched}."
    drawn = map_of_means(repeats.scores(kind.score), "share of attention", caption, searched.confirmed)
    return drawn.titled(f"Map of the {kind.name}")


def stripe(heads: InductionHeads) -> Figure:
    """Attention of the head that matches the prefix most, on one repeated sequence."""
    head = best(heads)
    pattern = heads.repeats.pattern(head)
    names = [str(n) for n in range(len(pattern))]
    return Heatmap(
        "attended token",
        "query",
        "share of attention",
        f"What {label(*head)} attends to on one repeated sequence; every row is a query. Where the second copy begins, "
        "an induction head jumps back to the token that followed the same token before, which draws a stripe.",
        names,
        names,
        pattern.tolist(),
    ).titled("The stripe of an induction head")


def best(heads: InductionHeads) -> Head:
    """The head that matches the prefix most on the half on which heads are found."""
    scores = heads.repeats.scores(MATCH)[heads.rows(False)[0]].mean(0)
    layer, head = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(layer), int(head)


def found(heads: InductionHeads) -> Section:
    """The map of induction heads, the stripe of the best one, and every found head with its scores."""
    searched = heads.searched()
    table = _table(heads, searched.found or searched.strongest[:FEWEST])
    return Section((str(searched),), (map_of_heads(heads), stripe(heads), table, *_copying(heads)))


def _copying(heads: InductionHeads) -> tuple[Figure, ...]:
    """What every head writes for the token that comes again; nothing where the model does not show it."""
    copying = heads.repeats.copying
    if copying is None:
        return ()
    by_layer = copying.mean(0)
    drawn = Heatmap(
        "layer",
        "head",
        "logits for the repeated token",
        "What each head's output adds directly to the logit of the token that comes next on the repeat, against the "
        f"mean of the other tokens of the sequence (mean over {len(copying)} sequences, to first order). Above zero a "
        "head copies; below zero it suppresses the copy. Framed: confirmed induction heads.",
        [str(layer) for layer in range(by_layer.shape[0])],
        [str(head) for head in range(by_layer.shape[1])],
        by_layer.T.tolist(),
        outlined=[(head, layer) for layer, head in heads.searched().confirmed],
        scale="centred",
    )
    return (drawn.titled("Which heads copy, and which suppress the copy"),)


def _table(heads: InductionHeads, some: tuple[Head, ...]) -> Figure:
    repeats, searched, copying = heads.repeats, heads.searched(), heads.repeats.copying
    other = heads.rows(False)[1]
    rows: list[list[str | float | None]] = []
    for head in some:
        became = "confirmed" if head in searched.confirmed else searched.why_not.get(head, "not found")
        numbers = [repeats.head(head, score, rows=other).describe().estimate for score in SHOWN]
        numbers.append(None if copying is None else float(copying[:, *head].mean()))
        rows.append([label(*head), became, *(None if value is None else round(value, 3) for value in numbers)])
    return Table(
        "Each row: a head found on one half of the sequences, its scores on the other half as shares of its attention, "
        "and what it writes for the token that comes again, in logits (below zero it suppresses the copy)."
        + ("" if searched.found else " None was found: these are the strongest heads."),
        ["head", "on the other half", *SHOWN, "copying"],
        rows,
    ).titled("Induction heads and their scores")
