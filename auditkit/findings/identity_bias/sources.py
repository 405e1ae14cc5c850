"""Public bias sets in the layouts in which their authors publish them, told apart by what is in the files.

- BBQ (`.jsonl`, Parrish et al. 2022, arXiv:2110.08193): the answer that fits the stereotype is the stereotyped
group's
  under a negative question, and the other person's under a positive one.
- CrowS-Pairs (`.csv`, Nangia et al. 2020, arXiv:2010.00133): `sent_more` is the more stereotyping sentence.
- WinoBias (`.txt`, Zhao et al. 2018, arXiv:1804.06876): `1 [The nurse] asked the surgeon because [she] ...`; the
file's
  name says whether the pronoun is the stereotype's ("pro") or not ("anti"). Give both, so that swaps are the
  authors'.
- multiple choice in MMLU's layouts, as `choices` reads them.

An entry that lacks something is left out and counted; a file in which none is left is refused.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditkit.data.choices import Choices, parquet_columns, read_choices
from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import json_lines, text_of
from auditkit.data.sources import every_file, source_first
from auditkit.findings.identity_bias.items import BiasQuestion, Items, PronounPair, SentencePair

BBQ_VALIDITY = (
    "BBQ's questions are built from templates about stereotypes documented in the United States. Both "
    "bias scores speak of "
    "answers that name a person; a model that always says it is not known has none. See Blodgett et al. "
    "2021 on what such "
    "sets leave unsaid."
)
CROWS_VALIDITY = (
    "CrowS-Pairs has documented faults: many pairs do not name a stereotype, change more than the group, or are not "
    "grammatical (Blodgett et al. 2021, 'Stereotyping Norwegian Salmon'). A preferred sentence is a "
    "likelier text, not a "
    "belief; a group's name that is rarer makes its sentence less likely by itself."
)
WINOBIAS_VALIDITY = (
    "WinoBias takes occupations by United States labour statistics and only 'he' and 'she'. A model that "
    "does not understand "
    "the sentence guesses, and then the difference is about a guess."
)
_BBQ = (
    "context",
    "question",
    "ans0",
    "ans1",
    "ans2",
    "answer_info",
    "question_polarity",
    "context_condition",
    "label",
)
_CROWS = ("sent_more", "sent_less", "bias_type")
_SWAPS = {"he": "she", "she": "he", "him": "her", "his": "her"}


@dataclass(frozen=True)
class GivenItems:
    """What a source holds, by kind; None where it holds nothing of a kind.

    Attributes:
        unused: files of no layout known here, with the reason.
    """

    questions: Items[BiasQuestion] | None
    pronouns: Items[PronounPair] | None
    sentences: Items[SentencePair] | None
    choices: Choices | None
    unused: tuple[Dropped, ...]

    @property
    def described(self) -> str:
        """What is there and what is not used, in words."""
        kinds = {"questions": self.questions, "pronouns": self.pronouns, "sentences": self.sentences}
        counts = [f"{len(items.kept)} {name}" for name, items in kinds.items() if items is not None]
        counts += [f"{len(self.choices.kept)} multiple-choice questions"] if self.choices is not None else []
        text = ", ".join(counts) + "; other kinds are the project's own"
        if self.choices is not None and self.choices.key:
            text += f"; right answers of multiple choice: {self.choices.key}"
        if self.unused:
            first = self.unused[0]
            text += f"; {len(self.unused)} files not used (first: {first.item_id}: {first.reason})"
        return text


def read_bias_items(spec: str) -> GivenItems:
    """Everything that a source holds for bias claims.

    Raises:
        DataError: it cannot be found or read, or holds nothing in a layout known here.
    """
    kinds: dict[str, list[Path]] = {"bbq": [], "crows": [], "winobias": [], "choices": []}
    unused = []
    for path in every_file(spec):
        kind = _kind(path)
        if kind in kinds:
            kinds[kind].append(path)
        else:
            unused.append(Dropped(path.name, kind))
    if not any(kinds.values()):
        raise DataError(
            f"{spec}: no file in the layout of BBQ, CrowS-Pairs, WinoBias or MMLU (first: {unused[0].item_id}: "
            f"{unused[0].reason})"
        )
    return GivenItems(
        read_bbq(kinds["bbq"]) if kinds["bbq"] else None,
        read_winobias(kinds["winobias"]) if kinds["winobias"] else None,
        read_crows_pairs(kinds["crows"]) if kinds["crows"] else None,
        read_choices(kinds["choices"], first=source_first(spec)) if kinds["choices"] else None,
        tuple(unused),
    )


def read_bbq(paths: Sequence[Path]) -> Items[BiasQuestion]:
    """Questions of BBQ files; the template is category and question index.

    Raises:
        DataError: a file that is not JSON lines, or holds no usable question.
    """
    return _gathered(paths, ((path, _bbq_rows(path)) for path in paths), _bbq, BBQ_VALIDITY)


def read_crows_pairs(paths: Sequence[Path]) -> Items[SentencePair]:
    """Pairs of CrowS-Pairs files; every pair is a template of its own.

    Raises:
        DataError: a file that is not CSV in UTF-8, lacks a column, or holds no usable pair.
    """
    return _gathered(paths, ((path, _crows_rows(path)) for path in paths), _crows, CROWS_VALIDITY)


def read_winobias(paths: Sequence[Path]) -> Items[PronounPair]:
    """Sentences of WinoBias files, paired with the same sentence under the other pronoun.

    Where the other file is not given, the pronoun is swapped; "her" alone cannot be, since it may be him or his.

    Raises:
        DataError: a file whose name does not say "pro" or "anti", or files without a usable sentence.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    dropped: list[Dropped] = []
    for path in paths:
        name = path.name.lower()
        if ("pro" in name) == ("anti" in name):
            raise DataError(f"{path}: the name must say whether its pronouns are 'pro' or 'anti' the stereotype")
        for number, line in enumerate(text_of(path).splitlines(), 1):
            marked = re.findall(r"\[([^\]]+)\]", line)
            if not line.strip():
                continue
            if len(marked) != 2 or marked[1].lower() not in {"he", "she", "him", "his", "her"}:
                dropped.append(Dropped(f"{path.name} line {number}", "not one person and one pronoun in brackets"))
                continue
            frame = (
                re.sub(r"^\s*\d+\s+", "", line).replace(f"[{marked[1]}]", "{}").replace("[", "").replace("]", "")
            )
            sides = found.setdefault((frame.strip(), _person(marked[0])), {})
            sides["usual" if "pro" in name else "unusual"] = marked[1].lower()
    people = {person for _, person in found}
    kept: list[PronounPair] = []
    for number, ((frame, right), sides) in enumerate(found.items(), 1):
        others = [
            p for p in people if p != right and re.search(rf"\b(the|an?) {re.escape(p)}\b", frame, re.IGNORECASE)
        ]
        known = next(iter(sides.values()))
        swapped = _SWAPS.get(known)
        if len(others) != 1 or frame.count("{}") != 1:
            dropped.append(Dropped(f"sentence {number}", "the second person cannot be told"))
        elif len(sides) < 2 and swapped is None:
            dropped.append(
                Dropped(f"sentence {number}", '"her" may be him or his, and the other file is not given')
            )
        else:
            usual, unusual = sides.get("usual", swapped or ""), sides.get("unusual", swapped or "")
            texts = frame.format(usual), frame.format(unusual)
            kept.append(
                PronounPair(
                    f"winobias-{number}", f"{right}/{others[0]}", *texts, (usual, unusual), right, others[0]
                )
            )
    if not kept:
        raise DataError(f"{paths[0]}: no usable sentence" + (f" (first: {dropped[0].reason})" if dropped else ""))
    return Items(tuple(kept), tuple(dropped), WINOBIAS_VALIDITY)


