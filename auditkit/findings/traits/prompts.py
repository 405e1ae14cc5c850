"""Traits: opposed system prompts, and questions with an answer that fits the trait and one that does not.

The project's own traits, or those that `--data` names: a TOML file in the layout of the packaged ones, or tables (CSV,
JSON, JSON lines, Parquet) with a question and two answers in each row, as published sets of contrastive questions have
them. A table's system prompts stand in two of its columns; where it has none, those of the project's trait of the same
name are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import texts_of, toml_of
from auditkit.data.order import shuffle_key
from auditkit.data.sources import SUFFIXES, WRITTEN_BY_HAND, source_files, source_subjects
from auditkit.data.tables import read_rows

POSITIVE, NEGATIVE, NEUTRAL = (
    "with the trait's system prompt",
    "with the opposed system prompt",
    "no system prompt",
)
QUESTION = "question"
OWN = ("malicious", "sycophantic", "hallucinating", "impolite", "optimistic")
"""The packaged traits; the last one is benign."""

ASKED = ("question", "prompt")
"""Columns that may hold the question, in small letters; the first that a table has is taken."""
ANSWERS: Sequence[tuple[str, str]] = (
    ("consistent", "inconsistent"),
    ("answer_matching_behavior", "answer_not_matching_behavior"),
)
"""Columns that may hold the two answers: the suite's own names, and those of Anthropic's model-written evaluations and
of contrastive activation addition."""
SYSTEMS: Sequence[tuple[str, str]] = (("positive", "negative"), ("pos", "neg"))
"""Columns that may hold the opposed system prompts; the second are those of the persona vectors."""
LEAST_PAIRS, LEAST_EXTRACT, LEAST_EVALUATE = 2, 4, 5
"""Pairs of system prompts, so that one is held out; questions for a mean, and questions for an interval."""


@dataclass(frozen=True, slots=True)
class TraitQuestion:
    """A question with two fixed answers.

    Attributes:
        id: unique among the questions of all traits.
        consistent, inconsistent: an answer of a model with the trait, and one of a model without it.
    """

    id: str
    text: str
    consistent: str
    inconsistent: str


@dataclass(frozen=True, slots=True)
class Trait:
    """What is asked about one trait.

    Attributes:
        name: an adjective.
        harmful: whether more of it is worse.
        systems: pairs of opposed system prompts, the trait's own first.
        extract: questions on which the direction is found and its layer chosen.
        evaluate: questions on which it is judged.
    """

    name: str
    harmful: bool
    systems: tuple[tuple[str, str], ...]
    extract: tuple[TraitQuestion, ...]
    evaluate: tuple[TraitQuestion, ...]

    @property
    def extracting(self) -> tuple[tuple[str, str], ...]:
        """System prompts with which the direction is found: the first three of five."""
        return self.systems[: _first(len(self.systems))]

    @property
    def judging(self) -> tuple[tuple[str, str], ...]:
        """System prompts with which it is judged."""
        return self.systems[_first(len(self.systems)) :]


@dataclass(frozen=True)
class Traits:
    """Traits that can be asked about.

    Attributes:
        dropped: entries that were left out.
        formats: what the files are.
    """

    traits: tuple[Trait, ...]
    dropped: tuple[Dropped, ...] = ()
    formats: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all traits."""
        return tuple(trait.name for trait in self.traits)

    @property
    def harmful(self) -> tuple[str, ...]:
        """Names of those of which more is worse."""
        return tuple(trait.name for trait in self.traits if trait.harmful)

    def __getitem__(self, name: str) -> Trait:
        return next(trait for trait in self.traits if trait.name == name)


def own_traits() -> Traits:
    """The packaged traits."""
    folder = files("auditkit.findings.traits").joinpath("data")
    seen: set[str] = set()
    found = [
        trait
        for name in OWN
        for trait in _of_tables(f"{name}.toml", toml_of(folder.joinpath(f"{name}.toml")), seen)
    ]
    return Traits(tuple(found))


