"""What a reader meets first is at grade 12 or easier: answers, questions, statements, verdicts and reasons.

Flesch-Kincaid grades (`readability`).
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from docpages import ROOT
from msgspec.structs import replace
from readability import HARDEST, grade, sentences, syllables, words

from auditkit.claims.verdicts import summarize
from auditkit.pytest_plugin.claims import question_of
from auditkit.record.baseline import NO_BASELINE
from auditkit.record.schema import Baseline, Run, Verdict
from auditkit.report import wording
from auditkit.report.answers.headline import answer
from auditkit.report.answers.scorecard import scorecard
from auditkit.report.brief import BY_CHANCE, hints
from tests.report.conftest import build_run

pytestmark = pytest.mark.unit

REASONS = {"NotApplicable", "NotAsked", "Unsupported"}
"""Exceptions whose text is the reason of a claim that does not apply."""

ANYTHING = "12"
"""Stands for a value in a text that code completes; a number, so it is no word."""


def stated() -> Iterator[tuple[str, str]]:
    """Each claim of the suites and its statement."""
    for path in sorted((ROOT / "suites").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield f"{path.parent.name}/{node.name.removeprefix('test_')}", ast.get_docstring(node) or ""


def reasons() -> Iterator[tuple[str, str]]:
    """Where a claim is left out and why, as far as the text stands in the code."""
    for top in ("auditkit", "suites"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in REASONS and node.args:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", written(node.args[0])


def written(node: ast.expr) -> str:
    """The text of an expression, with `ANYTHING` for what is known only when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(written, parts))
        case ast.FormattedValue(value=ast.IfExp() as value):
            return written(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return written(left) + written(right)
        case ast.IfExp(body=body, orelse=other):
            return max(written(body), written(other), key=grade)
        case _:
            return ANYTHING


def too_hard(texts: Iterator[tuple[str, str]]) -> dict[str, float]:
    return {name: round(found, 1) for name, text in texts if (found := grade(" ".join(text.split()))) > HARDEST}


def test_the_statements_of_the_suites_are_at_grade_12_or_easier() -> None:
    assert {name.partition("/")[0] for name, _ in stated()} == {name for name, _ in questions()}, "every suite"
    assert len(list(stated())) > 110
    assert too_hard(stated()) == {}


def test_the_reasons_of_claims_that_do_not_apply_are_at_grade_12_or_easier() -> None:
    assert sum(bool(words(text)) for _, text in reasons()) > 50
    assert too_hard(reasons()) == {}


def test_the_meanings_of_verdicts_are_at_grade_12_or_easier() -> None:
    assert too_hard((str(verdict), text) for verdict, text in wording.MEANINGS.items()) == {}


def questions() -> Iterator[tuple[str, str]]:
    """Each suite and what it asks."""
    for path in sorted((ROOT / "suites").glob("*/conftest.py")):
        yield path.parent.name, question_of(path.parent)


def answers() -> Iterator[tuple[str, str]]:
    """What runs answer in which each verdict occurs, alone and among the others, as a gate and as none."""
    every = [*([verdict] for verdict in Verdict), list(Verdict)]
    for verdicts, source, profile, compared, lack in itertools.product(
        every,
        ("A paper (Somebody 2020).", "The project's own."),
        ("pr", "release"),
        (False, True),
        (None, "behaviour"),
    ):
        run = made(verdicts, source=source, profile=profile, compared=compared, lack=lack)
        said = answer(run)
        for text in (said.sentence, *said.more, said.base, *(hint.said for hint in hints(run, "run"))):
            yield text, text
        for row in scorecard(run):
            yield row.answer, re.sub(r"\([^)]*\)", "", row.answer)  # names of claims


def made(verdicts: Sequence[Verdict], *, source: str, profile: str, compared: bool, lack: Any) -> Run:
    """A run with a claim of each verdict, and one more that needs a baseline where there is none."""
    run = build_run()
    told = [(verdict, "it is so") for verdict in verdicts]
    told += [] if compared else [(Verdict.NOT_APPLICABLE, f"{NO_BASELINE} (--baseline)")]
    claims = tuple(
        replace(run.claims[0], id=f"s/{i}", verdict=verdict, reason=reason, source=source, lack=lack)
        for i, (verdict, reason) in enumerate(told)
    )
    base = Baseline(
        name="released", run="base", created=run.created, audit_sha256="ab", plan_sha256="cd", plan_differences=(),
        model=run.model, summary=run.summary, absent={},
    )  # fmt: skip
    return replace(
        run, claims=claims, profile=profile, summary=summarize(claims), baseline=base if compared else None
    )


def test_what_a_run_answers_is_at_grade_12_or_easier() -> None:
    assert len({name for name, _ in answers()}) > 40
    assert too_hard(answers()) == {}


def test_the_questions_of_the_suites_are_at_grade_12_or_easier() -> None:
    assert all(question for _, question in questions())
    assert too_hard(questions()) == {}


def test_what_the_terminal_says_of_chance_is_at_grade_12_or_easier() -> None:
    assert grade(BY_CHANCE) <= HARDEST


@pytest.mark.parametrize(
    ("word", "count"),
    [
        *(("the", 1), ("layer", 2), ("changes", 2), ("moves", 1), ("moved", 1), ("decided", 3), ("table", 2)),
        *(("probability", 5), ("length-corrected", 4), ("KL", 2), ("MLPs", 3), ("persona's", 3), ("I", 1)),
    ],
)
def test_syllables_are_those_that_are_spoken(word: str, count: int) -> None:
    assert syllables(word) == count


def test_the_grade_is_that_of_the_published_formula() -> None:
    assert grade("The cat sat on the mat.") == pytest.approx(0.39 * 6 + 11.8 - 15.59)
    assert grade("Each head attends. It spreads; it does not.") == pytest.approx(
        0.39 * 8 / 3 + 11.8 * 9 / 8 - 15.59
    )


def test_numbers_code_and_names_are_no_words() -> None:
    text = "Run `make audit` on smollm2-135m and persona_patching at 0.25 [0.1, 0.3] logits (W2.a)."
    assert words(text) == ["Run", "on", "and", "at", "logits"]
    assert sentences(text) == 1


def test_a_text_that_is_too_hard_is_found() -> None:
    hard = "Representational additivity characterises compositional interactions probabilistically."
    assert too_hard(iter([("a", hard), ("b", "The cat sat on the mat.")])).keys() == {"a"}
