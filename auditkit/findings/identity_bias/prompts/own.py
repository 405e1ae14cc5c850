"""A user's own decisions: sentences with a place for a group, and a favourable and an unfavourable answer.

A table has a row for each template and group:

    template                                            group        favourable  unfavourable
    The applicant is {group}. Grant the loan: yes or no?  a young man  yes         no

`{group}` may stand anywhere in the template, once or more often; where it begins a sentence, its first letter is
capitalised. Three columns may be left out. `attribute` is what groups differ in ("group" where it is left out): groups
of one attribute are compared. `case` names what a template is about: templates of one case are one cluster. `domain` is
the kind of decision, a fixed stratum. `strong` and `weak` are words in the place of the group that must move the
answer; where they are left out, the sensitivity reference states the answer instead.

Groups are compared on the same case, so a case that lacks a group of its attribute is left out with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.data.errors import DataError, Dropped
from auditkit.data.tables import read_rows
from auditkit.findings.identity_bias.prompts.identities import Identity
from auditkit.findings.identity_bias.prompts.items import DecisionCase

if TYPE_CHECKING:
    import pandas as pd

PLACE = "{group}"
NEEDED = ("template", "group", "favourable", "unfavourable")
OPTIONAL = ("attribute", "case", "domain", "strong", "weak")
_SPELLINGS = {"favorable": "favourable", "unfavorable": "unfavourable"}


@dataclass(frozen=True, slots=True)
class OwnCase(DecisionCase):
    """A user's template as a case; `case` is its text with `{group}`.

    Attributes:
        cluster: the case that this template is one wording of.
        answers: the favourable answer and the other one.
        ends: what stands in the place of the group in the sensitivity reference, strong and weak; empty where the
            reference states the answer.
    """

    cluster: str = ""
    answers: tuple[str, str] = ("yes", "no")
    ends: tuple[str, ...] = ()

    def user(self, identity: Identity) -> str:
        """The user's turn about one group."""
        return filled(self.case, identity.phrase)


@dataclass(frozen=True)
class OwnDecisionData:
    """The usable cases and groups of a user's table, by attribute, and what cannot be used.

    Attributes:
        cases: attribute -> its cases, each of which is there for every one of the attribute's groups.
        people: attribute -> its groups.
        rows: how many rows of the table are part of a usable case.
    """

    cases: Mapping[str, tuple[OwnCase, ...]]
    people: Mapping[str, tuple[Identity, ...]]
    rows: int
    dropped: tuple[Dropped, ...]

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(self.cases)


def filled(template: str, phrase: str) -> str:
    """A template with a group in its places; at the beginning of a sentence it has a large first letter."""
    large = phrase[:1].upper() + phrase[1:]
    return re.sub(r"(^\s*|[.!?]\s+)\{group\}", lambda found: found[1] + large, template).replace(PLACE, phrase)


def read_own_decisions(paths: Sequence[Path]) -> OwnDecisionData:
    """A user's decisions in files of any kind that `auditkit.data.tables` reads.

    Raises:
        DataError: a file that cannot be read or lacks a column, or no usable case.
    """
    rows: list[tuple[str, Mapping[str, Any]]] = []
    lost: list[Dropped] = []
    for path in paths:
        table = read_rows(path)
        _complete(table.names, f"{path}, line 1")
        for number, row in table.rows:
            name = f"{path.name} row {number}"
            if isinstance(row, Mapping):
                rows.append((name, row))
            else:
                lost.append(Dropped(name, f"it has {len(row)} fields and the header {len(table.names)}"))
    return _cases(rows, lost, str(paths[0]))


def own_decisions(frame: pd.DataFrame) -> OwnDecisionData:
    """A user's decisions in a DataFrame with the columns of the file.

    Raises:
        DataError: a column is missing, or there is no usable case.
    """
    _complete([str(name) for name in frame.columns], "the data frame")
    records = ({str(name): value for name, value in row.items()} for row in frame.to_dict("records"))
    return _cases([(f"row {n}", row) for n, row in enumerate(records, 1)], [], "the data frame")


def _complete(names: Iterable[str], where: str) -> None:
    there = {_named(name) for name in names}
    for column in NEEDED:
        if column not in there:
            raise DataError(
                f"{where}, column {column}: missing column; needed are {', '.join(NEEDED)}, and {', '.join(OPTIONAL)} "
                "may be there"
            )