def traits_of_file(path: Path) -> tuple[Trait, ...]:
    """The traits of a TOML file in the layout of the packaged ones.

    Raises:
        DataError: a file that cannot be read, or a trait that lacks something, in one line.
    """
    return tuple(_of_tables(str(path), toml_of(path), set()))


def read_traits(source: str) -> Traits:
    """The traits of a source.

    Args:
        source: a file, a folder or a hub data set, as after `--data traits=`; `#name` behind it takes one trait.

    Raises:
        DataError: it cannot be found or read, or a trait has too few system prompts or questions.
    """
    place, wanted = source.partition("#")[0], source_subjects(source)
    path = Path(place).expanduser()
    if path.suffix.lower() in WRITTEN_BY_HAND and path.is_file():
        found = Traits(traits_of_file(path), (), ("TOML",))
    else:
        found = _read_tables(source)
    for name in wanted:
        if name not in found.names:
            raise DataError(f"{source}: no trait {name!r}; there are {', '.join(found.names)}")
    chosen = tuple(trait for trait in found.traits if not wanted or trait.name in wanted)
    return Traits(chosen, found.dropped, found.formats)


def are_traits(path: Path) -> bool:
    """Whether a file holds questions with an answer that fits a trait and one that does not.

    Raises:
        DataError: a table that cannot be read.
    """
    if path.suffix.lower() in WRITTEN_BY_HAND:
        tables = toml_of(path).values()
        return any(isinstance(table, dict) and {"systems", "evaluate"} <= table.keys() for table in tables)
    if path.suffix.lower() not in SUFFIXES:
        return False
    table = read_rows(path)
    names = {str(name).strip().lower() for name in (table.named[0][1] if table.named else ())}
    return any(name in names for name in ASKED) and any(set(both) <= names for both in ANSWERS)


def open_questions() -> tuple[tuple[TraitQuestion, ...], tuple[str, str]]:
    """Open questions with an ill-meaning and a well-meaning answer, and the system prompts that must move them."""
    source = files("auditkit.findings.traits").joinpath("data", "open_questions.toml")
    data = toml_of(source)
    seen: set[str] = set()
    systems = texts_of(str(source), data.get("systems"), 2, "two system prompts", seen)
    return tuple(_questions("open_questions.toml", "open", data.get("questions"), seen)), (systems[0], systems[1])


def drawn(questions: Sequence[TraitQuestion], n: int | None, seed: int) -> tuple[TraitQuestion, ...]:
    """The first n questions in an order fixed by the seed; all where n is None."""
    return tuple(sorted(questions, key=lambda each: shuffle_key(seed, each.id))[:n])


def _first(pairs: int) -> int:
    """How many pairs of system prompts find the direction."""
    return max(1, round(0.6 * pairs))


# -- TOML ----------------------------------------------------------------------------------------------------------


def _of_tables(source: str, data: Mapping[str, Any], seen: set[str]) -> Iterator[Trait]:
    if not data or not all(isinstance(table, dict) for table in data.values()):
        raise DataError(f"{source}: needs a table for each trait, such as [impolite]")
    for name, table in data.items():
        where = f"{source}, trait {name}"
        if not isinstance(table.get("harmful"), bool):
            raise DataError(f"{where}: harmful must be true or false")
        systems = [
            texts_of(where, pair, 2, "pairs of two opposed system prompts", seen)
            for pair in _list(where, table, "systems")
        ]
        parts = [
            tuple(_questions(where, f"{name}-{part}", table.get(part), seen)) for part in ("extract", "evaluate")
        ]
        pairs = tuple((one, other) for one, other in systems)
        yield _enough(source, Trait(name, table["harmful"], pairs, parts[0], parts[1]))


def _questions(where: str, stem: str, rows: object, seen: set[str]) -> Iterator[TraitQuestion]:
    for number, row in enumerate(_list(where, {stem: rows}, stem), 1):
        place = f"{where}, {stem}-{number}"
        three = texts_of(
            place, row, 3, "three texts: a question, an answer that fits and one that does not", set()
        )
        texts_of(place, [three[0]], 1, "a question", seen)  # answers may come twice, such as (A) and (B)
        yield TraitQuestion(f"{stem}-{number}", *three)


