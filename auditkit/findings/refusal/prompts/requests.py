"""Requests in pairs: a harmful one and a harmless one, the project's own twins or lists that `--data` names.

Lists are read in the layouts in which they are published: text with one request per line, or a table (CSV, JSON,
JSON lines, Parquet) with a column of requests (`REQUESTS`). Which of the two kinds a request is, a column says
(`KIND_COLUMNS`), or the file's name. A table with the columns `harmful` and `harmless` holds pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError, Dropped
from auditkit.data.files import text_of, texts_of, toml_of
from auditkit.data.order import shuffle_key
from auditkit.data.sources import ANY, SUFFIXES, source_files, source_subjects
from auditkit.data.tables import read_rows

HARMFUL, HARMLESS = KINDS = ("harmful", "harmless")
TOPIC, SUBJECT = "topic", "subject"

REQUESTS = ("goal", "behavior", "forbidden_prompt", "instruction", "request", "prompt", "question", "text")
"""Columns that may hold the requests, in small letters; the first that a table has is taken. They are those of
JailbreakBench and AdvBench, HarmBench, StrongREJECT, Alpaca and the splits of Arditi et al., and XSTest."""
KIND_COLUMNS = ("kind", "label")
"""Columns that may say which kind a request is; a label is read where it says one of `WORDS`."""
WORDS: Mapping[str, str] = {
    "harmful": HARMFUL,
    "unsafe": HARMFUL,
    "harmless": HARMLESS,
    "benign": HARMLESS,
    "safe": HARMLESS,
}
"""Word in a column or in a file's name -> kind."""
_TOPICS = ("topic", "category", "semanticcategory", "type")
_NUMBERS = ("index", "pair")
_CONTEXT = "contextstring"


@dataclass(frozen=True, slots=True)
class RequestPair:
    """A harmful and a harmless request.

    Attributes:
        id: unique: the topic and a number.
        topic: what kind of harm the harmful one asks for.
    """

    id: str
    topic: str
    harmful: str
    harmless: str

    def of(self, kind: str) -> str:
        """The request of one of `KINDS`."""
        return self.harmful if kind == HARMFUL else self.harmless


@dataclass(frozen=True)
class RequestPairs:
    """Pairs that can be asked.

    Attributes:
        twins: the two of a pair have one subject; False where they were put together at random.
        validity: what these requests can and cannot show.
        dropped: entries that were left out.
        formats: what the files are.
    """

    pairs: tuple[RequestPair, ...]
    twins: bool
    validity: str
    dropped: tuple[Dropped, ...] = ()
    formats: tuple[str, ...] = ()


def own_requests(path: Path | None = None) -> RequestPairs:
    """The packaged pairs, or those of a TOML file with lists of two texts by topic under `[topics]`.

    Raises:
        DataError: a file that cannot be read, no topic, a pair that is not two texts, or a text that is empty, has
            outer spaces or is twice in the file.
    """
    source = path if path is not None else files("auditkit.findings.refusal").joinpath("data", "requests.toml")
    data = toml_of(source)
    topics = data.get("topics")
    if not isinstance(topics, dict) or not topics:
        raise DataError(f"{source}: no topic; it needs [topics] with lists of a harmful and a harmless request")
    seen: set[str] = set()
    pairs = tuple(pair for topic, own in topics.items() for pair in _pairs(str(source), topic, own, seen))
    return RequestPairs(pairs, True, str(data.get("validity", "")))


