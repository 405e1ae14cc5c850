"""Persona patching: where in the network do persona words act? (Poonia & Jain 2025, arXiv:2507.20936)

The logit difference between the right and a wrong answer is measured under a *clean* persona (positive word) and a
*corrupt* one (negative word), see `persona_questions`. Denoising then runs the corrupt prompt with activations at some
sites restored from the clean run; `recovery` is the share of the clean minus corrupt difference that comes back, as a
ratio of means over items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from auditkit.analyses.persona_questions import Arm, PersonaQuestions, difference
from auditkit.engine.patching import Condition, Patched, answer_logits, patch
from auditkit.engine.sites import Site
from auditkit.engine.wavefront import Sweep, sweep
from auditkit.record.evidence import figure, note
from auditkit.record.figures import Band, Curves, Series
from auditkit.stats.estimates import Estimate, mean_difference, recovery
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream
from auditkit.stats.verdicts import NotApplicable

CURVE_ITEMS, CURVE_PAIRS = 5, 5
"""Questions and persona pairs of the exploratory layer curve."""


@dataclass(frozen=True)
class RandomBands:
    """A control: for each item, a band of the same component and width somewhere else in the network."""

    like: Site

    def __str__(self) -> str:
        return f"random bands like {self.like}"


class PersonaPatching:
    """The measurements of one model; what was measured once is not measured again.

    Args:
        questions: the model and what it is asked.
    """

    def __init__(self, questions: PersonaQuestions) -> None:
        self.questions, self.adapter, self.seed = questions, questions.adapter, questions.seed
        self._recoveries: dict[str, Estimate] = {}
        self._base_logits: dict[tuple[str, str, int, int], torch.Tensor] = {}

    # -- claims ------------------------------------------------------------------------------------------------

    def shift(self, group: str, *, against: str) -> Estimate:
        """How much a group of persona words moves the logit difference, compared with another group.

        Mean over paired items of LD(group) - LD(against), in logits; negative when the group answers worse.
        """
        measurement = self._unpatched(group, against)
        return mean_difference(measurement, "corrupt", "clean", name=f"{group} minus {against} personas")

    def recovery(self, site: Site | RandomBands) -> Estimate:
        """Share of the persona effect that restoring `site` brings back (0 corrupt, 1 clean)."""
        return self.recoveries(site)[0]

    def recoveries(self, *sites: Site | RandomBands) -> tuple[Estimate, ...]:
        """Recoveries of several sites over the same items, measured together."""
        arm = self.questions.arm("negative", "positive")
        wanted = [site for site in dict.fromkeys(sites) if str(site) not in self._recoveries]
        if wanted:
            measurement = self._measure(arm, wanted, "recovery")
            for site in map(str, wanted):
                self._recoveries[site] = recovery(
                    measurement, site, clean="clean", corrupt="corrupt", name=f"recovery by {site}"
                )
        self.questions.tell(arm)
        return tuple(self._recoveries[str(site)] for site in sites)

    def layer_curve(self, component: Site, *, bands: dict[str, Site]) -> None:
        """Draw what restoring each single layer of `component` brings back, in logits.

        Exploratory: measured on fewer items, to show where a band lies, and not to decide. In logits and not as
        a share, so that few items still have an interval.
        """
        arm = self.questions.arm("negative", "positive", CURVE_ITEMS, CURVE_PAIRS)
        layers = component.layer_indices(self.adapter.layers)
        single = [Site(component.component, layer, layer, position=component.position) for layer in layers]
        swept = sweep(self.adapter, arm.pairs, single, "layer curve")
        _note_guards(f"layer curve, {swept.method}", swept)
        columns = {"corrupt": swept.base, "clean": swept.source}
        columns |= {str(site): value for site, value in zip(single, swept.values, strict=True)}
        measurement = arm.measurement.with_conditions({name: difference(value) for name, value in columns.items()})
        effects = [mean_difference(measurement, str(s), "corrupt", name=str(s)).describe() for s in single]
        total = mean_difference(measurement, "clean", "corrupt", name="persona effect").describe()
        covered = {name: band.layer_indices(self.adapter.layers) for name, band in bands.items()}
        series = Series(
            str(component.component),
            list(layers),
            [effect.estimate for effect in effects],
            [effect.lower for effect in effects],
            [effect.upper for effect in effects],
        )
        curves = Curves(
            "layer",
            "logit difference restored (logit)",
            "Each point restores one layer alone at every position; the dashed line is the whole difference "
            f"between the clean and the corrupt persona. Exploratory: {len(arm.pairs)} items.",
            [series],
            [Band(name, band[0], band[-1]) for name, band in covered.items()],
            reference=total.estimate,
        )
        figure(curves.titled("Restoring one layer at a time"))

    def random_bands(self, like: Site) -> RandomBands:
        """Bands of the same width at random places that do not overlap `like`, drawn per item.

        Raises:
            NotApplicable: the network is too shallow to hold another band of that width.
        """
        if not self._other_starts(like):
            raise NotApplicable(f"{self.adapter.layers} layers hold no other band as wide as {like}")
        return RandomBands(like)

    # -- measuring ---------------------------------------------------------------------------------------------

    def _measure(self, arm: Arm, sites: Sequence[Site | RandomBands], description: str) -> Measurement:
        """Logit difference of the corrupt and the clean run, and of the corrupt run with each site restored."""
        conditions = {str(site): self._condition(arm, site) for site in sites}
        patched = patch(self.adapter, arm.pairs, conditions, description, base=self._base_logits.get(arm.key))
        _note_guards(description, patched)
        columns = {"corrupt": patched.base, "clean": patched.source, **patched.conditions}
        return arm.measurement.with_conditions({name: difference(logits) for name, logits in columns.items()})

    def _condition(self, arm: Arm, site: Site | RandomBands) -> Condition:
        if isinstance(site, Site):
            return [[site]] * len(arm.pairs)
        starts = self._other_starts(site.like)
        width = len(site.like.layer_indices(self.adapter.layers))
        drawn = stream(self.seed, "random bands", str(site)).choice(starts, len(arm.pairs))
        return [
            [Site(site.like.component, int(start), int(start) + width - 1, position=site.like.position)]
            for start in drawn
        ]

    def _other_starts(self, like: Site) -> list[int]:
        taken = like.layer_indices(self.adapter.layers)
        width = len(taken)
        return [
            start
            for start in range(self.adapter.layers - width + 1)
            if start > taken[-1] or start + width - 1 < taken[0]
        ]

    def _unpatched(self, corrupt: str, clean: str) -> Measurement:
        arm = self.questions.arm(corrupt, clean)
        self.questions.tell(arm)
        answers = [pair.answers for pair in arm.pairs]
        base = answer_logits(self.adapter, [pair.base for pair in arm.pairs], answers, f"{corrupt} personas")
        source = answer_logits(self.adapter, [pair.source for pair in arm.pairs], answers, f"{clean} personas")
        self._base_logits[arm.key] = base
        return arm.measurement.with_conditions({"corrupt": difference(base), "clean": difference(source)})


def _note_guards(description: str, measured: Patched | Sweep) -> None:
    note(
        f"guards ({description}): the identity edit changed logits by at most {measured.identity_error:.1e}, the full "
        f"patch missed the clean run by at most {measured.full_patch_error:.1e}; every edit was made exactly once"
    )
