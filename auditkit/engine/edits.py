"""Edits: what is done to the activation at a site.

Every edit is one line of arithmetic, `new = keep * value + factor * give`, at the positions and heads of its
site and nowhere else. What is given is a constant tensor, or the activation at the same place in another run:

    replace(mlp.layer(0)["identity"], source)     patching: the source run's activation
    add(residual.layer(12)[-1], direction, 4.0)   steering
    add(residual.layer(12), direction, 0.1, relative=True)   steering by a tenth of the stream's norm at each position
    project_out(residual.everywhere(), direction) removing the part along a direction, or along several
    scale(head(5, 8), 0.5)                        graded ablation, 0 removed to 1 untouched
    zero(attention.layer(3))
    mean(z.layer(5).head(8), means)               mean ablation, with `means(adapter, prompts, site)`
    resample(mlp.layer(7), prompts, generator)    the activation of a prompt drawn at random

The other run may have edits of its own (`Edited`): that is how path patching is said. Edits at one site apply in
the order given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Component, Place
from auditkit.claims.outcomes import Unsupported
from auditkit.engine import arguments
from auditkit.engine.directions import Along, AsLong, FromValue, orthonormal, unit
from auditkit.engine.sites import Site, SiteError, Span


@dataclass(frozen=True, eq=False)
class Edit:
    """`new = keep * value + factor * give` at a site of one prompt.

    Attributes:
        site: where.
        keep: share of the value that stays.
        give: nothing; a tensor (position, width), or (position, head, size) at sites with heads, or (query, head, key)
            at attention probabilities, over the site's positions and heads, in which leading axes may be 1 or left
            out; a run of equal length that gives its activation at the same place; or what is made of the value itself
            (`auditkit.engine.directions`).
        factor: of what is given.

    Raises:
        TypeError: an argument of another kind, such as a NumPy array where a tensor is meant.
    """

    site: Site
    keep: float = 0.0
    give: Tensor | Prompt | Edited | FromValue | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        arguments.one("an edit's site", self.site, Site, "one site, such as mlp.layer(1)")
        arguments.one(f"what is given at {self.site}", self.give, _GIVEN, _GIVES)
        for number in (self.keep, self.factor):
            arguments.one(f"an edit's strength or factor at {self.site}", number, Real, "a number")


def remaining(value: Tensor, keep: float) -> Tensor:
    """The share of a value that stays: nothing of it where `keep` is 0, even where the value is not finite."""
    return torch.zeros_like(value) if keep == 0 else keep * value


@dataclass(frozen=True, eq=False)
class Edited:
    """A prompt that is run with edits.

    Attributes:
        prompt: what is run.
        edits: what is done on the way; none is the plain run.
        spans: named token spans of the prompt: "identity", ...

    Raises:
        TypeError: an argument of another kind, such as a bare site where an edit is meant.
    """

    prompt: Prompt
    edits: tuple[Edit, ...] = ()
    spans: Mapping[str, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments.one("an edited run's prompt", self.prompt, Prompt, "one prompt, such as model.chat(chat)")
        expected = "a list of edits, such as [replace(mlp.layer(1), donor)]"
        arguments.several(
            "an edited run's edits", self.edits, Edit, expected, "an edit, such as replace(site, donor)"
        )
        arguments.spans("spans", self.spans)


Donor = Prompt | Edited
"""A run that gives activations."""

_GIVEN = (Tensor, Prompt, Edited, Along, AsLong, type(None))
_GIVES = "a torch tensor, a prompt or an Edited run"


def replace(site: Site, donor: Donor | Tensor, strength: float = 1.0) -> Edit:
    """The donor's activation in place of the value; `strength` below 1 goes only part of the way.

    Raises:
        SiteError: a strength outside [0, 1].
        TypeError: an argument of another kind.
    """
    arguments.one("the site to replace at", site, Site, "one site, such as mlp.layer(1)")
    arguments.one(f"what is given at {site}", donor, (Tensor, Prompt, Edited), _GIVES)
    arguments.one(f"the strength at {site}", strength, Real, "a number from 0 (untouched) to 1 (replaced)")
    if not 0 <= strength <= 1:
        raise SiteError(f"{site}: strength {strength:g}, give 0 (untouched) to 1 (replaced)")
    return Edit(site, 1 - strength, donor, strength)


def add(site: Site, vector: Tensor, factor: float = 1.0, *, relative: bool = False) -> Edit:
    """Steering: `factor` times a vector on top of the value.

    Args:
        relative: the factor is a dose: the length of what is added as a share of the value's norm at each position. The
            vector's own length then counts for nothing.

    Raises:
        SiteError: a relative vector that is no single one, or has norm zero or values that are not finite.
        TypeError: an argument of another kind, such as a NumPy array.
    """
    arguments.one("the site to add at", site, Site, "one site, such as residual.layer(12)[-1]")
    if relative:
        return Edit(site, 1.0, AsLong(unit(site, vector)), factor)
    arguments.one(f"what is added at {site}", vector, (Tensor, Prompt, Edited), _GIVES)
    return Edit(site, 1.0, vector, factor)


def project_out(site: Site, directions: Tensor, strength: float = 1.0) -> Edit:
    """Removal of the value's part along a direction: h - (h.r) r, or along all directions in a span.

    Args:
        directions: (size,), or (directions, size) independent rows; their lengths count for nothing.
        strength: share of the part that is removed, 0 untouched to 1 removed.

    Raises:
        SiteError: a strength outside [0, 1], directions of norm zero, not finite or not independent.
        TypeError: an argument of another kind, such as a NumPy array.
    """
    arguments.one("the site to project at", site, Site, "one site, such as residual.layer(12)")
    arguments.one(f"the strength at {site}", strength, Real, "a number from 0 (untouched) to 1 (removed)")
    if not 0 <= strength <= 1:
        raise SiteError(f"{site}: strength {strength:g}, give 0 (untouched) to 1 (removed)")
    return Edit(site, 1.0, Along(orthonormal(site, directions)), -strength)


def unchanging(edit: Edit) -> Edit:
    """An edit at the same place that keeps the value as it is, by the same arithmetic where that is of the value."""
    if isinstance(edit.give, Along | AsLong):
        return changed(edit, keep=1.0, factor=0.0)
    return Edit(edit.site, 1.0)


def scale(site: Site, factor: float) -> Edit:
    """Graded ablation: the value times `factor`, 0 removed to 1 untouched.

    Raises:
        SiteError: a factor outside [0, 1].
        TypeError: an argument of another kind.
    """
    arguments.one("the site to scale", site, Site, "one site, such as head(5, 8)")
    arguments.one(f"the factor at {site}", factor, Real, "a number from 0 (removed) to 1 (untouched)")
    if not 0 <= factor <= 1:
        raise SiteError(f"{site}: scaled by {factor:g}, give 0 (removed) to 1 (untouched)")
    return Edit(site, factor)


def zero(site: Site) -> Edit:
    """Zero ablation."""
    return scale(site, 0.0)


def mean(site: Site, values: Mapping[int, Tensor], strength: float = 1.0) -> tuple[Edit, ...]:
    """Mean ablation: one edit per layer, with its mean activation; see `auditkit.engine.forward.means`.

    Raises:
        TypeError: an argument of another kind.
    """
    arguments.one("the site of a mean ablation", site, Site, "one site, such as z.layer(5).head(8)")
    arguments.one(f"the means at {site}", values, Mapping, "what means(...) returned")
    return tuple(
        replace(Site(site.component, layer, layer, None, site.position, site.heads), value, strength)
        for layer, value in values.items()
    )


def resample(site: Site, base: Prompt, prompts: Sequence[Prompt], generator: np.random.Generator) -> Edit:
    """Resample ablation: the activation of another prompt of the same length, drawn at random.

    Raises:
        SiteError: no other prompt of that length.
        TypeError: an argument of another kind.
    """
    arguments.one("the site to resample", site, Site, "one site, such as mlp.layer(7)")
    arguments.one("the base", base, Prompt, "one prompt, such as model.chat(chat)")
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    arguments.one("generator", generator, np.random.Generator, "np.random.default_rng(seed)")
    others = [prompt for prompt in prompts if len(prompt) == len(base) and prompt.ids != base.ids]
    if not others:
        raise SiteError(
            f"{site}: none of {len(prompts)} prompts to resample from is another one of {len(base)} tokens"
        )
    return replace(site, others[int(generator.integers(len(others)))])


class Spot(NamedTuple):
    """An edit at one layer of one prompt: positions [start, stop), and heads where only some are meant."""

    place: Place
    start: int
    stop: int
    heads: tuple[int, ...] | None
    edit: Edit


def spots(adapter: Adapter, run: Edited) -> Iterator[Spot]:
    """Where the edits of a run are on this model.

    Raises:
        SiteError: a site that the model or the prompt does not have, a donor of another length, a tensor of the
            wrong shape.
        NotApplicable: a component that this model does not offer.
    """
    for edit in run.edits:
        site = edit.site
        start, stop = located(adapter, site, len(run.prompt), run.spans)
        for layer in layers_of(adapter, site):
            spot = Spot((site.component, layer), start, stop, site.heads, edit)
            _fits(adapter, spot, len(run.prompt))
            yield spot


def touched(adapter: Adapter, runs: Iterable[Edited]) -> set[Place]:
    """Every place that runs edit, once it is sure that these edits, and those of all their donors, can be made.

    Raises:
        SiteError, NotApplicable: as `spots`; nothing has run.
    """
    found = [spot for run in runs for spot in spots(adapter, run)]
    donors = {spot.edit.give for spot in found if isinstance(spot.edit.give, Edited)}
    if donors:
        touched(adapter, donors)
    return {spot.place for spot in found}


def located(adapter: Adapter, site: Site, length: int, spans: Mapping[str, Span]) -> Span:
    """Positions of a site in a prompt, once it is sure that the model has the site.

    Raises:
        SiteError, NotApplicable: as `spots`.
    """
    offered = adapter.support()[site.component]
    if not offered:
        raise Unsupported(f"{site} cannot be touched on this model: {offered.reason}")
    layers_of(adapter, site)
    site.head_indices(adapter.heads, adapter.groups)
    return site.span(length, spans)


def layers_of(adapter: Adapter, site: Site) -> range:
    """The layers of a site on this model; the embeddings are at layer 0 and nowhere else."""
    return site.layer_indices(1 if site.component is Component.EMBEDDINGS else adapter.layers)


def _fits(adapter: Adapter, spot: Spot, length: int) -> None:
    give, (component, layer) = spot.edit.give, spot.place
    if give is None:
        return
    if isinstance(give, Along | AsLong) and give.size == adapter.sizes.get(spot.place):
        return  # before a site is made for words that nobody needs: a sweep has many such edits
    site = changed(spot.edit.site, first=layer, last=layer, depth=None)
    if isinstance(give, Along | AsLong):
        if component is Component.PATTERN:
            raise SiteError(f"{site}: attention probabilities have no direction; use z")
        raise SiteError(
            f"{site}: a direction of width {give.size} was given; this model has width {adapter.sizes[spot.place]} "
            "there"
        )
    if not isinstance(give, Tensor):
        prompt = give if isinstance(give, Prompt) else give.prompt
        if len(prompt) != length:
            raise SiteError(
                f"{site}: the donor has {len(prompt)} tokens and the prompt {length}; give equal lengths"
            )
        return
    heads = site.head_indices(adapter.heads, adapter.groups)
    size = length if component is Component.PATTERN else adapter.sizes[spot.place]
    axes = (spot.stop - spot.start, *([len(heads)] if heads else []), size)
    leading = zip(give.shape[-2::-1], axes[-2::-1], strict=False)
    if not 1 <= give.ndim <= len(axes) or give.shape[-1] != size or any(own not in (1, n) for own, n in leading):
        *others, last = [str(axes[n:]) for n in range(len(axes) - 1, -1, -1)]
        raise SiteError(
            f"{site}: a tensor of shape {tuple(give.shape)} was given; give {', '.join(others)} or {last}"
        )
