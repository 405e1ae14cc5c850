"""What every kind of effect shares: comparing it decides by its whole interval, or raises `Inconclusive`.

A comparison that cannot tell never says no, and `==` or bare truth, which could, are refused. A kind of effect
(a mean, a share, a rate, a rate ratio, an exact value) says what it is as a record and why it may be undecidable;
the decision, its entry into the claim's evidence and the exceptions are here, once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import numpy as np

from auditkit.claims.evidence import Decision, current, note
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Threshold, place, sides, wrong_place
from auditkit.notebook import Showable
from auditkit.record.figures import QUANTILES, Dot, DotGroup, Dots, Figure
from auditkit.record.needed import at_threshold, needed
from auditkit.record.schema import Effect, Example, Recipe, Relation, Verdict
from auditkit.stats.intervals import Array, spent
from auditkit.stats.measurement import Measurement

if TYPE_CHECKING:
    import pandas as pd

Self = TypeVar("Self", bound="Comparable")
BESIDE = "beside "
"""Stands before the part of rows of an effect that is not compared in its claim: of a control, or shown beside it."""
NOT_WORSE = "paired non-inferiority"
"""How an effect's method says that its threshold is a margin: minus the number asked for where higher is better."""


class Comparable(Showable, ABC):
    """An effect that can be compared with a number, or with another effect of its kind.

    Attributes:
        name: what is estimated, in words.
        unit: unit of the estimate.
        measurement: the table it is computed from.
        shown_conditions: conditions whose values explain an item to a reader.
    """

    name: str
    unit: str
    measurement: Measurement
    shown_conditions: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        raise TypeError(f"'{self.name}' cannot be tested with == or !=; use equals(..., within=margin)")

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(f"'{self.name}' is an estimate and neither true nor false; compare it with a threshold")

    def __ge__(self, threshold: float | Comparable) -> Decision:
        return self._compare(">=", threshold)

    def __gt__(self, threshold: float | Comparable) -> Decision:
        return self._compare(">", threshold)

    def __le__(self, threshold: float | Comparable) -> Decision:
        return self._compare("<=", threshold)

    def __lt__(self, threshold: float | Comparable) -> Decision:
        return self._compare("<", threshold)

    def equals(self, other: float | Comparable, *, within: float) -> Decision:
        """Equivalence: passes when the whole interval of the difference lies within ±`within`.

        Two one-sided tests (Schuirmann 1987), each at half of alpha, so that the deciding interval is the
        displayed one (of means: t with one degree of freedom fewer, against skewed clusters). Fails when the
        whole interval lies outside.

        Raises:
            ValueError: for a margin that is not positive and finite.
            Inconclusive: when the interval crosses the margin.
        """
        if not 0 < within < math.inf:
            raise ValueError(f"an equivalence margin must be positive and finite, got {within}")
        difference: Comparable = self - other
        return difference._guarded()._decide("within", within)

    @abstractmethod
    def __sub__(self: Self, other: Any) -> Any:
        """Difference with another effect of this kind, or shift by a number."""

    @abstractmethod
    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        """The effect as a record, with the power figures of a comparison where one is asked.

        Undefined quantities are None; nothing is raised.
        """

    @property
    @abstractmethod
    def _degenerate(self) -> str | None:
        """Reason code and words when no honest comparison exists (docs/contracts.md, rule 6)."""

    @property
    def _cautions(self) -> tuple[str, ...]:
        """Why the interval's coverage may differ from the stated level; empty where nothing speaks against it."""
        return ()

    @abstractmethod
    def _merit(self, relation: Relation, threshold: float) -> tuple[np.ndarray[Any, Any], Array]:
        """Rows of the items that enter, and for each its contribution above `threshold`, for choosing examples."""

    def _guarded(self) -> Comparable:
        """The same effect with the stricter critical value that claims of "no harm" (unchanged, not worse) use."""
        return self

    def _not_applicable(self, effect: Effect) -> str | None:
        """Why the comparison does not apply to this model; None where it does."""
        return None

    def keep_items(self) -> None:
        """Enter the values behind this effect into the claim's items."""
        evidence = current()
        if evidence is not None:
            for row in self.measurement.rows(claim=""):
                evidence.items[("", row.measurement, row.condition, row.item)] = row

    def recorded(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        """`describe`, with what counts as an effect, the look's share of the error, and how the effect is computed from
        the items."""
        counts_from = getattr(threshold, "counts_from", 0.0)
        made = self.describe(relation, threshold)
        return msgspec.structs.replace(made, recipe=self._recipe, counts_from=counts_from, spent=spent())

    def keep_beside(self) -> None:
        """Enter the values behind this effect, and what it averages, for an effect that stands beside the claim."""
        self.keep_items()
        self.keep_effect(beside=True)

    def keep_effect(self, *, beside: bool = False) -> None:
        """Enter what this effect averages, item by item, so that another run can be compared with it in pairs.

        Args:
            beside: the effect belongs to a control or stands beside the claim: its rows only serve to compute it again.
        """
        evidence = current()
        if evidence is None:
            return
        part_of = BESIDE if beside or evidence.in_control else ""
        columns = {f"{part_of}{part}": values for part, values in self._averaged().items()}
        known = {(key[2], key[3]): key for key in evidence.items if key[0] == self.name and key[2] in columns}
        twice = {condition for condition, _ in known}
        for row in self.measurement.effect_rows(self.name, columns, self.unit):
            other = known.pop((row.condition, row.item), None)
            told = row.condition not in twice or (other is not None and evidence.items[other].value == row.value)
            key = (self.name, row.measurement, row.condition, row.item)
            evidence.items[key] = row if told else msgspec.structs.replace(row, value=None)
        for key in known.values():  # items that only the other of two effects of one name has: neither can be told
            evidence.items[key] = msgspec.structs.replace(evidence.items[key], value=None)

    def _averaged(self) -> Mapping[str, Array]:
        """Part -> (items,) values that the effect is computed from: "numerator" and, for a share, "denominator"; empty
        for what is computed otherwise."""
        return {}

    @property
    def _recipe(self) -> Recipe | None:
        """How the effect is computed from the rows of `_averaged`."""
        return None

    # -- showing ----------------------------------------------------------------------------------------------

    def in_words(self) -> str:
        effect = self.describe()
        value = "not measured" if effect.estimate is None else f"{effect.estimate:.3g}"
        known = effect.lower is not None and effect.upper is not None
        span = f" [{effect.lower:.3g}, {effect.upper:.3g}]" if known else ""
        of = "items, the whole population" if effect.exact else f"items in {effect.clusters} clusters"
        why = f"; no interval, {self._degenerate}" if self._degenerate else ""
        return " ".join(filter(None, (f"{self.name} = {value}{span}", self.unit, f"({effect.n} {of}{why})")))

    def to_frame(self) -> pd.DataFrame:
        """One row: the estimate, its interval and what it rests on. The values by item are those of `measurement`."""
        import pandas as pd

        effect = self.describe()
        shown = ("name", "estimate", "lower", "upper", "unit", "n", "clusters", "method")
        return pd.DataFrame([{name: getattr(effect, name) for name in shown}])

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The estimate and its interval, with quantiles of the items where it is their plain mean."""
        parts = list(self._averaged().values())
        values = parts[0][np.isfinite(parts[0])] if len(parts) == 1 else np.array([])
        spread = [float(value) for value in np.quantile(values, QUANTILES)] if len(values) else []
        ratio = self.unit == "times" or (self._recipe is not None and self._recipe.compare == "ratio")
        caption = "Estimate with its interval; the dashed line is no effect."
        caption += " The band shows where the items lie." if spread else ""
        dot = Dot.at(self.name, self.describe(), spread)
        label = f"{self.name} ({self.unit})" if self.unit else self.name
        return (
            Dots(label, caption, [DotGroup("", [dot])], reference=1.0 if ratio else 0.0).titled(
                title or self.name
            ),
        )

    # -- deciding ----------------------------------------------------------------------------------------------

    def _compare(self, relation: Relation, threshold: float | Comparable) -> Decision:
        if isinstance(threshold, Comparable):
            difference: Comparable = self - threshold
            return difference._decide(relation, Threshold(0.0, f"paired with {threshold.name}"))
        return self._decide(relation, threshold)

    def _decide(self, relation: Relation, threshold: float) -> Decision:
        decision = self._decision(relation, threshold)
        evidence = current()
        if evidence is not None:
            evidence.decisions.append(decision)
            self.keep_items()
            self.keep_effect()
            for caution in self._cautions:
                note(caution)
        if decision.verdict is Verdict.INCONCLUSIVE:
            raise Inconclusive(decision.reason, decision)
        if decision.verdict is Verdict.NOT_APPLICABLE:
            raise NotApplicable(decision.reason)
        return decision

    def _decision(self, relation: Relation, threshold: float) -> Decision:
        """The outcome of the comparison; nothing enters the claim's evidence and nothing is raised."""
        if not math.isfinite(threshold):
            raise ValueError(f"a threshold must be a finite number, got {threshold}")
        effect = self.recorded(relation, threshold)
        verdict, reason = self._verdict(effect)
        effect = msgspec.structs.replace(effect, threshold_call=getattr(threshold, "call", None))
        source = getattr(threshold, "source", "written in the claim")
        return Decision(verdict, reason, effect, source, self._examples(relation, float(threshold)))

    def _verdict(self, effect: Effect) -> tuple[Verdict, str]:
        degenerate = self._degenerate
        if degenerate:
            return Verdict.INCONCLUSIVE, degenerate
        absent = self._not_applicable(effect)
        if absent:
            return Verdict.NOT_APPLICABLE, absent
        lower, upper, threshold = effect.lower, effect.upper, effect.threshold
        assert lower is not None
        assert upper is not None
        assert threshold is not None
        relation = effect.relation or "within"
        holds, fails = sides(relation, lower, upper, threshold)
        what = f"±{threshold:.3g}" if effect.relation == "within" else f"{effect.relation} {threshold:.3g}"
        span = f"[{lower:.3g}, {upper:.3g}]"
        if holds:
            return Verdict.PASS, f"the interval {span} lies {place(relation, threshold)}"
        if fails:
            return Verdict.FAIL, f"the interval {span} lies {wrong_place(relation, threshold)}"
        if at_threshold(effect):
            near = f"within {effect.counts_from:.3g} of {threshold:.3g}, and less counts as no effect"
            return Verdict.INCONCLUSIVE, f"at_threshold: the interval {span} lies {near}"
        more = f"; {needed(effect)}" if effect.items_range else ""
        return Verdict.INCONCLUSIVE, f"the interval {span} does not decide {what}{more}"

    # -- examples ----------------------------------------------------------------------------------------------

    def _examples(self, relation: Relation, threshold: float) -> tuple[Example, ...]:
        """The two worst items and the median one, from the claim's point of view."""
        rows, merit = self._merit(relation, threshold)
        if not len(rows):
            return ()
        merit = {"within": -np.abs(merit), "<": -merit, "<=": -merit}.get(relation, merit)
        order = np.argsort(merit, kind="stable")
        median = int(order[len(order) // 2])
        worst = [int(i) for i in order[:2] if i != median]
        return (
            *(self._example(int(rows[i]), "worst") for i in worst),
            self._example(int(rows[median]), "median"),
        )

    def _example(self, row: int, rank: Literal["worst", "median"]) -> Example:
        conditions = self.shown_conditions or self.measurement.conditions
        item = self.measurement.values.index[row]
        values = {c: float(self.measurement.condition(c)[row]) for c in conditions}
        return Example(
            item=str(item),
            rank=rank,
            prompts=dict(self.measurement.prompts.get(item, {})),
            values={c: value for c, value in values.items() if np.isfinite(value)},
            unit=self.measurement.unit,
        )


def non_inferiority(by: float, better: Literal["higher", "lower"]) -> tuple[str, Callable[[Comparable], Decision]]:
    """The words for the method of a non-inferiority comparison, and the function that makes the comparison.

    Args:
        by: margin; being worse by less than this is acceptable.
        better: whether a higher or a lower value is the better one.

    Raises:
        ValueError: for a margin that is not positive and finite, or an unknown direction.
    """
    if not 0 < by < math.inf:
        raise ValueError(f"a non-inferiority margin must be positive and finite, got {by}")
    if better not in ("higher", "lower"):
        raise ValueError(f"better must be 'higher' or 'lower', got {better!r}")
    source, call = getattr(by, "source", "written in the claim"), getattr(by, "call", None)
    margin = Threshold(-by if better == "higher" else by, source, call)
    framing = f"{NOT_WORSE}, margin {by:g}, {better} is better"
    return framing, lambda change: change > margin if better == "higher" else change < margin
