"""Check the questions and answers of the traits suite: `python tools/check_traits.py [FILE]`.

Prints counts, then one line for each fault, and exits with 1 where there is one. Without an argument the packaged
traits and open questions are checked: that each trait has five pairs of opposed system prompts and 20 questions of each
part, that no text comes twice, that the two answers to a question are about equally long and equally finished, that
over a trait they have equally many letters, and that no single word gives one kind of answer away.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from auditkit.data.errors import DataError
from auditkit.findings.traits.prompts import Trait, TraitQuestion, open_questions, own_traits, traits_of_file

LEAST_PAIRS, LEAST_QUESTIONS, LEAST_OPEN = 5, 20, 8
APART = 3
"""Words by which the two answers to a question may differ in length."""
LETTERS = (0.93, 1.07)
"""Letters of all answers that fit a trait by those of all that do not."""
MOST_WORDS = 14
"""Of an answer: one plain sentence."""
GIVES_AWAY = 0.25
"""Share of a trait's questions by which a word may be more frequent in one kind of answer than in the other. Words of
praise, insult or doubt are what a trait is made of, and no single one of them may stand for it."""
PAIR_APART = 4
"""Words by which two opposed system prompts may differ in length."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[\w'-]+", text.lower())


def faults_of(traits: Sequence[Trait], more: Sequence[TraitQuestion] = ()) -> Iterator[str]:
    """One line for each fault.

    Args:
        more: open questions, which belong to no trait.
    """
    seen: dict[str, str] = {}
    for trait in traits:
        if len(trait.systems) < LEAST_PAIRS:
            yield f"{trait.name}: {len(trait.systems)} pairs of system prompts, {LEAST_PAIRS} are needed"
        for one, other in trait.systems:
            if abs(len(words_of(one)) - len(words_of(other))) > PAIR_APART:
                yield f"{trait.name}: opposed system prompts differ in length: {one!r}"
        for part, questions in (("extract", trait.extract), ("evaluate", trait.evaluate)):
            if len(questions) < LEAST_QUESTIONS:
                yield f"{trait.name}: {len(questions)} questions to {part}, {LEAST_QUESTIONS} are needed"
        yield from _of_questions(trait.name, (*trait.extract, *trait.evaluate), seen)
    if more:
        yield from _of_questions("open questions", more, seen)


def _of_questions(name: str, questions: Sequence[TraitQuestion], seen: dict[str, str]) -> Iterator[str]:
    for question in questions:
        for text in (question.text, question.consistent, question.inconsistent):
            plain = " ".join(words_of(text))
            if plain in seen:
                yield f"{question.id}: {text!r} is already in {seen[plain]}"
            seen.setdefault(plain, question.id)
        yield from (f"{question.id}: {fault}" for fault in _unlike(question))
    answers = [[question.consistent for question in questions], [question.inconsistent for question in questions]]
    letters = [sum(map(len, own)) for own in answers]
    if not LETTERS[0] <= letters[0] / letters[1] <= LETTERS[1]:
        yield f"{name}: answers that fit have {letters[0] / letters[1]:.2f} times the letters of those that do not"
    counts = [Counter(word for text in own for word in set(words_of(text))) for own in answers]
    for word in sorted(counts[0].keys() | counts[1].keys()):
        if abs(counts[0][word] - counts[1][word]) > GIVES_AWAY * len(questions):
            yield f"{name}: {word!r} is in {counts[0][word]} answers that fit and {counts[1][word]} that do not"


def _unlike(question: TraitQuestion) -> Iterator[str]:
    both = question.consistent, question.inconsistent
    lengths = [len(words_of(text)) for text in both]
    if abs(lengths[0] - lengths[1]) > APART:
        yield f"its answers have {lengths[0]} and {lengths[1]} words"
    if max(lengths) > MOST_WORDS:
        yield f"an answer of {max(lengths)} words, at most {MOST_WORDS} are one plain sentence"
    if not question.text.endswith(("?", ".")):
        yield "the question has no end"
    for text in both:
        if not text.endswith(".") or not text[0].isupper():
            yield f"{text!r} is no whole sentence"


def main(*arguments: str) -> int:
    try:
        traits = own_traits().traits if not arguments else traits_of_file(Path(arguments[0]))
        more = () if arguments else open_questions()[0]
    except DataError as error:
        print(error)
        return 1
    count = sum(len(trait.extract) + len(trait.evaluate) for trait in traits)
    print(f"{len(traits)} traits, {count} questions, {len(more)} open questions")
    faults = list(faults_of(traits, more))
    if not arguments and len(more) < LEAST_OPEN:
        faults.append(f"{len(more)} open questions, {LEAST_OPEN} are needed")
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
