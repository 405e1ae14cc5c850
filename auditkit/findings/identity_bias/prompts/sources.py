"""What a source holds for bias claims, recognised by the content of its files and not by their names.

- BBQ, CrowS-Pairs, WinoBias and Winogender as their authors and the hub publish them (`published`);
- decisions of the user's own (`own`);
- multiple choice (`auditkit.data.choices`).

An entry that lacks something is left out and counted; a file in which none is left is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auditkit.data.choices import Choices, read_choices
from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import text_of
from auditkit.data.layouts import is_choices
from auditkit.data.sources import every_file, source_first
from auditkit.data.tables import read_rows
from auditkit.findings.identity_bias.prompts.items import BiasQuestion, Items, PronounPair, SentencePair
from auditkit.findings.identity_bias.prompts.own import OwnDecisionData, read_own_decisions
from auditkit.findings.identity_bias.prompts.published import winobias, winogender
from auditkit.findings.identity_bias.prompts.published.bbq import read_bbq
from auditkit.findings.identity_bias.prompts.published.crows_pairs import read_crows_pairs

KINDS = {
    "bbq": "BBQ",
    "crows": "CrowS-Pairs",
    "winobias": "WinoBias",
    "winogender": "Winogender",
    "statistics": "Winogender's statistics",
    "own": "own decisions",
    "choices": "multiple choice",
}
"""Kind -> what it is called."""
_TELLING: Mapping[str, set[str]] = {
    "crows": {"sent_more", "sent_less"},
    "bbq": {"context_condition", "answer_info", "question_polarity", "ans0"},
    "statistics": {"bls_pct_female"},
    "own": {"template"},
}
"""Kind -> fields of which one is enough to tell it."""
_TEXTS = (".txt", ".test", ".dev")


@dataclass(frozen=True)
class GivenItems:
    """What a source holds, by kind; None where it holds nothing of a kind.

    Attributes:
        unused: files of no layout known here, with the reason.
        formats: kind -> what its files are: "CSV", "JSON lines", ...
    """

    questions: Items[BiasQuestion] | None
    pronouns: Items[PronounPair] | None
    sentences: Items[SentencePair] | None
    choices: Choices | None
    unused: tuple[Dropped, ...]
    own: OwnDecisionData | None = None
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """What is there and what is not used, in words."""
        kinds = {"questions": self.questions, "pronouns": self.pronouns, "sentences": self.sentences}
        counts = [f"{len(items.kept)} {name}" for name, items in kinds.items() if items is not None]
        counts += [f"{len(self.choices.kept)} multiple-choice questions"] if self.choices is not None else []
        counts += [f"{sum(map(len, self.own.cases.values()))} own cases"] if self.own is not None else []
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
    kinds: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    formats: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    unused = []
    for path in every_file(spec):
        kind, format = recognised(path)
        if kind in kinds:
            kinds[kind].append(path)
            formats[kind][format] = None
        else:
            unused.append(Dropped(path.name, kind))
    if not any(paths for kind, paths in kinds.items() if kind != "statistics"):
        first = unused[0] if unused else Dropped(kinds["statistics"][0].name, "statistics without sentences")
        raise DataError(
            f"{spec}: no file in the layout of BBQ, CrowS-Pairs, WinoBias, Winogender, MMLU or of your own decisions "
            f"(first: {first.item_id}: {first.reason})"
        )
    choices = kinds["choices"]
    return GivenItems(
        read_bbq(kinds["bbq"]) if kinds["bbq"] else None,
        _pronouns(kinds),
        read_crows_pairs(kinds["crows"]) if kinds["crows"] else None,
        read_choices(choices, first=source_first(spec)) if choices else None,
        tuple(unused),
        read_own_decisions(kinds["own"]) if kinds["own"] else None,
        {KINDS[kind]: tuple(found) for kind, found in formats.items() if found},
    )


def _pronouns(kinds: Mapping[str, Sequence[Path]]) -> Items[PronounPair] | None:
    made = [winobias.read_winobias(kinds["winobias"])] if kinds["winobias"] else []
    if kinds["winogender"]:
        made.append(winogender.read_winogender(kinds["winogender"], kinds["statistics"]))
    if not made:
        return None
    return Items(
        tuple(pair for items in made for pair in items.kept),
        tuple(one for items in made for one in items.dropped),
        " ".join(items.validity for items in made),
    )


def recognised(path: Path) -> tuple[str, str]:
    """The kind of a file, one of `KINDS`, and what it is ("CSV"); or in words why it is of none, and nothing.

    Raises:
        DataError: it cannot be read.
    """
    text = ""
    if not _binary(path):
        text = text_of(path)
        if winobias.is_winobias(text):
            return "winobias", "text"
    try:
        table = read_rows(path)
    except DataError:
        if path.suffix.lower() in _TEXTS and text.strip()[:1] not in ("{", "["):
            return "no sentences with brackets", ""
        raise
    names = {name.strip().lower() for name in table.names}
    for kind, fields in _TELLING.items():
        if fields & names:
            return kind, table.format
    for kind, columns in (("winobias", winobias.COLUMNS), ("winogender", winogender.SENTENCES)):
        if set(columns) <= names:
            return kind, table.format
    if is_choices(table.names) or (not names and table.rows and len(table.rows[0][1]) == 6):
        return "choices", table.format
    if names:
        return f"fields {', '.join(sorted(names)[:4])} of no known layout", ""
    if path.suffix.lower() in _TEXTS:
        return "no sentences with brackets", ""
    width = len(table.rows[0][1]) if table.rows else 0
    return f"{width} columns of no known layout", ""


def _binary(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(4096)
    return b"\0" in start or start.startswith((b"PAR1", b"ARROW1"))
