"""Statements of personas and their activations in every layer: the material of the localization suite.

For each persona there are statements that it would make and statements that it would not. Each gives one vector per
layer (`representations`). Personas are a fixed list and statements are a sample, so an interval generalises to other
statements of these personas. Statements of a pair, and near-copies, are one cluster.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.adapters.protocol import Adapter
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive
from auditkit.claims.shared import shared_measurement
from auditkit.data.order import shuffle_key
from auditkit.engine.sites import residual
from auditkit.findings.persona_localization.prompts.statement_pairs import packaged_statements
from auditkit.findings.persona_localization.prompts.statements import PersonaStatements, Statement, read_statements
from auditkit.methods.representations import Representations, Role, representations
from auditkit.methods.separation.rotations import Massive, massive_units, without
from auditkit.methods.separation.text_baselines import similar_statements
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

ITEMS = 60
"""Statements of each kind per persona, where nobody says how many."""

PERSONAS = (
    "extraversion", "agreeableness",
    "subscribes-to-virtue-ethics", "subscribes-to-deontology", "subscribes-to-moral-nihilism",
    "politically-conservative", "politically-liberal", "anti-LGBTQ-rights",
)  # fmt: skip
"""Of the project's 14, by default: all three topics, and the pairs whose overlap the paper's own logs bear out."""

PUBLISHED_DEPTH = 30 / 31
"""Of the layer whose units the paper scans: the output of the 31st of 32 blocks."""


@dataclass(frozen=True, eq=False)
class PersonaItems:
    """The statements of one persona, those for it and those against it.

    Attributes:
        persona, topic: names.
        ids, texts: of the statements.
        positive: (statements,) whether the persona would make it.
        groups: (statements,) what belongs together, each named by the id of one of its statements.
        source: where they are from, in words.
    """

    persona: str
    topic: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    positive: Flags
    groups: NDArray[np.str_]
    source: str = ""

    @classmethod
    def of(cls, topic: str, statements: Sequence[Statement], source: str) -> PersonaItems:
        """Statements of one persona, grouped."""
        return cls.grouped(
            statements[0].persona,
            topic,
            [one.id for one in statements],
            [one.text for one in statements],
            [one.positive for one in statements],
            [one.pair for one in statements],
            source,
        )

    @classmethod
    def grouped(
        cls, persona: str, topic: str, ids: Sequence[str], texts: Sequence[str], positive: Sequence[bool],
        pairs: Sequence[str], source: str,
    ) -> PersonaItems:  # fmt: skip
        """Statements that belong together, by pair or as near-copies, in one group."""
        first: dict[str, str] = {}
        alike = similar_statements(texts, pairs=pairs).tolist()
        for group, one in zip(alike, ids, strict=True):
            first.setdefault(group, one)
        groups = np.array([first[group] for group in alike])
        return cls(persona, topic, tuple(ids), tuple(texts), np.array(positive), groups, source)

    def fewest_groups(self) -> int:
        """Groups of the kind of statement that has fewer."""
        return min(len(np.unique(self.groups[kind])) for kind in (self.positive, ~self.positive))


def persona_items(
    source: str | None = None,
    *,
    read: Mapping[str, PersonaStatements] | None = None,
    n_items: int | None = None,
    personas: Sequence[str] = PERSONAS,
    seed: int = 0,
) -> tuple[PersonaItems, ...]:
    """Statements of each persona, as many of each kind as asked for, drawn by seed; whole pairs where there are pairs.

    Args:
        source: of persona files (`statements.read_statements`), all of them; the project's own where None.
        read: what `read_statements` made of that source, where it has been read.
        n_items: of each kind and persona; fewer where there are fewer. `ITEMS` where None.
        personas: of the project's own.

    Raises:
        DataError: as `read_statements`.
        ValueError: a persona that the project has no statements of.
    """
    packaged = packaged_statements()
    topic_of = {persona: topic for topic, there in packaged.items() for persona in there}
    if source is None:
        if strange := [name for name in personas if name not in topic_of]:
            raise ValueError(f"no statements of {strange[0]!r}; there are {', '.join(topic_of)}")
        known = {name: packaged[topic_of[name]][name] for name in personas}
        said = "the project's own, written in pairs on one matter each"
    else:
        found = read_statements(source) if read is None else read
        known = {name: one.kept for name, one in found.items()}
        left_out = sum(len(one.dropped) for one in found.values())
        said = f"those of {source}; {left_out} were left out (unsure labels, or the same twice)"
    return tuple(
        PersonaItems.of(topic_of.get(name, "other"), _drawn(statements, n_items or ITEMS, seed), said)
        for name, statements in known.items()
    )


def _drawn(statements: Sequence[Statement], n: int, seed: int) -> list[Statement]:
    """The first `n` of each kind in the seeded order, in the order given; both of a pair have one place in it."""
    chosen: set[str] = set()
    for kind in (True, False):
        mine = [one for one in statements if one.positive is kind]
        chosen |= {one.id for one in sorted(mine, key=lambda one: shuffle_key(seed, one.pair or one.id))[:n]}
    return [one for one in statements if one.id in chosen]


class PersonaActivations:
    """What one model makes of the statements; read once, when first asked for.

    Args:
        role: where statements stand and are read (`representations`): "system" is as published.
        massive: keep units with massive activations; False leaves them out everywhere.
        cache: keep what was read on disk.
    """

    def __init__(
        self, adapter: Adapter, personas: Sequence[PersonaItems], *, seed: int, role: Role = "system",
        massive: bool = True, cache: bool = True,
    ) -> None:  # fmt: skip
        self.adapter, self.personas, self.seed = adapter, tuple(personas), seed
        self._role, self._massive, self._cache = role, massive, cache

    @property
    def layers(self) -> int:
        return self.adapter.layers

    @property
    def published_layer(self) -> int:
        """The layer at the depth of the one that the paper scans."""
        return self.at_depth(PUBLISHED_DEPTH)

    def at_depth(self, depth: float) -> int:
        """The layer nearest to this share of the depth, 0 the first block and 1 the last."""
        return round(depth * (self.layers - 1))

    @property
    def late(self) -> range:
        """The last third of the layers."""
        return range(-(-2 * self.layers // 3), self.layers)

    def at(self, persona: PersonaItems, layer: int) -> Array:
        """(statements, units) of one persona after block `layer`."""
        values: NDArray[Any] = self._read.values[self._rows[persona.persona], layer]
        if not self._massive:
            values, _ = without(values, [one.unit for one in self.massive(layer)])
        return values

    def massive(self, layer: int) -> tuple[Massive, ...]:
        """Units with massive activations in any statement, as their source defines them."""
        return massive_units(self._read.values[:, layer])

    def one_of_each_topic(self) -> tuple[PersonaItems, ...]:
        """The first persona of each topic, for what is too dear to do with all."""
        first: dict[str, PersonaItems] = {}
        for items in self.personas:
            first.setdefault(items.topic, items)
        return tuple(first.values())

    def asked_about(self, questions: Sequence[PersonaItems]) -> PersonaActivations:
        """Some of the statements, which are known by their ids, under other labels; they are not read again."""
        read = self._read
        row_of = {name: row for row, name in enumerate(name for one in self.personas for name in one.ids)}
        rows = [row_of[name] for one in questions for name in one.ids]
        other = PersonaActivations(
            self.adapter, questions, seed=self.seed, role=self._role, massive=self._massive, cache=self._cache
        )
        PersonaActivations._read.keep(other, replace(read, values=read.values[rows]))
        return other

    def enough(self, groups: int, what: str) -> None:
        """Refuse to decide on fewer groups of a kind than a method needs.

        Raises:
            Inconclusive: naming the persona that has fewest.
        """
        least = min(self.personas, key=lambda one: one.fewest_groups())
        if least.fewest_groups() < groups:
            raise Inconclusive(
                f"too_few_statements: {least.persona} has {least.fewest_groups()} independent statements of a kind, "
                f"{what} needs {groups} (--items)"
            )

    def measurement(
        self, name: str, unit: str, columns: Mapping[str, Array], rows: Sequence[NDArray[np.intp]] | None = None
    ) -> Measurement:
        """Values of the statements of all personas, one after the other; clusters are groups of statements.

        Args:
            columns: condition -> (statements of all personas,).
            rows: of each persona's statements, those that there are values of; all where None.
        """
        subset = [np.arange(len(one.ids)) for one in self.personas] if rows is None else rows
        chosen = [(one, int(row)) for one, some in zip(self.personas, subset, strict=True) for row in some]
        index = pd.Index([one.ids[row] for one, row in chosen])
        clusters = pd.DataFrame({"statement": [str(one.groups[row]) for one, row in chosen]}, index=index)
        prompts = {one.ids[row]: {"statement": one.texts[row]} for one, row in chosen}
        return Measurement(name, unit, pd.DataFrame(dict(columns), index=index), clusters, prompts)

    def estimate(
        self, name: str, unit: str, values: Array, rows: Sequence[NDArray[np.intp]] | None = None
    ) -> Estimate:
        """Mean of one value per statement."""
        return Estimate(
            name, unit, self.measurement(unit, unit, {name: values}, rows), values, shown_conditions=(name,)
        )

    # -- reading -----------------------------------------------------------------------------------------------

    @shared_measurement
    def _rows(self) -> dict[str, slice]:
        ends = np.cumsum([len(one.ids) for one in self.personas]).tolist()
        return {one.persona: slice(end - len(one.ids), end) for one, end in zip(self.personas, ends, strict=True)}

    @shared_measurement
    def _read(self) -> Representations:
        texts = [text for one in self.personas for text in one.texts]
        read = representations(self.adapter, texts, residual.everywhere(), role=self._role, cache=self._cache)
        note(*(f"statements are {source}" for source in dict.fromkeys(one.source for one in self.personas)))
        where = "the last token of the template" if self._role == "system" else "the statement's last token"
        counts = sorted({int(kind) for one in self.personas for kind in np.bincount(one.positive)})
        note(
            f"{len(self.personas)} personas, {' or '.join(map(str, counts))} statements of each kind, read after each "
            f"block at {where}: {read.tokens[0]!r}"
        )
        return read


def one_thread() -> AbstractContextManager[Any]:
    """Small matrices on one thread: where other processes are busy, several wait for one another far longer."""
    limits: AbstractContextManager[Any] = _loaded(len(sys.modules)).limit(limits=1, user_api="blas")
    return limits


@lru_cache(maxsize=1)
def _loaded(modules: int) -> ThreadpoolController:
    """The libraries that this process has loaded; finding them takes 5 ms, and only an import can load another."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
