"""What the heads that tell "you" apart do: ablated in every way, beside random heads of the same depth.

A question about the model is begun to be answered ("Well,"), and what is read is the log odds of the pronoun that
speaks of whom was asked about against another: " I" against " you" after a question about the model, " they" against
" I" after a neutral one. The effect of an ablation is by how much it moves these log odds, whatever the direction.

Ablations are of what a head has attended to (z), before the output projection: mean, zero, half of it, resampled from
another prompt; and of its pattern, made even over the keys that each query sees. An MLP is ablated by its mean. Both
mean ablations are graded, from nothing replaced to all.
Whether the heads matter is asked beside sets of as many random heads of about the same depth. Which of these sets moves
most is chosen on the items on which the heads were found; the two are compared on the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Answers
from auditkit.analyses.head_search import Head
from auditkit.analyses.patching import difference, note_guards
from auditkit.analyses.persona_heads import called
from auditkit.analyses.role_entropy import Array, uniform_pattern
from auditkit.analyses.role_figures import curve
from auditkit.analyses.role_heads import RoleHeads
from auditkit.analyses.role_prompts import FRAME, plain
from auditkit.data.items import single_token
from auditkit.data.role_prompts import NEUTRAL, SELF, THIRD, RoleSet
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.edits import Edit, mean, replace, resample, scale, zero
from auditkit.engine.patching import PatchPair, patch
from auditkit.engine.runs import means
from auditkit.engine.sites import Site, SiteError, head, mlp, pattern, z
from auditkit.record.evidence import current, figure, note
from auditkit.record.figures import Curves, Dot, DotGroup, Dots
from auditkit.stats.estimates import Estimate, mean_difference
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream
from auditkit.stats.verdicts import Inconclusive, NotApplicable, Unsupported

SETS, NEAR = 20, 3
"""Random sets of heads, and how many layers away from those that they stand for."""
TAKEN = 4
"""Heads that are ablated together."""
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
"""Of the heads, and for comparison of the MLPs of their layers."""
GRADED = {MEAN: "heads", MLPS: "MLPs of their layers"}
"""Ablations that are graded -> what they replace."""

Condition = list[list[Edit]]


class RoleAblation:
    """Ablations of some heads of one model; what was measured once is not measured again.

    Args:
        heads: the search.
        chosen: heads to ablate; the confirmed ones where None, at most `TAKEN`.
        n_items: how many sets to ask, spread over frames.
    """

    def __init__(self, heads: RoleHeads, chosen: Sequence[Head] | None = None, n_items: int = ITEMS) -> None:
        self.heads, self.role, self.adapter = heads, heads.role, heads.role.adapter
        self.seed, self.n_items = heads.role.seed, n_items
        self._chosen = chosen

    @property
    def those(self) -> tuple[Head, ...]:
        """The heads that are ablated.

        Raises:
            NotApplicable: none was confirmed.
        """
        return self.heads.those(TAKEN) if self._chosen is None else tuple(self._chosen)

    def answers(self) -> Estimate:
        """Log odds of " I" against " you" after a question about the model; nothing ablated."""
        return mean_difference(self._table(SELF, self._confirming), "as it is", "even odds", name=_LOG_ODDS)

    def moved(self, ablation: str, category: str = SELF) -> Estimate:
        """Mean absolute change of the log odds by one of `ABLATIONS`, or one `graded`, on the items to confirm."""
        table = self._table(category, self._confirming)
        return mean_difference(
            table, f"moved, {ablation}", "not moved", name=f"moved by {ablation}, {category} questions"
        )

    def strongest_random(self) -> Estimate:
        """The same, mean ablation, of the random set that moved most on the items on which the heads were found."""
        return self.moved(self._strongest)

    def show(self) -> None:
        """Ablations side by side, and the effect by how much is ablated."""
        if current() is None:
            return
        note_heads = ", ".join(called(*each) for each in self.those)
        note(f'heads ablated together: {note_heads}; answers begin with "{START}"')
        groups = []
        for category in ANSWERS:
            names = (*ABLATIONS, self._strongest)
            dots = [Dot.at(name, self.moved(name, category).describe()) for name in names]
            groups.append(DotGroup(f"answers to {category} questions", dots))
        figure(
            Dots(
                "log odds moved, absolute",
                "How far each ablation moves the log odds of the pronoun in the answer; a head that serves answers "
                "about the model moves those and leaves the neutral ones.",
                groups,
                reference=0.0,
            ).titled("Ablating the heads that tell you apart")
        )
        for name, what in GRADED.items():
            figure(
                Curves(
                    "share of the output replaced by its mean",
                    "log odds moved, absolute",
                    "A straight rise says that the effect is of what is replaced and not of an unusual input further "
                    "up; nothing replaced moves nothing.",
                    [
                        curve(
                            f"{category} questions",
                            [self.moved(graded(name, s), category) for s in STRENGTHS],
                            STRENGTHS,
                        )
                        for category in ANSWERS
                    ],
                    reference=0.0,
                    whole=False,
                ).titled(f"Graded mean ablation: {what}")
            )
        figure(self._ranking().titled("Random heads of the same depth"))

    # -- measuring ---------------------------------------------------------------------------------------------

    def _ranking(self) -> Dots:
        table = self._table(SELF, self._discovering, random=True)
        names = [MEAN, *(f"random set {n}" for n in range(SETS))]
        dots = []
        for name in names:
            effect = mean_difference(table, f"moved, {name}", "not moved", name=name).describe()
            dots.append(Dot.at(name, effect))
        return Dots(
            "log odds moved, absolute",
            "Mean ablation of the heads, and of random sets of as many heads of about the same depth, on the items on "
            "which the heads were found; the strongest random set is compared with them on the other items.",
            [DotGroup("answers to self questions, items to discover", dots)],
            reference=0.0,
        )

    @cached_property
    def _strongest(self) -> str:
        table = self._table(SELF, self._discovering, random=True)
        sizes = {f"random set {n}": table.condition(f"moved, random set {n}").mean() for n in range(SETS)}
        return max(sizes, key=lambda name: sizes[name])

    @cached_property
    def _items(self) -> list[RoleSet]:
        """Sets whose answers are single tokens, spread over the frames of both halves."""
        known = set(self.heads.arm.matched.table.index)
        usable = [each for each in self.role.sets if each.id in known and self._answerable(each)]
        if not usable:
            raise Unsupported(
                "no pronoun is a single token after the questions, or the prompts are lists: no answers to ask for"
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
    def _discovering(self) -> list[RoleSet]:
        return self._half(self.heads.found().discovery)

    @property
    def _confirming(self) -> list[RoleSet]:
        return self._half(self.heads.found().confirmation)

    def _table(self, category: str, sets: Sequence[RoleSet], random: bool = False) -> Measurement:
        key = (category, tuple(each.id for each in sets), random)
        if key not in self._tables:
            self._tables[key] = self._measured(category, sets, random)
        table = self._tables[key]
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

    @cached_property
    def _tables(self) -> dict[tuple[str, tuple[str, ...], bool], Measurement]:
        return {}

    def _measured(self, category: str, sets: Sequence[RoleSet], random: bool) -> Measurement:
        if not sets:
            raise Inconclusive("no_items: no question of this half can be asked")
        pairs = [self._pair(category, each) for each in sets]
        conditions = self._conditions(category, sets)
        if random:
            conditions = {MEAN: conditions[MEAN]} | self._random(len(sets), range(SETS))
        else:
            conditions |= self._random(len(sets), [int(self._strongest.removeprefix("random set "))])
        measured = patch(self.adapter, pairs, conditions, f"ablation, {category}")
        note_guards(f"ablation, {category}", measured)
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
            f"log odds of the pronoun, {category} questions" + (", items to discover" if random else ""),
            "logit",
            pd.DataFrame(columns, index=index),
            pd.DataFrame({FRAME: [each.frame for each in sets]}, index=index),
            {each.id: {category: pair.base.text} for each, pair in zip(sets, pairs, strict=True)},
        )

    def _pair(self, category: str, each: RoleSet) -> PatchPair:
        """The prompt, and as the source that guards need the same question about somebody else."""
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
        """Each head as it is in another question of equal length, drawn at random."""
        draw = stream(self.seed, "resampled heads", name)
        try:
            return [resample(site, prompt, self._questions, draw) for site in sites]
        except SiteError as error:
            raise Unsupported(str(error)) from None

    def _random(self, n: int, which: Sequence[int]) -> dict[str, Condition]:
        return {f"random set {k}": [_at_mean(self._random_heads(k), self._average, 1.0)] * n for k in which}

    def _random_heads(self, number: int) -> tuple[Head, ...]:
        """As many heads as those, each within `NEAR` layers of the one that it stands for, and none of those."""
        draw, taken = stream(self.seed, "random heads", str(number)), list[Head]()
        for layer, _ in self.those:
            near = range(max(0, layer - NEAR), min(self.adapter.layers, layer + NEAR + 1))
            free = [
                (n, h)
                for n in near
                for h in range(self.adapter.heads)
                if (n, h) not in self.those and (n, h) not in taken
            ]
            if not free:
                raise Unsupported(
                    f"there are no other heads within {NEAR} layers of layer {layer} to compare with"
                )
            taken.append(free[int(draw.integers(len(free)))])
        return tuple(taken)

    @cached_property
    def _questions(self) -> list[Prompt]:
        """Every question with the beginning of its answer."""
        texts = [each.prompts[category] for each in self.role.sets for category in ANSWERS]
        return [plain(self.adapter.chat, _written(text)) for text in texts]

    @cached_property
    def _pool(self) -> list[Prompt]:
        return [self._pair(category, each).base for category in ANSWERS for each in self._items]

    @cached_property
    def _average(self) -> Mapping[int, torch.Tensor]:
        return means(self.adapter, self._pool, z.everywhere(), TOKEN_BUDGET)

    @cached_property
    def _average_mlp(self) -> Mapping[int, torch.Tensor]:
        return means(self.adapter, self._pool, mlp.everywhere(), TOKEN_BUDGET)


def graded(ablation: str, strength: float) -> str:
    """One of `GRADED` at this strength; at 1 the ablation itself."""
    return ablation if strength == 1 else f"{ablation}, {strength:g}"


_LOG_ODDS = 'log odds of "I" against "you" in the answer'


def _written(question: str) -> str:
    """A question and the beginning of its answer."""
    return f"Question: {question}\nAnswer: {START}"


def _at_mean(heads: Sequence[Head], average: Mapping[int, torch.Tensor], strength: float) -> list[Edit]:
    return [replace(head(layer, n), average[layer][n], strength) for layer, n in heads]