def read_requests(source: str, seed: int = 0) -> RequestPairs:
    """Pairs of a source: those of its table of pairs, or its two lists put together at random.

    Where a source has harmful requests alone, the project's harmless ones are put beside them.

    Args:
        source: a file, a folder or a hub data set, as after `--data refusal=`.
        seed: of the pairs that are put together.

    Raises:
        DataError: it cannot be found or read, does not say which requests are harmful, or has no harmful ones.
    """
    found = _Lists()
    paths = source_files(source, ANY)
    topics = set(source_subjects(source)) - {path.stem for path in paths}
    for path in paths:
        found.read(path)
    found.only(source, topics)
    if found.paired:
        return RequestPairs(tuple(found.paired), True, "", tuple(found.dropped), tuple(found.formats))
    harmful, harmless = found.lists[HARMFUL], found.lists[HARMLESS]
    if not harmful:
        raise DataError(_none(source, found))
    validity = "The requests of a pair have different subjects, so subjects are not controlled for. "
    if not harmless:
        validity += "The source has no harmless requests; those of the project are put beside its harmful ones."
        harmless = {pair.harmless: _Entry(pair.topic, "") for pair in own_requests().pairs}
    pairs, twins = _together(harmful, harmless, seed)
    return RequestPairs(
        pairs, twins, "" if twins else validity.strip(), tuple(found.dropped), tuple(found.formats)
    )


def are_requests(path: Path) -> bool:
    """Whether a file holds requests whose kind it says: by its columns, or by its name.

    Raises:
        DataError: a table that cannot be read.
    """
    if path.suffix.lower() == ".txt":
        return kind_of(path.name) is not None
    if path.suffix.lower() not in SUFFIXES:
        return False
    table = read_rows(path)
    first: Mapping[str, Any] = {}
    if table.named:
        first = {str(name).strip().lower(): value for name, value in table.named[0][1].items()}
    if set(KINDS) <= first.keys():
        return True
    said = kind_of(path.name) or any(kind_of(_text(first.get(name))) for name in KIND_COLUMNS)
    return bool(said) and (not first or bool(first.keys() & set(REQUESTS)))


def spread(pairs: Sequence[RequestPair], n: int | None, seed: int) -> tuple[RequestPair, ...]:
    """The first n pairs in an order fixed by the seed, spread evenly over topics; all where n is None."""
    by_topic: dict[str, list[RequestPair]] = {}
    for each in sorted(pairs, key=lambda each: shuffle_key(seed, each.id)):
        by_topic.setdefault(each.topic, []).append(each)
    topics = sorted(by_topic, key=lambda topic: shuffle_key(seed, topic))
    most = max(map(len, by_topic.values()), default=0)
    ordered = [by_topic[topic][k] for k in range(most) for topic in topics if k < len(by_topic[topic])]
    return tuple(ordered[:n])


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known of a request in a list: its topic, and the number that pairs it with one of the other list."""

    topic: str
    number: str


@dataclass
class _Lists:
    """What the files of a source hold."""

    lists: dict[str, dict[str, _Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    paired: list[RequestPair] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    formats: dict[str, None] = field(default_factory=dict)

    def only(self, source: str, topics: AbstractSet[str]) -> None:
        """Keep the harmful requests of these topics; all where there are none.

        Raises:
            DataError: a topic that no harmful request has.
        """
        if not topics:
            return
        known = {pair.topic for pair in self.paired} | {entry.topic for entry in self.lists[HARMFUL].values()}
        for topic in sorted(topics - known):
            raise DataError(f"{source}: no topic {topic!r}; there are {', '.join(sorted(known))}")
        self.paired = [pair for pair in self.paired if pair.topic in topics]
        harmful = self.lists[HARMFUL]
        self.lists[HARMFUL] = {text: entry for text, entry in harmful.items() if entry.topic in topics}

    def read(self, path: Path) -> None:
        """Add the requests of a file."""
        if path.suffix.lower() == ".txt":
            lines = [line.strip() for line in text_of(path).splitlines()]
            self.formats["text"] = None
            for number, text in enumerate(lines, 1):
                if text:
                    self._add(path, number, text, kind_of(path.name), _Entry(path.stem, ""))
            return
        table = read_rows(path)
        self.formats[table.format] = None
        for number, row in table.rows:
            if isinstance(row, Mapping):
                self._row(path, number, {str(name).strip().lower(): value for name, value in row.items()})
            elif len(row) == 1:  # a list without a heading
                self._add(path, number, row[0], kind_of(path.name), _Entry(path.stem, ""))
            else:
                self._drop(path, number, "its fields have no names that say which one is the request")

    def _row(self, path: Path, number: int, row: Mapping[str, Any]) -> None:
        topic = next((str(row[name]).strip() for name in _TOPICS if row.get(name)), path.stem)
        if set(KINDS) <= row.keys():
            one, other = (_text(row[kind]) for kind in KINDS)
            if one and other and one != other:
                self.paired.append(RequestPair(f"{topic}-{len(self.paired) + 1}", topic, one, other))
            else:
                self._drop(path, number, "a pair needs two different requests")
            return
        column = next((name for name in REQUESTS if name in row), None)
        if column is None:
            self._drop(path, number, f"no column of requests, such as {', '.join(REQUESTS[:4])}")
        elif _text(row.get(_CONTEXT)):
            self._drop(path, number, "the request needs a context that stands beside it")
        else:
            said = (kind_of(_text(row[name])) for name in KIND_COLUMNS if name in row)
            kind = next((one for one in said if one), None) or kind_of(path.name)
            pairing = next((_text(row[name]) for name in _NUMBERS if row.get(name) is not None), "")
            self._add(path, number, _text(row[column]), kind, _Entry(topic, pairing))

    def _add(self, path: Path, number: int, text: str, kind: str | None, entry: _Entry) -> None:
        if not text:
            self._drop(path, number, "the request is empty")
        elif kind is None:
            self._drop(path, number, "neither a column 'kind' nor the file's name says 'harmful' or 'harmless'")
        elif any(text in own for own in self.lists.values()):
            self._drop(path, number, "the request is already in the source")
        else:
            self.lists[kind][text] = entry

    def _drop(self, path: Path, number: int, reason: str) -> None:
        self.dropped.append(Dropped(f"{path.name} row {number}", reason))


def kind_of(text: str) -> str | None:
    """The kind that a file's name or a label says, None where it says none."""
    words = re.split(r"[\W_\d]+", text.lower())
    return next((kind for word, kind in WORDS.items() if word in words), None)


