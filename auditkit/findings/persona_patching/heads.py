"""Which heads see racial and colour personas? (Poonia & Jain 2025, arXiv:2507.20936)

Their finding: some heads attend far more to an identity word that names a race or a colour than to one that is good or
bad, and lose that attention when early activations of the word are replaced by those of a valence persona.

A racial or colour persona is compared with a valence persona, and with a neutral one, of equally many tokens at the
same place of the same question. No word comes in two pairs, so pairs are clusters of words; the other factor is the
question's topic. Heads are selected on one half of words and topics and confirmed on the other half (`head_search`);
every claim is measured on the second half, in all the heads that the first half found. Within a half a pair is asked
only some of the questions: what varies is mostly the word, so many words with few questions each decide more than a
full crossing of few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Attending, Component
from auditkit.claims.evidence import Evidence, current, figure, gathering, note, repeat
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Unsupported
from auditkit.engine.edits import Edited
from auditkit.engine.pairs import PatchPair
from auditkit.engine.sites import Span, pattern
from auditkit.findings.asking.questions import FACTORS, PairedQuestions, PersonaQuestions
from auditkit.methods.attention import COUNTS, NO_SINK, RAW, answer_side, shares
from auditkit.methods.head_search import CONFIRMED, LEAST, Head, Searched, dz, label, search
from auditkit.record.figures import Heatmap, Table
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.halves import halves
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.measurement import Measurement

IDENTITY, VALENCE, NEUTRAL = ("racial", "colour"), ("positive", "negative"), ("neutral",)
AGAINST = {"valence": VALENCE, "neutral": NEUTRAL}
QUERIES = ("last", "answer")
UNIT = "of attention"
QUESTIONS, PAIRS = 17, 32
"""Questions and persona pairs of the search, both halves together."""
DISCOVERY, CONFIRMATION = 2, 3
"""Of the questions of its half, a pair is asked one in so many; finding among many heads needs more than confirming."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeadItems:
    """Questions under pairs of personas; in each pair `base` is the racial or colour persona.

    Attributes:
        table: (item x factor) topic and pair, in the order of `pairs`.
    """

    pairs: tuple[PatchPair, ...]
    table: pd.DataFrame

    def only(self, items: Sequence[str]) -> HeadItems:
        """These items, in the order of this table."""
        rows = np.flatnonzero(self.table.index.isin(list(items)))
        return HeadItems(tuple(self.pairs[row] for row in rows), self.table.iloc[rows])

    def thinned(self, step: int) -> HeadItems:
        """Every pair with one of `step` topics, and every topic with one of `step` pairs."""
        ranks = sum(pd.factorize(self.table[factor], sort=True)[0] for factor in FACTORS)
        return self.only(list(self.table.index[np.asarray(ranks) % step == 0]))

    def enough(self) -> None:
        """Both factors have clusters for two halves.

        Raises:
            Inconclusive: they have not.
        """
        counts = self.table.nunique()
        if counts.min() < 2 * MIN_CLUSTERS:
            raise Inconclusive(
                f"too_few_clusters: {counts['topic']} topics and {counts['pair']} persona pairs; to discover and to "
                f"confirm on others, {2 * MIN_CLUSTERS} of each are needed"
            )

    def words(self) -> set[str]:
        """The racial and colour words."""
        return {pair.split(">")[1] for pair in self.table["pair"]}

    def measurement(
        self,
        name: str,
        unit: str,
        columns: Mapping[str, Array],
        sides: tuple[str, str] = ("identity word", "other word"),
    ) -> Measurement:
        """A table of (items,) values by condition; `sides` are conditions that the two prompts of a pair stand for."""
        prompts = {
            item: dict(zip(sides, (pair.base.text, pair.source.text), strict=True))
            for item, pair in zip(self.table.index, self.pairs, strict=True)
        }
        return Measurement(name, unit, pd.DataFrame(dict(columns), index=self.table.index), self.table, prompts)