def _named(name: object) -> str:
    low = str(name).strip().lower()
    return _SPELLINGS.get(low, low)


def _fields(row: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a row; what is missing is empty."""
    low = {_named(name): value for name, value in row.items()}
    texts = {name: low.get(name) for name in (*NEEDED, *OPTIONAL)}
    return {name: "" if value is None or value != value else str(value).strip() for name, value in texts.items()}


def _wrong(fields: Mapping[str, str]) -> str:
    """In words why a row cannot be used; empty where it can."""
    if missing := [name for name in NEEDED if not fields[name]]:
        return f"lacks {', '.join(missing)}"
    if PLACE not in fields["template"]:
        return "its template has no {group}"
    if fields["favourable"].lower() == fields["unfavourable"].lower():
        return "its two answers are the same"
    if bool(fields["strong"]) != bool(fields["weak"]):
        return "it has one of strong and weak, and needs both or neither"
    return ""


Usable = list[tuple[str, dict[str, str]]]


def _cases(rows: Iterable[tuple[str, Mapping[str, Any]]], lost: Sequence[Dropped], where: str) -> OwnDecisionData:
    dropped = list(lost)
    found: dict[str, dict[tuple[str, str], Usable]] = {}
    for name, row in rows:
        fields = _fields(row)
        if why := _wrong(fields):
            dropped.append(Dropped(name, why))
            continue
        of = found.setdefault(fields["attribute"] or "group", {})
        of.setdefault((fields["case"], fields["template"]), []).append((name, fields))
    cases: dict[str, tuple[OwnCase, ...]] = {}
    people: dict[str, tuple[Identity, ...]] = {}
    used = 0
    for attribute, templates in found.items():
        groups = list(dict.fromkeys(fields["group"] for own in templates.values() for _, fields in own))
        made = _of_attribute(templates, groups, dropped)
        if made and len(groups) > 1:
            cases[attribute] = tuple(case for case, _ in made)
            people[attribute] = tuple(Identity(attribute, group, group, "word") for group in groups)
            used += sum(n for _, n in made)
        elif made:
            dropped.append(
                Dropped(attribute, f"its only group is {groups[0]!r}, and there is none to compare it with")
            )
    if not cases:
        first = f" (first: {dropped[0].item_id}: {dropped[0].reason})" if dropped else ""
        raise DataError(f"{where}: no case that can be asked about two groups{first}")
    return OwnDecisionData(cases, people, used, tuple(dropped))


def _of_attribute(
    templates: Mapping[tuple[str, str], Usable], groups: Sequence[str], dropped: list[Dropped]
) -> list[tuple[OwnCase, int]]:
    """The cases that are there for every group, and how many rows each has."""
    made = []
    wordings: Counter[str] = Counter()
    domains: dict[str, str] = {}
    for number, ((label, template), own) in enumerate(templates.items(), 1):
        cluster = label or f"template {number}"
        wordings[cluster] += 1
        name = cluster if wordings[cluster] == 1 else f"{cluster}, wording {wordings[cluster]}"
        there = Counter(fields["group"] for _, fields in own)
        alike = {
            tuple(fields[k] for k in ("favourable", "unfavourable", "domain", "strong", "weak"))
            for _, fields in own
        }
        domain = own[0][1]["domain"]
        why = ""
        if missing := [group for group in groups if group not in there]:
            why = f"lacks the groups {', '.join(missing)}, which other cases of its attribute have"
        elif twice := [group for group, n in there.items() if n > 1]:
            why = f"has the group {twice[0]} twice"
        elif len(alike) > 1:
            why = "its answers, domain or ends differ between its rows"
        elif domains.setdefault(cluster, domain) != domain:
            why = "is of another domain than the first wording of its case"
        if why:
            dropped += [Dropped(row, f"{name} {why}") for row, _ in own]
            continue
        favourable, unfavourable, _, strong, weak = alike.pop()
        made.append(
            (
                OwnCase(
                    id=name, domain=domain or "decision", case=template, role="", ask="", cluster=cluster,
                    answers=(favourable, unfavourable), ends=(strong, weak) if strong else (),
                ),
                len(own),
            )
        )  # fmt: skip
    return made
