"""Patching over items: what restoring sites brings back of the difference between two runs.

Each item has a *corrupt* run (the base) and a *clean* one (the source). `Restoration` runs the corrupt prompts with
activations at some sites taken from the clean run and reads the difference of two answer logits; what comes back is a
share of the clean minus corrupt difference (`recoveries`, a ratio of means over items) or a number of logits
(`effects`, which few items can state too). `LayerSweep` does so for single layers, denoising or noising.

Nothing here depends on what the prompts are about. Beside a site, what is restored may be `RandomBands`, bands
elsewhere in the network; `Held`, a sender that is restored while other sites are held at their corrupt values; or
`FromDonor`, a site that takes its activation from another run than the clean one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Unsupported
from auditkit.engine import edits
from auditkit.engine.pairs import Condition, PatchPair
from auditkit.engine.patching.paths import path
from auditkit.engine.patching.plain import Guarded, Patched, patch
from auditkit.engine.patching.restarted import ends, restarted, walkable
from auditkit.engine.patching.sweep import Sweep, sweep
from auditkit.engine.sites import Site
from auditkit.stats.effects.mean import Estimate, mean_difference, recovery
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

CORRUPT, CLEAN = "corrupt", "clean"
LOGITS, PROBABILITY = "logits", "probability"
"""Scales of the answer: the logit difference, or the probability of the right one of the two answers."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RandomBands:
    """A control: for each item, a band of the same component and width elsewhere in the network.

    Attributes:
        like: the band that it is compared with; the drawn ones do not overlap it.
        after: the drawn bands begin after this layer.
    """

    like: Site
    after: int = -1

    def __str__(self) -> str:
        later = f" after layer {self.after}" if self.after >= 0 else ""
        return f"random bands like {self.like}{later}"

    def starts(self, layers: int) -> list[int]:
        """First layers of the bands to draw from; none where the network is too shallow."""
        own = self.like.layer_indices(layers)
        width = len(own)
        return [
            start
            for start in range(self.after + 1, layers - width + 1)
            if start > own[-1] or start + width - 1 < own[0]
        ]

    def drawn(self, layers: int, n: int, seed: int) -> list[Site]:
        """One band for each of `n` items.

        Raises:
            NotApplicable: the network is too shallow to hold another band of that width.
        """
        starts, width = self.starts(layers), len(self.like.layer_indices(layers))
        if not starts:
            raise Unsupported(f"{layers} layers hold no other band as wide as {self.like}")
        first = stream(seed, "random bands", str(self)).choice(starts, n)
        return [replace(self.like, first=int(f), last=int(f) + width - 1, depth=None) for f in first]


@dataclass(frozen=True)
class Held:
    """`sender` is restored while `frozen` keeps what it is in the corrupt run, so that nothing passes there."""

    sender: Site
    frozen: Site | RandomBands

    def __str__(self) -> str:
        return f"{self.sender}, {self.frozen} held"


@dataclass(frozen=True)
class FromDonor:
    """`site` takes its activation from one donor per item, of the same length as the item's prompts."""

    site: Site
    donors: tuple[Prompt, ...]
    label: str

    def __str__(self) -> str:
        return f"{self.site} from {self.label}"


Restored = Site | RandomBands | Held | FromDonor
"""What is restored in every corrupt run; str() is the condition's name."""


@dataclass(frozen=True)
class PairedItems:
    """Pairs (base corrupt, source clean), and the table that they are the rows of; it has no conditions yet."""

    pairs: tuple[PatchPair, ...]
    measurement: Measurement

    def take(self, rows: Sequence[int]) -> PairedItems:
        """The items in these rows, in this order."""
        return PairedItems(
            tuple(self.pairs[i] for i in rows), self.measurement.take(np.asarray(rows, dtype=np.intp))
        )


