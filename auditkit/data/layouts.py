"""How published multiple-choice questions are laid out: names of fields, lists of options, spellings of the answer.

- MMLU: `question`, `choices`, `answer`; without header question, four options, letter.
- ARC and OpenBookQA: `choices.text` and `choices.label`, `answerKey`; in the authors' files within `question`.
- options in columns of their own: `A` to `D`, `option_a` to `option_d`, `opa`, `choice1`, `answer_0`, ...
- MedQA: `options` as an object of letters; SciQ: `correct_answer` and `distractor1` to `distractor3`.

Lists that a spreadsheet or pandas has turned into text ("['a' 'b']", "array(['a', 'b'], dtype=object)") are read as
lists.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LETTERS = ("A", "B", "C", "D")
NO_LIST = "the options are no list of texts"
QUESTIONS = ("question", "question_stem", "stem", "query", "problem", "prompt", "input")
OPTIONS = ("choices", "options")
ANSWERS = (
    *("answerkey", "answer_key", "answer_idx", "answer_index", "cop", "correct_option", "answer", "right_answer"),
    *("correct_answer", "correct", "gold", "target", "label"),
)
_STEMS = ("", "option", "choice", "op", "answer", "ans", "opt")
_NAMED = re.compile(r"(option|choice|opt|op|answer|ans|)[ _.-]?\(?([a-h]|[0-9])\)?")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_MARKED = re.compile(r"(?:(?:option|choice|answer)[ :]*)?[(\[{]?\s*([A-Za-z]|[0-9]+)\s*[)\]}.:]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A row as it is laid out, before it is judged.

    Attributes:
        text: the question; empty where there is none.
        options: the options, or in words why there are none.
        answer: what stands in the place of the answer.
        right: place of the right option where the row itself says it (by its labels, or since the right option has a
            field of its own); None where the answer must be read as a letter or a number.
        subject: what the row says of its subject; empty where it does not.
    """

    text: str
    options: tuple[str, ...] | str
    answer: object
    right: int | None
    subject: str

    @property
    def letter(self) -> int | None:
        """Place that the answer's letter stands for, in any case and with or without brackets; None for no letter."""
        found = _MARKED.fullmatch(self.answer.strip()) if isinstance(self.answer, str) else None
        letter = found[1].upper() if found is not None else ""
        return LETTERS.index(letter) if letter in LETTERS else None

    @property
    def number(self) -> int | None:
        """The number that the answer is, written as one or as text; None for letters and everything else."""
        answer = self.answer
        if isinstance(answer, str):
            if re.fullmatch(r"-?[0-9]+(\.0)?", answer.strip()):
                return int(float(answer))
            found = _MARKED.fullmatch(answer.strip())
            return int(found[1]) if found is not None and found[1].isdigit() else None
        if isinstance(answer, float) and answer.is_integer():
            return int(answer)
        return answer if isinstance(answer, int) and not isinstance(answer, bool) else None

    @property
    def named(self) -> int | None:
        """Place of the one option that the answer repeats word by word; None where it is none or several."""
        if not isinstance(self.answer, str) or isinstance(self.options, str):
            return None
        same = [place for place, option in enumerate(self.options) if option == self.answer.strip()]
        return same[0] if len(same) == 1 else None


def question_of(row: Mapping[str, Any] | Sequence[str]) -> QuestionRow:
    """A row of whatever layout, read as a multiple-choice question; what is missing is empty."""
    if not isinstance(row, Mapping):
        fields = [str(field) for field in row]
        answer = fields[-1] if len(fields) > 1 else None
        return QuestionRow(fields[0].strip() if fields else "", _texts(fields[1:-1]), answer, None, "")
    low = {str(name).strip().lower(): value for name, value in row.items()}
    inner = low.get("question")
    if isinstance(inner, Mapping):  # ARC as its authors publish it
        low = {**low, **{str(name).lower(): value for name, value in inner.items()}}
        low["question"] = low.get("stem")
    text = next((low[name] for name in QUESTIONS if isinstance(low.get(name), str) and low[name].strip()), "")
    subject = low.get("subject")
    options, labels, right = _options(low)
    named = _answer(low)
    if right is None and labels and named is not None and str(named).strip() in labels:
        right = labels.index(str(named).strip())
    return QuestionRow(text.strip(), options, named, right, str(subject).strip() if subject else "")


