"""What a source of questions or bias items holds, kind by kind, for `auditkit data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.data.choices import Choices
from auditkit.data.errors import Dropped
from auditkit.data.items import COLUMNS
from auditkit.data.sources import WRITTEN_BY_HAND, every_file, read_questions, source_subjects
from auditkit.data.tables import read_rows
from auditkit.findings.identity_bias.prompts.sources import GivenItems, read_bias_items
from auditkit.findings.persona_composition.prompts import read_grid
from auditkit.findings.persona_localization.prompts.statements import ANSWER, read_statements
from auditkit.findings.refusal.prompts.requests import are_requests, read_requests
from auditkit.findings.role_conditioning.prompts.sets import role_lists
from auditkit.findings.traits.prompts import are_traits, read_traits
from auditkit.record.escaping import plain

SHOWN = 3
"""Items shown of each kind."""
_REASONS = 10
_WIDTH = 300


@dataclass(frozen=True)
class Part:
    """What a source holds of one kind.

    Attributes:
        name: "multiple choice", "BBQ", ...
        formats: what its files are.
        usable, left_out: numbers of rows or items.
        reasons: why items are left out, one text for each.
        first: the first item that is left out, empty where there is none.
        examples: the first usable items as texts.
        more: a further fact, empty where there is none.
    """

    name: str
    formats: Sequence[str]
    usable: int
    reasons: Sequence[str]
    first: str
    examples: Sequence[str]
    more: str = ""


def parts_of(source: str) -> tuple[list[Part], list[str]]:
    """What a source holds, kind by kind, and in words which of its files are of no known layout.

    Raises:
        DataError: it cannot be found or read, or holds nothing usable.
    """
    path = Path(source.partition("#")[0])
    if path.suffix.lower() in WRITTEN_BY_HAND:
        return [_traits(source) if are_traits(path.expanduser()) else _grid(source, "TOML")], []
    files = every_file(source)
    if (one := _of_one_suite(source, files[0])) is not None:
        return [one], []
    if (
        len(files) == 1
        and _is_table(files[0].suffix)
        and set((table := read_rows(files[0])).names) >= set(COLUMNS)
    ):
        items = read_questions(source)
        assert not isinstance(items, Choices)
        texts = [f"{item.question} {item.start} ... {item.right} (wrong: {item.wrong})" for item in items[:SHOWN]]
        return [Part("completion items", (table.format,), len(items), (), "", texts)], []
    if source_subjects(source):
        chosen = read_questions(source)
        if isinstance(chosen, Choices):
            return [_choices(chosen, sorted({read_rows(path).format for path in files}))], []
    given = read_bias_items(source)
    return list(_bias(given)), [f"{one.item_id}: {one.reason}" for one in given.unused]


def _of_one_suite(source: str, first: Path) -> Part | None:
    """What a source holds that one suite alone asks for, told by the fields of its first file; None for all others."""
    if are_traits(first):
        return _traits(source)
    if are_requests(first):
        return _requests(source)
    if not _is_table(first.suffix):
        return None
    table = read_rows(first)
    names = set(table.names)
    if {"statement", ANSWER} <= names:
        read = read_statements(source)
        kept = [one for persona in read.values() for one in persona.kept]
        dropped = [one for persona in read.values() for one in persona.dropped]
        texts = [f"{one.persona}: {one.text} ({'yes' if one.positive else 'no'})" for one in kept[:SHOWN]]
        more = f"for --data persona_localization=; personas: {', '.join(read)}"
        return _part("persona statements", (table.format,), len(kept), dropped, texts, more)
    if {"category", "prompt"} <= names:
        lists = role_lists(source)
        texts = [f"{category}: {prompts[0]}" for category, prompts in lists.items()][:SHOWN]
        counts = ", ".join(f"{len(prompts)} {category}" for category, prompts in lists.items())
        more = f"for --data role_conditioning=; {counts}"
        return _part("prompts by role", (table.format,), sum(map(len, lists.values())), (), texts, more)
    return _grid(source, table.format) if {"short_personas", "long_personas"} & names else None


def _requests(source: str) -> Part:
    """Harmful requests are counted and not shown."""
    read = read_requests(source)
    texts = [f"harmless: {pair.harmless}" for pair in read.pairs[:SHOWN]]
    topics = Counter(pair.topic for pair in read.pairs)
    twins = "twins by subject" if read.twins else "put together at random"
    more = f"for --data refusal=; pairs of a harmful and a harmless request, {twins}; topics: "
    named = ", ".join(f"{topic} {count}" for topic, count in topics.most_common(_REASONS))
    more += named + (f" and {len(topics) - _REASONS} more" if len(topics) > _REASONS else "")
    return _part("requests", read.formats, len(read.pairs), read.dropped, texts, more)


def _traits(source: str) -> Part:
    read = read_traits(source)
    asked = [question for trait in read.traits for question in (*trait.extract, *trait.evaluate)]
    texts = [f"{one.text} {one.consistent} (against it: {one.inconsistent})" for one in asked[:SHOWN]]
    counts = (f"{t.name} ({len(t.extract)} questions find, {len(t.evaluate)} judge)" for t in read.traits)
    more = f"for --data traits=; traits: {', '.join(counts)}"
    return _part("questions with answers of a trait", read.formats, len(asked), read.dropped, texts, more)


def _grid(source: str, format: str) -> Part:
    grid = read_grid(source)
    texts = [f"{persona.name}: {persona.text}" for persona in grid.personas[:SHOWN]]
    more = f"for --data persona_composition=; {len(grid.personas)} personas, {len(grid.tasks)} tasks"
    return _part("a grid of personas and tasks", (format,), len(grid.personas) * len(grid.tasks), (), texts, more)


def _is_table(suffix: str) -> bool:
    return suffix.lower() not in (".txt", ".test", ".dev")


def _choices(read: Choices, formats: Sequence[str]) -> Part:
    texts = [
        f"{item.question} [{'; '.join(item.options)}] right: {item.options[item.right]}"
        for item in read.kept[:SHOWN]
    ]
    return _part("multiple choice", formats, len(read.kept), read.dropped, texts, f"right answers: {read.key}")


def _bias(given: GivenItems) -> Iterator[Part]:
    formats = given.formats

    def of(*names: str) -> tuple[str, list[str]]:
        there = [name for name in names if name in formats]
        return " and ".join(there), sorted({one for name in there for one in formats[name]})

    if (questions := given.questions) is not None:
        texts = [f"{one.user} fits the stereotype: {one.options[one.biased]}" for one in questions.kept[:SHOWN]]
        yield _part(*of("BBQ"), len(questions.kept), questions.dropped, texts)
    if (pronouns := given.pronouns) is not None:
        texts = [f"{one.usual} / {one.unusual} means: {one.right}" for one in pronouns.kept[:SHOWN]]
        yield _part(*of("WinoBias", "Winogender"), len(pronouns.kept), pronouns.dropped, texts)
    if (sentences := given.sentences) is not None:
        texts = [f"{one.more} / {one.less} ({one.group})" for one in sentences.kept[:SHOWN]]
        yield _part(*of("CrowS-Pairs"), len(sentences.kept), sentences.dropped, texts)
    if given.choices is not None:
        yield _choices(given.choices, of("multiple choice")[1])
    if (own := given.own) is not None:
        pairs = [(case, one) for name, cases in own.cases.items() for case in cases for one in own.people[name]]
        texts = [f"{case.user(one)} {' / '.join(case.answers)}" for case, one in pairs[:SHOWN]]
        groups = "; ".join(
            f"{name}: {len(cases)} cases, groups {', '.join(one.group for one in own.people[name])}"
            for name, cases in own.cases.items()
        )
        yield _part(*of("own decisions"), own.rows, own.dropped, texts, groups)


def _part(
    name: str,
    formats: Sequence[str],
    usable: int,
    dropped: Sequence[Dropped],
    texts: Sequence[str],
    more: str = "",
) -> Part:
    reasons = [one.reason for one in dropped]
    return Part(name, formats, usable, reasons, dropped[0].item_id if dropped else "", texts, more)


def lines(source: str, parts: Sequence[Part], unused: Sequence[str]) -> Iterator[str]:
    for part in parts:
        yield (
            f"{source}: {part.name} ({', '.join(part.formats)}), {part.usable} rows usable, "
            f"{len(part.reasons)} left out"
        )
        if part.more:
            yield f"  {part.more}"
        counts = Counter(part.reasons).most_common()
        for reason, count in counts[:_REASONS]:
            yield f"  left out {count}: {reason}"
        if part.first:
            yield f"  the first that is left out is {part.first}"
        if len(counts) > _REASONS:
            yield f"  and {len(counts) - _REASONS} more reasons"
        for text in part.examples:
            yield f"  - {plain(text)[:_WIDTH]}"
    for text in unused:
        yield f"not used: {plain(text)}"