class PersonaHeads:
    """Heads of one model that see racial and colour personas; what was measured once is not measured again.

    Args:
        questions: the model and what it is asked.
        n_questions, n_pairs: of the search, both halves together.
    """

    def __init__(self, questions: PersonaQuestions, *, n_questions: int = QUESTIONS, n_pairs: int = PAIRS) -> None:
        self.questions, self.seed = questions, questions.seed
        self.adapter = cast(Attending, questions.adapter)
        self.n_questions, self.n_pairs = n_questions, n_pairs
        self._known: dict[tuple[Prompt, Span], Tensor] = {}
        self._searched: Searched | None = None
        self._aside = Evidence()
        self.items: dict[str, HeadItems] = {}
        """Held-out items, by what racial and colour words are compared with."""

    # -- claims ------------------------------------------------------------------------------------------------

    def singled_out(self) -> Estimate:
        """`selectivity` of the last query, raw, against valence words; decides whether there are such heads.

        Where none is confirmed it does not decide that there are, since the strongest head has not passed what
        such a head must. Below zero it still decides that there are not.
        """
        searched, estimate = self.search(), self.selectivity()
        upper = estimate.describe().upper
        if searched.confirmed or upper is None or upper <= 0:
            return estimate
        return replace(estimate, refused=f"no_head_confirmed: {searched}")

    def selectivity(self, against: str = "valence", count: str = RAW, query: str = "last") -> Estimate:
        """How much more the found heads attend to racial and colour words than to others, on held-out items.

        Mean over all heads that the other half found, confirmed or not: the confirmed ones were chosen by these very
        items, so their mean over them would be too large. Where none was found, of the other half's strongest head.

        Args:
            against: "valence" or "neutral" words.
            count: one of `auditkit.methods.attention.COUNTS`.
            query: "last", or "answer" for the mean over the answer's side.
        """
        searched = self.search()
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

    def those(self) -> tuple[Head, ...]:
        """The heads that claims are about: all that one half of the items found, where the other confirms at least one.

        Raises:
            NotApplicable: there is none to make a claim about.
        """
        searched = self.search()
        if not searched.confirmed:
            raise NotApplicable(f"no head qualified: {searched}")
        note(f"heads: {', '.join(label(*head) for head in searched.found)}; {searched}")
        return searched.found

    def search(self) -> Searched:
        """Heads whose last query attends more to racial and colour words; says what the reader must know.

        Raises:
            NotApplicable: attention cannot be read on this model, or words cannot be paired.
            Inconclusive: too few questions or pairs for two halves.
        """
        if self._searched is None:
            with gathering() as aside:  # whichever claim asks first, each is told the same
                self._searched = self._search()
            self._aside = aside
        repeat(self._aside)
        return self._searched

    def draw(self) -> None:
        """Show the search under the claim: its exploratory grids, a heat map for each count, and a table of heads."""
        searched, evidence = self.search(), current()
        if evidence is None:
            return
        evidence.grids += self._aside.grids
        for count in COUNTS:
            figure(self._heatmap(searched, count).titled(f"Attention to racial and colour words, {count}"))
        figure(self._table(searched).titled("Heads that single out racial and colour words"))

    # -- searching ---------------------------------------------------------------------------------------------

    def _search(self) -> Searched:
        offered = self.adapter.support()[Component.PATTERN]
        if not offered:
            raise Unsupported(f"{pattern.everywhere()} cannot be read on this model: {offered.reason}")
        items, arms = self._crossed(VALENCE, self.n_pairs)
        items.enough()
        split = halves(items.table, self.seed, "heads")
        discovery = items.only(split.discovery).thinned(DISCOVERY)
        self.items["valence"] = items.only(split.confirmation).thinned(CONFIRMATION)
        topics = set(self.items["valence"].table["topic"])
        neutral, more = self._crossed(NEUTRAL, self.n_pairs, self.items["valence"].words())
        held = neutral.table.index[neutral.table["topic"].isin(topics)]
        self.items["neutral"] = neutral.only(list(held)).thinned(CONFIRMATION)
        for arm in (*arms, *more):
            for text in self.questions.notes(arm):
                note(text)
        note(
            f"a pair is asked one in {DISCOVERY} or {CONFIRMATION} questions of its half: {len(discovery.pairs)} items "
            f"to discover, {len(self.items['valence'].pairs)} to confirm against valence words and "
            f"{len(self.items['neutral'].pairs)} against neutral ones; compared words stand at the same position and "
            "take as many tokens, and no word comes in two pairs"
        )
        self._read([*discovery.pairs, *self.items["valence"].pairs, *self.items["neutral"].pairs])
        one, other = self.sides(discovery)
        empty = discovery.measurement("selectivity of heads", UNIT, {})
        differences = (one - other)[0, :, 0].double().numpy()  # (item, layer, head)
        estimates = {
            head: Estimate(label(*head), UNIT, empty, differences[:, head[0], head[1]]) for head in self.every()
        }
        # Whichever of the two words stands there: without the first token, no less than an even spread would give.
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

    def _contrasts(self, head: Head) -> list[Estimate]:
        """Of one head on held-out items: every count, against valence words and against neutral ones."""
        return [self._held_out(head, against, count) for against in AGAINST for count in COUNTS]

    def _held_out(self, head: Head, against: str, count: str, query: str = "last") -> Estimate:
        one, other = self.sides(self.items[against])
        index = (QUERIES.index(query), slice(None), COUNTS.index(count), *head)
        name = f"{label(*head)}, {count}, against {against} words"
        empty = self.items[against].measurement(name, UNIT, {})
        return Estimate(name, UNIT, empty, (one[index] - other[index]).double().numpy())

    def _crossed(
        self, others: Sequence[str], n_pairs: int, words: set[str] | None = None
    ) -> tuple[HeadItems, list[PairedQuestions]]:
        """Up to `n_pairs` pairs of different words, evenly from racial and colour against each of `others`.

        Args:
            words: racial and colour words to take; all where None.
        """
        groups = [(one, other) for one in IDENTITY for other in others]
        known = [list(self.questions.arm(*each, 1, 2 * n_pairs, reuse=True).table["pair"]) for each in groups]
        waiting = [list(pairs) for pairs in known]
        used, chosen = set[str](), set[str]()
        while any(waiting) and len(chosen) < n_pairs:
            for pairs in waiting:
                free = [p for p in pairs if not used & set(p.split(">"))]
                pairs[:] = [p for p in free if words is None or p.split(">")[1] in words]
                if pairs and len(chosen) < n_pairs:
                    chosen.add(pairs[0])
                    used |= set(pairs.pop(0).split(">"))
        # Arms are nested, so all questions are written out for as many pairs as hold the chosen ones.
        needed = [max((n + 1 for n, pair in enumerate(pairs) if pair in chosen), default=0) for pairs in known]
        arms = [
            self.questions.arm(*each, self.n_questions, max(n, MIN_CLUSTERS), reuse=True)
            for each, n in zip(groups, needed, strict=True)
        ]
        table = pd.concat([arm.table for arm in arms]).set_index("item")[list(FACTORS)]
        taken = table["pair"].isin(chosen).to_numpy()
        pairs_of = [pair for arm in arms for pair in arm.pairs]
        return HeadItems(tuple(pairs_of[row] for row in np.flatnonzero(taken)), table[taken]), arms

    # -- measuring ---------------------------------------------------------------------------------------------

    def _read(self, pairs: Sequence[PatchPair]) -> None:
        """Read every prompt that was not read yet."""
        wanted = dict.fromkeys(
            (prompt, pair.spans["identity"]) for pair in pairs for prompt in (pair.base, pair.source)
        )
        new = [key for key in wanted if key not in self._known]
        if new:
            values, _ = shares(self.adapter, [self.run(*key) for key in new], "identity", QUERIES)
            self._known |= {key: values[:, i] for i, key in enumerate(new)}

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

    # -- showing -----------------------------------------------------------------------------------------------

    def _heatmap(self, searched: Searched, count: str) -> Heatmap:
        layers, heads = range(self.adapter.layers), range(self.adapter.heads)
        effects = [[self._held_out((n, head), "valence", count).describe() for n in layers] for head in heads]
        return Heatmap(
            "layer",
            "head",
            "difference in attention",
            "How much more of the last token's attention goes to a racial or colour word than to a valence word at the "
            f"same place, {count}, on items that no head was chosen by. Framed: confirmed heads, {searched}.",
            [str(n) for n in layers],
            [str(head) for head in heads],
            [[effect.estimate for effect in row] for row in effects],
            [[effect.lower for effect in row] for row in effects],
            [[effect.upper for effect in row] for row in effects],
            outlined=[(head, n) for n, head in searched.confirmed],
            scale="centred",
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
            "Heads found on one half of the items, the strongest first, and what the other half says of them: the "
            "difference in attention with its 95 % interval. A head is confirmed when all six contrasts of the last "
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
