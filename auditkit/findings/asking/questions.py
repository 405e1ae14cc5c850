"""Questions under personas: what persona patching and identity bias share.

A system turn gives the model a persona ("You are a bad student."), a factual question follows, and the answer's start
is prefilled. Personas come in pairs, a *clean* and a *corrupt* one that differ in one token span; questions crossed
with the pairs of two groups are `PairedQuestions`. Items vary in question and persona pair, so intervals have two
crossed cluster factors: the topic, since questions of one topic share their wording, and the persona pair.

The paper (Poonia & Jain 2025, arXiv:2507.20936) scores multiple-choice letters on MMLU; small models answer those at
chance, so the project's own completion items are the default (`persona_formats`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.claims.outcomes import NotApplicable, Unsupported
from auditkit.data.choices import Choices
from auditkit.data.items import CompletionItem, select
from auditkit.data.order import shuffle_key
from auditkit.data.personas import (
    AlignedPair,
    Persona,
    PersonaPair,
    build_pairs,
    differing_span,
    persona_groups,
    synonym_pairs,
    without_reuse,
)
from auditkit.engine.pairs import Answered, PatchPair, answered
from auditkit.findings.asking.formats import Question, asked_as
from auditkit.stats.design import incomplete_crossing
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

SYSTEM = "You are {persona}."
FACTORS = ("topic", "pair")
ITEMS, PAIRS = 48, 12
"""Questions, and persona pairs of two groups, by default."""
ACCURACY_ITEMS = 60
"""Questions asked without a persona to see whether the model knows any answer; more where more are measured."""

_Key = tuple[str, str, int, int, int | None]
"""Two groups, numbers of questions and of pairs, and how many pairs a question is asked under (None: all)."""


@dataclass(frozen=True)
class PairedQuestions:
    """Questions crossed with persona pairs, ready to run; `table` has columns item, topic, pair."""

    key: _Key
    pairs: tuple[PatchPair, ...]
    table: pd.DataFrame
    note: str
    """Which words could not be paired, and that more pairs were asked for than can be made; else empty."""

    @property
    def measurement(self) -> Measurement:
        clusters = self.table.set_index("item")[list(FACTORS)]
        prompts = {
            item: {"corrupt": pair.base.text, "clean": pair.source.text}
            for item, pair in zip(self.table["item"], self.pairs, strict=True)
        }
        name = f"logit difference, {self.key[0]} against {self.key[1]} personas"
        return Measurement(name, "logit", pd.DataFrame(index=clusters.index), clusters, prompts)


class PersonaQuestions:
    """The questions that one model is asked, under any two groups of personas.

    Args:
        adapter: the model.
        seed: of the run; decides which items and pairs are drawn.
        n_items: questions, spread evenly over topics; `ITEMS` where None.
        n_pairs: persona pairs per comparison of two groups.
        items: questions to ask instead of the project's own: completion items, or multiple choice.
        groups: persona words to use instead of the project's own.

    Raises:
        NotApplicable: too few usable items or pairs, or no better than chance on the questions.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        seed: int = 0,
        n_items: int | None = None,
        n_pairs: int = PAIRS,
        items: Sequence[CompletionItem] | Choices | None = None,
        groups: dict[str, tuple[Persona, ...]] | None = None,
    ) -> None:
        self.adapter, self.seed, self.n_pairs = adapter, seed, n_pairs
        self.groups = persona_groups() if groups is None else groups
        self.format = asked_as(adapter, items, seed=seed)
        self._notes = [f"prompts: {adapter.chat.format}", *self.format.notes]
        topics = {question.topic for question in self.format.questions}
        if len(topics) < MIN_CLUSTERS:
            raise Unsupported(
                f"only {len(self.format.questions)} usable items in {len(topics)} topics; {MIN_CLUSTERS} topics are "
                "needed to state an interval"
            )
        n_items = ITEMS if n_items is None else n_items
        self.items = self._select(n_items)
        if len(self.items) < n_items:
            self._notes.append(f"{n_items} items were asked for; all {len(self.items)} usable ones are measured")
        self._arms: dict[tuple[str, str, int, int, int | None, bool], PairedQuestions] = {}
        self._prompts: dict[tuple[Persona | None, Question], Prompt] = {}
        self._asked: dict[tuple[Prompt, ...], Answered] = {}
        self._require_accuracy()

    def arm(
        self,
        corrupt: str,
        clean: str,
        n_items: int | None = None,
        n_pairs: int | None = None,
        *,
        each: int | None = None,
        reuse: bool = False,
    ) -> PairedQuestions:
        """Questions x persona pairs of two groups; the first `n_items` and `n_pairs` where fewer are asked for.

        Args:
            each: pairs that a question is asked under, as `stats.design.incomplete_crossing` deals them; all where
                None.
            reuse: a word may be in several pairs. The caller then chooses pairs without a common word, also across
                arms, since intervals take pairs as independent.
        """
        key = (corrupt, clean, n_items or len(self.items), n_pairs or self.n_pairs, each)
        if (*key, reuse) not in self._arms:
            self._arms[*key, reuse] = self._build_arm(key, reuse)
        return self._arms[*key, reuse]

    def _build_arm(self, key: _Key, reuse: bool) -> PairedQuestions:
        corrupt, clean, _, n_pairs, _ = key
        probe = self.items[0]
        built = build_pairs(
            self.groups[clean],
            self.groups[corrupt],
            lambda persona: list(self.prompt(persona, probe).ids),
            n=n_pairs,
            seed=self.seed,
            reuse=reuse,
        )
        if len(built.pairs) < MIN_CLUSTERS:
            why = f" (first: {built.dropped[0].reason})" if built.dropped else ""
            raise Unsupported(
                f"only {len(built.pairs)} pairs of {corrupt} and {clean} personas have equal token length, "
                f"{MIN_CLUSTERS} are needed{why}"
            )
        left_out = []
        if built.dropped:
            left_out.append(f"{len(built.dropped)} words not used (first: {built.dropped[0].reason})")
        if len(built.pairs) < n_pairs and not reuse:
            left_out.append(
                f"{n_pairs} were asked for, and no more can be made without using a word twice, which intervals over "
                "pairs rule out"
            )
        text = f"{corrupt} against {clean} personas: {len(built.pairs)} pairs, {'; '.join(left_out)}"
        return self._crossed(key, built.pairs, text if left_out else "")

    def synonyms(
        self, n_items: int | None = None, n_pairs: int | None = None, *, each: int | None = None
    ) -> PairedQuestions:
        """Questions x pairs of words with nearly the same meaning: another token, the same persona.

        Args:
            each: as for `arm`.

        Raises:
            NotApplicable: too few pairs whose prompts have equal length.
        """
        key = ("a word", "its synonym", n_items or len(self.items), n_pairs or self.n_pairs, each)
        if (*key, False) not in self._arms:
            aligned = []
            for pair in sorted(synonym_pairs(), key=lambda pair: shuffle_key(self.seed, pair.id)):
                span = differing_span(*(self.prompt(p, self.items[0]).ids for p in (pair.corrupt, pair.clean)))
                if span is not None and pair.clean.article == pair.corrupt.article:
                    aligned.append(AlignedPair(pair, span))
            aligned = list(without_reuse(aligned, lambda one: (one.pair.clean.word, one.pair.corrupt.word)))
            if len(aligned) < MIN_CLUSTERS:
                raise Unsupported(
                    f"only {len(aligned)} pairs of synonyms have equal token length, {MIN_CLUSTERS} are needed"
                )
            self._arms[*key, False] = self._crossed(key, aligned[: key[3]], "")
        return self._arms[*key, False]

    def _crossed(self, key: _Key, aligned_pairs: Sequence[AlignedPair], left_out: str) -> PairedQuestions:
        corrupt, clean, n_items, _, each = key
        cells = [(question, aligned) for aligned in aligned_pairs for question in self.items[:n_items]]
        if each is not None:
            by_name = {(question.id, aligned.pair.id): (question, aligned) for question, aligned in cells}
            questions, words = (list(dict.fromkeys(names)) for names in zip(*by_name, strict=True))
            dealt = incomplete_crossing(questions, words, each, seed=self.seed, name=f"{corrupt} against {clean}")
            cells = [by_name[cell] for cell in dealt]
        rows, pairs = [], []
        for question, aligned in cells:
            item = f"{question.id}|{aligned.pair.id}"
            rows.append({"item": item, "topic": question.topic, "pair": aligned.pair.id})
            pairs.append(self.patch_pair(aligned.pair, question, item))
        return PairedQuestions(key, tuple(pairs), pd.DataFrame(rows), left_out)

    def patch_pair(self, pair: PersonaPair, question: Question, item: str) -> PatchPair:
        """A question under both personas of a pair, with the spans "identity" and "elsewhere" of as many tokens.

        Args:
            item: name of the item, by which the place elsewhere is drawn.

        Raises:
            NotApplicable: the prompts have unequal lengths or the same tokens.
        """
        base, source = self.prompt(pair.corrupt, question), self.prompt(pair.clean, question)
        span = differing_span(base.ids, source.ids)
        if span is None:
            raise Unsupported(
                f"the personas of {pair.id} do not render to as many, different tokens on this model"
            )
        start, stop = span
        # Another place of the same width: after the word, since no earlier token can depend on it, and before the last
        # token, where every path ends.
        places = range(stop, len(base) - (stop - start) - 1)
        elsewhere = int(stream(self.seed, "elsewhere", item).choice(places))
        spans = {"identity": span, "elsewhere": (elsewhere, elsewhere + stop - start)}
        return PatchPair(base, source, question.answers, spans)

    # -- asking ------------------------------------------------------------------------------------------------

    def prompt(self, persona: Persona | None, question: Question) -> Prompt:
        """The question under a persona; without a system turn for None."""
        key = (persona, question)
        if key not in self._prompts:
            system = "" if persona is None else SYSTEM.format(persona=f"{persona.article} {persona.phrase}")
            self._prompts[key] = self.adapter.chat(question.chat(system))
        return self._prompts[key]

    def ask(self, cells: Sequence[tuple[Persona | None, Question]], description: str = "answers") -> Answered:
        """Answers to questions under personas, in their order; each prompt is run once, and the same cells are not run
        again.

        Cells that are asked for together are run together: sums in a batch are rounded as its shape has it, so that
        answers taken from whatever was asked before would depend on what that was.

        Raises:
            ValueError: there is nothing to ask.
        """
        if not cells:
            raise ValueError(f"{description}: there is no question to ask")
        asked = [(self.prompt(*cell), cell[1].answers) for cell in cells]
        prompts = dict(asked)
        key = tuple(prompts)
        if key not in self._asked:
            self._asked[key] = answered(self.adapter, key, list(prompts.values()), description)
        places = {prompt: place for place, prompt in enumerate(key)}
        return self._asked[key].taken([places[prompt] for prompt, _ in asked])

    def _select(self, n: int) -> tuple[Question, ...]:
        """`n` usable questions spread evenly over topics, or all where there are fewer."""
        questions = self.format.questions
        return select(questions, min(n, len(questions)), seed=self.seed)

    def _require_accuracy(self) -> None:
        """Refuse a model that does not know the answers, which has no logit difference worth patching.

        docs/protocols/persona_patching.md, Accuracy gate.

        The questions that are measured are asked without a persona; where they are too few to show knowledge, more
        questions are, so that a short run can show it too.

        Raises:
            NotApplicable: the accuracy is not three standard errors above chance.
        """
        for n in (len(self.items), max(ACCURACY_ITEMS, len(self.items))):
            questions = self._select(n)
            n = len(questions)
            logits = self.ask([(None, question) for question in questions], "questions without persona").logits
            right = int((logits[:, 0] > logits[:, 1:].amax(1)).sum())
            needed = self.format.needed(n)
            if right / n >= needed:
                break
        others = "the wrong one" if len(questions[0].answers) == 2 else "all others"
        accuracy = f"without a persona the right answer beats {others} in {right} of {n} items"
        if right / n < needed:
            raise NotApplicable(
                f"{accuracy}; chance plus three standard errors is {needed:.2f}, so the model is at chance"
            )
        self._notes.append(accuracy)

    def notes(self, arm: PairedQuestions | None = None) -> tuple[str, ...]:
        """What a reader of a claim on this arm, or on the questions alone, must know."""
        return tuple(filter(None, (*self._notes, arm.note if arm else "")))
