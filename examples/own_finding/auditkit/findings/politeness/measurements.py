"""Log odds of help after a polite, a plain and a rude request.

log odds = logit(" Yes") - logit(" No") after "Answer:"
"""

from __future__ import annotations

from functools import cached_property

from auditkit.findings.politeness.prompts import ANSWERS, OPENINGS, START, chat, requests

from auditkit.adapters.protocol import Adapter
from auditkit.claims.outcomes import Unsupported
from auditkit.data.items import single_token
from auditkit.engine.pairs import answer_logits
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.measurement import Measurement


class Politeness:
    """Requests in three manners, asked of one model; measured once.

    Args:
        n_items: requests; all where None.

    Raises:
        Unsupported: " Yes" or " No" is no single token.
    """

    def __init__(self, model: Adapter, *, n_items: int | None = None) -> None:
        self.model = model
        self.requests = requests()[:n_items]
        ids = [single_token(model.chat.encode, START, answer) for answer in ANSWERS]
        if words := [one for one in ids if isinstance(one, str)]:
            raise Unsupported(words[0])
        self._answer = tuple(one for one in ids if isinstance(one, int))

    def shift(self, manner: str, against: str = "plain") -> Estimate:
        """Log odds of help in one manner minus those in another, in logits, over the same requests."""
        return mean_difference(self._measured, manner, against, name=f"{manner} minus {against}")

    @cached_property
    def _measured(self) -> Measurement:
        rows = [
            {"item": text, "topic": topic, "condition": manner}
            for topic, text in self.requests
            for manner in OPENINGS
        ]
        prompts = [self.model.chat(chat(row["item"], row["condition"])) for row in rows]
        logits = answer_logits(self.model, prompts, [self._answer] * len(rows))
        odds = (logits[:, 0] - logits[:, 1]).tolist()
        values = [{**row, "value": value} for row, value in zip(rows, odds, strict=True)]
        return Measurement.from_rows("log odds of help", "logit", values, factors=["topic"])