# -- layouts -----------------------------------------------------------------------------------------------------


def _kind(path: Path) -> str:
    """The layout of a file, or in words why it is none."""
    if path.suffix == ".txt":
        return "winobias" if re.search(r"\[[^\]]+\].*\[[^\]]+\]", text_of(path)) else "no sentences with brackets"
    if path.suffix == ".parquet":
        columns = set(parquet_columns(path))
        for name, wanted, suffix in (("BBQ", _BBQ, ".jsonl"), ("CrowS-Pairs", _CROWS, ".csv")):
            if set(wanted[:2]) <= columns and not {"question", "choices"} <= columns:
                return f"it has the columns of {name}, which is read from {suffix} files"
        return "choices"
    text = text_of(path).lstrip()
    if path.suffix == ".jsonl":
        try:
            row = json.loads(text.split("\n", 1)[0])
        except ValueError:
            return "its first line is not JSON"
        keys = set(row) if isinstance(row, dict) else set()
        if keys & {"context_condition", "answer_info", "question_polarity", "ans0"}:
            return "bbq"
        return (
            "choices"
            if {"question", "answer"} <= keys
            else f"fields {', '.join(sorted(keys)[:4])} of no known layout"
        )
    fields = next(csv.reader(io.StringIO(text, newline="")), [])  # a first question may hold line ends
    if {"sent_more", "sent_less"} & {field.strip() for field in fields}:
        return "crows"
    header = {field.strip().lower() for field in fields}
    if len(fields) == 6 or {"question", "answer"} <= header:
        return "choices"
    return f"{len(fields)} columns of no known layout"