def _list(where: str, table: Mapping[str, Any], name: str) -> list[Any]:
    rows = table.get(name)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{where}: {name} is missing or is no list")
    return rows


def _enough(source: str, trait: Trait) -> Trait:
    """Refuse a trait of which nothing could be measured."""
    counts = (
        (len(trait.systems), LEAST_PAIRS, "pairs of opposed system prompts"),
        (len(trait.extract), LEAST_EXTRACT, "questions to find the direction"),
        (len(trait.evaluate), LEAST_EVALUATE, "questions to judge it"),
    )
    for count, least, what in counts:
        if count < least:
            raise DataError(f"{source}: trait {trait.name!r} has {count} {what}, at least {least} are needed")
    return trait


# -- tables --------------------------------------------------------------------------------------------------------


@dataclass
class _Found:
    """What rows say of one trait, in their order; keys are texts, so that none comes twice."""

    systems: dict[tuple[str, str], None] = field(default_factory=dict)
    questions: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    harmful: bool = True


def _read_tables(source: str) -> Traits:
    found: dict[str, _Found] = {}
    dropped: list[Dropped] = []
    formats: dict[str, None] = {}
    for path in source_files(source):
        table = read_rows(path)
        formats[table.format] = None
        for number, row in table.rows:
            named = {str(k).strip().lower(): v for k, v in row.items()} if isinstance(row, Mapping) else {}
            reason = _taken(found, path.stem, named)
            if reason:
                dropped.append(Dropped(f"{path.name} row {number}", reason))
    if not found:
        first = f" (first: {dropped[0].item_id}: {dropped[0].reason})" if dropped else ""
        raise DataError(f"{source}: no question with an answer that fits a trait and one that does not{first}")
    traits = tuple(_of_rows(source, name, each) for name, each in found.items())
    return Traits(traits, tuple(dropped), tuple(formats))


def _taken(found: dict[str, _Found], stem: str, row: Mapping[str, Any]) -> str:
    """Add a row; why it is left out, empty where it is not."""
    question = next((_text(row[name]) for name in ASKED if name in row), "")
    both = next(([_text(row[name]) for name in names] for names in ANSWERS if set(names) <= row.keys()), ["", ""])
    if not question or not all(both) or both[0] == both[1]:
        return "it needs a question and two different answers"
    own = found.setdefault(_text(row.get("trait")) or stem, _Found())
    pairs = len(own.systems)
    for names in SYSTEMS:
        pair = tuple(_text(row.get(name)) for name in names)
        if all(pair):
            own.systems[pair[0], pair[1]] = None
    if question in own.questions:  # a table may ask each question with several system prompts
        return "" if len(own.systems) > pairs else "the question is already in the source"
    own.questions[question] = (both[0], both[1], _text(row.get("part")).lower())
    own.harmful = own.harmful and _text(row.get("harmful")).lower() not in ("false", "no", "0")
    return ""


def _of_rows(source: str, name: str, found: _Found) -> Trait:
    systems = tuple(found.systems)
    if not systems:
        if name not in OWN:
            raise DataError(
                f"{source}: trait {name!r} has no opposed system prompts; give the columns positive and negative, or "
                f"name the trait after one of the project's: {', '.join(OWN)}"
            )
        systems = own_traits()[name].systems
    parts: dict[str, list[TraitQuestion]] = {"extract": [], "evaluate": []}
    for number, (text, (yes, no, part)) in enumerate(found.questions.items(), 1):
        where = part if part in parts else ("extract", "evaluate")[number % 2]
        parts[where].append(TraitQuestion(f"{name}-{where}-{number}", text, yes, no))
    harmful = found.harmful
    return _enough(source, Trait(name, harmful, systems, tuple(parts["extract"]), tuple(parts["evaluate"])))


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else "" if value is None else str(value)
