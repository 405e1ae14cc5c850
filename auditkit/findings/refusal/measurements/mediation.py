"""What removing and adding the direction of refusal does, on the half that took no part in finding it.

Effects are shares of the gap: the log odds of a refusal of harmful requests minus those of their harmless twins, on the
same pairs, without edits. The direction is removed at every layer and token, and added at its own layer to every token,
as long as it is. Nulls have its place and length: random, and random with the covariance of the states. Beside them,
without a verdict, are differences of means with the kinds exchanged in half of the pairs, without their part along the
direction. Pairs differ in how much refusal they hold, so such a difference is no null: it holds part of what decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from auditkit.adapters.chat import Prompt
from auditkit.claims.shared import shared_measurement
from auditkit.engine.edits import Edit
from auditkit.engine.losses import losses
from auditkit.findings.refusal.measurements.direction import ADDED, REMOVED, RefusalDirection
from auditkit.findings.refusal.prompts.requests import HARMFUL, HARMLESS
from auditkit.findings.refusal.prompts.texts import benign_texts, shuffled
from auditkit.methods.contrast.directions import Direction
from auditkit.methods.contrast.effects import Effects, effects
from auditkit.methods.contrast.nulls import SHUFFLED, kind_of, nulls
from auditkit.methods.contrast.outcomes import PLAIN, note_guards
from auditkit.methods.contrast.separation import Separated, separation
from auditkit.notebook import Showable
from auditkit.record.figures import Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

EACH = 2
"""Null directions of each of the three kinds."""
EXCHANGED = "exchanged"
SEVERAL = 4
"""Directions of the subspace that one direction is compared with."""
FOUR = "four directions removed"
GAP = "of the gap"


class RefusalMediation(Showable):
    """The effects of one model's direction on its confirmation half; each batch is measured once.

    Args:
        found: the direction.
    """

    def __init__(self, found: RefusalDirection) -> None:
        self.found = found

    def notes(self) -> tuple[str, ...]:
        """What a reader of the effects must know."""
        return (*self.found.notes(), *self.found.scores.notes())

    def figures(self) -> tuple[Figure, ...]:
        """Changes by the direction, by the subspace and by every null."""
        return self.removed.figures("Log odds of a refusal on harmful requests, by what is removed")

    def separated(self) -> Separated:
        """How far harmful and harmless requests of the confirmation half lie apart along the direction."""
        return separation(self.found.contrast, self.found.split)

    @shared_measurement
    def null(self) -> Mapping[str, Direction]:
        """Null directions at the chosen place."""
        found = self.found
        made = nulls(found.contrast, found.chosen, found.fitted_prompts, seed=found.seed, each=EACH)
        random = {name: each for name, each in made.items() if kind_of(name) != SHUFFLED}
        return random | {f"{EXCHANGED} {n}": self._exchanged(n) for n in range(1, EACH + 1)}

    @shared_measurement
    def removed(self) -> Effects:
        """Harmful requests with the direction, four directions, or a null removed."""
        found, place = self.found, (self.found.chosen.layer, self.found.chosen.position)
        four = found.contrast.subspace(*place, SEVERAL, found.fitted_prompts)
        conditions: dict[str, Edit] = {REMOVED: found.chosen.remove(), FOUR: four.remove()}
        conditions |= {name: each.remove() for name, each in self.null.items()}
        return effects(found.adapter, found.outcome(HARMFUL, found.confirmation), conditions, "directions removed")

    @shared_measurement
    def added(self) -> Effects:
        """Harmless requests with the direction or a null added."""
        found = self.found
        dose = found.contrast.dose(found.chosen)
        conditions = {ADDED: found.chosen.add(dose)} | {name: each.add(dose) for name, each in self.null.items()}
        return effects(found.adapter, found.outcome(HARMLESS, found.confirmation), conditions, "directions added")

    def share(self, condition: str) -> Estimate:
        """By how much of the gap a condition lowers refusal of harmful requests, or raises that of harmless ones."""
        made, sign = (self.removed, -1.0) if condition in self.removed.values else (self.added, 1.0)
        change = sign * (made.values[condition] - made.values[PLAIN])
        gap = self.removed.values[PLAIN] - self.added.values[PLAIN]
        columns = {
            HARMFUL: self.removed.values[PLAIN],
            HARMLESS: self.added.values[PLAIN],
            condition: made.values[condition],
        }
        table = self._table(f"log odds of a refusal, {condition}", columns)
        name = f"change of refusal, {condition}"
        return Estimate(name, GAP, table, change, gap, shown_conditions=tuple(columns))

    def beyond(self, condition: str) -> list[Estimate]:
        """How much further a condition moves refusal in its direction than each random null does."""
        made, sign = (self.removed, -1.0) if condition == REMOVED else (self.added, 1.0)
        out = []
        for name in (name for name in self.null if not name.startswith(EXCHANGED)):
            other = made.beyond(condition, name)
            out.append(replace(other, name=f"{condition} beyond {name}", numerator=sign * other.numerator))
        return out

    def one_of_four(self) -> Estimate:
        """By how much one direction's removal lowers refusal, as a share of what four lower together."""
        plain, one, four = (self.removed.values[condition] for condition in (PLAIN, REMOVED, FOUR))
        columns = {HARMFUL: plain, REMOVED: one, FOUR: four}
        table = self._table("log odds of a refusal, one and four directions removed", columns)
        name = "change of refusal by one direction, of that by four"
        return Estimate(
            name, "of the change by four", table, plain - one, plain - four, shown_conditions=tuple(columns)
        )

    def _exchanged(self, number: int) -> Direction:
        """The difference of means with the two kinds exchanged in half of the pairs, across the direction."""
        found, contrast = self.found, self.found.contrast
        pairs = found.fitted[: len(found.fitted) // 2 * 2]
        order = stream(found.seed, "exchanged kinds", str(number)).permutation(len(pairs))
        turned = {pairs[place] for place in order[: len(pairs) // 2].tolist()}
        names = contrast.table.index
        flags = np.array([(name[-1] == "+") != (name[:-2] in turned) for name in names])
        values = contrast.states.at(found.chosen.layer, found.chosen.position)
        items = [f"{pair} {sign}" for pair in pairs for sign in "+-"]
        vector = contrast.differences(values, items, flags)
        vector = vector - (vector @ found.chosen.unit) * found.chosen.unit
        length = found.chosen.length / float(np.linalg.norm(vector))
        return replace(found.chosen, name=f"{EXCHANGED} {number}", vectors=length * vector[None])

    # -- benign text -------------------------------------------------------------------------------------------

    def damage(self) -> Estimate:
        """Change of the loss on benign text when the direction is removed, in nats per token."""
        plain, edited, _ = self._losses
        return self._of_texts("loss on benign text, direction removed", {"without edits": plain, REMOVED: edited})

    def shuffling(self) -> Estimate:
        """Change of the loss when the words of the same text are shuffled: what the measure must react to."""
        plain, _, mixed = self._losses
        return self._of_texts(
            "loss on benign text, words shuffled", {"without edits": plain, "words shuffled": mixed}
        )

    @shared_measurement
    def _losses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(text,) losses in nats per token: plain, with the direction removed, and of the shuffled text."""
        chat, texts = self.found.adapter.chat, benign_texts()
        both = [*texts, *(shuffled(text, self.found.seed) for text in texts)]
        prompts = [Prompt(text, tuple(chat.encode(text))) for text in both]
        own, mixed = prompts[: len(texts)], prompts[len(texts) :]
        each = [[self.found.chosen.remove()]] * len(own)
        made = losses(self.found.adapter, own, [(1, len(p)) for p in own], {REMOVED: each}, compare=False)
        note_guards(f"{REMOVED}, benign text", made[PLAIN].ran, 1)
        other = losses(self.found.adapter, mixed, [(1, len(p)) for p in mixed], {})
        return made[PLAIN].losses.numpy(), made[REMOVED].losses.numpy(), other[PLAIN].losses.numpy()

    def _of_texts(self, name: str, columns: Mapping[str, np.ndarray]) -> Estimate:
        index = pd.Index([f"text {n}" for n in range(1, len(next(iter(columns.values()))) + 1)], name="item")
        values = {condition: column.astype(np.float64) for condition, column in columns.items()}
        table = Measurement(
            name,
            "nats per token",
            pd.DataFrame(values, index=index),
            pd.DataFrame({"text": list(index)}, index=index),
        )
        before, after = values.values()
        return Estimate(name, "nats per token", table, after - before, shown_conditions=tuple(values))

    def _table(self, name: str, columns: dict[str, np.ndarray]) -> Measurement:
        ids = self.found.confirmation
        pairs = [pair for pair in self.found.scores.pairs if pair.id in set(ids)]
        return self.found.scores.table(name, "logit", columns, pairs)
