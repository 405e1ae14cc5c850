"""Whether a subset scan finds the statements of a persona (Cintas et al. 2025, arXiv:2505.24539, Q2).

Their numbers are in-sample: the scan chooses rows and units together, and is judged on those rows. Here units are found
on one half of the statements and judged on the other (`scan_detection`), beside probes and outlier detectors that were
fitted on the same half. What claims compare (precision, recall, and the AUC of the scan, of the difference of means and
of words) is cross-fitted: each half also finds for the other. Tables, p-values and the other detectors use one
direction only. As control the same scan is run between two halves of the negative statements, where there is nothing to
find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive
from auditkit.claims.shared import shared_measurement
from auditkit.findings.persona_localization.measurements.layers import WORDS, p_value
from auditkit.findings.persona_localization.measurements.material import (
    Array,
    PersonaActivations,
    PersonaItems,
    one_thread,
)
from auditkit.methods.scanning.detection import HeldOut, Scanner, both_directions, units_of
from auditkit.methods.scanning.scan import Search, alpha_grid
from auditkit.methods.separation.auc import auc_parts
from auditkit.methods.separation.detectors import Detector, beside_scan, detector_table
from auditkit.methods.separation.permutation import Significance
from auditkit.methods.separation.probes import fitted_scores
from auditkit.methods.separation.rotations import Turn, in_other_bases
from auditkit.methods.separation.text_baselines import bag_of_words
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.exact import Exact
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import joined
from auditkit.stats.streams import stream

PERMUTATIONS = 199
"""Per persona; the smallest p is 1 / 200."""

ROTATIONS = 20

HALF = 3
"""Independent statements of a kind that a half must have."""

SCAN, PROBE = "subset scan", "difference of means probe"


ONE_TAIL = "upwards only"
VARIANTS: Mapping[str, Scanner] = {
    "each unit in one direction, Berk-Jones": Scanner("right"),
    ONE_TAIL: Scanner("right"),
    "two-sided": Scanner("two-sided"),
    "released p-values (downwards)": Scanner("released"),
    "Higher Criticism": Scanner("right", Search("higher criticism")),
    "Kolmogorov-Smirnov": Scanner("right", Search("kolmogorov-smirnov")),
    "one start, as published": Scanner("right", Search(restarts=1)),
    "levels up to 0.2": Scanner("right", Search(alphas=alpha_grid(0.2))),
}
"""The first is the scan of the claims."""


class PersonaScans:
    """Scans of the units after one block; what was scanned once is not scanned again.

    Args:
        layer: the published one where None.
    """

    def __init__(
        self, activations: PersonaActivations, layer: int | None = None, *, permutations: int = PERMUTATIONS
    ) -> None:
        self.activations, self.seed = activations, activations.seed
        self.layer = activations.published_layer if layer is None else layer
        self.permutations = permutations
        self.scanner = Scanner("right")

    # -- claims ------------------------------------------------------------------------------------------------

    def precision(self) -> Estimate:
        """Share of the held-out statements that the scan calls positive which are; 0.5 is chance. Cross-fitted."""
        return self._share("precision on held-out statements", of=lambda one: one.confirmation.found)

    def recall(self) -> Estimate:
        """Share of the held-out positive statements that the scan finds. Cross-fitted."""
        return self._share("recall on held-out statements", of=lambda one: one.truth)

    def auc(self, detector: str = SCAN) -> Estimate:
        """AUC on the held-out statements of one of the detectors, by its name.

        The scan, the difference of means and `WORDS` are cross-fitted: both halves are judged. The detectors that are
        only shown beside them (`others`, but for words) are judged on the second half.
        """
        if detector in (SCAN, PROBE, WORDS):
            return joined(detector, *(self._auc_of(detector, way) for way in self._both_ways))
        found = [next(one for one in some if one.name == detector) for some in self._detectors.values()]
        parts = np.concatenate([auc_parts(one.scores, one.positive) for one in found])
        return self.activations.estimate(detector, "AUC", parts, _judged(self.held.values()))

    def others(self) -> tuple[str, ...]:
        """Names of the detectors beside the scan and the difference-of-means probe; the last is `WORDS`."""
        first = next(iter(self._detectors.values()))
        return tuple(one.name for one in first if one.name not in (SCAN, PROBE))

    def significance(self) -> Exact:
        """p of the units found, on the other half: its score, summed over personas, among those with the other half's
        background dealt anew."""
        return p_value("chance to score as high on held-out statements", _summed(self.held.values()))

    def among_negatives(self) -> Exact:
        """The same p where half of the negative statements stand in for positive ones, and there is nothing to find."""
        return p_value("chance to score as high, negative statements alone", self._nothing)

    def rotation(self, least: float, *, rotations: int = ROTATIONS) -> str:
        """Whether the held-out precision survives random rotations of the space, in words; one persona of each topic.

        Args:
            least: the precision that is claimed.
        """
        some = self.activations.one_of_each_topic()

        def measure(turn: Turn) -> float:
            every = [
                self._again(items, both_directions(turn(self.activations.at(items, self.layer)))) for items in some
            ]
            return _pooled(every)[0] or 0.0  # nothing found in this basis is nothing rightly found

        with gathering(), one_thread():
            bases = in_other_bases(measure, self._units, rotations=rotations, seed=self.seed, name="scans")
        return f"rotation, precision on held-out statements of {len(some)} personas: {bases.says(least)}"

    # -- report -----------------------------------------------------------------------------------------------

    def by_persona(self) -> Figure:
        """Each persona's scan, on the half that it was found on and on the other."""
        rows: list[list[str | float | None]] = []
        for items, held in zip(self.activations.personas, self.held.values(), strict=True):
            found, truth = held.discovery, held.positive[held.discovery.scanned]
            inside = truth[found.found]
            rows.append(
                [
                    items.persona,
                    len(units_of(found.units, self._units)),
                    round(found.alpha, 3),
                    round(float(inside.mean()), 3) if len(inside) else None,
                    round(float((found.found & truth).sum() / truth.sum()), 3),
                    None if np.isnan(held.precision) else round(held.precision, 3),
                    round(held.recall, 3),
                    round(held.auc, 3),
                    round(held.significance.p, 4),
                ]
            )
        caption = (
            f"Units (of {self._units}) after block {self.layer} found on one half of the statements, each in one "
            "direction, and what they say of the other half. In-sample numbers are flattered: rows and units were "
            "chosen together. p: how often these units score as high on the other half with its background dealt anew."
        )
        columns = (
            "persona", "units", "level", "precision in-sample", "recall in-sample", "precision", "recall", "AUC", "p",
        )  # fmt: skip
        return Table(caption, columns, rows).titled("Scans by persona")

    def in_other_ways(self) -> Figure:
        """The scan in other ways, on the same halves; one persona of each topic."""
        some, rows = self.activations.one_of_each_topic(), []
        for name, scanner in VARIANTS.items():
            either = both_directions if scanner.tail == "right" and name != ONE_TAIL else np.asarray
            with gathering(), one_thread():
                every = [
                    self._again(items, either(self.activations.at(items, self.layer)), scanner) for items in some
                ]
            known = [held for held in every if held is not None]
            units = [len(units_of(held.discovery.units, self._units)) for held in known]
            auc = round(float(np.mean([held.auc for held in known])), 3) if known else None
            shown = [None if value is None else round(value, 3) for value in _pooled(every)]
            rows.append([name, round(float(np.mean(units)), 1) if units else 0.0, *shown, auc])
        caption = (
            f"The same scan of {', '.join(items.persona for items in some)} with other p-values, scores, levels and "
            "starts, judged on the half of the statements that it was not run on. The claim is about the first row."
        )
        columns = ("scan", "units, mean", "precision", "recall", "AUC, mean")
        return Table(caption, columns, rows).titled("The scan in other ways")

    def beside_detectors(self) -> Figure:
        """The scan beside probes and outlier detectors, on the statements of all personas."""
        by_name: dict[str, list[Detector]] = {}
        for some in self._detectors.values():
            for one in some:
                by_name.setdefault(one.name, []).append(one)
        pooled = [
            Detector(
                name,
                np.concatenate([_ranks(one.scores) for one in some]),
                np.concatenate([one.found for one in some]),
                np.concatenate([one.positive for one in some]),
            )
            for name, some in by_name.items()
        ]
        return detector_table(pooled).titled("Detectors on held-out statements, ranks within each persona")

    # -- scanning ----------------------------------------------------------------------------------------------

    @shared_measurement
    def held(self) -> Mapping[str, HeldOut]:
        """Persona -> its scan on one half, judged on the other.

        Raises:
            Inconclusive: too few statements for two halves, or a half on which no units were found.
        """
        self.activations.enough(2 * HALF, "finding units on one half and judging them on the other")
        return self._scanned()

    def _scanned(self, *, exchanged: bool = False) -> dict[str, HeldOut]:
        found = {}
        with one_thread():
            for items in self.activations.personas:
                values = both_directions(self.activations.at(items, self.layer))
                try:
                    found[items.persona] = self.scanner.held_out(
                        values, items.positive, items.groups, permutations=0 if exchanged else self.permutations,
                        seed=self.seed, name=items.persona, exchanged=exchanged,
                    )  # fmt: skip
                except ValueError as error:
                    raise Inconclusive(f"no_scan: {items.persona}: {error}") from error
        return found

    @shared_measurement
    def _nothing(self) -> Significance:
        """Scans between halves of the negative statements, summed over personas."""
        found = []
        with gathering(), one_thread():
            for items in self.activations.personas:
                negative = np.flatnonzero(~items.positive)
                values = both_directions(self.activations.at(items, self.layer)[negative])
                names = items.groups[negative]
                groups = np.unique(names)
                rng = stream(self.seed, "negatives alone", items.persona)
                chosen = np.isin(names, rng.permutation(groups)[: len(groups) // 2])
                try:
                    held = self.scanner.held_out(
                        values, chosen, names, permutations=self.permutations, seed=self.seed,
                        name=f"{items.persona}, negatives alone",
                    )  # fmt: skip
                except ValueError:  # nothing found on the first half, which is as it should be
                    continue
                found.append(held)
        if not found:
            raise Inconclusive("no_scan: no scan among the negative statements found units to judge")
        return _summed(found)

    @shared_measurement
    def _detectors(self) -> dict[str, tuple[Detector, ...]]:
        with one_thread():
            return {
                items.persona: (
                    *beside_scan(held, self.activations.at(items, self.layer), seed=self.seed, name=items.persona),
                    _of_words(items, held),
                )
                for items, held in zip(self.activations.personas, self.held.values(), strict=True)
            }

    def _again(self, items: PersonaItems, values: Array, scanner: Scanner | None = None) -> HeldOut | None:
        """A persona's scan once more in another way, without its significance; None where it finds no units."""
        try:
            return (scanner or self.scanner).held_out(
                values, items.positive, items.groups, permutations=0, seed=self.seed, name=items.persona
            )
        except ValueError:
            return None

    @property
    def _units(self) -> int:
        return int(self.activations.at(self.activations.personas[0], self.layer).shape[1])

    def _share(self, name: str, of: Callable[[HeldOut], NDArray[np.bool_]]) -> Estimate:
        return joined(name, *(self._share_of(name, of, way) for way in self._both_ways))

    def _share_of(
        self, name: str, of: Callable[[HeldOut], NDArray[np.bool_]], held: Sequence[HeldOut]
    ) -> Estimate:
        hits = np.concatenate([one.confirmation.found & one.truth for one in held]).astype(np.float64)
        whole = np.concatenate([of(one) for one in held]).astype(np.float64)
        scores = np.concatenate([one.confirmation.row_scores for one in held])
        columns = {"found and positive": hits, "counted": whole, "score": scores}
        measured = self.activations.measurement(name, "1", columns, _judged(held))
        return Estimate(name, "1", measured, hits, whole, shown_conditions=tuple(columns))

    def _auc_of(self, detector: str, held: Sequence[HeldOut]) -> Estimate:
        parts = [
            auc_parts(self._scores(detector, items, one), one.truth)
            for items, one in zip(self.activations.personas, held, strict=True)
        ]
        return self.activations.estimate(detector, "AUC", np.concatenate(parts), _judged(held))

    def _scores(self, detector: str, items: PersonaItems, held: HeldOut) -> Array:
        if detector == SCAN:
            return held.confirmation.row_scores
        if detector == WORDS:
            return _of_words(items, held).scores
        values, known = self.activations.at(items, self.layer).astype(np.float64), held.discovery.scanned
        with one_thread():
            return fitted_scores(
                values[known], held.positive[known], values[held.confirmation.scanned], "difference of means"
            )

    @property
    def _both_ways(self) -> tuple[list[HeldOut], list[HeldOut]]:
        """Of each persona, its scan on the first half judged on the second, and the other way round."""
        return list(self.held.values()), list(self._exchanged.values())

    @shared_measurement
    def _exchanged(self) -> dict[str, HeldOut]:
        with gathering():
            return self._scanned(exchanged=True)


def _judged(held: Iterable[HeldOut]) -> list[NDArray[np.intp]]:
    """Of each persona's statements, those that its scan is judged on."""
    return [one.confirmation.scanned for one in held]


def persona_scan(items: PersonaItems, values: Array, seed: int) -> NDArray[np.intp]:
    """Units that a scan of all statements of one persona finds, each once, whatever its direction."""
    columns = both_directions(values)
    with one_thread():
        found = Scanner("right", scan_background=True).detect(columns, ~items.positive)
    return units_of(found.units, values.shape[1])


def _of_words(items: PersonaItems, held: HeldOut) -> Detector:
    """A probe on the words of the statements, which learns from and is judged on the scan's statements."""
    words, known = bag_of_words(items.texts), held.discovery.scanned
    learnt, labels = words[known], held.positive[known]
    scores = fitted_scores(learnt, labels, words[held.confirmation.scanned], "ridge", standardise=False)
    return Detector(WORDS, scores, scores > 0, held.truth)


def _summed(found: Iterable[HeldOut]) -> Significance:
    """Scores of independent scans as one statistic."""
    each = [held.significance for held in found]
    return Significance(float(sum(one.score for one in each)), np.sum([one.null for one in each], axis=0))


def _ranks(scores: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray(rankdata(scores) / len(scores), dtype=np.float64)


def _pooled(every: Iterable[HeldOut | None]) -> tuple[float | None, float | None]:
    """Precision and recall over the statements of several scans."""
    known = [held for held in every if held is not None]
    hits = sum(int((held.confirmation.found & held.truth).sum()) for held in known)
    found = sum(int(held.confirmation.found.sum()) for held in known)
    there = sum(int(held.truth.sum()) for held in known)
    return hits / found if found else None, hits / there if there else None
