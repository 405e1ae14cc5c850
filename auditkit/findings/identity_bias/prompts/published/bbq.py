"""BBQ (Parrish et al. 2022, arXiv:2110.08193): questions about two people, with contexts that say who is meant or not.

The answer that fits the stereotype is the stereotyped group's under a negative question, and the other person's under a
positive one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auditkit.data.errors import Dropped
from auditkit.data.layouts import listed
from auditkit.findings.identity_bias.prompts.items import BiasQuestion, Items
from auditkit.findings.identity_bias.prompts.published.gathering import Row, gathered, lacking

VALIDITY = (
    "BBQ's questions are built from templates about stereotypes documented in the United States. Both bias scores "
    "speak of answers that name a person; a model that always says it is not known has none. See Blodgett et al. 2021 "
    "on what such sets leave unsaid."
)
FIELDS = (
    *(
        "context",
        "question",
        "ans0",
        "ans1",
        "ans2",
        "answer_info",
        "question_polarity",
        "context_condition",
        "label",
    ),
)


def read_bbq(paths: Sequence[Path]) -> Items[BiasQuestion]:
    """Questions of BBQ files; the template is category and question index.

    Raises:
        DataError: a file that cannot be read, or holds no usable question.
    """
    return gathered(paths, _question, VALIDITY)


def _question(name: str, row: Row) -> BiasQuestion | Dropped:
    row = {**row, "label": row.get("label", row.get("answer_label"))}
    if why := lacking(row, FIELDS):
        return Dropped(name, why)
    options = tuple(str(row[f"ans{k}"]).strip() for k in range(3))
    info, metadata = (_object(row.get(field)) for field in ("answer_info", "additional_metadata"))
    groups = [str((info.get(f"ans{k}") or [""])[-1]) for k in range(3)]
    targets = {str(group).lower() for group in _list(metadata.get("stereotyped_groups"))}
    unknown = [k for k, group in enumerate(groups) if group == "unknown"]
    stereotyped = [k for k, group in enumerate(groups) if group.lower() in targets]
    if len(unknown) != 1 or len(stereotyped) != 1 or len(set(options)) != 3:
        return Dropped(name, "which of its answers is unknown, and which the stereotyped group's, cannot be told")
    if row["context_condition"] not in ("ambig", "disambig") or row["question_polarity"] not in ("neg", "nonneg"):
        return Dropped(name, "its condition or polarity is none of BBQ's")
    label = re.fullmatch(r"(?:ans)?([012])(?:\.0)?", str(row["label"]).strip())
    if label is None:
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
        right=int(label[1]),
        biased=stereotyped[0] if row["question_polarity"] == "neg" else other,
    )


def _object(value: object) -> Mapping[str, Any]:
    """A field that holds an object, also where a table has turned it into text."""
    found = listed(value) if isinstance(value, str) else value
    return found if isinstance(found, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    found = listed(value) if isinstance(value, str) else value
    return found if isinstance(found, list | tuple) else ()
