"""Ablations of heads whose attention differs on questions about "you", compared with random heads of similar depth.

The answer to a question is started with "Well,", and the measure is the log odds of the pronoun that the answer needs
against another one: " I" against " you" after a question about the model, " they" against " I" after a neutral one. The
effect of an ablation is the absolute change of these log odds.

A head is ablated at two places. Its output before the output projection (z) is replaced by its mean, by zero, by half
of itself or by that of another prompt; its attention pattern is replaced by even attention over the keys that each
query sees. An MLP's output is replaced by its mean. Both mean ablations are graded, from none to all of the output.

The heads matter if they move the answer further than each of several sets of as many random heads of about the same
depth. They are compared with every set, because the set that is strongest on some items need not be so on others. Each
half of the frames is measured under ablation of the heads that the other half found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from auditkit.adapters.chat import Prompt, plain
from auditkit.adapters.protocol import Answers
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Unsupported
from auditkit.claims.shared import SharedMeasurements, shared_measurement
from auditkit.data.items import single_token
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.edits import Edit, mean, replace, resample, scale, zero
from auditkit.engine.forward import means
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.sites import Site, SiteError, head, mlp, pattern, z
from auditkit.findings.role_conditioning.figures import curve
from auditkit.findings.role_conditioning.measurements.entropy import Array, uniform_pattern
from auditkit.findings.role_conditioning.measurements.heads import RoleHeads
from auditkit.findings.role_conditioning.prompts.matching import FRAME
from auditkit.findings.role_conditioning.prompts.sets import NEUTRAL, SELF, THIRD, RoleSet
from auditkit.methods.head_search import Head, label
from auditkit.methods.patching import difference, note_guards
from auditkit.notebook import Showable
from auditkit.record.figures import Curves, Dots, Figure
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.halves import joined
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

SETS, NEAR = 20, 3
"""Number of random sets, and how many layers a random head may lie away from the head that it is compared with."""
TOGETHER = 4
"""Heads that are ablated together, at most."""
ITEMS = 18
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of an output is replaced in a graded ablation; at 0 nothing may move."""
START = "Well,"
PRONOUNS = {SELF: (" I", " you"), NEUTRAL: (" they", " I")}
ANSWERS = (SELF, NEUTRAL)

MEAN, ZERO, HALF, RESAMPLE, EVEN, MLPS = ABLATIONS = (
    "mean ablation",
    "zero ablation",
    "half of the output",
    "resample ablation",
    "even attention",
    "mean ablation of these layers' MLPs",
)
"""All but the last are of the heads; the last one is a comparison with the MLPs of their layers."""
GRADED = {MEAN: "heads", MLPS: "MLPs of their layers"}
"""Ablations that are graded -> what they replace."""

Condition = list[list[Edit]]


