"""What heads that see personas do: attention lost by a swap, answers moved by ablation, effects restored by few heads.

Three causal questions about single heads (Poonia & Jain 2025, arXiv:2507.20936):

- `lost`: early activations of a racial or colour word are replaced, and the heads' attention to the word is read in
  that same run;
- `moved`: the heads are ablated in three ways (zero, mean and resample ablation), and so are as many random heads of
  the same layers;
- `restored`: attribution on one half of the items screens which heads bring back the effect of a persona pair, patching
  measures these exactly there, and the best are patched on the other half, as are random heads of the same layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Unsupported
from auditkit.claims.shared import SharedMeasurements, shared_measurement
from auditkit.data.personas import without_reuse
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.edits import Edit, Edited, layers_of, replace, zero
from auditkit.engine.forward import donate, means
from auditkit.engine.guards import within_noise
from auditkit.engine.patching.plain import GUARDED_PAIRS, patch
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.patching.screening import Screening, screen
from auditkit.engine.sites import Site, head, z
from auditkit.findings.persona_patching.measurements.heads import QUERIES, UNIT, PersonaHeads, mean_over
from auditkit.findings.persona_patching.prompts import Cell, HeadItems, asked_under, chosen, dealt, split
from auditkit.methods.attention import COUNTS, RAW, answer_side, shares
from auditkit.methods.head_search import Head, label
from auditkit.methods.patching import LOGITS, difference, note_guards, of_probability, probabilities
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.mean import Estimate, mean_difference, recovery
from auditkit.stats.intervals import Array
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

ABLATIONS = ("zero", "mean", "resample")
SCREENED, SAMPLED, CHOSEN = 6, 8, 4
"""Heads that the screen chooses to measure, others that are measured to see what it misses, and how many of the chosen
ones are patched on the other half of the items."""
SCREENING_ITEMS, RESTORED, RESTORED_PAIRS = 6, 7 / 8, 32
"""Items of the screen; items on which the chosen heads are patched, for every question of both halves; and pairs of
personas at most, both halves together."""
AVERAGED = 8
"""Prompts with neutral personas whose mean stands in for what a head attends to."""


class HeadEdits:
    """Edits of heads on one model; each is measured once.

    Args:
        heads: the search whose heads (`PersonaHeads.qualified`) the claims are about.
    """

    def __init__(self, heads: PersonaHeads) -> None:
        self.heads, self.questions = heads, heads.questions
        self.adapter, self.seed = heads.adapter, heads.seed
        self._swaps = SharedMeasurements()

    # -- attention lost by a swap ------------------------------------------------------------------------------

    def lost(self, site: Site, count: str = RAW) -> tuple[Estimate, Estimate, Estimate]:
        """Attention to the identity word that the heads lose when activations at `site` are replaced.

        Under racial and colour personas, activations at the site are replaced by those of the pair's valence persona at
        the word; of another racial or colour persona at the word; of the valence persona at another position. One
        estimate each, over the same held-out items.

        Raises:
            NotApplicable: no head was confirmed, or no word has another one of as many tokens.
        """
        those = self.heads.qualified()
        items, arms = self._swaps.get(str(site), lambda: self._swap(site))
        index = COUNTS.index(count)
        plain, *swapped = (mean_over(values[:, index], those) for values in arms)
        names = ("valence activations", "another identity word's activations", "valence activations elsewhere")
        measured = items.measurement(
            f"attention to the identity word with {site} replaced, {count}",
            UNIT,
            {"as it is": plain, **dict(zip(names, swapped, strict=True))},
        )
        one, two, three = (
            mean_difference(measured, "as it is", name, name=f"attention lost by {name}, {count}")
            for name in names
        )
        return one, two, three

    def _swap(self, site: Site) -> tuple[HeadItems, list[Tensor]]:
        """Items, and shares (item, count, layer, head) without a replacement and after each of the three."""
        held = self.heads.items["valence"].first(1 / 2)
        others = [self._another(held, row) for row in range(len(held.pairs))]
        usable = [row for row, other in enumerate(others) if other is not None]
        if not usable:
            raise Unsupported("no racial or colour word has another one with as many tokens that could replace it")
        if len(usable) < len(others):
            note(f"{len(others) - len(usable)} items are left out: no other word has as many tokens as theirs")
        items = held.only([held.table.index[row] for row in usable])
        valence = [pair.source for pair in items.pairs]
        sources: list[tuple[Sequence[Prompt], str]] = [
            (valence, "identity"),
            ([other for other in others if other is not None], "identity"),
            (valence, "elsewhere"),
        ]
        arms = [self._replacing(items, site, donors, position) for donors, position in sources]
        runs = [
            Edited(pair.base, tuple(edits), {**pair.spans, "answer": answer_side(self.adapter, pair.base)})
            for arm in arms
            for pair, edits in zip(items.pairs, arm, strict=True)
        ]
        answers = [pair.answers for pair in items.pairs] * len(arms)
        values, logits = shares(self.adapter, runs, "identity", QUERIES, answers, "attention after a swap")
        # The engine's guarded patching makes the first runs again: the same edits must give the same answers.
        few = items.pairs[:GUARDED_PAIRS]
        guarded = patch(self.adapter, few, {"swap": arms[0][: len(few)]}, "swap")
        within_noise(
            self.adapter, "run in which attention is read changes", logits[: len(few)], guarded.conditions["swap"]
        )
        note_guards("swap", guarded)
        plain, _ = self.heads.sides(items)
        n = len(items.pairs)
        return items, [plain[0], *(values[0, first : first + n] for first in range(0, len(runs), n))]

    def _another(self, items: HeadItems, row: int) -> Prompt | None:
        """A prompt with another racial or colour word in the place of this item's, drawn at random."""
        own = items.pairs[row]
        start, stop = own.spans["identity"]
        fitting = {
            pair.base.ids[:stop]: pair.base
            for pair in items.pairs
            if pair.spans["identity"] == (start, stop)
            and pair.base.ids[:start] == own.base.ids[:start]
            and pair.base.ids[:stop] != own.base.ids[:stop]
        }
        if not fitting:
            return None
        draw = stream(self.seed, "another identity word", str(items.table.index[row]))
        return fitting[sorted(fitting)[int(draw.integers(len(fitting)))]]

    def _replacing(
        self, items: HeadItems, site: Site, donors: Sequence[Prompt], position: str
    ) -> list[list[Edit]]:
        """For each item, edits that replace activations of `site` at the position by the donor's.

        Donors are run no further than that position, since no later token changes what happens at it.
        """
        places = [(site.component, layer) for layer in layers_of(self.adapter, site)]
        spans = [pair.spans[position] for pair in items.pairs]
        heads = [Prompt("", donor.ids[:stop]) for donor, (_, stop) in zip(donors, spans, strict=True)]
        known = donate(self.adapter, [], TOKEN_BUDGET, dict.fromkeys(heads, places)).activations
        return [
            [
                replace(Site(component, n, n, position=position), known[prompt, (component, n)][start:stop])
                for component, n in places
            ]
            for prompt, (start, stop) in zip(heads, spans, strict=True)
        ]

    # -- answers moved by removing heads -----------------------------------------------------------------------

    def moved(self, ablation: str) -> tuple[Estimate, Estimate]:
        """By how many logits ablating heads moves the answer difference under racial and colour personas.

        Mean absolute change on held-out items: of the heads, and of as many random heads of the same layers, drawn for
        each item. A head's output becomes zero ("zero"), its mean under neutral personas ("mean"), or what it is in
        another prompt of equal length ("resample"), the same prompt for both.

        Raises:
            NotApplicable: no head was confirmed, or heads cannot be edited on this model.
        """
        items, columns = self._ablated
        measured = items.measurement("change of the logit difference by removing heads", "logit", columns)
        zeros = measured.with_conditions({"not removed": np.zeros(len(items.pairs))})
        those, others = (
            mean_difference(
                zeros, f"{who}, {ablation}", "not removed", name=f"moved by {who}, {ablation} ablation"
            )
            for who in ("those heads", "random heads")
        )
        return those, others

    @shared_measurement
    def _ablated(self) -> tuple[HeadItems, dict[str, Array]]:
        """Items, and by condition the absolute change (item,) of the answer difference in logits."""
        heads = self.heads.qualified()
        items = self.heads.items["valence"].first(1 / 2)
        pool = list(dict.fromkeys(pair.base for pair in self.heads.items["valence"].pairs))
        drawn: list[tuple[Prompt, list[Head]]] = []
        for item, pair in zip(items.table.index, items.pairs, strict=True):
            draw = stream(self.seed, "removed heads", str(item))
            donors = [prompt for prompt in pool if len(prompt) == len(pair.base) and prompt.ids != pair.base.ids]
            if not donors:
                raise Unsupported(
                    f"no other prompt of {len(pair.base)} tokens to resample the heads of '{item}' from"
                )
            drawn.append((donors[int(draw.integers(len(donors)))], self._alike(heads, draw)))
        neutral = [pair.source for pair in self.heads.items["neutral"].pairs[:AVERAGED]]
        average = means(self.adapter, neutral, z.everywhere(), TOKEN_BUDGET)
        conditions: dict[str, list[list[Edit]]] = defaultdict(list)
        for donor, random in drawn:
            for who, some in (("those heads", heads), ("random heads", random)):
                sites = _sites(some)
                conditions[f"{who}, zero"].append([zero(site) for site in sites])
                conditions[f"{who}, resample"].append([replace(site, donor) for site in sites])
                conditions[f"{who}, mean"].append(
                    [replace(head(layer, n), average[layer][n]) for layer, n in some]
                )
        measured = restarted(self.adapter, items.pairs, conditions, "removing heads")
        note_guards("removing heads", measured)
        plain = difference(measured.base)
        return items, {name: np.abs(difference(value) - plain) for name, value in measured.conditions.items()}

    # -- effects restored by few heads -------------------------------------------------------------------------

    def restored(self, scale: str = LOGITS) -> tuple[Estimate, Estimate]:
        """Share of the effect of negative against positive personas that a few heads bring back, and random ones.

        The few heads have the largest exact effects among those that the screen chose, on one half of topics and
        personas; both shares are measured on the other half.

        Args:
            scale: of the answer, see `Restoration.recoveries`. Heads are chosen in logits.

        Raises:
            NotApplicable: no head restores anything, or heads cannot be edited on this model.
        """
        _, measured = self._screened
        measured = measured if scale == LOGITS else probabilities(measured)
        name = f"recovery{of_probability(scale)} by"
        those, others = (
            recovery(measured, who, clean="clean", corrupt="corrupt", name=f"{name} {who}")
            for who in ("those heads", "random heads")
        )
        return those, others

    @shared_measurement
    def _screened(self) -> tuple[Screening, Measurement]:
        """The screen on one half of the items, and answers with the chosen heads restored on the other."""
        asked = self.questions.items[: self.heads.n_questions]
        pairs, notes = chosen(self.questions, [("negative", "positive")], RESTORED_PAIRS)
        discovering, confirming = split(self.questions, asked, pairs, "heads that restore")
        few = _apart(dealt(discovering, self.seed, len(discovering.questions), "screened"))
        cells = dealt(confirming, self.seed, round(RESTORED * len(asked)), "restored")
        discovery, held = (asked_under(self.questions, part) for part in (few, cells))
        every = self.heads.every()
        draw = stream(self.seed, "screened heads")
        screened = screen(
            self.adapter,
            discovery.pairs,
            [head(*each) for each in every],
            top=SCREENED,
            sample=SAMPLED,
            generator=draw,
            description="heads",
        )
        effects = screened.exact.mean(1)[: screened.top].tolist()
        best = sorted((n for n in range(screened.top) if effects[n] > 0), key=lambda n: -effects[n])[:CHOSEN]
        if not best:
            raise NotApplicable("none of the heads that the screen chose restores any of the effect of a persona")
        those = [every[screened.verified[n]] for n in best]
        note(
            f"heads patched on the other half of the items: {', '.join(label(*each) for each in those)}; the screen "
            f"missed {len(screened.missed)} of {len(screened.verified) - screened.top} others that were measured too"
        )
        conditions = {
            "those heads": [_sites(those)] * len(held.pairs),
            "random heads": [
                _sites(self._alike(those, stream(self.seed, "restored heads", str(item))))
                for item in held.table.index
            ],
        }
        measured = restarted(self.adapter, held.pairs, conditions, "restoring heads")
        note_guards("restoring heads", measured)
        for text in (*self.questions.notes(), *notes):
            note(text)
        columns = {"corrupt": measured.base, "clean": measured.source, **measured.conditions}
        table = held.measurement(
            "logit difference with heads restored",
            "logit",
            {name: difference(logits) for name, logits in columns.items()},
            ("corrupt", "clean"),
        )
        return screened, table

    def screening(self) -> Figure:
        """A table of every head that was measured exactly, beside what the screen estimated.

        Raises:
            NotApplicable: as `restored`.
        """
        screened, _ = self._screened
        confirmed = self._confirmed()
        rows: list[list[str | float | None]] = []
        for n, index in enumerate(screened.verified):
            each = self.heads.every()[index]
            rows.append(
                [
                    label(*each),
                    "chosen" if n < screened.top else "missed" if index in screened.missed else "drawn at random",
                    float(screened.estimated[index].mean()),
                    float(screened.exact[n].mean()),
                    "yes" if each in confirmed else "no",
                ]
            )
        low, high = screened.miss_interval
        table = Table(
            "Each row: logits of the answer difference that one head brings back, restored alone at every position, by "
            f"the screen's first order and exactly, over {screened.exact.shape[1]} items to discover. Of "
            f"{len(screened.verified) - screened.top} heads "
            f"drawn from those not chosen, {len(screened.missed)} do more than the least of the chosen ones; the share "
            f"missed among all of them is {low:.2f} to {high:.2f} (95 %).",
            ["head", "screen", "first order", "exact", "singles out racial and colour words"],
            rows,
        )
        return table.titled("Heads that restore the effect of a persona, screened and measured")

    # -- shared ------------------------------------------------------------------------------------------------

    def _alike(self, some: Sequence[Head], draw: np.random.Generator) -> list[Head]:
        """As many other heads of the same layers, drawn at random; of the nearest layer where none is left."""
        left = [each for each in self.heads.every() if each not in some]
        drawn: list[Head] = []
        for layer, _ in some:
            if not left:
                raise Unsupported(f"this model has no {len(some)} other heads to compare with")
            near = min(abs(each[0] - layer) for each in left)
            nearest = [each for each in left if abs(each[0] - layer) == near]
            drawn.append(nearest[int(draw.integers(len(nearest)))])
            left.remove(drawn[-1])
        return drawn

    def _confirmed(self) -> Sequence[Head]:
        try:
            return self.heads.searched.confirmed
        except (Inconclusive, NotApplicable):
            return ()


def _sites(heads: Sequence[Head]) -> list[Site]:
    """Heads as sites, one for each layer."""
    layers: dict[int, list[int]] = defaultdict(list)
    for layer, n in heads:
        layers[layer].append(n)
    return [z.layer(layer).head(*numbers) for layer, numbers in sorted(layers.items())]


def _apart(cells: Sequence[Cell]) -> list[Cell]:
    """The first few of different topics and different pairs."""
    apart = without_reuse(cells, lambda cell: (f"topic {cell[0].topic}", f"pair {cell[1].id}"))
    return list(apart[:SCREENING_ITEMS])
