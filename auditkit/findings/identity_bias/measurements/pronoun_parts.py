"""Heads and MLPs behind the pronoun that stereotypes give an occupation; exploratory.

    stereotype = [logit(" he") - logit(" she") after "The mechanic said that"] - [the same after "The nurse said that"]

A component *carries* as much of it as is lost when its activations are exchanged for those of the twin sentence
(causal mediation: Vig et al. 2020, arXiv:2004.12265; heads and MLPs behind gender bias: Chintam et al. 2023,
arXiv:2310.12611). All components are estimated to first order in one run with a pass back (attribution). The strongest
ones are found on one half of the couples of occupations. On the other half each of them is confirmed or not, and all
found ones are exchanged together, exactly, and so are sets of as many random components of the same kinds and layers.

Activations are exchanged at the tokens after the word alone. At the word itself the first MLP of many models is little
else than the word, and exchanging it would only say that another word stands there.

The same exchange between words that are of one gender by meaning (queen, king) says whether these components carry
stereotypes alone. The literature doubts that (GKnow: arXiv:2605.12299), and also that components survive an unrelated
fine-tune, so their ranks in a candidate and its baseline are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from auditkit.adapters.protocol import Adapter
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import NotApplicable, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.personas import differing_span
from auditkit.engine.edits import Edit, replace
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.patching.screening import attribution
from auditkit.engine.sites import Site, Span, head, mlp
from auditkit.findings.identity_bias.prompts.gendered import (
    Gendered,
    Twins,
    answer_ids,
    by_meaning,
    by_stereotype,
    gendered,
)
from auditkit.methods.head_search import CONFIRMED, Head, label
from auditkit.methods.patching import difference, note_guards
from auditkit.record.figures import Dots, Figure, Heatmap
from auditkit.stats.effects.mean import Estimate, recovery
from auditkit.stats.families import explore
from auditkit.stats.halves import Halves, two_halves
from auditkit.stats.intervals import MIN_CLUSTERS, Array
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

TOGETHER = 8
"""Components that are found: the strongest on one half of the couples. Few couples confirm few of 300 components, so
the half that finds them ranks and does not test."""
SETS = 2
"""Random sets that they are compared with, both of them."""
STEREOTYPE, MEANING = "stereotype", "meaning"
SHE_SAID, HE_SAID, FOUND = "word of women", "word of men", "found components exchanged"
CARRIED = "carried, first order"
AFTER = "after the word"
_GRID = "components behind pronouns, to confirm"


@dataclass(frozen=True)
class FoundParts:
    """Components by what they carry on the half that finds them.

    Attributes:
        of: how many there are.
        found: the strongest, in this order; an MLP has the number after the last head's.
        confirmed: those of them that carry something on the other half, too.
    """

    of: int
    found: tuple[Head, ...]
    confirmed: tuple[Head, ...]

    def __str__(self) -> str:
        return (
            f"the {len(self.found)} strongest of {self.of} heads and MLPs on one half of the couples; on the other, "
            f"{len(self.confirmed)} of them are confirmed"
        )


class PronounParts:
    """Components of one model behind pronouns; each batch is measured once.

    Args:
        adapter: the model.
        seed: of the run; decides couples, halves and random sets.
    """

    def __init__(self, adapter: Adapter, *, seed: int) -> None:
        self.adapter, self.seed = adapter, seed

    def notes(self) -> tuple[str, ...]:
        """What a reader of these claims must know."""
        one = f"{len(self._couples)} couples of occupations, each in {len(self._words.sentences)} sentences"
        return (
            f"exploratory: {one}; heads and MLPs are found by first-order estimates",
            f"validity: {self._words.validity}",
        )

    def carried(self, kind: str, condition: str = FOUND) -> Estimate:
        """Share of the difference between twins that is lost when components are exchanged, on the other half.

        Args:
            kind: `STEREOTYPE` or `MEANING`.
            condition: the found components, or a random set.
        """
        table = self._exchanged(kind)
        name = f"share of {kind} carried, {condition}"
        return recovery(table, condition, clean=HE_SAID, corrupt=SHE_SAID, name=name)

    def over_random(self) -> list[Estimate]:
        """By how much more of the stereotype the found components carry than each random set, in shares of it."""
        return [self.carried(STEREOTYPE) - self.carried(STEREOTYPE, of_set(n)) for n in range(SETS)]

    def total(self, kind: str) -> Estimate:
        """Mean difference between twins, in logits."""
        table = self._exchanged(kind)
        values = table.condition(HE_SAID) - table.condition(SHE_SAID)
        return Estimate(
            f"{kind}, difference between twins", "logit", table, values, shown_conditions=(SHE_SAID, HE_SAID)
        )

    def figures(self) -> tuple[Figure, ...]:
        """What every component carries, and what the exchanges do to stereotype and meaning."""
        conditions = [FOUND, *(of_set(n) for n in range(SETS))]
        groups = {
            kind: {name: self.carried(kind, name).describe() for name in conditions}
            for kind in (STEREOTYPE, MEANING)
        }
        drawn = Dots.of(
            "share of the difference between twins that is lost",
            "How much of the pronoun's log odds between twin sentences is lost when components are exchanged for "
            'those of the twin: for occupations (stereotype) and for words of one gender by meaning, such as "queen" '
            'and "king". Random sets have as many components of the same kinds and layers. Exploratory.',
            groups,
            reference=0.0,
        )
        return (self.map(), drawn.titled("What the components carry"))

    def map(self) -> Figure:
        """Every component's first-order share of the stereotype, confirmed ones framed."""
        values = self._effects.mean(0)
        searched = self.searched
        names = [*(str(n) for n in range(self.adapter.heads)), "MLP"]
        return Heatmap(
            "layer",
            "head",
            "logits of the stereotype",
            f"What each head and MLP carries of the stereotype, to first order. Framed: confirmed, of {searched}. "
            "Exploratory.",
            [str(n) for n in range(self.adapter.layers)],
            names,
            values.T.tolist(),
            outlined=[(part, layer) for layer, part in searched.confirmed],
            scale="centred",
        ).titled("Components behind pronouns")

    @shared_measurement
    def searched(self) -> FoundParts:
        """Components that carry the stereotype, found on one half of the couples and confirmed on the other.

        Raises:
            Inconclusive, Unsupported: too few couples.
        """
        one, other = (self._rows(ids) for ids in (self._split.discovery, self._split.confirmation))
        means = self._effects[one].mean(0)
        order = [
            (int(n), int(k)) for n, k in zip(*np.unravel_index((-means).argsort(None), means.shape), strict=True)
        ]
        found = tuple(part for part in order[:TOGETHER] if means[part] > 0)
        estimates = {part: self._of_part(self._effects, part, other) for part in found}
        sure = (
            {id(one) for one in explore(_GRID, list(estimates.values()), ">", rate=CONFIRMED)} if found else set()
        )
        confirmed = tuple(part for part in found if id(estimates[part]) in sure)
        return FoundParts(means.size, found, confirmed)

    def by_component(self) -> Estimate:
        """What each component carries, with the components as items and layers as clusters: what a baseline keeps."""
        values = self._effects.mean(0)
        ids = [part_name(n, k, self.adapter.heads) for n, k in np.ndindex(values.shape)]
        index = pd.Index(ids, name="item")
        clusters = pd.DataFrame({"layer": [f"layer {n}" for n, _ in np.ndindex(values.shape)]}, index)
        table = Measurement(CARRIED, "logit", pd.DataFrame({CARRIED: values.ravel()}, index), clusters)
        return Estimate("carried by component", "logit", table, values.ravel(), shown_conditions=(CARRIED,))

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def _words(self) -> Gendered:
        return gendered()

    @shared_measurement
    def _couples(self) -> dict[str, list[Twins]]:
        """Couple of occupations -> its twins."""
        chat = self.adapter.chat
        twins = by_stereotype(chat, self._words, self.seed)
        out: dict[str, list[Twins]] = {}
        for one in twins:
            out.setdefault("/".join(one.words), []).append(one)
        if len(out) < 2 * MIN_CLUSTERS:
            raise Unsupported(
                f"{len(out)} couples of occupations have equally many tokens; {2 * MIN_CLUSTERS} are needed"
            )
        return out

    @property
    def _twins(self) -> list[Twins]:
        return [one for twins in self._couples.values() for one in twins]

    @shared_measurement
    def _split(self) -> Halves:
        """Couples in two halves."""
        return two_halves(self._clusters(self._twins), self.seed, "components behind pronouns")

    @shared_measurement
    def _effects(self) -> Array:
        """(twins, layer, head or MLP) what each component carries, in logits, to first order."""
        pairs = self._pairs(self._twins)
        layers, heads = self.adapter.layers, self.adapter.heads
        sites = [self._site((n, k)) for n in range(layers) for k in range(heads + 1)]
        found = attribution(self.adapter, pairs, sites, "components behind pronouns")
        carried: Array = found.double().numpy().T.reshape(len(pairs), layers, heads + 1)
        return carried

    def _exchanged(self, kind: str) -> Measurement:
        return self._stereotype if kind == STEREOTYPE else self._meaning

    @shared_measurement
    def _stereotype(self) -> Measurement:
        """The twins of the half that confirms, as they are and with components exchanged.

        Raises:
            NotApplicable: no stereotype there, or no component was found.
        """
        chosen = set(self._split.confirmation)
        return self._exchange(STEREOTYPE, [one for one in self._twins if one.id in chosen])

    @shared_measurement
    def _meaning(self) -> Measurement:
        twins = by_meaning(self.adapter.chat, self._words)
        kept = len({one.words for one in twins})
        note(
            f"{kept} of {len(self._words.pairs)} pairs of words of one gender by meaning have equally many tokens"
        )
        if kept < MIN_CLUSTERS:
            raise Unsupported(f"{kept} pairs of words have equally many tokens; {MIN_CLUSTERS} are needed")
        return self._exchange(MEANING, twins)

    def _exchange(self, kind: str, twins: Sequence[Twins]) -> Measurement:
        those = self.searched.found
        if not those:
            raise NotApplicable("no component qualified: to first order none carries the stereotype on one half")
        pairs = self._pairs(twins)
        sets = {FOUND: those, **{of_set(n): self._random(those, n) for n in range(SETS)}}
        note(f"exchanged together: {'; '.join(part_name(*part, self.adapter.heads) for part in those)}")
        conditions = {
            name: [[self._edit(part, pair) for part in some] for pair in pairs] for name, some in sets.items()
        }
        measured = restarted(self.adapter, pairs, conditions, f"pronouns, {kind}")
        note_guards(f"pronouns, {kind}", measured)
        columns = {SHE_SAID: difference(measured.base), HE_SAID: difference(measured.source)}
        columns |= {name: difference(logits) for name, logits in measured.conditions.items()}
        clusters = self._clusters(twins)
        texts = {one.id: {SHE_SAID: one.she.text, HE_SAID: one.he.text} for one in twins}
        return Measurement(f"pronouns, {kind}", "logit", pd.DataFrame(columns, clusters.index), clusters, texts)

    def _edit(self, part: Head, pair: PatchPair) -> Edit:
        return replace(self._site(part), pair.source)

    def _site(self, part: Head) -> Site:
        layer, number = part
        return (mlp.layer(layer) if number == self.adapter.heads else head(layer, number))[AFTER]

    def _random(self, those: Sequence[Head], number: int) -> tuple[Head, ...]:
        """As many random heads of the same layers, and for each MLP that of a random other layer."""
        draw = stream(self.seed, "random components", str(number))
        heads, layers = self.adapter.heads, self.adapter.layers
        drawn: list[Head] = []
        for layer in sorted({layer for layer, part in those if part < heads}):
            count = sum(own == layer and part < heads for own, part in those)
            free = [(layer, part) for part in range(heads) if (layer, part) not in those]
            if len(free) < count:
                raise Unsupported(
                    f"layer {layer} has {len(free)} other heads to compare the {count} found ones with"
                )
            drawn += [free[n] for n in draw.permutation(len(free))[:count]]
        mlps = [layer for layer, part in those if part == heads]
        free = [(layer, heads) for layer in range(layers) if layer not in mlps]
        if len(free) < len(mlps):
            raise Unsupported(
                f"{len(mlps)} of {layers} MLPs were found, so there are no others to compare them with"
            )
        near = sorted(free, key=lambda part: min((abs(part[0] - layer) for layer in mlps), default=0))
        pool = near[: 2 * len(mlps)]
        return tuple(drawn + [pool[n] for n in draw.permutation(len(pool))[: len(mlps)]])

    def _of_part(self, effects: Array, part: Head, rows: Sequence[int]) -> Estimate:
        twins = [self._twins[row] for row in rows]
        clusters = self._clusters(twins)
        values = effects[list(rows), part[0], part[1]]
        name = f"{part_name(*part, self.adapter.heads)}, {CARRIED}"
        table = Measurement(name, "logit", pd.DataFrame({CARRIED: values}, clusters.index), clusters)
        return Estimate(name, "logit", table, values, shown_conditions=(CARRIED,))

    def _pairs(self, twins: Sequence[Twins]) -> list[PatchPair]:
        she, he = answer_ids(self.adapter.chat, twins[0].she.text)
        return [PatchPair(one.she, one.he, (he, she), {AFTER: _after(one)}) for one in twins]

    def _rows(self, ids: Sequence[str]) -> list[int]:
        chosen = set(ids)
        return [row for row, one in enumerate(self._twins) if one.id in chosen]

    def _clusters(self, twins: Sequence[Twins]) -> pd.DataFrame:
        index = pd.Index([one.id for one in twins], name="item")
        return pd.DataFrame({"couple": ["/".join(one.words) for one in twins]}, index)


def _after(one: Twins) -> Span:
    """The tokens after the word in which twins differ."""
    word = differing_span(one.she.ids, one.he.ids)
    assert word is not None  # twins are of one length and not the same
    return word[1], len(one.she)


def part_name(layer: int, part: int, heads: int) -> str:
    """A head or an MLP in words."""
    return f"layer {layer}, MLP" if part == heads else label(layer, part)


def of_set(number: int) -> str:
    """Name of the condition in which a random set is exchanged."""
    return f"random components, set {number}"