def _together(
    harmful: Mapping[str, _Entry], harmless: Mapping[str, _Entry], seed: int
) -> tuple[tuple[RequestPair, ...], bool]:
    """Pairs by the number that both lists give (as JailbreakBench does), else at random, each request once."""
    numbered = {entry.number: text for text, entry in harmless.items() if entry.number}
    matched = [
        (text, numbered[entry.number], entry.topic) for text, entry in harmful.items() if entry.number in numbered
    ]
    twins = len(matched) == len(harmful)
    if not twins:
        one, other = (sorted(own, key=lambda text: shuffle_key(seed, text)) for own in (harmful, harmless))
        matched = [(a, b, harmful[a].topic) for a, b in zip(one, other, strict=False)]
    counted: dict[str, int] = {}
    pairs = []
    for text, other_text, topic in matched:
        counted[topic] = counted.get(topic, 0) + 1
        pairs.append(RequestPair(f"{topic}-{counted[topic]}", topic, text, other_text))
    return tuple(pairs), twins


def _none(source: str, found: _Lists) -> str:
    if found.dropped:
        first = found.dropped[0]
        return f"{source}: no harmful request that can be asked (first: {first.item_id}: {first.reason})"
    return f"{source}: no harmful requests; name the file so, or give a column 'kind'"


def _pairs(source: str, topic: str, own: Any, seen: set[str]) -> Iterator[RequestPair]:
    for number, texts in enumerate(own if isinstance(own, list) else [own], start=1):
        where = f"{source}, topic {topic}, pair {number}"
        harmful, harmless = texts_of(where, texts, len(KINDS), "two texts: a harmful and a harmless request", seen)
        yield RequestPair(f"{topic}-{number}", topic, harmful, harmless)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else "" if value is None else str(value)
