"""Which heads attend to racial and colour words of personas (Poonia & Jain 2025, arXiv:2507.20936).

Their finding: some heads attend far more to an identity word that names a race or a colour than to a valence word
("good", "bad"), and lose that attention when early activations of the word are replaced by those of a valence persona.

A racial or colour persona is compared with a valence persona, and with a neutral one, under the same questions
(`prompts`). Heads are selected on one half of words and topics and confirmed on the other half
(`auditkit.methods.head_search`); every claim is measured on the second half, in all the heads that the first half
found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Attending, Component
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import NotApplicable, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.engine.edits import Edited
from auditkit.engine.sites import Span, pattern
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.persona_patching.prompts import HeadItems, search_items
from auditkit.methods.attention import COUNTS, NO_SINK, RAW, answer_side, shares
from auditkit.methods.head_search import CONFIRMED, LEAST, Head, Searched, dz, head_map, label, search
from auditkit.notebook import Showable
from auditkit.record.figures import Figure, Heatmap, Table
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.intervals import Array

AGAINST = ("valence", "neutral")
"""What racial and colour words are compared with."""
QUERIES = ("last", "answer")
UNIT = "of attention"
QUESTIONS, PAIRS = 24, 64
"""Questions and persona pairs of the search at most, both halves together; a question is asked under some pairs."""


class PersonaHeads(Showable):
    """Heads of one model that see racial and colour personas; they are searched once.

    Args:
        questions: the model and what it is asked.
        n_questions, n_pairs: questions and persona pairs of the search, both halves together.
    """

    def __init__(self, questions: PersonaQuestions, *, n_questions: int = QUESTIONS, n_pairs: int = PAIRS) -> None:
        self.questions, self.seed = questions, questions.seed
        self.adapter = cast(Attending, questions.adapter)
        self.n_questions, self.n_pairs = n_questions, n_pairs
        self._known: dict[tuple[Prompt, Span], Tensor] = {}

    # -- claims ------------------------------------------------------------------------------------------------

    def singled_out(self, against: str = "valence", count: str = RAW, query: str = "last") -> Estimate:
        """`selectivity`: above zero where there are such heads.

        Where no head is confirmed, a comparison with this estimate never passes, since the strongest head has not
        passed what such a head must. It can still fail, where the whole interval is not above zero.
        """
        searched, estimate = self.searched, self.selectivity(against, count, query)
        upper = estimate.describe().upper
        if searched.confirmed or upper is None or upper <= 0:
            return estimate
        return replace(estimate, refused=f"no_head_confirmed: {searched}")

    def selectivity(self, against: str = "valence", count: str = RAW, query: str = "last") -> Estimate:
        """How much more the found heads attend to racial and colour words than to others, on held-out items.

        Mean over all heads that the other half found, confirmed or not: the confirmed ones were chosen by these very
        items, so their mean over them would be too large. Where none was found, the other half's strongest head.

        Args:
            against: "valence" or "neutral" words.
            count: one of `auditkit.methods.attention.COUNTS`.
            query: "last", or "answer" for the mean over the answer's side.
        """
        searched = self.searched
        heads = searched.judged
        index = (QUERIES.index(query), slice(None), COUNTS.index(count))
        names = ("identity word", f"{against} word")
        sides = zip(names, self.sides(self.items[against]), strict=True)
        measured = self.items[against].measurement(
            f"attention to the identity word, {count}, query: {query}, against {against}",
            UNIT,
            {name: mean_over(side[index], heads) for name, side in sides},
            names,
        )
        who = f"{len(heads)} found heads" if searched.found else f"{label(*heads[0])}, not found"
        return mean_difference(measured, *names, name=f"{who}: {count}, {query} query, against {against} words")

    def qualified(self) -> tuple[Head, ...]:
        """The heads that claims are about: all that one half of the items found, where the other confirms at least one.

        Raises:
            NotApplicable: no head was confirmed.
        """
        searched = self.searched
        if not searched.confirmed:
            raise NotApplicable(f"no head qualified: {searched}")
        note(f"heads: {', '.join(label(*head) for head in searched.found)}; {searched}")
        return searched.found

    def figures(self) -> tuple[Figure, ...]:
        """A heat map of all heads for each count of attention, and a table of the heads that were found."""
        searched = self.searched
        maps = (
            self._heatmap(searched, count).titled(f"Attention to racial and colour words, {count}")
            for count in COUNTS
        )
        return (*maps, self._table(searched).titled("Heads that single out racial and colour words"))

    # -- searching ---------------------------------------------------------------------------------------------

    @shared_measurement
    def searched(self) -> Searched:
        """Heads whose last query attends more to racial and colour words.

        Raises:
            NotApplicable: attention cannot be read on this model, or words cannot be paired.
            Inconclusive: too few questions or pairs for two halves.
        """
        offered = self.adapter.support()[Component.PATTERN]
        if not offered:
            raise Unsupported(f"{pattern.everywhere()} cannot be read on this model: {offered.reason}")
        discovery = self.items["discovery"]
        self._read(self.items.values())
        one, other = self.sides(discovery)
        empty = discovery.measurement("selectivity of heads", UNIT, {})
        differences = (one - other)[0, :, 0].double().numpy()  # (item, layer, head)
        estimates = {
            head: Estimate(label(*head), UNIT, empty, differences[:, head[0], head[1]]) for head in self.every()
        }
        # A candidate attends to the word, whichever of the two stands there: without the first token, at least an even
        # share of attention goes to it.
        widths = [pair.spans["identity"] for pair in discovery.pairs]
        even = np.mean(
            [
                (stop - start) / (len(pair.base) - 1)
                for pair, (start, stop) in zip(discovery.pairs, widths, strict=True)
            ]
        )
        looks = (one + other)[0, :, COUNTS.index(NO_SINK)].mean(0) / 2 >= float(even)
        candidates = {(layer, n) for layer, n in looks.nonzero().tolist()}
        return search("heads that single out racial and colour words", estimates, self._contrasts, candidates)

    @shared_measurement
    def items(self) -> Mapping[str, HeadItems]:
        """Items of the search: "discovery", and held-out ones by the other words, "valence" and "neutral".

        Raises:
            NotApplicable, Inconclusive: see `search_items`.
        """
        return search_items(self.questions, self.n_questions, self.n_pairs)

    def _contrasts(self, head: Head) -> list[Estimate]:
        """Differences in attention of one head on held-out items: every count, against valence and neutral words."""
        return [self._held_out(head, against, count) for against in AGAINST for count in COUNTS]

    def _held_out(self, head: Head, against: str, count: str, query: str = "last") -> Estimate:
        one, other = self.sides(self.items[against])
        index = (QUERIES.index(query), slice(None), COUNTS.index(count), *head)
        name = f"{label(*head)}, {count}, against {against} words"
        empty = self.items[against].measurement(name, UNIT, {})
        return Estimate(name, UNIT, empty, (one[index] - other[index]).double().numpy())

    # -- measuring ---------------------------------------------------------------------------------------------

    def _read(self, several: Iterable[HeadItems]) -> None:
        """Measure the attention of every prompt of some items, each prompt once."""
        pairs = [pair for items in several for pair in items.pairs]
        prompts = [(prompt, pair.spans["identity"]) for pair in pairs for prompt in (pair.base, pair.source)]
        wanted = list(dict.fromkeys(prompts))
        values, _ = shares(self.adapter, [self.run(*key) for key in wanted], "identity", QUERIES)
        self._known = {key: values[:, i] for i, key in enumerate(wanted)}

    def run(self, prompt: Prompt, span: Span) -> Edited:
        """A prompt with its spans "identity" and "answer"."""
        return Edited(prompt, (), {"identity": span, "answer": answer_side(self.adapter, prompt)})

    def sides(self, items: HeadItems) -> tuple[Tensor, Tensor]:
        """Shares (query, item, count, layer, head) under the racial or colour persona, and under the other."""
        spans = [pair.spans["identity"] for pair in items.pairs]
        one, other = (
            torch.stack([self._known[key] for key in zip(side, spans, strict=True)], 1)
            for side in ([pair.base for pair in items.pairs], [pair.source for pair in items.pairs])
        )
        return one, other

    def every(self) -> list[Head]:
        """All heads of the model."""
        return [(layer, n) for layer in range(self.adapter.layers) for n in range(self.adapter.heads)]

    # -- figures -----------------------------------------------------------------------------------------------

    def _heatmap(self, searched: Searched, count: str) -> Heatmap:
        layers, heads = range(self.adapter.layers), range(self.adapter.heads)
        return head_map(
            [[self._held_out((n, head), "valence", count).describe() for head in heads] for n in layers],
            "difference in attention",
            "How much more of the last token's attention goes to a racial or colour word than to a valence word at the "
            f"same place, {count}, on items that no head was chosen by. Framed: confirmed heads, {searched}.",
            searched.confirmed,
            "centred",
        )

    def _table(self, searched: Searched) -> Table:
        columns = [f"{count}, against {against}" for against in AGAINST for count in COUNTS]
        rows: list[list[str | float | None]] = []
        for head in searched.found or searched.strongest[:5]:
            contrasts = self._contrasts(head)
            answer = self._held_out(head, "valence", RAW, "answer")
            became = "confirmed" if head in searched.confirmed else searched.why_not.get(head, "not found")
            numbers = [_interval(estimate) for estimate in (*contrasts, answer)]
            rows.append([label(*head), became, *numbers, round(min(map(dz, contrasts)), 2)])
        return Table(
            "Each row: a head found on one half of the items, the strongest first, and its difference in attention on "
            "the other half with its 95 % interval. A head is confirmed when all six contrasts of the last "
            f"token hold (Benjamini-Hochberg, {100 * CONFIRMED:g} %) with dz of at least {LEAST:g}."
            + ("" if searched.found else " None was found: these are the strongest five."),
            ["head", "on other items", *columns, "answer's side, raw, against valence", "smallest dz"],
            rows,
        )


def _interval(estimate: Estimate) -> str:
    effect = estimate.describe()
    if effect.estimate is None or effect.lower is None or effect.upper is None:
        return "no interval"
    return f"{effect.estimate:.4f} [{effect.lower:.4f}, {effect.upper:.4f}]"


def mean_over(values: Tensor, heads: Sequence[Head]) -> Array:
    """(item,) mean over some heads of values (item, layer, head)."""
    layers, numbers = ([head[axis] for head in heads] for axis in (0, 1))
    mean: Array = values[:, layers, numbers].double().mean(1).numpy()
    return mean