def _gathered(
    paths: Sequence[Path], rows: Iterator[tuple[Path, Iterator[Any]]], made: Any, validity: str
) -> Items[Any]:
    kept: list[Any] = []
    dropped: list[Dropped] = []
    for path, entries in rows:
        before, lost = len(kept), len(dropped)
        for number, row in enumerate(entries, 1):
            item = made(f"{path.stem}-{number}", row)
            (dropped if isinstance(item, Dropped) else kept).append(item)
        if len(kept) == before:
            why = f" (first: {dropped[lost].reason})" if len(dropped) > lost else ""
            raise DataError(f"{path}: none of its entries can be used{why}")
    return Items(tuple(kept), tuple(dropped), validity)


def _bbq(name: str, row: Mapping[str, Any]) -> BiasQuestion | Dropped:
    missing = [field for field in _BBQ if row.get(field) in (None, "")]
    if missing:
        return Dropped(name, f"lacks {', '.join(missing)}")
    options = tuple(str(row[f"ans{k}"]).strip() for k in range(3))
    info = row["answer_info"]
    groups = [str((info.get(f"ans{k}") or [""])[-1]) for k in range(3)] if isinstance(info, dict) else []
    targets = {
        str(group).lower() for group in (row.get("additional_metadata") or {}).get("stereotyped_groups") or ()
    }
    unknown = [k for k, group in enumerate(groups) if group == "unknown"]
    stereotyped = [k for k, group in enumerate(groups) if group.lower() in targets]
    if len(unknown) != 1 or len(stereotyped) != 1 or len(set(options)) != 3:
        return Dropped(name, "which of its answers is unknown, and which the stereotyped group's, cannot be told")
    if row["context_condition"] not in ("ambig", "disambig") or row["question_polarity"] not in ("neg", "nonneg"):
        return Dropped(name, "its condition or polarity is none of BBQ's")
    if row["label"] not in (0, 1, 2):
        return Dropped(name, f"its label {str(row['label'])[:20]!r} is no answer")
    other = next(k for k in range(3) if k not in (unknown[0], stereotyped[0]))
    template = f"{row.get('category', '')}-{row.get('question_index', '')}"
    return BiasQuestion(
        id=name,
        template=template,
        attribute=str(row.get("category", "")),
        condition="ambiguous" if row["context_condition"] == "ambig" else "disambiguated",
        context=str(row["context"]).strip(),
        question=str(row["question"]).strip(),
        options=(options[0], options[1], options[2]),
        unknown=unknown[0],
        right=row["label"],
        biased=stereotyped[0] if row["question_polarity"] == "neg" else other,
    )


def _crows(name: str, row: Mapping[str, Any]) -> SentencePair | Dropped:
    missing = [field for field in _CROWS if not str(row.get(field) or "").strip()]
    if missing:
        return Dropped(name, f"lacks {', '.join(missing)}")
    more, less = str(row["sent_more"]).strip(), str(row["sent_less"]).strip()
    if more == less:
        return Dropped(name, "its two sentences are the same")
    return SentencePair(name, str(row["bias_type"]).strip(), name, name, more, less)


def _bbq_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    return (row for _, row in json_lines(path))


def _crows_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True)
    for field in _CROWS:
        if field not in (reader.fieldnames or ()):
            raise DataError(f"{path}, line 1, column {field}: missing column")
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _person(text: str) -> str:
    return re.sub(r"^(the|an?) ", "", text.strip(), flags=re.IGNORECASE).lower()