class RoleAblation(Showable):
    """Ablations of some heads of one model; each measurement is made once.

    Args:
        heads: the search.
        chosen: heads to ablate; the confirmed ones where None, at most `TOGETHER`.
        n_items: how many sets of prompts to use, spread over frames.
        brief: measure only the mean ablation, of the heads and of random ones.
    """

    def __init__(
        self, heads: RoleHeads, chosen: Sequence[Head] | None = None, n_items: int = ITEMS, *, brief: bool = False
    ) -> None:
        self.brief = brief
        self.heads, self.role, self.adapter = heads, heads.role, heads.role.adapter
        self.seed, self.n_items = heads.role.seed, n_items
        self._chosen = chosen
        self._tables = SharedMeasurements()

    @property
    def those(self) -> tuple[Head, ...]:
        """The heads that are ablated.

        Raises:
            NotApplicable: none was confirmed.
        """
        return self.heads.those(TOGETHER) if self._chosen is None else tuple(self._chosen)

    def answers(self) -> Estimate:
        """Log odds of " I" against " you" after a question about the model, without ablation."""
        return mean_difference(self._table(SELF), "as it is", "even odds", name=_LOG_ODDS)

    def moved(self, ablation: str, category: str = SELF) -> Estimate:
        """Mean absolute change of the log odds by an ablation, on the items to confirm.

        Args:
            ablation: one of `ABLATIONS`, one that is `graded`, or "random set N" after questions about the model.
        """
        table = self._table(category)
        return mean_difference(
            table, f"moved, {ablation}", "not moved", name=f"moved by {ablation}, {category} questions"
        )

    def over_random(self) -> tuple[Estimate, ...]:
        """By how much more mean ablation of the heads moves the log odds than that of each of `SETS` random sets.

        Each half of the items is measured under ablation of the heads that the other half found. Where only this half's
        heads are confirmed, the estimates are over the items to confirm alone.
        """
        names = [f"random set {n}" for n in range(SETS)]
        here = [self._over(name) for name in names]
        if self._chosen is not None or not self.heads.other_way.found.confirmed:
            return tuple(here)
        return tuple(
            joined(f"moved by the heads minus {name}", one, self._other_way._over(name))
            for name, one in zip(names, here, strict=True)
        )

    def notes(self) -> tuple[str, ...]:
        """The heads that are ablated, and how answers begin."""
        heads = ", ".join(label(*each) for each in self.those)
        return (f'heads ablated together: {heads}; answers begin with "{START}"',)

    def figures(self) -> tuple[Figure, ...]:
        """Ablations side by side, and the effect by how much is ablated."""
        side_by_side = Dots.of(
            "log odds moved, absolute",
            "How far each ablation moves the log odds of the pronoun in the answer. Heads that matter only for answers "
            "about the model move those answers and not the neutral ones.",
            {
                f"answers to {category} questions": {
                    name: self.moved(name, category).describe() for name in ABLATIONS
                }
                for category in ANSWERS
            },
            reference=0.0,
        )
        return (
            side_by_side.titled("Ablating the heads that tell you apart"),
            *(self._graded(name).titled(f"Graded mean ablation: {what}") for name, what in GRADED.items()),
            self._ranking().titled("Random heads of the same depth"),
        )

    def _graded(self, name: str) -> Curves:
        """The effect by the share of the output that is replaced."""
        return Curves(
            "share of the output replaced by its mean",
            "log odds moved, absolute",
            "If the effect rises in a straight line, it comes from the output that is replaced, and not from an "
            "activation that is unusual for later layers. At 0 nothing is replaced and nothing may move.",
            [
                curve(
                    f"{category} questions", [self.moved(graded(name, s), category) for s in STRENGTHS], STRENGTHS
                )
                for category in ANSWERS
            ],
            reference=0.0,
            whole=False,
        )

    # -- measuring ---------------------------------------------------------------------------------------------

    def _ranking(self) -> Dots:
        names = [MEAN, *(f"random set {n}" for n in range(SETS))]
        return Dots.of(
            "log odds moved, absolute",
            "Mean ablation of the heads, and of random sets of as many heads of about the same depth, on the items "
            "on which the heads were not found. The claim compares the heads with every one of the sets.",
            {"answers to self questions": {name: self.moved(name).describe() for name in names}},
            reference=0.0,
        )

    def _over(self, name: str) -> Estimate:
        """Mean ablation of the heads minus that of one random set, on the items to confirm."""
        whole = self._table(SELF)
        conditions = ["as it is", f"moved, {MEAN}", f"moved, {name}"]
        table = Measurement(whole.name, whole.unit, whole.values[conditions], whole.clusters, whole.prompts)
        return mean_difference(table, *conditions[1:], name=f"moved by the heads minus {name}")

    @shared_measurement
    def _other_way(self) -> RoleAblation:
        """Ablation of the heads that the other half found, as far as the comparison with random sets needs it."""
        other = RoleAblation(self.heads.other_way, n_items=self.n_items, brief=True)
        vars(other)["_items"], vars(other)["_average"] = self._items, self._average
        return other

    @shared_measurement
    def _items(self) -> list[RoleSet]:
        """Sets whose answers are single tokens, spread over the frames of both halves."""
        known = set(self.heads.arm.matched.table.index)
        usable = [each for each in self.role.sets if each.id in known and self._answerable(each)]
        if not usable:
            raise Unsupported(
                "ablations need sets of prompts (not lists) after which every pronoun is a single token; there is none"
            )
        return usable[: self.n_items]

    def _answerable(self, each: RoleSet) -> bool:
        return all(
            isinstance(single_token(self.adapter.chat.encode, _written(each.prompts[category]), word), int)
            for category in ANSWERS
            for word in PRONOUNS[category]
        )

    def _half(self, rows: Sequence[int]) -> list[RoleSet]:
        ids = set(self.heads.arm.matched.table.index[list(rows)])
        return [each for each in self._items if each.id in ids]

    @property
    def _confirming(self) -> list[RoleSet]:
        return self._half(self.heads.found.confirmation)

    def _table(self, category: str) -> Measurement:
        table = self._tables.get(category, lambda: self._measured(category, self._confirming))
        if category == SELF:
            self._require_answers(table)
        return table

    def _require_answers(self, table: Measurement) -> None:
        odds = mean_difference(table, "as it is", "even odds", name=_LOG_ODDS).describe()
        if odds.lower is not None and odds.lower <= 0:
            raise NotApplicable(
                "the model does not answer questions about itself with 'I' rather than 'you': log odds "
                f"{odds.estimate:.2f} [{odds.lower:.2f}, {odds.upper:.2f}]"
            )

    def _measured(self, category: str, sets: Sequence[RoleSet]) -> Measurement:
        if not sets:
            raise Inconclusive("no_items: no set of this half has answers that are single tokens")
        pairs = [self._pair(category, each) for each in sets]
        conditions = self._brief(len(sets)) if self.brief else self._conditions(category, sets)
        if category == SELF:
            conditions |= self._random(len(sets))
        what = f"ablation, {category}" + (", halves exchanged" if self.brief else "")
        measured = restarted(self.adapter, pairs, conditions, what)
        note_guards(what, measured)
        base = difference(measured.base)
        columns: dict[str, Array] = {
            "as it is": base,
            "even odds": np.zeros_like(base),
            "not moved": np.zeros_like(base),
        }
        columns |= {
            f"moved, {name}": np.abs(difference(value) - base) for name, value in measured.conditions.items()
        }
        index = pd.Index([each.id for each in sets], name="item")
        return Measurement(
            f"log odds of the pronoun, {category} questions",
            "logit",
            pd.DataFrame(columns, index=index),
            pd.DataFrame({FRAME: [each.frame for each in sets]}, index=index),
            {each.id: {category: pair.base.text} for each, pair in zip(sets, pairs, strict=True)},
        )

    def _pair(self, category: str, each: RoleSet) -> PatchPair:
        """The prompt with its answers. The source, which guards need, is the same question about somebody else."""
        encode = self.adapter.chat.encode
        texts = {
            c: plain(self.adapter.chat, _written(each.prompts[c]))
            for c in (SELF, NEUTRAL, THIRD)
            if c in each.prompts
        }
        base = texts.pop(category)
        source = next((p for p in texts.values() if len(p) == len(base)), base)
        right, wrong = (encode(f"{START}{word}")[-1] for word in PRONOUNS[category])
        answers: Answers = (right, wrong)
        return PatchPair(base, source, answers)

    def _conditions(self, category: str, sets: Sequence[RoleSet]) -> dict[str, Condition]:
        """Ablation -> edits of each prompt."""
        those, average = self.those, self._average
        sites = [head(*each) for each in those]
        inside = {layer: self._average_mlp[layer] for layer, _ in those}
        prompts = [self._pair(category, each).base for each in sets]

        def patterns(prompt: Prompt) -> list[Edit]:
            even = uniform_pattern(len(prompt))[:, None]  # (query, head, key)
            return [replace(pattern.layer(layer).head(n), even) for layer, n in those]

        everywhere = {
            **{graded(MEAN, s): _at_mean(those, average, s) for s in STRENGTHS},
            **{graded(MLPS, s): list(mean(mlp.everywhere(), inside, s)) for s in STRENGTHS},
            ZERO: [zero(site) for site in sites],
            HALF: [scale(site, 0.5) for site in sites],
        }
        made: dict[str, Condition] = {name: [edits] * len(sets) for name, edits in everywhere.items()}
        made[EVEN] = [patterns(prompt) for prompt in prompts]
        made[RESAMPLE] = [
            self._resampled(sites, prompt, each.id) for prompt, each in zip(prompts, sets, strict=True)
        ]
        return made

    def _resampled(self, sites: Sequence[Site], prompt: Prompt, name: str) -> list[Edit]:
        """Edits that replace each head by what it is in another question of equal length, drawn at random."""
        draw = stream(self.seed, "resampled heads", name)
        try:
            return [resample(site, prompt, self._questions, draw) for site in sites]
        except SiteError as error:
            raise Unsupported(str(error)) from None

    def _brief(self, n: int) -> dict[str, Condition]:
        return {MEAN: [_at_mean(self.those, self._average, 1.0)] * n}

    def _random(self, n: int) -> dict[str, Condition]:
        return {f"random set {k}": [_at_mean(self._random_heads(k), self._average, 1.0)] * n for k in range(SETS)}

    def _random_heads(self, number: int) -> tuple[Head, ...]:
        """Random heads: for each ablated head another one within `NEAR` layers of it, which is not ablated."""
        draw, drawn = stream(self.seed, "random heads", str(number)), list[Head]()
        for layer, _ in self.those:
            near = range(max(0, layer - NEAR), min(self.adapter.layers, layer + NEAR + 1))
            free = [
                (n, h)
                for n in near
                for h in range(self.adapter.heads)
                if (n, h) not in self.those and (n, h) not in drawn
            ]
            if not free:
                raise Unsupported(
                    f"there are no other heads within {NEAR} layers of layer {layer} to compare with"
                )
            drawn.append(free[int(draw.integers(len(free)))])
        return tuple(drawn)

    @shared_measurement
    def _questions(self) -> list[Prompt]:
        """All questions, each with the beginning of its answer."""
        texts = [each.prompts[category] for each in self.role.sets for category in ANSWERS]
        return [plain(self.adapter.chat, _written(text)) for text in texts]

    @shared_measurement
    def _pool(self) -> list[Prompt]:
        return [self._pair(category, each).base for category in ANSWERS for each in self._items]

    @shared_measurement
    def _average(self) -> Mapping[int, torch.Tensor]:
        return means(self.adapter, self._pool, z.everywhere(), TOKEN_BUDGET)

    @shared_measurement
    def _average_mlp(self) -> Mapping[int, torch.Tensor]:
        last = max(layer for layer, _ in self.those)  # no run goes further
        return means(self.adapter, self._pool, mlp.layers(0, last), TOKEN_BUDGET)


def graded(ablation: str, strength: float) -> str:
    """Name of a `GRADED` ablation at this strength; at 1 it is the ablation itself."""
    return ablation if strength == 1 else f"{ablation}, {strength:g}"


_LOG_ODDS = 'log odds of "I" against "you" in the answer'


def _written(question: str) -> str:
    """A question and the beginning of its answer."""
    return f"Question: {question}\nAnswer: {START}"


def _at_mean(heads: Sequence[Head], average: Mapping[int, torch.Tensor], strength: float) -> list[Edit]:
    return [replace(head(layer, n), average[layer][n], strength) for layer, n in heads]
