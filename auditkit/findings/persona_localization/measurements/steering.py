"""Whether editing the units or the direction of a persona changes agreement: a causal test that the paper lacks.

A model is asked whether it agrees with a statement, with the answer's start prefilled ("I"), and the logits of "agree"
and "disagree" are compared. If a direction carries the persona, steering along it raises agreement with the persona's
statements and lowers it with the others; steered against it, the other way round. Half the difference of the two, with
the statement's sign, is the shift. A shift that favours all statements alike cancels out.

Direction and units come from one half of the statements, and the model is asked about the other, about one persona of
each topic. Each edit is compared with a random one of the same size: the same values at as many other units with random
signs, or a random direction of the same length. A random ablation is scaled to the norm of what the ablation of the
units or direction removes, since removing any direction of large variance would otherwise do more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.claims.evidence import gathering, note
from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.items import single_token
from auditkit.data.order import shuffle_key
from auditkit.data.prompts import Chat
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.edits import Edit, add
from auditkit.engine.forward import donate
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.sites import Site, residual
from auditkit.findings.persona_localization.measurements.material import Array, PersonaActivations, PersonaItems
from auditkit.findings.persona_localization.measurements.scans import HALF, persona_scan
from auditkit.methods.patching import difference, note_guards
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import halves
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

What = Literal["units", "direction"]
Values = tuple[Array, tuple[str, ...]]
"""One value per statement, and the conditions that it was computed from."""

ASKED = 6
"""Statements of each kind and persona that the model is asked about, at most; and at most a third of what there is."""

DEPTH = 0.5
"""Of the block behind which is edited: early enough for later blocks to read what was written."""

STRENGTH = 4.0
"""Length of what is added, as a multiple of the distance between the means of positive and negative statements."""

SHARE = 0.05
"""Of all units that are steered or ablated: of those that the scan found, the ones whose means differ most."""

SYSTEM, START, AGREE, DISAGREE = "Say what you think.", "I", " agree", " disagree"
_UNEDITED = "unedited"


@dataclass(frozen=True, eq=False)
class LocatedPersona:
    """What one half of a persona's statements says is where it is.

    Attributes:
        difference: (units,) mean of the positive minus mean of the negative statements.
        units: those of the scan that are edited.
    """

    difference: Array
    units: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class SteeredStatement:
    """A statement that the model is asked about, and the persona as the other half has it."""

    id: str
    group: str
    positive: bool
    prompt: Prompt
    persona: LocatedPersona


class PersonaSteering:
    """Edits of one block's output and what they do to agreement; measured once, all together.

    Args:
        layer: behind which block; that at `DEPTH` where None.
    """

    def __init__(self, activations: PersonaActivations, layer: int | None = None) -> None:
        self.activations, self.seed = activations, activations.seed
        self.layer = activations.at_depth(DEPTH) if layer is None else layer

    # -- claims ------------------------------------------------------------------------------------------------

    def steered(self, what: What) -> tuple[Estimate, Estimate]:
        """Shift of agreement towards the persona by steering along its units or direction, and by one at random."""
        return self._pair(f"steering along the {what}", what, self._shift)

    def ablated(self, what: What) -> tuple[Estimate, Estimate]:
        """How far agreement moves, in whatever direction, without the units or direction, and by as much at random.

        Units are held at their mean over the statements asked, a direction at its mean share.
        """
        return self._pair(f"ablating the {what}", what, self._moved)

    def agreement(self) -> Estimate:
        """Agree minus disagree with positive statements, minus the same with negative ones, nothing edited."""
        signs = np.array([1.0 if one.positive else -1.0 for one in self._asked])
        values = signs * 2 * self._answers[_UNEDITED]
        return self._estimate("agreement with positive minus with negative statements", values, (_UNEDITED,))

    def edits(self) -> Figure:
        """Every edit beside its random counterpart."""
        groups = {}
        whats: tuple[What, ...] = ("units", "direction")
        for title, made in (("shift by steering", self.steered), ("movement by ablation", self.ablated)):
            effects = [estimate.describe() for what in whats for estimate in made(what)]
            groups[title] = {effect.name: effect for effect in effects}
        caption = (
            f'Logits of "{AGREE.strip()}" against "{DISAGREE.strip()}" under edits of the stream after block '
            f"{self.layer}. Above 0, steering raises agreement with the persona's statements against that with others; "
            "movement by ablation has no sign and is never below 0, so only the comparison with random edits counts."
        )
        return Dots.of("logit", caption, groups, 0.0).titled("Edits of persona units and directions")

    # -- measuring ---------------------------------------------------------------------------------------------

    def _pair(self, name: str, what: What, values: Callable[[str], Values]) -> tuple[Estimate, Estimate]:
        note(
            f"edits after block {self.layer} at all positions but the first; steering is {STRENGTH:g} times as long as "
            f"the distance of the means; {len(self._asked)} statements, none of which the units or directions are from"
        )
        own, other = values(what), values(f"random {what}")
        random = f"{name.rsplit(' the ', 1)[0]} random {'units' if what == 'units' else 'directions'}"
        return self._estimate(name, *own), self._estimate(random, *other)

    def _shift(self, what: str) -> Values:
        names = (f"along {what}", f"against {what}")
        signs = np.array([1.0 if one.positive else -1.0 for one in self._asked])
        return signs * (self._answers[names[0]] - self._answers[names[1]]) / 2, names

    def _moved(self, what: str) -> Values:
        names = (f"without {what}", _UNEDITED)
        return np.abs(self._answers[names[0]] - self._answers[_UNEDITED]), names

    def _estimate(self, name: str, values: Array, conditions: tuple[str, ...]) -> Estimate:
        index = pd.Index([one.id for one in self._asked])
        table = pd.DataFrame({condition: self._answers[condition] for condition in conditions}, index=index)
        clusters = pd.DataFrame({"statement": [one.group for one in self._asked]}, index=index)
        prompts = {one.id: {_UNEDITED: one.prompt.text} for one in self._asked}
        measured = Measurement("agreement", "logit", table, clusters, prompts)
        return Estimate(name, "logit", measured, values, shown_conditions=conditions)

    @shared_measurement
    def _answers(self) -> Mapping[str, Array]:
        """Condition -> (asked,) logit of agreeing minus that of disagreeing."""
        asked, adapter = self._asked, self.activations.adapter
        yes, no = (single_token(adapter.chat.encode, asked[0].prompt.text, said) for said in (AGREE, DISAGREE))
        if isinstance(yes, str) or isinstance(no, str) or yes == no:
            raise Unsupported(
                f"agreement cannot be read: '{AGREE}' and '{DISAGREE}' are not single, different tokens ({yes}, {no})"
            )
        site = residual.layer(self.layer)
        place = (site.component, self.layer)
        donated = donate(adapter, [], TOKEN_BUDGET, {one.prompt: (place,) for one in asked})
        values = [donated.activations[one.prompt, place][1:].double().cpu() for one in asked]
        middle = torch.cat(values).mean(0)
        conditions: dict[str, list[list[Edit]]] = {}
        for one, value in zip(asked, values, strict=True):
            for name, edit in self._edits(one, value - middle, site).items():
                conditions.setdefault(name, []).append([edit])
        pairs = [PatchPair(one.prompt, one.prompt, (yes, no)) for one in asked]
        measured = restarted(adapter, pairs, conditions, f"steering {len(pairs)} statements")
        note_guards(f"steering {len(pairs)} statements", measured)
        return {_UNEDITED: difference(measured.base)} | {
            name: difference(logits) for name, logits in measured.conditions.items()
        }

    def _edits(self, one: SteeredStatement, away: Tensor, site: Site) -> dict[str, Edit]:
        """Condition -> edit of one statement's prompt; `away` is (positions, units), how far from the mean it is."""
        there = site[1, len(one.prompt)]
        rng = stream(self.seed, "random edits", one.id)
        persona, width = one.persona, len(one.persona.difference)
        length = STRENGTH * float(np.linalg.norm(persona.difference))
        others = np.setdiff1d(np.arange(width), persona.units)
        elsewhere = rng.permutation(others)[: len(persona.units)]
        own, other = np.zeros(width), np.zeros(width)
        own[persona.units] = persona.difference[persona.units]
        signs = rng.choice([-1.0, 1.0], len(elsewhere))
        other[elsewhere] = rng.permutation(persona.difference[persona.units])[: len(elsewhere)] * signs
        vectors = {
            "units": own,
            "random units": other,
            "direction": persona.difference,
            "random direction": rng.normal(size=width),
        }
        edits: dict[str, Edit] = {}
        removed: dict[str, Tensor] = {}
        for name, vector in vectors.items():
            unit = torch.from_numpy(vector / np.linalg.norm(vector))
            edits[f"along {name}"] = add(there, (length * unit).float())
            edits[f"against {name}"] = add(there, (-length * unit).float())
            if name.endswith("units"):
                removed[name] = torch.where(torch.from_numpy(vector != 0), away, 0.0)
            else:
                removed[name] = (away @ unit)[:, None] * unit
            if name.startswith("random "):
                size = removed[name.removeprefix("random ")].norm() / removed[name].norm()
                removed[name] = size * removed[name]
            edits[f"without {name}"] = add(there, -removed[name].float())
        return edits

    @shared_measurement
    def _asked(self) -> tuple[SteeredStatement, ...]:
        self.activations.enough(2 * HALF, "finding units on one half and asking about the other")
        with gathering():  # one note of the claim speaks of the halves of all personas
            return tuple(one for items in self.activations.one_of_each_topic() for one in self._of(items))

    def _of(self, items: PersonaItems) -> list[SteeredStatement]:
        clusters = pd.DataFrame({"statement": items.groups}, index=list(items.ids))
        split = halves(clusters, self.seed, f"steering, {items.persona}")
        known = np.isin(items.ids, split.discovery)
        values, positive = self.activations.at(items, self.layer)[known].astype(np.float64), items.positive[known]
        if positive.all() or not positive.any():
            raise Inconclusive(f"too_few_statements: one half of {items.persona} has statements of one kind only")
        part = PersonaItems(
            items.persona,
            items.topic,
            tuple(np.array(items.ids)[known].tolist()),
            tuple(np.array(items.texts)[known].tolist()),
            positive,
            items.groups[known],
        )
        found = persona_scan(part, values, self.seed)
        if not len(found):
            raise Inconclusive(f"no_units: the scan found no units of {items.persona} after block {self.layer}")
        apart = values[positive].mean(axis=0) - values[~positive].mean(axis=0)
        spread = np.maximum(values.std(axis=0), 1e-12)
        most = max(1, round(SHARE * len(apart)))
        units = found[np.argsort(-np.abs(apart / spread)[found], kind="stable")[:most]]
        persona = LocatedPersona(apart, np.sort(units))
        chosen: set[str] = set()
        for kind in (True, False):
            rows = [
                i for i, name in enumerate(items.ids) if name in split.confirmation and items.positive[i] == kind
            ]
            rows.sort(key=lambda i: shuffle_key(self.seed, str(items.groups[i])))
            chosen |= {items.ids[i] for i in rows[: min(ASKED, items.fewest_groups() // 3)]}
        return [
            SteeredStatement(
                name, str(items.groups[i]), bool(items.positive[i]), self._question(items.texts[i]), persona
            )
            for i, name in enumerate(items.ids)
            if name in chosen
        ]

    def _question(self, statement: str) -> Prompt:
        return self.activations.adapter.chat(
            Chat(system=SYSTEM, user=f'"{statement}" Do you agree?', assistant=START)
        )
