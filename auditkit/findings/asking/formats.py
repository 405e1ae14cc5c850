"""Two formats of a factual question, and the tokens whose logits are the answer.

*Completions*: the answer's start is prefilled ("The capital of France is") and the right next word is compared with a
wrong one. Models of 100 million parameters can do that. *Letters*: four lettered options and the request for one
letter, as the paper asks MMLU (Poonia & Jain 2025, arXiv:2507.20936); the logit of the right letter is compared with
the mean of the other three (docs/protocols/persona_patching.md, Formulas).

In both formats a question is text, a start of the answer, and the ids of single answer tokens, the right one first.
Questions whose answers are not single tokens for the tokenizer are left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TypeVar

from auditkit.adapters.protocol import Adapter, Answers
from auditkit.claims.outcomes import Unsupported
from auditkit.data.choices import ChoiceItem, Choices, right_places, shuffled
from auditkit.data.items import CompletionItem, check_tokens, completion_items, select, single_token
from auditkit.data.layouts import LETTERS
from auditkit.data.prompts import Chat
from auditkit.engine.pairs import answered
from auditkit.stats.intervals import MIN_CLUSTERS

T = TypeVar("T")

LETTER_PROBES = 8
"""Questions on which it is measured how a model writes a letter."""


@dataclass(frozen=True)
class Question:
    """What a model is asked, and the tokens whose logits are the answer: the right one, then the wrong ones.

    Attributes:
        said: the answers as a person says them, in the order of `answers`.
    """

    id: str
    topic: str
    user: str
    start: str
    answers: Answers
    said: tuple[str, ...] = ()

    def chat(self, system: str) -> Chat:
        """The question under a system turn; without one where that is empty."""
        return Chat(user=self.user, system=system, assistant=self.start)


@dataclass(frozen=True)
class Format:
    """Questions of one kind, ready for one model.

    Attributes:
        name: "completions" or "letters".
        questions: all that the model can be asked, in no particular order.
        right: when an answer counts as right, in words.
        greedy: whether the right answer must be the likeliest of all tokens, or only of the answer tokens.
        notes: what a reader must know about how the questions were made.
    """

    name: str
    questions: tuple[Question, ...]
    right: str
    greedy: bool
    notes: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Probability that a blind choice among the answer tokens is right."""
        return 1 / len(self.questions[0].answers) if self.questions else 0.5

    def needed(self, n: int) -> float:
        """The share of right answers to n questions that chance does not reach: three standard errors above it."""
        return self.chance + 3 * sqrt(self.chance * (1 - self.chance) / n)


def asked_as(adapter: Adapter, items: Sequence[CompletionItem] | Choices | None, *, seed: int) -> Format:
    """Multiple choice as letters, and completion items as completions; the project's own items where None."""
    if isinstance(items, Choices):
        return letters(adapter, items, seed=seed)
    return completions(adapter, items or completion_items())


def completions(adapter: Adapter, items: Sequence[CompletionItem]) -> Format:
    """The items whose two answers are single, different tokens after the prompt."""
    chat = adapter.chat
    checked = check_tokens(
        items, chat.encode, lambda item: chat.render(Chat(user=item.question, assistant=item.start))
    )
    notes = []
    if checked.dropped:
        first = checked.dropped[0]
        notes.append(
            f"{len(checked.dropped)} of {len(checked.dropped) + len(checked.kept)} items dropped because their "
            f"answers are not single tokens for this tokenizer (first: {first.item_id}: {first.reason})"
        )
    questions = tuple(
        Question(
            *(e.item.id, e.item.topic, e.item.question, e.item.start),
            (e.right_id, e.wrong_id),
            (e.item.right, e.item.wrong),
        )
        for e in checked.kept
    )
    return Format("completions", questions, "the right word is the likeliest next word of all", True, tuple(notes))


def letters(adapter: Adapter, choices: Choices, *, seed: int) -> Format:
    """The questions with their options shuffled, answered by a letter.

    The right letter is each of the four equally often. The answer token is the letter as this model writes it after the
    header: "A" or " A", whichever has more of the probability.

    Raises:
        NotApplicable: the tokenizer has no single token for each letter there, or there are no questions.
    """
    if not choices.kept:
        raise Unsupported(f"none of {len(choices.dropped)} multiple-choice questions can be asked")
    subjects = sorted({item.topic for item in choices.kept})
    apart = len(subjects) < MIN_CLUSTERS
    kept = [replace(item, topic=item.id) for item in choices.kept] if apart else choices.kept
    items = select(kept, len(kept), seed=seed)  # any first n of them have the right letters evenly, too
    places = right_places(len(items), seed=seed)
    texts = [_text(item, place, seed) for item, place in zip(items, places, strict=True)]
    ids, written = _letter_ids(adapter, texts)
    notes = [written, "options are shuffled, and the right letter is each of the four equally often"]
    if choices.key:
        notes.append(f"right answers in the data: {choices.key}")
    if choices.dropped:
        first = choices.dropped[0]
        notes.append(
            f"{len(choices.dropped)} of {len(choices.dropped) + len(items)} questions dropped (first: "
            f"{first.item_id}: {first.reason})"
        )
    if apart:
        notes.append(
            f"intervals are over questions, since {len(subjects)} subjects are too few to be clusters: they speak of "
            f"{', '.join(subjects)} only"
        )
    questions = tuple(
        Question(item.id, item.topic, text, "", _right_first(ids, place), _right_first(LETTERS, place))
        for item, text, place in zip(items, texts, places, strict=True)
    )
    return Format("letters", questions, "the right letter is the likeliest of the four", False, tuple(notes))


def _text(item: ChoiceItem, right: int, seed: int) -> str:
    options = shuffled(item, right, seed=seed)
    listed = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n".join([item.question, *listed, "Answer with one letter: A, B, C or D."])


def _right_first(answers: Sequence[T], place: int) -> tuple[T, ...]:
    return (answers[place], *answers[:place], *answers[place + 1 :])


def _letter_ids(adapter: Adapter, texts: Sequence[str]) -> tuple[Answers, str]:
    """The four letters' tokens as the model writes them after the header, and a sentence on how it writes them."""
    prefix = adapter.chat.render(Chat(user=texts[0]))
    able: dict[str, list[int]] = {}
    reasons: list[str] = []
    for space in ("", " "):
        found = [single_token(adapter.chat.encode, prefix, space + letter) for letter in LETTERS]
        whole = [token for token in found if isinstance(token, int)]
        if len(set(whole)) == len(LETTERS):
            able[f"{space}A"] = whole
        else:
            reasons += [token for token in found if isinstance(token, str)][:1] or [
                "two letters are the same token"
            ]
    if not able:
        raise Unsupported(
            f"the tokenizer splits answer letters, so no single logit stands for one ({'; '.join(reasons)}); ask "
            "completions instead"
        )
    prompts = [adapter.chat(Chat(user=text)) for text in texts[:LETTER_PROBES]]
    ids = tuple(token for tokens in able.values() for token in tokens)
    seen = answered(adapter, prompts, [ids] * len(prompts), "letters")
    probability = (seen.logits - seen.logits[:, :1] + seen.log_probability[:, None]).exp().mean(0)
    parts = probability.reshape(len(able), len(LETTERS))
    shares = {written: float(part.sum()) for written, part in zip(able, parts, strict=True)}
    best = max(shares, key=lambda written: shares[written])
    listed = ", ".join(f'{share:.2g} of it on letters written "{written}"' for written, share in shares.items())
    return tuple(able[best]), f'letters are read as "{best}", by the probability after the prompt: {listed}'
