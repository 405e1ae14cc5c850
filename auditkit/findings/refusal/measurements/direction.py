"""The direction of refusal: found and chosen on one half of the pairs, for the other half to judge.

    direction = mean of the states of harmful requests - mean of the states of their harmless twins

Candidates are the directions at each token after the instruction and each layer. As in Arditi et al. 2024
(arXiv:2406.11717), means are taken over pairs whose harmful request is refused and whose harmless one is answered, the
last fifth of the layers is left out, and the candidate is chosen whose removal lowers the log odds of a refusal most.
Its removal must do little to other text, and its addition must raise refusal of harmless requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from auditkit.adapters.chat import Prompt
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.findings.refusal.measurements.scores import RefusalScores
from auditkit.findings.refusal.prompts.requests import HARMFUL, HARMLESS, KINDS, SUBJECT
from auditkit.findings.refusal.prompts.texts import benign_texts
from auditkit.methods.contrast.directions import FEWEST, Contrast, Direction
from auditkit.methods.contrast.effects import effects
from auditkit.methods.contrast.outcomes import BenignText, FirstTokens
from auditkit.methods.contrast.states import after_instruction, read_states
from auditkit.methods.contrast.sweeps import KEPT, Swept, choose, sweep
from auditkit.notebook import Showable
from auditkit.record.figures import Figure
from auditkit.stats.halves import Halves
from auditkit.stats.intervals import MIN_CLUSTERS

CHOOSING = 16
"""Pairs of the discovery half on which the place is chosen; the published work takes 32."""
LAYERS = 12
"""Layers that are tried, evenly over the depth: neighbouring layers have nearly the same direction."""
LEAST_OF_A_HALF = max(FEWEST, MIN_CLUSTERS)
"""Pairs that each half needs: for a mean, and for an interval."""
MOST_DAMAGE = 0.1
"""KL divergence, in nats per token, that the removal of a chosen direction may have on benign text (as published)."""
REMOVED = "direction removed"
ADDED = "direction added"


class RefusalDirection(Showable):
    """The direction that one model's discovery half gives.

    Args:
        scores: the requests, and what first tokens say of them; the model must refuse.
    """

    def __init__(self, scores: RefusalScores) -> None:
        self.scores, self.adapter, self.seed = scores, scores.adapter, scores.seed

    def notes(self) -> tuple[str, ...]:
        """Where the direction was found, and on what."""
        found = self.chosen
        return (
            f"direction of layer {found.layer}, position {found.position} (-1 is the last token of the prompt), found "
            f"on {len(self.fitted)} pairs and judged on {len(self.confirmation)} others",
        )

    def figures(self) -> tuple[Figure, ...]:
        """The change of refusal by every candidate on the discovery half."""
        return self._swept.figures("Where a direction's removal lowers refusal")

    @shared_measurement
    def contrast(self) -> Contrast:
        """States of all requests at every layer and token after the instruction."""
        after = after_instruction(self.adapter.chat)
        prompts = [pair[place] for place in range(len(KINDS)) for pair in self.scores.prompts.values()]
        states = read_states(self.adapter, prompts, range(-after, 0))
        half = len(self.scores.pairs)
        positive, negative = (
            type(states)(values, states.layers, states.positions)
            for values in (states.values[:half], states.values[half:])
        )
        return Contrast.of_pairs("refusal", positive, negative, self.table)

    @property
    def table(self) -> pd.DataFrame:
        """(pair x subject) cluster labels."""
        index = pd.Index([pair.id for pair in self.scores.pairs], name="item")
        return pd.DataFrame({SUBJECT: list(index)}, index=index)

    @shared_measurement
    def split(self) -> Halves:
        """The halves, by the names of the contrast's prompts.

        Raises:
            Inconclusive: too few pairs for both.
        """
        pairs = len(self.scores.pairs)
        if pairs < 2 * LEAST_OF_A_HALF:
            raise Inconclusive(
                f"too_few_pairs: {pairs} pairs of requests; to find a direction and to judge it on others, "
                f"{2 * LEAST_OF_A_HALF} are needed"
            )
        return self.contrast.halves(self.seed)

    @property
    def discovery(self) -> tuple[str, ...]:
        """Pairs on which the direction is found and chosen."""
        return self._pairs(self.split.discovery)

    @property
    def fitted(self) -> tuple[str, ...]:
        """Pairs of the discovery half whose harmful request is refused and whose harmless one is answered.

        Raises:
            Inconclusive: too few of them for a mean.
        """
        ids = set(self.discovery)
        told = (self.scores.odds(HARMFUL) > 0) & (self.scores.odds(HARMLESS) <= 0)
        some = tuple(
            pair.id for pair, right in zip(self.scores.pairs, told, strict=True) if right and pair.id in ids
        )
        if len(some) < LEAST_OF_A_HALF:
            raise Inconclusive(
                f"too_few_pairs: in {len(some)} of {len(ids)} pairs the model refuses the harmful request and answers "
                f"the harmless one; {LEAST_OF_A_HALF} are needed"
            )
        return some

    @property
    def fitted_prompts(self) -> tuple[str, ...]:
        """The requests of these pairs by their names in the contrast."""
        return tuple(f"{pair} {sign}" for pair in self.fitted for sign in "+-")

    @property
    def confirmation(self) -> tuple[str, ...]:
        """Pairs on which it is judged."""
        return self._pairs(self.split.confirmation)

    def outcome(self, kind: str, pairs: Sequence[str] | None = None) -> FirstTokens:
        """Log odds of a refusal of the requests of one kind, of these pairs; all where None."""
        prompts = [each[KINDS.index(kind)] for each in self.scores.prompts.values()]
        tokens, after = self.scores.tokens, after_instruction(self.adapter.chat)
        name = f"log odds of a refusal, {kind} requests"
        whole = FirstTokens(name, prompts, self.table, tokens.refusal, tokens.answer, after, unit="logit")
        return whole if pairs is None else whole.only(pairs)

    @property
    def chosen(self) -> Direction:
        """The direction at the chosen place.

        Raises:
            NotApplicable: no candidate lowers refusal, leaves other text alone and raises refusal when it is added.
        """
        return self._chosen

    def texts(self) -> BenignText:
        """Passages without requests."""
        prompts = [Prompt(text, tuple(self.adapter.chat.encode(text))) for text in benign_texts()]
        index = pd.Index([f"text {n}" for n in range(1, len(prompts) + 1)], name="item")
        return BenignText("benign text", prompts, pd.DataFrame({"text": list(index)}, index=index))

    @shared_measurement
    def _chosen(self) -> Direction:
        place = choose(self._swept, -1, allowed=self._allowed)
        if place is None:
            raise NotApplicable(
                "no direction qualified: none lowers refusal and leaves other text as it is when it is removed, and "
                "raises refusal when it is added"
            )
        return self.contrast.direction(place.layer, place.position, self.fitted_prompts)

    @shared_measurement
    def _swept(self) -> Swept:
        """Every candidate removed at all layers, at the tokens after the instruction."""
        some = self.discovery[:CHOOSING]
        note(f"the place is chosen on {len(some)} pairs, by removal at the tokens after the instruction")
        last = round(KEPT * self.adapter.layers)
        layers = range(last - 1, -1, -max(1, round(last / LAYERS)))
        return sweep(
            self.adapter, self.contrast, self.outcome(HARMFUL, some), self.fitted_prompts, kind="remove",
            layers=sorted(layers), reach="all",
        )  # fmt: skip

    def _allowed(self, direction: Direction) -> bool:
        """Whether removing a candidate leaves other text alone and adding it raises refusal of harmless requests."""
        texts = self.texts()
        harm = effects(
            self.adapter, texts.only(list(texts.table.index)[: CHOOSING // 2]), {REMOVED: [direction.remove()]},
            f"candidate of layer {direction.layer}, position {direction.position} removed",
        )  # fmt: skip
        if float(harm.values[REMOVED].mean()) >= MOST_DAMAGE:
            return False
        raised = effects(
            self.adapter, self.outcome(HARMLESS, self.discovery[:CHOOSING // 2]),
            {ADDED: [direction.add(self.contrast.dose(direction))]},
            f"candidate of layer {direction.layer}, position {direction.position} added",
        )  # fmt: skip
        return float(raised.change(ADDED).describe().estimate or 0.0) > 0

    def _pairs(self, prompts: Sequence[str]) -> tuple[str, ...]:
        names = {name.rsplit(" ", 1)[0] for name in prompts}
        return tuple(pair.id for pair in self.scores.pairs if pair.id in names)
