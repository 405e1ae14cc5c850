"""At which layers statements for and against a persona separate (Cintas et al. 2025, arXiv:2505.24539, Q1).

Their finding: statements for and against a persona lie farthest apart in the last third of the layers. The measure here
is the cross-validated AUC of a linear probe on the true labels. In cross-validation each statement takes part in
fitting the probes that judge the others, so their values are not independent, and the interval is that of
`CrossFitted`. The AUC is compared with that of the same probe on activations divided by their norm, on the norm alone,
on the words of the statements without a model, and on permuted labels. The published indices stand beside it
(`indices`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.claims.shared import SharedMeasurements, shared_measurement
from auditkit.findings.persona_localization.measurements.material import (
    Array,
    PersonaActivations,
    PersonaItems,
    one_thread,
)
from auditkit.methods.separation.auc import auc_parts
from auditkit.methods.separation.permutation import Significance
from auditkit.methods.separation.probes import cross_validated, grouped_folds, label_null, norms, unit_norm
from auditkit.methods.separation.text_baselines import bag_of_words
from auditkit.notebook import Showable
from auditkit.record.figures import Band, Curves, Figure, Heatmap, Series
from auditkit.stats.effects.exact import Exact, exactly
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.halves import CrossFitted, Halves, cross_fit, halves
from auditkit.stats.measurement import Measurement

FOLDS = 5
PERMUTATIONS, BAND_PERMUTATIONS = 1000, 100
"""Dealings of the labels at the published layer, and at each layer of the curve."""

LEVEL = 0.01
"""Above which p a model does not show that it tells statements apart."""

RAW, UNIT, NORM = "activations", "unit norm", "norm alone"
WORDS = "bag of words"
_BEST = "best layer of the last third"


class LayerSeparability(Showable):
    """How well each layer tells the statements of each persona apart; what was fitted once is not fitted again."""

    def __init__(self, activations: PersonaActivations, *, permutations: int = PERMUTATIONS) -> None:
        self.activations, self.seed = activations, activations.seed
        self.permutations = permutations
        self._shared = SharedMeasurements()

    # -- claims ------------------------------------------------------------------------------------------------

    def after(self, layer: int, of: str = RAW) -> CrossFitted:
        """AUC of the probe on what is after one block: `RAW`, `UNIT` or `NORM`."""
        return self._auc(f"{of} after block {layer}", self._parts(of, layer))

    def late(self, of: str = RAW) -> CrossFitted:
        """Mean AUC over the last third of the layers."""
        layers = self.activations.late
        values = np.mean([self._parts(of, layer) for layer in layers], axis=0)
        return self._auc(f"{of} after blocks {layers[0]} to {layers[-1]}", values)

    def words(self) -> CrossFitted:
        """AUC of the same probe on the words and pairs of words of the statements."""
        return self._auc(WORDS, self._parts(WORDS, 0))

    def peaks(self) -> tuple[CrossFitted, tuple[CrossFitted, ...]]:
        """AUC of the best layer of the last third, and by how much it exceeds that of each layer before.

        Each half of the statements chooses the layer that the other half is measured at. It is compared with every
        earlier layer, since the best of them on one half need not be the best on the other.
        """
        late = self.activations.late
        columns = {str(layer): self._parts(RAW, layer) for layer in range(self.activations.layers)}
        whole = self.activations.measurement("AUC", "AUC", columns)
        split = halves(whole, self.seed, "layers")
        found = {way: self._best(whole.only(way.discovery), late) for way in split.both_ways}
        one, other = found.values()
        note(
            f"the best layer of the last third: block {one} by one half of the statements and block {other} by the "
            "other; each half is measured at the layer that the other half chose"
        )

        def best(way: Halves) -> Measurement:
            held = whole.only(way.confirmation)
            return held.with_conditions({_BEST: held.condition(str(found[way]))})

        def over(before: int) -> Callable[[Halves], Estimate]:
            name = f"block {before}"

            def judged(way: Halves) -> Estimate:
                held = best(way)
                both = held.values[[_BEST, str(before)]].set_axis([_BEST, name], axis=1)
                table = Measurement("AUC", "AUC", both, held.clusters, held.prompts)
                return mean_difference(table, _BEST, name, name=name)

            return judged

        def alone(way: Halves) -> Estimate:
            held = best(way)
            table = Measurement("AUC", "AUC", held.values[[_BEST]], held.clusters, held.prompts)
            return Estimate(_BEST, "AUC", table, table.condition(_BEST), shown_conditions=(_BEST,))

        differences = (cross_fit(f"{_BEST} minus block {n}", split, over(n)) for n in range(late[0]))
        return cross_fit(_BEST, split, alone), tuple(differences)

    def require(self) -> None:
        """Ask nothing further of a model that does not tell statements apart at all.

        Raises:
            NotApplicable: labels dealt at random do as well at the published layer.
        """
        p = self._null.p
        if p > LEVEL:
            raise NotApplicable(
                f"the probe's AUC after block {self.activations.published_layer} is {self._null.score:.3f}, which "
                f"labels dealt at random reach too (p = {p:.3g}): these statements are not told apart"
            )
        note(
            f"after block {self.activations.published_layer} the AUC is {self._null.score:.3f}; with labels dealt at "
            f"random p = {p:.3g}, {self.permutations} permutations within folds"
        )

    def labels_at_random(self) -> Exact:
        """Mean AUC over all dealings of the labels at the published layer: 0.5 unless the procedure leaks labels."""
        return over_dealings("AUC with labels dealt at random", "AUC", self._null.null)

    # -- report -----------------------------------------------------------------------------------------------

    def notes(self) -> tuple[str, ...]:
        """How high the AUC comes, and where first."""
        highest, near = self._peak
        return (f"the highest AUC is {highest:.3f}; the first layer within 0.01 of it is after block {near}",)

    def figures(self) -> tuple[Figure, ...]:
        """AUC by layer with intervals, beside norms, words and labels dealt at random."""
        layers, late = range(self.activations.layers), self.activations.late
        effects = {of: [self.after(layer, of).describe() for layer in layers] for of in (RAW, UNIT, NORM)}
        effects[WORDS] = [self.words().describe()] * len(layers)
        lines = [Series.through(of, layers, some) for of, some in effects.items()]
        chance = self._chance
        lower, middle, upper = np.quantile(chance, (0.025, 0.5, 0.975), axis=0).tolist()
        lines.append(Series("labels at random", list(layers), middle, lower, upper))
        caption = (
            "How well a linear probe tells statements for a persona from those against it on statements it was not "
            "fitted on; 0.5 is guessing. Intervals are over statements; labels at random: 95 % of "
            f"{len(chance)} dealings. The first layer within 0.01 of the highest is {self._peak[1]}."
        )
        band = Band("last third", late[0], late[-1])
        return (Curves("layer", "AUC", caption, lines, [band], 0.5).titled("Separability by layer"),)

    @property
    def _peak(self) -> tuple[float, int]:
        """The highest AUC of a layer, and the first layer within 0.01 of it."""
        means = [float(self.after(layer).describe().estimate or 0.0) for layer in range(self.activations.layers)]
        return max(means), next(layer for layer, mean in enumerate(means) if mean >= max(means) - 0.01)

    def by_persona(self) -> Figure:
        """AUC by persona and layer, with that of a bag of words in the last column."""
        items, layers = self.activations.personas, range(self.activations.layers)
        rows = [self._by_persona(RAW, layer) for layer in layers]
        columns = [*map(str, layers), "words"]
        words = self._by_persona(WORDS, 0)
        values = [[*(row[i] for row in rows), words[i]] for i in range(len(items))]
        return Heatmap(
            "layer",
            "persona",
            "AUC minus 0.5",
            "How far above guessing (0) a probe tells each persona's statements apart; the last column is that of the "
            "statements' words without a model.",
            columns,
            [one.persona for one in items],
            [[value - 0.5 for value in row] for row in values],
            scale="centred",
        ).titled("Separability by persona")

    # -- fitting -----------------------------------------------------------------------------------------------

    def _auc(self, name: str, values: Array) -> CrossFitted:
        return CrossFitted.of(self.activations.estimate(name, "AUC", values))

    @staticmethod
    def _best(looked_at: Measurement, layers: range) -> int:
        means = looked_at.values.mean()
        return max(layers, key=lambda layer: float(means[str(layer)]))

    @shared_measurement
    def _folds(self) -> list[NDArray[np.intp]]:
        self.activations.enough(FOLDS, f"cross-validation in {FOLDS} folds")
        try:
            return [
                grouped_folds(one.positive, one.groups, folds=FOLDS, seed=self.seed, texts=one.texts)
                for one in self.activations.personas
            ]
        except ValueError as error:
            raise Inconclusive(f"too_few_statements: {error}") from error

    def _parts(self, of: str, layer: int) -> Array:
        """(statements of all personas,) whose mean is the AUC."""
        return self._shared.get((of, layer), lambda: self._measured_parts(of, layer))

    def _measured_parts(self, of: str, layer: int) -> Array:
        with one_thread():
            return np.concatenate(
                [
                    auc_parts(self._scores(of, items, layer, folds), items.positive, folds)
                    for items, folds in zip(self.activations.personas, self._folds, strict=True)
                ]
            )

    def _scores(self, of: str, items: PersonaItems, layer: int, folds: NDArray[np.intp]) -> Array:
        if of == WORDS:
            return cross_validated(bag_of_words(items.texts), items.positive, folds, standardise=False)
        values = self.activations.at(items, layer)
        features = unit_norm(values) if of == UNIT else norms(values) if of == NORM else values
        return cross_validated(features, items.positive, folds)

    def _by_persona(self, of: str, layer: int) -> list[float]:
        ends = np.cumsum([len(one.ids) for one in self.activations.personas])[:-1]
        return [float(part.mean()) for part in np.split(self._parts(of, layer), ends)]

    def _dealt(self, layer: int, permutations: int) -> Significance:
        """Mean AUC over personas, and with the labels of each persona dealt anew."""
        with one_thread():
            found = [
                label_null(
                    self.activations.at(items, layer), items.positive, folds, items.groups,
                    permutations=permutations, seed=self.seed, name=f"{items.persona}, block {layer}",
                )
                for items, folds in zip(self.activations.personas, self._folds, strict=True)
            ]  # fmt: skip
        null = np.mean([one.null for one in found], axis=0)
        return Significance(float(np.mean([one.score for one in found])), null)

    @shared_measurement
    def _null(self) -> Significance:
        return self._dealt(self.activations.published_layer, self.permutations)

    @shared_measurement
    def _chance(self) -> Array:
        """(dealings, layers) AUC with labels dealt at random."""
        return np.column_stack(
            [self._dealt(layer, BAND_PERMUTATIONS).null for layer in range(self.activations.layers)]
        )


def over_dealings(name: str, unit: str, values: Array) -> Exact:
    """The mean of one number per dealing, exactly: the dealings that were drawn are all that it speaks of."""
    index = pd.Index([f"dealing {number}" for number in range(len(values))])
    measured = Measurement(
        name, unit, pd.DataFrame({name: values}, index=index), pd.DataFrame({"dealing": index}, index=index)
    )
    estimate = Estimate(name, unit, measured, np.asarray(values, dtype=np.float64), shown_conditions=(name,))
    return exactly(estimate, population=f"{len(values)} dealings drawn by the run's seed", size=len(values))


def p_value(name: str, found: Significance) -> Exact:
    """The p-value of a permutation test, (1 + #{null >= score}) / (permutations + 1), as a share of dealings.

    The real dealing is one of them, so p is the mean of 1 for each that scores as high, itself included.
    """
    level = found.score - 1e-9 * abs(found.score)
    return over_dealings(name, "p", np.array([1.0, *(found.null >= level)]))
