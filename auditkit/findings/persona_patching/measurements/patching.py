"""Persona patching: where in the network persona words act (Poonia & Jain 2025, arXiv:2507.20936).

The logit difference between the right and a wrong answer is measured under a *clean* persona (positive word) and a
*corrupt* one (negative word), see `auditkit.findings.asking.questions`; `auditkit.methods.patching` measures how much
of the difference comes back when clean activations are restored. This module has the items, and the controls that need
to know about personas: donors that are another persona, or the right persona before another question. `layers`
explores single layers.

The paper's body gives layers of one model: MLPs 1 to 3 and attention 9 to 11 of 16, without saying whether it counts
from 0 or from 1. On models of another depth the bands are fractions of the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from auditkit.adapters.chat import Prompt
from auditkit.claims.evidence import beside, note
from auditkit.claims.outcomes import NotApplicable, Unsupported
from auditkit.engine.pairs import PatchPair
from auditkit.engine.sites import Site, attention, mlp
from auditkit.findings.asking.questions import PairedQuestions, PersonaQuestions
from auditkit.methods.patching import LOGITS, FromDonor, PairedItems, RandomBands, Restoration, Restored
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.streams import stream

CORRUPT, CLEAN = "negative", "positive"
"""Groups of personas of the corrupt and of the clean run."""

EARLY, MIDDLE = mlp.at_depth(0.06, 0.19), attention.at_depth(0.56, 0.69)
"""The paper's bands as fractions of the depth; of 16 layers they are 1 to 3 and 9 to 11, its numbers counted from 0."""

PAIRS, EACH = 32, 3
"""Pairs of personas at most, and under how many of them a question is asked."""

LEAST = MIN_CLUSTERS + 1
"""Items of the smallest measurement: one more than the clusters that an interval needs."""

EARLY_FROM_ONE, MIDDLE_FROM_ONE = mlp.at_depth(0, 0.13), attention.at_depth(0.50, 0.63)
"""The same if the paper counts its layers from 1: of 16 layers 0 to 2 and 8 to 10."""


