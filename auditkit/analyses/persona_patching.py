"""Persona patching: where in the network do persona words act? (Poonia & Jain 2025, arXiv:2507.20936)

A system turn gives the model a persona ("You are a bad student."), a factual question follows, and the answer's
start is prefilled. The logit difference between the right and a wrong answer is measured under a *clean* persona
(positive word) and a *corrupt* one (negative word) that differ in one token span. Denoising then runs the
corrupt prompt with activations at some sites restored from the clean run; `recovery` is the share of the clean
minus corrupt difference that comes back, as a ratio of means over items.

The paper scores multiple-choice letters on MMLU; small models answer those at chance, so the project's own
completion items are used. Items vary question and persona pair, so intervals cross both factors: topics, since
questions of one topic share their wording, and persona pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.data.items import CompletionItem, TokenizedItem, check_tokens, completion_items, select
from auditkit.data.personas import AlignedPair, Persona, build_pairs, differing_span, persona_groups
from auditkit.data.prompts import Chat
from auditkit.engine.patching import Condition, Patched, PatchPair, answer_logits, patch
from auditkit.engine.sites import Site
from auditkit.engine.wavefront import Sweep, sweep
from auditkit.record.evidence import figure, note
from auditkit.record.schema import Figure
from auditkit.stats.estimates import Estimate, mean_difference, recovery
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream
from auditkit.stats.verdicts import NotApplicable

SYSTEM = "You are {persona}."
FACTORS = ("topic", "pair")
ACCURACY_ITEMS = 60
"""Questions asked without a persona to see whether the model knows any answers."""

CURVE_ITEMS, CURVE_PAIRS = 5, 5
"""Questions and persona pairs of the exploratory layer curve."""


@dataclass(frozen=True)
class RandomBands:
    """A control: for each item, a band of the same component and width somewhere else in the network."""

    like: Site

    def __str__(self) -> str:
        return f"random bands like {self.like}"


@dataclass(frozen=True)
class _Arm:
    """Questions crossed with persona pairs, ready to run; `table` has columns item, topic, pair."""

    key: tuple[str, str, int, int]
    pairs: tuple[PatchPair, ...]
    table: pd.DataFrame
    note: str
    """Which words could not be paired; empty where all were."""

    @property
    def measurement(self) -> Measurement:
        clusters = self.table.set_index("item")[list(FACTORS)]
        prompts = {
            item: {"corrupt": pair.base.text, "clean": pair.source.text}
            for item, pair in zip(self.table["item"], self.pairs, strict=True)
        }
        name = f"logit difference, {self.key[0]} against {self.key[1]} personas"
        return Measurement(name, "logit", pd.DataFrame(index=clusters.index), clusters, prompts)


class PersonaPatching:
    """The measurements of one model; what was measured once is not measured again.

    Args:
        adapter: the model.
        seed: of the run; decides which items, pairs and random bands are drawn.
        n_items: questions, spread evenly over topics; by default one of each topic.
        n_pairs: persona pairs per comparison of two groups.
        items, groups: questions and persona words to use instead of the project's own.

    Raises:
        NotApplicable: too few usable items or pairs, or no better than chance on the questions.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        seed: int = 0,
        n_items: int | None = None,
        n_pairs: int = 16,
        items: Sequence[CompletionItem] | None = None,
        groups: dict[str, tuple[Persona, ...]] | None = None,
    ) -> None:
        self.adapter, self.seed, self.n_pairs = adapter, seed, n_pairs
        self._groups = persona_groups() if groups is None else groups
        self._notes = [f"prompts: {adapter.chat.format}"]
        checked = check_tokens(items or completion_items(), adapter.chat.encode, self._prefix)
        if checked.dropped:
            first = checked.dropped[0]
            self._notes.append(
                f"{len(checked.dropped)} of {len(checked.dropped) + len(checked.kept)} items dropped because their "
                f"answers are not single tokens for this tokenizer (first: {first.item_id}: {first.reason})"
            )
        topics = {entry.item.topic for entry in checked.kept}
        if len(topics) < MIN_CLUSTERS:
            raise NotApplicable(
                f"only {len(checked.kept)} usable items in {len(topics)} topics; {MIN_CLUSTERS} topics are needed "
                "to state an interval"
            )
        self._usable = {entry.item.id: entry for entry in checked.kept}
        n_items = len(topics) if n_items is None else n_items
        self._items = self._select(n_items)
        if len(self._items) < n_items:
            self._notes.append(f"{n_items} items were asked for; all {len(self._items)} usable ones are measured")
        self._recoveries: dict[str, Estimate] = {}
        self._arms: dict[tuple[str, str, int, int], _Arm] = {}
        self._base_logits: dict[tuple[str, str, int, int], torch.Tensor] = {}
        self._require_accuracy()

    # -- claims ------------------------------------------------------------------------------------------------

    def shift(self, group: str, *, against: str) -> Estimate:
        """How much a group of persona words moves the logit difference, compared with another group.

        Mean over paired items of LD(group) - LD(against), in logits; negative when the group answers worse.
        """
        measurement = self._unpatched(group, against)
        return mean_difference(measurement, "corrupt", "clean", name=f"{group} minus {against} personas")

    def recovery(self, site: Site | RandomBands) -> Estimate:
        """Share of the persona effect that restoring `site` brings back (0 corrupt, 1 clean)."""
        return self.recoveries(site)[0]

    def recoveries(self, *sites: Site | RandomBands) -> tuple[Estimate, ...]:
        """Recoveries of several sites over the same items, measured together."""
        arm = self._arm("negative", "positive")
        wanted = [site for site in dict.fromkeys(sites) if str(site) not in self._recoveries]
        if wanted:
            measurement = self._measure(arm, wanted, "recovery")
            for site in map(str, wanted):
                self._recoveries[site] = recovery(
                    measurement, site, clean="clean", corrupt="corrupt", name=f"recovery by {site}"
                )
        self._tell(arm)
        return tuple(self._recoveries[str(site)] for site in sites)

    def layer_curve(self, component: Site, *, bands: dict[str, Site]) -> None:
        """Draw what restoring each single layer of `component` brings back, in logits.

        Exploratory: measured on fewer items, to show where a band lies, and not to decide. In logits and not as
        a share, so that few items still have an interval.
        """
        arm = self._arm("negative", "positive", CURVE_ITEMS, CURVE_PAIRS)
        layers = component.layer_indices(self.adapter.layers)
        single = [Site(component.component, layer, layer, position=component.position) for layer in layers]
        swept = sweep(self.adapter, arm.pairs, single, "layer curve")
        _note_guards(f"layer curve, {swept.method}", swept)
        columns = {"corrupt": swept.base, "clean": swept.source}
        columns |= {str(site): value for site, value in zip(single, swept.values, strict=True)}
        measurement = arm.measurement.with_conditions(
            {name: _difference(value) for name, value in columns.items()}
        )
        effects = [mean_difference(measurement, str(s), "corrupt", name=str(s)).describe() for s in single]
        total = mean_difference(measurement, "clean", "corrupt", name="persona effect").describe()
        covered = {name: band.layer_indices(self.adapter.layers) for name, band in bands.items()}
        data = {
            "x_label": "layer",
            "y_label": "logit difference restored (logit)",
            "reading": (
                "Each point restores one layer alone at every position; the dashed line is the whole difference "
                f"between the clean and the corrupt persona. Exploratory: {len(arm.pairs)} items."
            ),
            "series": [
                {
                    "name": str(component.component),
                    "x": list(layers),
                    "y": [effect.estimate for effect in effects],
                    "lower": [effect.lower for effect in effects],
                    "upper": [effect.upper for effect in effects],
                }
            ],
            "bands": [{"name": name, "start": band[0], "stop": band[-1]} for name, band in covered.items()],
            "reference": total.estimate,
        }
        figure(Figure(title="Restoring one layer at a time", kind="layers", data=data))

    def random_bands(self, like: Site) -> RandomBands:
        """Bands of the same width at random places that do not overlap `like`, drawn per item.

        Raises:
            NotApplicable: the network is too shallow to hold another band of that width.
        """
        if not self._other_starts(like):
            raise NotApplicable(f"{self.adapter.layers} layers hold no other band as wide as {like}")
        return RandomBands(like)

    # -- measuring ---------------------------------------------------------------------------------------------

    def _measure(self, arm: _Arm, sites: Sequence[Site | RandomBands], description: str) -> Measurement:
        """Logit difference of the corrupt and the clean run, and of the corrupt run with each site restored."""
        conditions = {str(site): self._condition(arm, site) for site in sites}
        patched = patch(self.adapter, arm.pairs, conditions, description, base=self._base_logits.get(arm.key))
        _note_guards(description, patched)
        columns = {"corrupt": patched.base, "clean": patched.source, **patched.conditions}
        return arm.measurement.with_conditions({name: _difference(logits) for name, logits in columns.items()})

    def _condition(self, arm: _Arm, site: Site | RandomBands) -> Condition:
        if isinstance(site, Site):
            return [[site]] * len(arm.pairs)
        starts = self._other_starts(site.like)
        width = len(site.like.layer_indices(self.adapter.layers))
        drawn = stream(self.seed, "random bands", str(site)).choice(starts, len(arm.pairs))
        return [
            [Site(site.like.component, int(start), int(start) + width - 1, position=site.like.position)]
            for start in drawn
        ]

    def _other_starts(self, like: Site) -> list[int]:
        taken = like.layer_indices(self.adapter.layers)
        width = len(taken)
        return [
            start
            for start in range(self.adapter.layers - width + 1)
            if start > taken[-1] or start + width - 1 < taken[0]
        ]

    def _unpatched(self, corrupt: str, clean: str) -> Measurement:
        arm = self._arm(corrupt, clean)
        self._tell(arm)
        answers = [pair.answers for pair in arm.pairs]
        base = answer_logits(self.adapter, [pair.base for pair in arm.pairs], answers, f"{corrupt} personas")
        source = answer_logits(self.adapter, [pair.source for pair in arm.pairs], answers, f"{clean} personas")
        self._base_logits[arm.key] = base
        return arm.measurement.with_conditions({"corrupt": _difference(base), "clean": _difference(source)})

    def _arm(self, corrupt: str, clean: str, n_items: int | None = None, n_pairs: int | None = None) -> _Arm:
        """Questions x persona pairs of two groups; the first `n_items` and `n_pairs` where fewer are asked for."""
        key = (corrupt, clean, n_items or len(self._items), n_pairs or self.n_pairs)
        if key not in self._arms:
            self._arms[key] = self._build_arm(key)
        return self._arms[key]

    def _build_arm(self, key: tuple[str, str, int, int]) -> _Arm:
        corrupt, clean, n_items, n_pairs = key
        probe = self._items[0].item
        built = build_pairs(
            self._groups[clean],
            self._groups[corrupt],
            lambda persona: list(self._prompt(persona, probe).ids),
            n=n_pairs,
            seed=self.seed,
        )
        if len(built.pairs) < MIN_CLUSTERS:
            why = f" (first: {built.dropped[0].reason})" if built.dropped else ""
            raise NotApplicable(
                f"only {len(built.pairs)} pairs of {corrupt} and {clean} personas have equal token length, "
                f"{MIN_CLUSTERS} are needed{why}"
            )
        left_out = ""
        if built.dropped:
            left_out = (
                f"{corrupt} against {clean} personas: {len(built.pairs)} pairs, {len(built.dropped)} words not used "
                f"(first: {built.dropped[0].reason})"
            )
        rows, pairs = [], []
        for aligned in built.pairs:
            for entry in self._items[:n_items]:
                item = f"{entry.item.id}|{aligned.pair.id}"
                rows.append({"item": item, "topic": entry.item.topic, "pair": aligned.pair.id})
                pairs.append(self._patch_pair(aligned, entry, item))
        return _Arm(key, tuple(pairs), pd.DataFrame(rows), left_out)

    def _patch_pair(self, aligned: AlignedPair, entry: TokenizedItem, item: str) -> PatchPair:
        base = self._prompt(aligned.pair.corrupt, entry.item)
        source = self._prompt(aligned.pair.clean, entry.item)
        span = differing_span(base.ids, source.ids)
        if span is None:
            raise NotApplicable(f"the personas of {aligned.pair.id} render to the same tokens on this model")
        start, stop = span
        # Another place of the same width: after the word, since nothing before it can carry it, and before the
        # last token, where every path has already met.
        places = range(stop, len(base) - (stop - start) - 1)
        elsewhere = int(stream(self.seed, "elsewhere", item).choice(places))
        spans = {"identity": span, "elsewhere": (elsewhere, elsewhere + stop - start)}
        return PatchPair(base, source, (entry.right_id, entry.wrong_id), spans)

    # -- prompts -----------------------------------------------------------------------------------------------

    def _prompt(self, persona: Persona | None, item: CompletionItem) -> Prompt:
        system = "" if persona is None else SYSTEM.format(persona=f"{persona.article} {persona.phrase}")
        return self.adapter.chat(Chat(user=item.question, system=system, assistant=item.start))

    def _prefix(self, item: CompletionItem) -> str:
        return self.adapter.chat.render(Chat(user=item.question, assistant=item.start))

    def _select(self, n: int) -> tuple[TokenizedItem, ...]:
        """`n` usable items spread evenly over topics, or all where there are fewer."""
        items = [entry.item for entry in self._usable.values()]
        return tuple(self._usable[item.id] for item in select(items, min(n, len(items)), seed=self.seed))

    def _require_accuracy(self) -> None:
        """A model that does not know the answers has no logit difference worth patching (protocol, section 4).

        Asked without a persona, on more questions than are measured, so that a short run can tell too.
        """
        asked = self._select(max(ACCURACY_ITEMS, len(self._items)))
        n = len(asked)
        prompts = [self._prompt(None, entry.item) for entry in asked]
        logits = answer_logits(
            self.adapter,
            prompts,
            [(entry.right_id, entry.wrong_id) for entry in asked],
            "questions without persona",
        )
        right = int((_difference(logits) > 0).sum())
        needed = 0.5 + 3 * sqrt(0.25 / n)
        said = f"without a persona the right answer beats the wrong one in {right} of {n} items"
        if right / n < needed:
            raise NotApplicable(
                f"{said}; chance plus three standard errors is {needed:.2f}, so the model is at chance"
            )
        self._notes.append(said)

    def _tell(self, arm: _Arm) -> None:
        """What a reader of a claim on this arm must know; the same whichever claims ran before it."""
        for text in filter(None, (*self._notes, arm.note)):
            note(text)


def _note_guards(description: str, measured: Patched | Sweep) -> None:
    note(
        f"guards ({description}): the identity edit changed logits by at most {measured.identity_error:.1e}, the full "
        f"patch missed the clean run by at most {measured.full_patch_error:.1e}; every edit was made exactly once"
    )


def _difference(logits: torch.Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(items, 2) logits of right and wrong answer -> (items,) logit difference."""
    return (logits[:, 0].double() - logits[:, 1].double()).numpy()
