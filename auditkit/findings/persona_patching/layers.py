"""Layer by layer: what each MLP and each attention does for the persona effect, and at which positions.

All of this is looking around, on a share of the questions, in logits and not as a share of the effect, so that few
items still have an interval. Claims are decided elsewhere (`PersonaPatching.recoveries`), on all questions.

What must be known to read it. Restoring an early layer restores what all later ones make of it, so early effects are
upper bounds and no places; noising, paths and the direct effect are the counterweight. And before the first block only
the persona word's own embedding differs: later positions see a difference at the first MLP through one attention layer
only. So the first MLP acts at the persona word whatever that word means, nonsense included, and what tells something is
the layer from which on it no longer does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from auditkit.adapters.protocol import Component
from auditkit.claims.evidence import figure, note
from auditkit.engine.patching.sweep import grid
from auditkit.engine.sites import Site, attention, mlp
from auditkit.findings.persona_patching.patching import CORRUPT, PersonaPatching
from auditkit.methods.direct_effects import direct_effects
from auditkit.methods.patching import LayerSweep, PairedItems, cumulative
from auditkit.record.figures import Band, Curves, Heatmap, Series
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.families import explore

SHARE = 1 / 24
"""Share of the questions that each pair of personas is swept with; noising, other groups and cumulative bands take
half of it; at least one for each pair."""

COMPONENTS = (Component.MLP, Component.ATTENTION)
POSITIONS = {"all": "", "identity": " at the word"}
POINTS = 6
"""Of the cumulative curve, from the first layer to the last."""
CUMULATED = {"MLPs": mlp, "attention": attention}


class PersonaLayers:
    """Sweeps over single layers, and the figures of them; each is run once.

    Args:
        patching: on whose items.
    """

    def __init__(self, patching: PersonaPatching) -> None:
        self.patching, self.adapter = patching, patching.adapter
        self.layers = range(patching.adapter.layers)

    # -- sweeps ------------------------------------------------------------------------------------------------

    @cached_property
    def restoring(self) -> LayerSweep:
        """Clean activations in the corrupt run."""
        return self._sweep(self.patching.items(SHARE), noising=False)

    @cached_property
    def noising(self) -> LayerSweep:
        """Corrupt activations in the clean run."""
        return self._sweep(self.patching.items(SHARE / 2), noising=True)

    @cached_property
    def probed(self) -> Sequence[int]:
        """Layers at which words of other groups are looked at: the first ones, and up to a quarter of the depth."""
        return [layer for layer in self.layers if layer in {0, 1, len(self.layers) // 8, len(self.layers) // 4}]

    @cached_property
    def meaningless(self) -> Mapping[str, LayerSweep]:
        """Sweeps of some MLPs with words that mean nothing, and with words that mean the same."""
        questions, n_pairs = self.patching.questions, self.patching.n_pairs
        arms = {
            "nonsense words": questions.arm("nonsense", "positive", None, n_pairs),
            "synonyms": questions.synonyms(None, n_pairs),
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
        sites = grid(COMPONENTS, self.layers, POSITIONS)
        return LayerSweep(
            self.adapter,
            items,
            sites,
            noising=noising,
            description="noising layers" if noising else "restoring layers",
        )

    # -- figures -----------------------------------------------------------------------------------------------

    def show_map(self, band: Site) -> None:
        """Layer x component heat map, pooled with intervals and pair by pair, and where `band` stands in it.

        Exploratory: the layers whose effect is above zero are found at a false discovery rate of 5 %.
        """
        self.patching.require_effect()
        rows: dict[str, list[Estimate]] = {}
        for sweep, what in ((self.restoring, "restored"), (self.noising, "taken away")):
            for component in COMPONENTS:
                for position, at in POSITIONS.items():
                    name = f"{component.upper() if component is Component.MLP else component} {what}{at}"
                    sites = grid([component], self.layers, [position])
                    rows[name] = [sweep.effect(site) for site in sites]
        found = explore(
            f"single {band.component} layers that restore",
            [self.restoring.effect(site) for site in grid([band.component], self.layers, ["all"])],
            ">",
        )
        described = [[estimate.describe() for estimate in row] for row in rows.values()]
        n, m = (len(sweep.items.pairs) for sweep in (self.restoring, self.noising))
        figure(
            Heatmap(
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
            ).titled("What single layers do")
        )
        self._show_pairs()
        self._tell_band(band, [estimate.name for estimate in found])

    def _show_pairs(self) -> None:
        measurement = self.restoring.items.measurement
        pairs = measurement.clusters["pair"]
        names, values = [], []
        for component in COMPONENTS:
            each = np.array([self.restoring.values(site) for site in grid([component], self.layers, ["all"])])
            for pair in pairs.unique():
                names.append(f"{pair}: {component}")
                values.append(each[:, (pairs == pair).to_numpy()].mean(1).tolist())
        count = len(pairs) // pairs.nunique()
        figure(
            Heatmap(
                "layer",
                "",
                "logit difference restored (logit)",
                f"Each row: one pair of personas, {count} items, every position. So few have no interval: what is to "
                "be seen is whether pairs agree.",
                list(map(str, self.layers)),
                names,
                values,
                scale="centred",
            ).titled("What single layers restore, pair by pair")
        )

    def _tell_band(self, band: Site, found: Sequence[str]) -> None:
        inside = band.layer_indices(self.adapter.layers)
        effects = [
            float(self.restoring.values(site).mean()) for site in grid([band.component], self.layers, ["all"])
        ]
        positive = np.maximum(effects, 0.0)
        means = [np.mean(effects[start : start + len(inside)]) for start in range(len(effects) - len(inside) + 1)]
        rank = 1 + sum(mean > means[inside[0]] for mean in means)
        held = positive[list(inside)].sum() / max(positive.sum(), 1e-12)
        note(
            f"single layers: those of {band} hold {held:.0%} of the summed positive effect; by mean effect the "
            f"band is number {rank} of the {len(means)} of its width; found above zero: {', '.join(found) or 'none'}"
        )

    def show_identity_curve(self) -> None:
        """How much of each MLP's effect is made at the persona word, for real words, nonsense and synonyms."""
        self.patching.require_effect()
        all_layers = self._agreements(self.restoring, self.layers)
        series = [_series(f"{CORRUPT} and clean words", self.layers, all_layers)]
        for name, sweep in self.meaningless.items():
            series.append(_series(name, self.probed, self._agreements(sweep, self.probed)))
        figure(
            Curves(
                "layer",
                "share of the MLP's effect made at the word",
                "Each point: what restoring one MLP at the persona word does, item by item, as a share of what "
                "restoring it at every position does (in the direction in which that moves the item, so that it is "
                "defined for words that shift no answer on average). That the curves begin near 1, also for nonsense "
                "words, is no finding: before the first block nothing but the word's embedding differs. "
                f"{len(self.restoring.items.pairs)} items, other groups fewer.",
                series,
                reference=0.5,
            ).titled("Where along the prompt MLPs act")
        )
        effects = [estimate.describe() for estimate in all_layers]
        below = next((i for i, e in enumerate(effects) if e.estimate is not None and e.estimate < 0.5), None)
        sure = next((i for i, e in enumerate(effects) if e.upper is not None and e.upper < 0.5), None)
        note(
            "the share made at the persona word "
            + (
                "stays above one half in every layer"
                if below is None
                else f"falls below one half at layer {below}"
            )
            + ("" if sure is None else f", and its whole interval at layer {sure}")
        )

    def agreement(self, group: str, layer: int = 0) -> Estimate:
        """The share of an MLP's effect that is made at the word, for "nonsense words" or "synonyms"."""
        (one,) = self._agreements(self.meaningless[group], [layer])
        return one

    def _agreements(self, sweep: LayerSweep, layers: Sequence[int]) -> list[Estimate]:
        return [sweep.agreement(mlp.layer(layer)["identity"], mlp.layer(layer)) for layer in layers]

    def show_cumulative(self) -> None:
        """What restoring layers 0 to l together brings back, for MLPs and for attention."""
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
        figure(
            Curves(
                "last restored layer",
                "logit difference restored (logit)",
                "Each point: all layers from 0 to this one restored together, at every position. The dashed line is "
                "the whole difference between the clean and the corrupt run. The word's embedding is never restored. "
                f"Exploratory: {len(restoration.items.pairs)} items.",
                series,
                reference=total.estimate,
            ).titled("Restoring layers from the first one on")
        )

    def show_direct(self) -> None:
        """How much of a single layer's effect it says to the answer itself, and how much through later layers."""
        self.patching.require_effect()
        restoring = self.restoring
        sites = grid(COMPONENTS, self.layers, ["all"])
        direct = direct_effects(self.adapter, restoring.items.pairs, sites).double().numpy()
        columns: dict[str, list[Estimate]] = {}
        for site, said in zip(sites, direct, strict=True):
            whole = restoring.effect(site)
            for name, values in (("direct", said), ("indirect", restoring.values(site) - said)):
                measured = whole.measurement.with_conditions({name: values, "nothing": np.zeros_like(values)})
                estimate = mean_difference(measured, name, "nothing", name=f"{site}, {name}")
                columns.setdefault(f"{site.component}, {name}", []).append(estimate)
        series = [_series(name, self.layers, estimates) for name, estimates in columns.items()]
        figure(
            Curves(
                "layer",
                "logit difference restored (logit)",
                "Restoring one layer at every position, split in two. Direct: what its changed contribution to the "
                "last token says to the answer itself, past all later layers, with the final norm's scale frozen. "
                f"Indirect: the rest, what later layers make of it. Exploratory: {len(restoring.items.pairs)} items.",
                series,
                [Band("depth 0.56-0.69", *_ends(attention.at_depth(0.56, 0.69), self.adapter.layers))],
                reference=0.0,
            ).titled("Direct and indirect effect")
        )


def _series(name: str, x: Sequence[int], estimates: Sequence[Estimate]) -> Series:
    return Series.through(name, x, [estimate.describe() for estimate in estimates])


def _ends(band: Site, layers: int) -> tuple[int, int]:
    inside = band.layer_indices(layers)
    return inside[0], inside[-1]