class PersonaPatching:
    """Restorations of one model under pairs of personas; each is run once.

    Args:
        questions: the model and what it is asked.
        n_pairs: pairs of personas at most; as many as can be made where there are fewer.
        each: pairs that a question is asked under. Most of the variance lies between pairs, so many pairs with few
            questions each make shorter intervals than few pairs with all questions, in as many runs.
        bands: sites that run in one batch with their random bands, as soon as one of them is used: what they have in
            common then runs once.
        alternatives: further sites of that batch, without random bands. In a batch of their own two such bands would
            cost about 2.7 times as much on the default model, since both runs of every item would be made again.
    """

    def __init__(
        self,
        questions: PersonaQuestions,
        *,
        n_pairs: int = PAIRS,
        each: int = EACH,
        bands: Sequence[Site] = (),
        alternatives: Sequence[Site] = (),
    ) -> None:
        self.questions, self.adapter, self.seed = questions, questions.adapter, questions.seed
        self.n_pairs, self.each = n_pairs, each
        self._bands, self._alternatives = tuple(bands), tuple(alternatives)
        self._restorations: dict[float, Restoration] = {}

    def recovery(self, site: Restored) -> Estimate:
        """Share of the persona effect that restoring `site` brings back (0 corrupt, 1 clean)."""
        return self.recoveries(site)[0]

    def recoveries(self, *what: Restored, share: float = 1.0, scale: str = LOGITS) -> tuple[Estimate, ...]:
        """Recoveries over the same items.

        Args:
            share: of the items, see `items`.
            scale: of the answer, see `Restoration.recoveries`.

        Raises:
            NotApplicable: the model shows no persona effect, or see `Restoration.recoveries`.
        """
        restoration = self.on(share)
        together = [*self._alternatives, *(w for band in self._bands for w in (band, RandomBands(band)))]
        if share == 1 and not set(what).isdisjoint(together):
            bands = (w for w in together if isinstance(w, Site) or w.starts(self.adapter.layers))
            # Asked for from the runs that the bands are patched into, which so run once.
            restoration.recoveries(*bands, first=self.require_effect)
        self.require_effect()
        return restoration.recoveries(*what, scale=scale)

    def effects(self, *what: Restored, share: float = 1.0) -> tuple[Estimate, ...]:
        """The same in logits, which has an interval also where the persona effect of few items touches zero.

        Raises:
            NotApplicable: as `recoveries`.
        """
        self.require_effect()
        return self.on(share).effects(*what)

    def moved(self, site: Restored, *, share: float = 1.0) -> Estimate:
        """How far restoring `site` moves single answers, in either direction, in logits."""
        (effect,) = self.effects(site, share=share)
        return replace(effect, name=f"change of an answer by {site}", numerator=np.abs(effect.numerator))

    def on(self, share: float = 1.0) -> Restoration:
        """Restorations on a share of the items."""
        if share not in self._restorations:
            items = self.items(share)
            self._restorations[share] = Restoration(
                self.adapter, items, seed=self.seed, description=f"patching on {len(items.pairs)} items"
            )
        return self._restorations[share]

    def items(self, share: float = 1.0, arm: PairedQuestions | None = None) -> PairedItems:
        """The first items of the design, `LEAST` at least: few items still meet many questions and pairs."""
        arm = self.arm if arm is None else arm
        count = min(len(arm.pairs), max(LEAST, round(share * len(arm.pairs))))
        return PairedItems(arm.pairs, arm.measurement).take(range(count))

    @property
    def arm(self) -> PairedQuestions:
        """All items: each question under some of the pairs of corrupt and clean personas."""
        return self.questions.arm(CORRUPT, CLEAN, None, self.n_pairs, each=self.each)

    def require_effect(self) -> Estimate:
        """The persona effect, clean minus corrupt in logits; without one there is nothing to locate.

        Raises:
            NotApplicable: its interval touches zero, or it has the opposite sign.
        """
        for text in self.questions.notes(self.arm):
            note(text)
        total = self.on().total()
        effect = total.describe()
        if effect.lower is None or effect.upper is None or effect.lower > 0:
            return total  # without an interval the comparisons themselves say why
        beside("persona effect, clean minus corrupt", total)
        span = f"[{effect.lower:.3g}, {effect.upper:.3g}] logits"
        if effect.upper < 0:
            raise NotApplicable(f"the persona effect, {span}, has the opposite sign on this model")
        raise NotApplicable(
            f"the interval of the persona effect, {span}, touches zero, so the model does not show the behaviour"
        )

    # -- controls ----------------------------------------------------------------------------------------------

    def random_bands(self, like: Site, *, after: Site | None = None) -> RandomBands:
        """Bands of the same width at random places that do not overlap `like`, drawn per item.

        Args:
            after: the bands lie after this one, as `like` does; anywhere where None.

        Raises:
            NotApplicable: the network is too shallow to hold another band of that width.
        """
        first = -1 if after is None else after.layer_indices(self.adapter.layers)[-1]
        bands = RandomBands(like, first)
        if not bands.starts(self.adapter.layers):
            raise Unsupported(f"{self.adapter.layers} layers hold no other band as wide as {like}")
        return bands

    def from_donors(self, site: Site, *, share: float) -> tuple[Estimate, Estimate, Estimate]:
        """Effects of `site`, in logits, by donor: the clean run, another corrupt persona, another question.

        The other persona is a word of the corrupt group in the same question: another token, no better persona. The
        other question has equal length and another topic, under the clean persona. Up to the persona word's end its
        activations are those of the clean run, by causality, so it is informative at later positions only. Items
        without one of the two donors are left out.

        Raises:
            NotApplicable: no persona effect, or too few items have both donors.
        """
        self.require_effect()
        restoration = self.on(share)
        asked = {question.id: question for question in self.questions.format.questions}
        clean = {word.word: word for word in self.questions.groups[CLEAN]}
        corrupt = self.questions.groups[CORRUPT]
        rows: list[int] = []
        others: list[Prompt] = []
        questions: list[Prompt] = []
        for row, (name, pair) in enumerate(
            zip(restoration.items.measurement.values.index, restoration.items.pairs, strict=True)
        ):
            of, words = name.rsplit("|", 1)
            mine, own = asked[of], clean[words.split(">")[0]]
            elsewhere = [question for question in asked.values() if question.topic != mine.topic]
            persona = self._donor(name, pair, [self.questions.prompt(word, mine) for word in corrupt])
            other = self._donor(name, pair, [self.questions.prompt(own, question) for question in elsewhere])
            if persona is not None and other is not None:
                rows.append(row)
                others.append(persona)
                questions.append(other)
        if not rows:
            raise Unsupported("no item has another persona and another question of the same length as donors")
        if len(rows) < len(restoration.items.pairs):
            restoration = Restoration(
                self.adapter,
                restoration.items.take(rows),
                seed=self.seed,
                description=f"donors on {len(rows)} of {len(restoration.items.pairs)} items",
            )
        clean_run, other_persona, other_question = restoration.effects(
            site,
            FromDonor(site, tuple(others), f"another {CORRUPT} persona"),
            FromDonor(site, tuple(questions), "another question"),
        )
        return clean_run, other_persona, other_question

    def _donor(self, name: str, pair: PatchPair, among: Sequence[Prompt]) -> Prompt | None:
        """One of some prompts that is as long as those of an item and neither of them, drawn by item."""
        fitting = [
            prompt
            for prompt in among
            if len(prompt) == len(pair.base) and prompt.ids not in (pair.base.ids, pair.source.ids)
        ]
        return fitting[int(stream(self.seed, "donor", name).integers(len(fitting)))] if fitting else None