def is_choices(names: Sequence[str]) -> bool:
    """Whether fields with these names hold multiple-choice questions, perhaps incomplete ones."""
    low = {name.strip().lower() for name in names}
    asks = low & {*QUESTIONS}
    return bool((asks and low & {*ANSWERS, *OPTIONS}) or ("question" in low and _columns(dict.fromkeys(low, ""))))


def _answer(low: Mapping[str, Any]) -> object:
    found = [low[name] for name in ANSWERS if low.get(name) not in (None, "")]
    return found[0] if found else low.get("answer")


def _options(low: Mapping[str, Any]) -> tuple[tuple[str, ...] | str, tuple[str, ...], int | None]:
    """The options, or why there are none; their labels where they have labels other than A to D; and the place of the
    right one where it has a field of its own."""
    given = next((low[name] for name in OPTIONS if low.get(name) not in (None, "")), None)
    if given is None:
        if "correct_answer" in low and "distractor1" in low:
            others = [low[name] for name in sorted(low) if name.startswith("distractor")]
            return _texts([low["correct_answer"], *others]), (), 0
        columns = _columns(low)
        return (_texts(columns) if columns else NO_LIST), (), None
    labels: object = ()
    if isinstance(given, str):
        given = listed(given)
    if isinstance(given, Mapping) and "text" in given:
        given, labels = given["text"], given.get("label", ())
    elif isinstance(given, Mapping):
        labels = [str(name) for name in sorted(given)]
        given = [given[name] for name in sorted(given)]
    elif isinstance(given, list) and given and all(isinstance(one, Mapping) and "text" in one for one in given):
        labels, given = [str(one.get("label", "")) for one in given], [one["text"] for one in given]
    if not isinstance(given, Sequence) or isinstance(given, str):
        return NO_LIST, (), None
    named = tuple(str(label).strip() for label in labels) if isinstance(labels, list | tuple) else ()
    return _texts(given), named if len(named) == len(given) else (), None


def _columns(low: Mapping[str, Any]) -> list[Any]:
    """The options that have columns of their own, in their order; none without at least two."""
    for stem in _STEMS:
        found = {}
        for name, value in low.items():
            match = _NAMED.fullmatch(name)
            if match is not None and match[1] == stem and (stem or match[2].isalpha()):
                found[match[2]] = value
        letters = {key for key in found if key.isalpha()}
        chosen = letters if len(letters) > 1 else found.keys() - letters
        if len(chosen) > 1:
            return [found[key] for key in sorted(chosen)]
    return []


def _texts(options: Sequence[Any]) -> tuple[str, ...] | str:
    """Options as texts without outer spaces; numbers among them are written out."""
    made = []
    for option in options:
        if isinstance(option, bool) or not isinstance(option, str | int | float | None):
            return NO_LIST
        made.append("" if option is None or option != option else str(option).strip())
    return tuple(made)


def listed(text: str) -> Any:
    """The list or object that a text is the JSON, Python or numpy spelling of; the text itself where it is none."""
    text = text.strip()
    try:
        return json.loads(text)
    except ValueError:
        pass
    plain = re.sub(r"\barray\(|,\s*dtype=\w+(?:\('[^']*'\))?\s*\)", "", text)
    if plain.startswith("{"):
        parts = re.split(r"""['"](text|label)['"]\s*:""", plain.strip("{} "))
        named = {
            name: listed(value.strip().rstrip(",)").strip())
            for name, value in zip(parts[1::2], parts[2::2], strict=True)
        }
        return named if named else _literal(plain, text)
    if not (plain.startswith("[") and plain.endswith("]")):
        return text
    inside = plain[1:-1]
    if re.fullmatch(r"[\s,]*", _QUOTED.sub("", inside)):  # numpy writes no commas, which Python would join
        return [_literal(found, found[1:-1]) for found in _QUOTED.findall(inside)]
    numbers = re.split(r"[\s,]+", inside.strip())
    return numbers if all(re.fullmatch(r"-?\d+(\.\d*)?", number) for number in numbers) else _literal(plain, text)


def _literal(text: str, otherwise: Any) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return otherwise
