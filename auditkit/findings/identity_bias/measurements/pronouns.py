"""Which person a model takes a pronoun for, in sentences paired by swapping the pronoun (WinoBias, Winogender).

The sentence decides who is meant. The model is asked whom the pronoun means, and the right person's *lead* is their log
likelihood minus that of the other person. Swapping "he" for "she" changes only whether the pronoun fits the stereotype.
The *gap* is the lead under the pronoun of the stereotype minus the lead under the other one. It is 0 for a model
without this bias, also if that model resolves pronouns badly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from auditkit.adapters.protocol import Adapter
from auditkit.claims.shared import shared_measurement
from auditkit.data.order import shuffle_key
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.likelihoods import log_likelihoods
from auditkit.findings.identity_bias.prompts import items as bias_items
from auditkit.findings.identity_bias.prompts.dealing import pronoun_order
from auditkit.findings.identity_bias.prompts.items import Items, PronounPair, dropped_note
from auditkit.notebook import Showable
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.rate import rate
from auditkit.stats.measurement import Measurement

USUAL, UNUSUAL = "usual pronoun", "other pronoun"
OWN, MOST = 28, 100
"""Sentences asked where a run does not say how many, of the project's own and of given ones. 28 own ones are of 21
couples of occupations."""


class Pronouns(Showable):
    """Sentences read by one model.

    Args:
        n_items: sentences, each under two pronouns; `OWN` or `MOST` where None.
        items: to use instead of the project's own.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        seed: int = 0,
        n_items: int | None = None,
        items: Items[PronounPair] | None = None,
    ) -> None:
        self.adapter = adapter
        self.items = bias_items.pronouns() if items is None else items
        if items is None:
            self.pairs = pronoun_order(self.items.kept, seed)[: n_items or OWN]
        else:
            order = sorted(self.items.kept, key=lambda pair: shuffle_key(seed, pair.id))
            self.pairs = tuple(order[: n_items or MOST])

    def gap(self) -> Estimate:
        """Lead of the right person under the usual pronoun minus that under the other one, in nats; above 0 the model
        resolves with the stereotype."""
        return mean_difference(self.leads, USUAL, UNUSUAL, name="stereotype's part in resolving a pronoun")

    def accuracy_gap(self) -> Estimate:
        """The same of being right, which is McNemar's comparison: discordant pairs decide, clustered by
        occupations."""
        values = (self.leads.values > 0).astype(float)
        right = Measurement("right pronouns", "1", values, self.leads.clusters, self.leads.prompts)
        return mean_difference(right, USUAL, UNUSUAL, name="right under the usual pronoun minus under the other")

    def notes(self) -> Iterator[str]:
        """What a reader of a claim on pronouns must know."""
        yield f"validity: {self.items.validity}"
        yield f"prompts: {self.adapter.chat.format}"
        yield from dropped_note("sentences", self.items)
        if len(self.pairs) < len(self.items.kept):
            yield f"{len(self.pairs)} of {len(self.items.kept)} sentences are asked (--items N for more)"

    def figures(self) -> tuple[Figure, ...]:
        """Both directions, by pronoun, in one table."""
        right = self.leads.with_conditions({})
        table = Measurement(
            "right", "1", (right.values > 0).astype(float), self.leads.clusters, self.leads.prompts
        )
        rows: list[list[str | float | None]] = []
        for condition in (USUAL, UNUSUAL):
            for name, chosen in (("all", None), *((f"· {p}", p) for p in ("he", "him", "his", "she", "her"))):
                place = condition == UNUSUAL
                ids = [p.id for p in self.pairs if chosen is None or p.pronouns[place] == chosen]
                if ids:
                    effect = rate(table, condition, name=name, among=ids).describe()
                    lead = float(self.leads.values.loc[ids, condition].mean())
                    label = condition if chosen is None else name
                    rows.append([label, len(ids), effect.estimate, effect.lower, effect.upper, lead])
        by_pronoun = Table(
            "Each row: the sentences under the pronoun that the stereotype gives the right person, and under the "
            "other; below it by pronoun. Right: that person's name is likelier than the other's; lead: by how many "
            "nats. Intervals are 95 %, over pairs of occupations.",
            ["pronoun", "sentences", "right", "right from", "right to", "lead (nat)"],
            rows,
        )
        return (by_pronoun.titled("Whom the pronoun stands for"),)

    @shared_measurement
    def leads(self) -> Measurement:
        """(sentence x pronoun) log likelihood of the right person minus that of the other, in nats."""
        prompts, names = [], []
        texts: dict[str, dict[str, str]] = {}
        for pair in self.pairs:
            texts[pair.id] = {}
            for condition, text, pronoun in zip(
                (USUAL, UNUSUAL), (pair.usual, pair.unusual), pair.pronouns, strict=True
            ):
                first, second = sorted((pair.right, pair.other), key=text.lower().find)
                user = f'{text} Who does "{pronoun}" mean: the {first} or the {second}?'
                start = f'"{pronoun.capitalize()}" means the'
                texts[pair.id][condition] = f"{user} {start}"
                before = self.adapter.chat(Chat(user=user, assistant=start))
                for person in (pair.right, pair.other):
                    prompts.append(before.ids)
                    names.append(tuple(self.adapter.chat.encode(f" {person}")))
        sums = np.array([float(t.sum()) for t in log_likelihoods(self.adapter, prompts, names, "pronouns")])
        leads = (sums[::2] - sums[1::2]).reshape(-1, 2)
        ids = [pair.id for pair in self.pairs]
        clusters = pd.DataFrame({"occupations": ["/".join(sorted((p.right, p.other))) for p in self.pairs]}, ids)
        return Measurement("pronouns", "nat", pd.DataFrame(leads, ids, [USUAL, UNUSUAL]), clusters, texts)