class Restoration:
    """What edits of the corrupt runs of some items bring back; each is run once.

    What the engine's guards measured over a batch is kept with the batch, and noted under every claim that uses one of
    its conditions.

    How an edit is run depends on that edit and the items alone, and not on what else is asked for with it or was
    before: a claim gives the same numbers, to the last bit, alone and after others. What can be edited within a walk
    goes together through `restarted`, whose conditions, and their donors, do not meet in one batch; all else is whole
    runs, in which edits with donors of their own (`FromDonor`) are measured apart.

    Args:
        adapter: the model.
        items: what is run.
        seed: of the run, for what is drawn.
        description: of the measurement, for progress bars and notes.
    """

    def __init__(self, adapter: Adapter, items: PairedItems, *, seed: int, description: str) -> None:
        self.adapter, self.items, self.seed, self.description = adapter, items, seed, description
        self._base: torch.Tensor | None = None
        self._columns: dict[str, Values] = {}
        self._guards: list[tuple[frozenset[str], str]] = []
        """Of every batch: its conditions, and what the guards measured."""

    def total(self) -> Estimate:
        """Mean clean minus corrupt difference, in logits: what there is to restore."""
        self._ends()
        return mean_difference(self._measured(), CLEAN, CORRUPT, name="clean minus corrupt")

    def recoveries(
        self, *what: Restored, first: Callable[[], object] | None = None, scale: str = LOGITS
    ) -> tuple[Estimate, ...]:
        """Shares of the clean minus corrupt difference that come back: 0 is the corrupt run, 1 the clean one.

        Args:
            first: is called once `total` is known, before anything is edited; what it raises ends the measurement.
            scale: `LOGITS` or `PROBABILITY`.

        Raises:
            NotApplicable: a component that this model does not offer, or no place for random bands.
        """
        self._run(what, first)
        return _with_items(
            recovery(
                self._measured(str(w), scale=scale),
                str(w),
                clean=CLEAN,
                corrupt=CORRUPT,
                name=f"recovery by {w}{of_probability(scale)}",
            )
            for w in what
        )

    def effects(self, *what: Restored) -> tuple[Estimate, ...]:
        """The same in logits: patched minus corrupt."""
        self._run(what)
        return _with_items(mean_difference(self._measured(str(w)), str(w), CORRUPT, name=str(w)) for w in what)

    def _measured(self, *names: str, scale: str = LOGITS) -> Measurement:
        columns = dict.fromkeys((CORRUPT, CLEAN, *names))
        measured = self.items.measurement.with_conditions({name: self._columns[name] for name in columns})
        return measured if scale == LOGITS else probabilities(measured)

    def _run(self, what: Sequence[Restored], first: Callable[[], object] | None = None) -> None:
        """Run what was not run yet, and note what the guards measured over the batches of all of it."""

        def known(base: torch.Tensor, source: torch.Tensor) -> None:
            self._take(base, source)
            if first is not None:
                first()

        together: dict[tuple[bool, str], list[Restored]] = {}
        for one in dict.fromkeys(what):
            if str(one) not in self._columns:
                together.setdefault(self._way(one), []).append(one)
        for (whole, donors), some in sorted(together.items(), key=lambda way: way[0]):
            conditions = {str(one): condition(self.adapter, self.items.pairs, one, self.seed) for one in some}
            description = ", ".join(filter(None, (self.description, "whole runs" if whole else "", donors)))
            if whole or donors:
                self._ends()
            if whole:
                measured = patch(self.adapter, self.items.pairs, conditions, description, base=self._base)
            else:
                gate = None if first is None else known
                measured = restarted(self.adapter, self.items.pairs, conditions, description, gate)
            self._guards.append((frozenset(conditions), guards(description, measured)))
            self._take(measured.base, measured.source)
            self._columns |= {name: difference(logits) for name, logits in measured.conditions.items()}
        for ran_together, sentence in self._guards:
            if not ran_together.isdisjoint(map(str, what)):
                note(sentence)

    def _way(self, what: Restored) -> tuple[bool, str]:
        """Whether it needs whole runs, and which donors there are beside the items' own runs."""
        restarts = bool(self.adapter.support().get(Capability.BLOCKWISE))
        if isinstance(what, FromDonor):
            whole = not walkable(what.site)
            return whole, what.label if whole or not restarts else ""
        if isinstance(what, Held):
            frozen = what.frozen if isinstance(what.frozen, Site) else what.frozen.like
            whole = not (walkable(what.sender) and walkable(frozen))
            # In whole runs the corrupt runs are donors too.
            return whole, "sites held" if whole or not restarts else ""
        return not walkable(what if isinstance(what, Site) else what.like), ""

    def _ends(self) -> None:
        """Both runs without edits, as `restarted` makes them."""
        if self._base is None:
            self._take(*ends(self.adapter, self.items.pairs, f"{self.description}, nothing edited"))

    def _take(self, base: torch.Tensor, source: torch.Tensor) -> None:
        if self._base is None:
            self._base = base
            self._columns |= {CORRUPT: difference(base), CLEAN: difference(source)}


def _with_items(estimates: Iterable[Estimate]) -> tuple[Estimate, ...]:
    """The estimates, with their values among the claim's items: a comparison that fails or is undecided ends the claim
    before the others are compared."""
    made = tuple(estimates)
    for estimate in made:
        estimate.keep_items()
    return made


def condition(adapter: Adapter, pairs: Sequence[PatchPair], what: Restored, seed: int) -> Condition:
    """What the engine is to edit in each pair.

    Raises:
        NotApplicable: no place for random bands; SiteError: see `auditkit.engine.patching.paths.path`.
    """
    if isinstance(what, Site):
        return [[what]] * len(pairs)
    if isinstance(what, RandomBands):
        return [[site] for site in what.drawn(adapter.layers, len(pairs), seed)]
    if isinstance(what, FromDonor):
        return [[edits.replace(what.site, donor)] for donor in what.donors]
    if isinstance(what.frozen, Site):
        return path(adapter, pairs, [what.sender], frozen=[what.frozen])
    bands = what.frozen.drawn(adapter.layers, len(pairs), seed)
    return [
        path(adapter, [pair], [what.sender], frozen=[band])[0] for pair, band in zip(pairs, bands, strict=True)
    ]


