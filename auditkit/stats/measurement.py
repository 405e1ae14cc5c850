"""The measurement table: one row per item and condition.

Items are the unit of pairing: the same item is measured under several conditions (clean, corrupt, patched), and
only its differences are compared. Clusters are the units that were sampled (question topics, persona words);
items that share one are not independent. A design that varies two of them crosses two factors. Strata are kinds that
were not sampled, since a claim speaks of these kinds only: clusters vary within them (`auditkit.stats.strata`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.notebook import Showable, spreads
from auditkit.record.figures import Figure
from auditkit.record.schema import ItemRow
from auditkit.stats.strata import nested

_STRATUM = "stratum:"
"""Stands before the name of what strata are, among the labels of an item."""


class MeasurementError(ValueError):
    """A table that cannot be a measurement: duplicate rows, an item in two clusters, no cluster."""


@dataclass(frozen=True, eq=False)
class Measurement(Showable):
    """Values of `items` under `conditions`.

    Attributes:
        name: what was measured, unique within a claim.
        unit: unit of the values.
        values: (item x condition) table; NaN where a value could not be measured.
        clusters: (item x factor) table of cluster labels; one column, or two where two factors are crossed.
        prompts: item -> condition -> text given to the model, for the report's examples.
        strata: (items,) label of the fixed stratum that the item's cluster lies in, named for what strata are; None
            where clusters are sampled from one population. Every cluster of at least one factor lies in one stratum.
    """

    name: str
    unit: str
    values: pd.DataFrame
    clusters: pd.DataFrame
    prompts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    strata: pd.Series | None = None

    def __post_init__(self) -> None:
        if not self.values.index.equals(self.clusters.index):
            raise MeasurementError(f"{self.name}: values and clusters must list the same items in the same order")
        if not self.values.index.is_unique:
            twice = self.values.index[self.values.index.duplicated()][0]
            raise MeasurementError(f"{self.name}: item {twice!r} occurs twice; item ids must be unique")
        if not self.values.columns.is_unique:
            twice = self.values.columns[self.values.columns.duplicated()][0]
            raise MeasurementError(f"{self.name}: condition {twice!r} occurs twice; conditions must be unique")
        if not 1 <= self.clusters.shape[1] <= 2:
            raise MeasurementError(
                f"{self.name}: one or two cluster factors are needed, got {self.clusters.shape[1]}"
            )
        if self.clusters.isna().to_numpy().any():
            raise MeasurementError(
                f"{self.name}: every item needs a cluster label in {list(self.clusters.columns)}"
            )
        if odd := [name for name in self.clusters.columns if str(name).startswith(_STRATUM)]:
            raise MeasurementError(f"{self.name}: the factor {odd[0]!r} must not begin with {_STRATUM!r}")
        self._check_strata()

    def _check_strata(self) -> None:
        if self.strata is None:
            return
        if not self.strata.index.equals(self.values.index):
            raise MeasurementError(f"{self.name}: values and strata must list the same items in the same order")
        if self.strata.isna().any():
            raise MeasurementError(f"{self.name}: every item needs the label of a stratum")
        if len(self.strata) and not nested(self.clusters, self.strata):
            raise MeasurementError(
                f"{self.name}: every cluster of one factor must lie in one stratum; those of "
                f"{' and of '.join(map(str, self.clusters.columns))} lie in several"
            )

    @classmethod
    def from_rows(
        cls,
        name: str,
        unit: str,
        rows: Iterable[Mapping[str, object]],
        factors: Iterable[str],
        prompts: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Measurement:
        """Build from tidy rows with keys `item`, `condition`, `value` and one key per cluster factor.

        Raises:
            MeasurementError: a missing key, an item measured twice under a condition, or an item whose cluster
                label differs between its rows.
        """
        factors = list(factors)
        frame = pd.DataFrame(list(rows))
        missing = {"item", "condition", "value", *factors} - set(frame.columns)
        if missing:
            raise MeasurementError(f"{name}: rows lack {sorted(missing)}")
        nameless = frame[["item", "condition"]].isna().any(axis=1)
        if nameless.any():
            raise MeasurementError(f"{name}: row {int(nameless.argmax())} has no item or no condition")
        twice = frame.duplicated(["item", "condition"])
        if twice.any():
            row = frame[twice].iloc[0]
            raise MeasurementError(
                f"{name}: item {row['item']!r} occurs twice under condition {row['condition']!r}"
            )
        clusters = frame.groupby("item", sort=False)[factors]
        if (clusters.nunique(dropna=False) > 1).to_numpy().any():
            raise MeasurementError(f"{name}: an item carries two labels of one cluster factor")
        values = frame.pivot(index="item", columns="condition", values="value").astype(float)
        labels = clusters.first().loc[values.index]
        return cls(name, unit, values, labels, prompts or {})

    def in_words(self) -> str:
        by = " x ".join(f"{self.clusters[factor].nunique()} of {factor}" for factor in self.clusters)
        unit = f", in {self.unit}" if self.unit else ""
        conditions = ", ".join(map(str, self.values))
        return f"{self.name}: {len(self.values)} items under {conditions}{unit}; clusters: {by}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each item and condition, with the item's clusters."""
        parts = [self.clusters.assign(condition=name, value=self.values[name]) for name in self.conditions]
        name = "item" if "item" not in self.clusters else "item id"
        return pd.concat(parts).rename_axis(name).reset_index()

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The mean under each condition, and where the items lie."""
        values = {name: self.condition(name) for name in self.conditions}
        label = f"{self.name} ({self.unit})" if self.unit else self.name
        return (spreads(values, label, "Mean of the items under each condition.").titled(title or self.name),)

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(self.values.columns)

    def condition(self, name: str) -> NDArray[np.float64]:
        """(items,) values under one condition.

        Raises:
            MeasurementError: for a condition that was not measured.
        """
        if name not in self.values.columns:
            raise MeasurementError(
                f"{self.name}: no condition {name!r}; measured were {', '.join(self.conditions)}"
            )
        return self.values[name].to_numpy(dtype=np.float64)

    def with_conditions(self, extra: Mapping[str, NDArray[np.float64]]) -> Measurement:
        """The same items with further conditions; `extra` maps condition -> (items,) values.

        Raises:
            MeasurementError: for a condition that is there already.
        """
        taken = [name for name in extra if name in self.values.columns]
        if taken:
            raise MeasurementError(f"{self.name}: condition {taken[0]!r} is already measured")
        values = self.values.assign(**{name: np.asarray(column) for name, column in extra.items()})
        return Measurement(self.name, self.unit, values, self.clusters, self.prompts, self.strata)

    def beside(self, other: Measurement, label: str) -> tuple[Measurement, dict[str, str]]:
        """This table with the conditions of `other` added, and the name that each of these has there.

        Args:
            other: the same items in the same order; a condition with other values than mine of that name gets another.
            label: the other measurement, as that name says it.
        """
        extra: dict[str, NDArray[np.float64]] = {}
        names: dict[str, str] = {}
        for condition in other.conditions:
            name, values = condition, other.condition(condition)
            if name in self.conditions and np.array_equal(self.condition(name), values, equal_nan=True):
                names[condition] = name
                continue
            while name in self.conditions:
                name = f"{name} ({label})"
            names[condition], extra[name] = name, values
        return (self.with_conditions(extra) if extra else self), names

    def take(self, rows: NDArray[np.intp]) -> Measurement:
        """The items in these rows, in this order."""
        strata = None if self.strata is None else self.strata.iloc[rows]
        values, clusters = self.values.iloc[rows], self.clusters.iloc[rows]
        return Measurement(self.name, self.unit, values, clusters, self.prompts, strata)

    def clusters_of(self, chosen: pd.Series) -> pd.DataFrame:
        """Clusters of the items for which (items,) `chosen` is true: most often all, which are not copied."""
        return self.clusters if chosen.all() else self.clusters[chosen.to_numpy()]

    def strata_of(self, chosen: pd.Series) -> pd.Series | None:
        """Strata of the items for which (items,) `chosen` is true; None where there are none."""
        return None if self.strata is None else self.strata[chosen]

    def labels(self) -> list[str]:
        """(items,) cluster labels and strata as text, as `written_labels` writes them."""
        frame = self.clusters
        if self.strata is not None:
            frame = frame.assign(**{f"{_STRATUM}{self.strata.name}": self.strata})
        names = list(frame.columns)
        return [
            written_labels(dict(zip(names, row, strict=True))) for row in frame.itertuples(index=False, name=None)
        ]

    def only(self, items: Iterable[str]) -> Measurement:
        """The items with these ids, in the order of this table.

        Raises:
            MeasurementError: for an id that was not measured.
        """
        wanted = set(items)
        if strangers := sorted(map(str, wanted - set(self.values.index))):
            raise MeasurementError(f"{self.name}: item {strangers[0]!r} was not measured")
        return self.take(np.flatnonzero(self.values.index.isin(list(wanted))))

    def rows(self, claim: str) -> list[ItemRow]:
        """Every value as a row of items.parquet."""
        columns = {str(name): self.values[name].to_numpy(dtype=np.float64) for name in self.values.columns}
        return self._rows(claim, columns, self.unit, "")

    def effect_rows(self, effect: str, columns: Mapping[str, NDArray[np.float64]], unit: str) -> list[ItemRow]:
        """The values that an effect averages, as rows of items.parquet; `columns` holds (items,) each."""
        return self._rows("", columns, unit, effect)

    def _rows(
        self, claim: str, columns: Mapping[str, NDArray[np.float64]], unit: str, effect: str
    ) -> list[ItemRow]:
        return [
            ItemRow(
                claim=claim,
                measurement=self.name,
                condition=condition,
                item=item,
                clusters=label,
                value=None if not np.isfinite(value) else float(value),
                unit=unit,
                digest=digest,
                effect=effect,
            )
            for condition, column in columns.items()
            for (item, label, digest), value in zip(self._identities, column, strict=True)
        ]

    @cached_property
    def _identities(self) -> list[tuple[str, str, str]]:
        """(items,) id, cluster labels and digest as text: every effect of this table lists them again."""
        index, labels = self.values.index, self.labels()
        return [
            (str(item), label, content_digest(label, self.prompts.get(item, {})))
            for item, label in zip(index, labels, strict=True)
        ]


def written_labels(labels: Mapping[object, object]) -> str:
    """Cluster labels by factor as text, "factor=label" joined by ";"; `read_labels` undoes it."""
    return ";".join(f"{_escaped(factor)}={_escaped(label)}" for factor, label in labels.items())


def read_clusters(texts: pd.Series) -> tuple[pd.DataFrame, pd.Series | None]:
    """(item x factor) cluster labels, and (items,) strata where there are some, from (items,) texts of `labels`."""
    rows = [read_labels(text) for text in texts]
    factors = list(dict.fromkeys(factor for row in rows for factor in row))
    # Plain objects, also as names of columns: hundreds of effects are read, and its own text type slows pandas down.
    names = pd.Index(factors, dtype=object)
    frame = pd.DataFrame(
        [[row.get(factor) for factor in factors] for row in rows], texts.index, names, dtype=object
    )
    strata = [name for name in frame.columns if name.startswith(_STRATUM)]
    if not strata:
        return frame, None
    return frame.drop(columns=strata), frame[strata[0]].rename(strata[0].removeprefix(_STRATUM))


def read_labels(text: str) -> dict[str, str]:
    """Cluster labels by factor from their text."""
    return dict(_labels_of(text))


@lru_cache(maxsize=65536)  # the same items come with every effect
def _labels_of(text: str) -> tuple[tuple[str, str], ...]:
    parts = re.findall(r"((?:[^;=\\]|\\.)*)=((?:[^;=\\]|\\.)*)(?:;|$)", text, re.DOTALL)
    return tuple((_plain(factor), _plain(label)) for factor, label in parts)


def content_digest(labels: str, prompts: Mapping[str, str]) -> str:
    """Digest of an item's content: the prompts it stands for, by condition, and its cluster labels."""
    text = "\x1f".join((labels, *(f"{name}\x1e{prompts[name]}" for name in sorted(prompts))))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _escaped(part: object) -> str:
    return str(part).replace("\\", "\\\\").replace(";", "\\;").replace("=", "\\=")


def _plain(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL)


def match(mine: Measurement, theirs: Measurement) -> tuple[NDArray[np.intp], NDArray[np.intp], str]:
    """Rows of the items that both measurements have, in the order of this one, and a reason if some have no partner.

    Items are the same when their ids are; their cluster labels and strata must then agree.
    """
    here, there = mine.values.index, theirs.values.index
    common = here[here.isin(there)]
    rows = here.get_indexer(common), there.get_indexer(common)
    alone, missing = len(here) - len(common), len(there) - len(common)
    problem = ""
    if alone or missing:
        problem = (
            f"unmatched_items: {alone} of {len(here)} items have no partner in the baseline, and {missing} of its "
            f"{len(there)} have none here"
        )
    elif mine.take(rows[0]).labels() != theirs.take(rows[1]).labels():
        problem = "unmatched_clusters: the same items stand in other clusters or strata in the baseline"
    return rows[0].astype(np.intp), rows[1].astype(np.intp), problem
