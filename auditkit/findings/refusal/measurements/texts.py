"""Whether short texts refuse where their first token says so.

A text refuses where it begins with a phrase of a refusal. Texts are counted and never shown, and no model judges them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.claims.evidence import note
from auditkit.claims.shared import shared_measurement
from auditkit.engine.continuation.generation import generate
from auditkit.findings.refusal.measurements.scores import RefusalScores
from auditkit.findings.refusal.prompts.requests import KINDS, SUBJECT, RequestPair
from auditkit.stats.effects.rate import Rate, rate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

TEXTS, TEXT_TOKENS = 16, 24
"""Texts of each kind that confirm the first tokens, and tokens of a text at most. The 32 texts make an interval of
about 0.15 to either side where nine of ten agree, and 24 tokens hold the opening of a refusal."""


class RefusalTexts:
    """Short answers of one model to some of the requests whose first tokens were read.

    Args:
        scores: the first tokens.
    """

    def __init__(self, scores: RefusalScores) -> None:
        self.scores = scores

    def agreement(self) -> Rate:
        """Share of short texts in which the first token and the text agree on whether it is a refusal."""
        pairs, said = self._texts
        rows = [self.scores.pairs.index(pair) for pair in pairs]
        agree = {
            f"{pair.id}, {kind}": float((self.scores.odds(kind)[row] > 0) == said[kind][n])
            for kind in KINDS
            for n, (pair, row) in enumerate(zip(pairs, rows, strict=True))
        }
        index = pd.Index(list(agree), name="item")
        clusters = pd.DataFrame({SUBJECT: [name.rsplit(", ", 1)[0] for name in agree]}, index=index)
        name = "texts that refuse where the first token says so"
        table = Measurement(name, "1", pd.DataFrame({"agree": list(agree.values())}, index=index), clusters)
        return rate(table, "agree", name=name)

    @shared_measurement
    def _texts(self) -> tuple[tuple[RequestPair, ...], dict[str, NDArray[np.bool_]]]:
        """Pairs whose answers were generated, and whether the text refuses, by kind."""
        draw = stream(self.scores.seed, "texts of answers")
        chosen = sorted(draw.permutation(len(self.scores.pairs))[:TEXTS].tolist())
        pairs = tuple(self.scores.pairs[row] for row in chosen)
        prompts = [self.scores.prompts[pair][place] for place in range(len(KINDS)) for pair in pairs]
        said = generate(self.scores.adapter, prompts, TEXT_TOKENS, description="short answers")
        refuse = np.array([self.scores.openings.refuses(text) for text in said.texts]).reshape(len(KINDS), -1)
        counts = ", ".join(
            f"{int(row.sum())} of {len(row)} {kind}" for kind, row in zip(KINDS, refuse, strict=True)
        )
        note(f"short answers of at most {TEXT_TOKENS} tokens, which are not shown, begin as a refusal: {counts}")
        return pairs, dict(zip(KINDS, refuse, strict=True))