class LayerSweep:
    """Effects of single layers, one at a time, in logits.

    Denoising puts clean activations into the corrupt run: what does a layer suffice to restore? Noising puts corrupt
    ones into the clean run: what is lost without it? A layer on one of several parallel ways restores much and costs
    little; only both together show what it is for. What the engine's guards measured is noted under every claim that
    uses an effect.

    Args:
        items: what is run.
        sites: of one layer each.
        noising: corrupt activations into the clean run instead.
    """

    def __init__(
        self, adapter: Adapter, items: PairedItems, sites: Sequence[Site], *, noising: bool, description: str
    ) -> None:
        pairs = [pair.swapped() for pair in items.pairs] if noising else items.pairs
        self.items, self.noising, self.sites = items, noising, tuple(sites)
        swept = sweep(adapter, pairs, sites, description)
        self._guards = guards(f"{description}, {swept.method}", swept)
        base, source = difference(swept.base), difference(swept.source)
        self._start, self._sign = (CLEAN, -1.0) if noising else (CORRUPT, 1.0)
        self._columns = {self._start: base, CORRUPT if noising else CLEAN: source}
        self._columns |= {str(s): difference(values) for s, values in zip(sites, swept.values, strict=True)}
        self._named = replace(items.measurement, name=f"{items.measurement.name}, {description}")

    def values(self, site: Site) -> Values:
        """(items,) logits that the site restores or, noising, takes away."""
        note(self._guards)
        return self._sign * (self._columns[str(site)] - self._columns[self._start])

    def effect(self, site: Site) -> Estimate:
        """Mean of `values`."""
        measured = self._measured(site)
        return Estimate(
            str(site),
            measured.unit,
            measured,
            self.values(site),
            shown_conditions=tuple(map(str, measured.values)),
        )

    def total(self) -> Estimate:
        """Mean clean minus corrupt difference of these items."""
        return mean_difference(self._measured(), CLEAN, CORRUPT, name="clean minus corrupt")

    def agreement(self, part: Site, whole: Site) -> Estimate:
        """How much of what `whole` does, item by item, `part` of it does: mean part x sign(whole) over mean |whole|.

        Unlike the ratio of mean effects it is defined for edits that move single items but not their mean, such as the
        exchange of one nonsense word for another.
        """
        one, all_of_it, measured = self.values(part), self.values(whole), self._measured(part, whole)
        return Estimate(
            f"{part} as a share of {whole}",
            "of the effect at all positions",
            measured,
            one * np.sign(all_of_it),
            np.abs(all_of_it),
            shown_conditions=tuple(map(str, measured.values)),
        )

    def _measured(self, *sites: Site) -> Measurement:
        note(self._guards)
        names = dict.fromkeys((CORRUPT, CLEAN, *map(str, sites)))
        return self._named.with_conditions({name: self._columns[name] for name in names})


def cumulative(component: Site, layers: int, points: int = 8) -> list[Site]:
    """Bands 0 to l of a component, for up to `points` evenly spaced layers l that end with the last."""
    last = sorted({round(i * (layers - 1) / max(1, points - 1)) for i in range(points)})
    return [replace(component, first=0, last=layer, depth=None) for layer in last]


def difference(logits: torch.Tensor) -> Values:
    """(items, 2) logits of right and wrong answer -> (items,) logit difference."""
    return (logits[:, 0].double() - logits[:, 1].double()).numpy()


def probabilities(measured: Measurement) -> Measurement:
    """Logit differences of two answers as probabilities of the first one, given that one of the two is said."""
    return replace(
        measured,
        name=f"{measured.name}{of_probability(PROBABILITY)}",
        unit="1",
        values=measured.values.apply(expit),
    )


def of_probability(scale: str) -> str:
    """What the name of a measurement or an effect says of its scale."""
    return "" if scale == LOGITS else f", {scale}"


def guards(description: str, measured: Patched | Sweep | Guarded) -> str:
    """What the engine's guards measured, as a sentence, and another where they found something against restarts."""
    found = measured.whole if isinstance(measured, Patched) else ""
    return (
        f"guards ({description}): the identity edit changed logits by at most {measured.identity_error:.1e}, the full "
        f"patch missed the clean run by at most {measured.full_patch_error:.1e}; every edit was made exactly once"
        + (f". Whole runs were made, since restarts from the first edited block failed: {found}" if found else "")
    )


def note_guards(description: str, measured: Patched | Sweep) -> None:
    """Put what the engine's guards measured under the current claim."""
    note(guards(description, measured))
