"""Activations of prompts at named sites, kept with the names that a notebook needs to read them.

    read = activations(model, prompts, [mlp.layers(3, 5)["last"], head(5, 8)])
    read.at(mlp.layers(3, 5)["last"])  # (prompts, layers, positions, width)
    read.to_frame()

`auditkit.engine.forward.capture` is the bare form: one batch, places as (component, layer), padding included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Component
from auditkit.engine import arguments
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.edits import layers_of, located
from auditkit.engine.forward import donate
from auditkit.engine.sites import Site, SiteError, Span
from auditkit.notebook import Showable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Activations(Showable):
    """What a model computed at some sites.

    Attributes:
        model: its name.
        sites: what was read.
        values: for each site and prompt, (layers, positions, ...), the last axes as in the component: width, or head
            and size.
    """

    model: str
    sites: tuple[Site, ...]
    values: tuple[tuple[Tensor, ...], ...]

    def at(self, site: Site) -> Tensor:
        """(prompts, layers, positions, ...) at one of the sites.

        Raises:
            SiteError: a site that was not read, or prompts with another number of positions there.
        """
        if site not in self.sites:
            raise SiteError(f"{site} was not read, only {', '.join(map(str, self.sites))}")
        found = self.values[self.sites.index(site)]
        if len({row.shape for row in found}) > 1:
            raise SiteError(
                f"{site}: the prompts have different lengths there; read one position, such as ['last']"
            )
        return torch.stack(found)

    def in_words(self) -> str:
        shapes = ", ".join(
            f"{site} {tuple(rows[0].shape)}" for site, rows in zip(self.sites, self.values, strict=True)
        )
        return f"{self.model}, {len(self.values[0])} prompts: {shapes} (layers, positions, ...)"

    def to_frame(self) -> pd.DataFrame:
        """A row for each site, prompt, layer and position: the norm, and mean and largest magnitude of the values."""
        import pandas as pd

        rows = []
        for site, prompts in zip(self.sites, self.values, strict=True):
            for prompt, value in enumerate(prompts):
                for layer, position in torch.cartesian_prod(*map(torch.arange, value.shape[:2])).tolist():
                    one = value[layer, position].float().flatten()
                    row = {"site": str(site), "prompt": prompt, "layer": (site.first or 0) + layer}
                    row |= {"position": position, "norm": float(one.norm())}
                    rows.append(row | {"mean": float(one.mean()), "largest": float(one.abs().max())})
        return pd.DataFrame(rows)


def activations(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    sites: Sequence[Site],
    spans: Sequence[Mapping[str, Span]] | None = None,
) -> Activations:
    """Read prompts at some sites, each prompt in one plain run.

    Args:
        spans: for each prompt, its named spans of tokens.

    Raises:
        SiteError: no prompts or sites, a site that the model or a prompt does not have, attention probabilities (whose
            rows differ in length), before anything runs.
        NotApplicable: a component that this model does not offer.
        TypeError: an argument of another kind, such as one prompt where a list is meant.
    """
    arguments.model(adapter)
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    arguments.several("sites", sites, Site, "a list of sites, such as [mlp.layer(3)['last']]", "a site")
    if not prompts or not sites:
        raise SiteError(f"activations need prompts and sites, got {len(prompts)} and {len(sites)}")
    if any(site.component is Component.PATTERN for site in sites):
        raise SiteError("attention probabilities are read with auditkit.engine.attention.probabilities")
    named = [{}] * len(prompts) if spans is None else list(spans)
    where = [
        [located(adapter, site, len(p), own) for p, own in zip(prompts, named, strict=True)] for site in sites
    ]
    layers = [list(layers_of(adapter, site)) for site in sites]
    places = {(site.component, layer) for site, some in zip(sites, layers, strict=True) for layer in some}
    donated = donate(adapter, [], TOKEN_BUDGET, dict.fromkeys(prompts, places))

    def one(site: Site, layer: int, prompt: Prompt, span: Span) -> Tensor:
        value = donated.activations[prompt, (site.component, layer)][span[0] : span[1]]
        return value if site.heads is None else value[:, list(site.heads)]

    values = tuple(
        tuple(
            torch.stack([one(site, layer, prompt, span) for layer in some])
            for prompt, span in zip(prompts, found, strict=True)
        )
        for site, some, found in zip(sites, layers, where, strict=True)
    )
    return Activations(adapter.info.name, tuple(sites), values)
