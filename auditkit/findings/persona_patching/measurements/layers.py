"""The effect of each single MLP and attention layer on the persona effect, and the positions at which it acts.

These measurements are exploratory: they are made on a share of the questions, in logits and not as a share of the
effect, so that few items still have an interval. Claims are decided by `PersonaPatching.recoveries`, on all questions.

Two facts limit what they show. Restoring an early layer restores what all later layers compute from it, so early
effects are upper bounds and locate nothing by themselves; noising, paths and the direct effect complement them. Before
the first block the two prompts differ in the persona word's embedding only: at later positions a difference reaches the
first MLP through one attention layer. So the first MLP acts at the persona word whatever that word means, nonsense
included. The informative number is the layer from which on MLPs no longer act mostly there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from auditkit.adapters.protocol import Component
from auditkit.claims.shared import shared_measurement
from auditkit.engine.patching.sweep import grid
from auditkit.engine.sites import Site, attention, mlp
from auditkit.findings.persona_patching.measurements.patching import CORRUPT, PersonaPatching
from auditkit.methods.direct_effects import direct_effects
from auditkit.methods.patching import LayerSweep, PairedItems, cumulative
from auditkit.record.figures import Band, Curves, Figure, Heatmap, Series
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.families import explore

SHARE = 1 / 24
"""Share of the items that is swept; noising, other groups and cumulative bands take half of it, or as many as the
smallest measurement has."""

COMPONENTS = (Component.MLP, Component.ATTENTION)
SWEPT = {False: ((Component.MLP, "all"), (Component.ATTENTION, "all"), (Component.MLP, "identity")),
         True: ((Component.MLP, "all"), (Component.ATTENTION, "all"))}  # fmt: skip
"""Whether noising -> what is swept in every layer. The finding about the word is about what MLPs restore there."""
POSITIONS = {"all": "", "identity": " at the word"}
POINTS = 6
"""Points of the cumulative curve, from the first layer to the last."""
CUMULATED = {"MLPs": mlp, "attention": attention}


class PersonaLayers:
    """Sweeps over single layers, each run once, and the figures of them.

    Args:
        patching: the model and the items that are swept.
    """

    def __init__(self, patching: PersonaPatching) -> None:
        self.patching, self.adapter = patching, patching.adapter
        self.layers = range(patching.adapter.layers)

    # -- sweeps ------------------------------------------------------------------------------------------------

    @shared_measurement
    def restoring(self) -> LayerSweep:
        """Clean activations in the corrupt run."""
        return self._sweep(self.patching.items(SHARE), noising=False)

    @shared_measurement
    def noising(self) -> LayerSweep:
        """Corrupt activations in the clean run."""
        return self._sweep(self.patching.items(SHARE / 2), noising=True)

    @property
    def probed(self) -> Sequence[int]:
        """Layers that are swept with words of other groups: the first ones, and up to a quarter of the depth."""
        return [layer for layer in self.layers if layer in {0, 1, len(self.layers) // 8, len(self.layers) // 4}]

    @shared_measurement
    def meaningless(self) -> Mapping[str, LayerSweep]:
        """Sweeps of some MLPs with words that mean nothing, and with words that mean the same."""
        questions, n_pairs, each = self.patching.questions, self.patching.n_pairs, self.patching.each
        arms = {
            "nonsense words": questions.arm("nonsense", "positive", None, n_pairs, each=each),
            "synonyms": questions.synonyms(None, n_pairs, each=each),
        }
        sites = grid([Component.MLP], self.probed, POSITIONS)
        return {
            name: LayerSweep(
                self.adapter,
                self.patching.items(SHARE / 2, arm),
                sites,
                noising=False,
                description=f"layers, {name}",
            )
            for name, arm in arms.items()
        }

    def _sweep(self, items: PairedItems, *, noising: bool) -> LayerSweep:
        self.patching.require_effect()
        sites = [site for part, at in SWEPT[noising] for site in grid([part], self.layers, [at])]
        return LayerSweep(
            self.adapter,
            items,
            sites,
            noising=noising,
            description="noising layers" if noising else "restoring layers",
        )

    def _alone(self, component: Component) -> list[Estimate]:
        """Effects of restoring each layer alone, at every position."""
        return [self.restoring.effect(site) for site in grid([component], self.layers, ["all"])]

    def standing(self, band: Site) -> str:
        """Where a band stands among single layers of its component, in a sentence.

        Exploratory: the layers whose effect is above zero are found at a false discovery rate of 5 %.
        """
        single = self._alone(band.component)
        found = explore(f"single {band.component} layers that restore", single, ">")
        effects = [float(estimate.numerator.mean()) for estimate in single]
        inside = band.layer_indices(self.adapter.layers)
        positive = np.maximum(effects, 0.0)
        means = [np.mean(effects[start : start + len(inside)]) for start in range(len(effects) - len(inside) + 1)]
        rank = 1 + sum(mean > means[inside[0]] for mean in means)
        held = positive[list(inside)].sum() / max(positive.sum(), 1e-12)
        return (
            f"single layers: those of {band} hold {held:.0%} of the summed positive effect; by mean effect the "
            f"band is number {rank} of the {len(means)} of its width; found above zero: "
            f"{', '.join(estimate.name for estimate in found) or 'none'}"
        )

    def agreement(self, group: str, layer: int = 0) -> Estimate:
        """The share of an MLP's effect that is made at the word, for "nonsense words" or "synonyms"."""
        (one,) = self._agreements(self.meaningless[group], [layer])
        return replace(one, name=f"{one.name}, {group}")

    def _agreements(self, sweep: LayerSweep, layers: Sequence[int]) -> list[Estimate]:
        return [sweep.agreement(mlp.layer(layer)["identity"], mlp.layer(layer)) for layer in layers]

    def leaving_the_word(self) -> str:
        """From which layer on MLPs act less at the persona word than elsewhere, in a sentence."""
        effects = [estimate.describe() for estimate in self._agreements(self.restoring, self.layers)]
        below = next((i for i, e in enumerate(effects) if e.estimate is not None and e.estimate < 0.5), None)
        sure = next((i for i, e in enumerate(effects) if e.upper is not None and e.upper < 0.5), None)
        where = (
            "stays above one half in every layer" if below is None else f"falls below one half at layer {below}"
        )
        also = "" if sure is None else f", and its whole interval at layer {sure}"
        return f"the share made at the persona word {where}{also}"

    # -- figures -----------------------------------------------------------------------------------------------

    def by_layer(self) -> Figure:
        """Heat map of single layers by component, direction and position, with intervals."""
        self.patching.require_effect()
        rows: dict[str, list[Estimate]] = {}
        for sweep, what in ((self.restoring, "restored"), (self.noising, "taken away")):
            for component, position in SWEPT[sweep.noising]:
                subject = component.upper() if component is Component.MLP else component
                sites = grid([component], self.layers, [position])
                rows[f"{subject} {what}{POSITIONS[position]}"] = [sweep.effect(site) for site in sites]
        described = [[estimate.describe() for estimate in row] for row in rows.values()]
        n, m = (len(sweep.items.pairs) for sweep in (self.restoring, self.noising))
        heatmap = Heatmap(
            "layer",
            "",
            "logit difference (logit)",
            f"Each cell: one layer alone. Restored: the clean run's activation in the corrupt run, {n} items. "
            f"Taken away: the corrupt run's activation in the clean run, {m} items. At the word: at the persona "
            "word only, else at every position. The whole difference between the two runs is "
            f"{self.restoring.total().describe().estimate or 0:.2f} logits. Exploratory.",
            list(map(str, self.layers)),
            list(rows),
            [[effect.estimate for effect in row] for row in described],
            [[effect.lower for effect in row] for row in described],
            [[effect.upper for effect in row] for row in described],
            scale="centred",
        )
        return heatmap.titled("What single layers do")

    def by_pair(self) -> Figure:
        """Heat map of single layers, one row for each pair of personas and component."""
        self.patching.require_effect()
        measurement = self.restoring.items.measurement
        pairs = measurement.clusters["pair"]
        names, values = [], []
        for component in COMPONENTS:
            each = np.array([self.restoring.values(site) for site in grid([component], self.layers, ["all"])])
            for pair in pairs.unique():
                names.append(f"{pair}: {component}")
                values.append(each[:, (pairs == pair).to_numpy()].mean(1).tolist())
        count = len(pairs) // pairs.nunique()
        heatmap = Heatmap(
            "layer",
            "",
            "logit difference restored (logit)",
            f"Each row: one pair of personas, {count} items, every position. So few items have no interval; the "
            "rows show whether pairs agree.",
            list(map(str, self.layers)),
            names,
            values,
            scale="centred",
        )
        return heatmap.titled("What single layers restore, pair by pair")

    def at_the_word(self) -> Figure:
        """Curves of the share of each MLP's effect that is made at the persona word: real words, nonsense, synonyms."""
        self.patching.require_effect()
        all_layers = self._agreements(self.restoring, self.layers)
        series = [_series(f"{CORRUPT} and clean words", self.layers, all_layers)]
        for name, sweep in self.meaningless.items():
            series.append(_series(name, self.probed, self._agreements(sweep, self.probed)))
        curves = Curves(
            "layer",
            "share of the MLP's effect made at the word",
            "Each point: what restoring one MLP at the persona word does, item by item, as a share of what "
            "restoring it at every position does. The share counts in the direction in which the latter moves the "
            "item, so it is defined for words that shift no answer on average. That the curves begin near 1, also for "
            "nonsense words, is no finding: before the first block nothing but the word's embedding differs. "
            f"{len(self.restoring.items.pairs)} items, other groups fewer.",
            series,
            reference=0.5,
        )
        return curves.titled("Where along the prompt MLPs act")

    def cumulated(self) -> Figure:
        """Curves of what restoring layers 0 to l together brings back, for MLPs and for attention."""
        self.patching.require_effect()
        restoration, layers = self.patching.on(SHARE / 2), self.adapter.layers
        bands = {name: cumulative(family.everywhere(), layers, POINTS) for name, family in CUMULATED.items()}
        effects = restoration.effects(*(band for family in bands.values() for band in family))
        series = []
        for name, family in bands.items():
            ends = [band.layer_indices(layers)[-1] for band in family]
            series.append(_series(name, ends, effects[: len(family)]))
            effects = effects[len(family) :]
        total = restoration.total().describe()
        curves = Curves(
            "last restored layer",
            "logit difference restored (logit)",
            "Each point: all layers from 0 to this one restored together, at every position. The dashed line is "
            "the whole difference between the clean and the corrupt run. The word's embedding is never restored. "
            f"Exploratory: {len(restoration.items.pairs)} items.",
            series,
            reference=total.estimate,
        )
        return curves.titled("Restoring layers from the first one on")

    def direct(self) -> Figure:
        """Curves of how much of a single layer's effect is direct, and how much goes through later layers."""
        self.patching.require_effect()
        restoring = self.restoring
        sites = grid(COMPONENTS, self.layers, ["all"])
        direct = direct_effects(self.adapter, restoring.items.pairs, sites).double().numpy()
        columns: dict[str, list[Estimate]] = {}
        for site, own in zip(sites, direct, strict=True):
            whole = restoring.effect(site)
            for name, values in (("direct", own), ("indirect", restoring.values(site) - own)):
                measured = whole.measurement.with_conditions({name: values, "nothing": np.zeros_like(values)})
                estimate = mean_difference(measured, name, "nothing", name=f"{site}, {name}")
                columns.setdefault(f"{site.component}, {name}", []).append(estimate)
        series = [_series(name, self.layers, estimates) for name, estimates in columns.items()]
        curves = Curves(
            "layer",
            "logit difference restored (logit)",
            "Restoring one layer at every position, split in two. Direct: what its changed contribution to the "
            "last token adds to the answer's logits itself, past all later layers, with the final norm's scale "
            "frozen. Indirect: the rest, which passes through later layers. Exploratory: "
            f"{len(restoring.items.pairs)} items.",
            series,
            [Band("depth 0.56-0.69", *_ends(attention.at_depth(0.56, 0.69), self.adapter.layers))],
            reference=0.0,
        )
        return curves.titled("Direct and indirect effect")


def _series(name: str, x: Sequence[int], estimates: Sequence[Estimate]) -> Series:
    return Series.through(name, x, [estimate.describe() for estimate in estimates])


def _ends(band: Site, layers: int) -> tuple[int, int]:
    inside = band.layer_indices(layers)
    return inside[0], inside[-1]
