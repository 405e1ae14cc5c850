"""Sites: places in the network, written the way a paper says them.

    mlp.at_depth(0.06, 0.19)          the MLPs in a band of relative depth
    mlp.layer(0)["identity"]          the first MLP, at the identity word only
    residual.layers(3, 5)[-1]         three block outputs at the last token
    head(5, 8)                        head 8 of layer 5: what it attended to, before the output projection
    k.layer(5).head(2)["identity"]    the keys of group 2 of layer 5 at the identity word

A site is independent of any model until it is resolved against a number of layers and a prompt's spans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import NoReturn

from auditkit.adapters.protocol import Component, Shape
from auditkit.engine import arguments

Position = str | int | tuple[int, int]
"""A named span ("identity", "last", "all"), an index (negative from the end), or a half-open span."""

Span = tuple[int, int]


class SiteError(ValueError):
    """A site that this model or prompt does not have; the message names site, what was asked, what is allowed."""


@dataclass(frozen=True)
class Site:
    """A component at some layers and positions.

    Attributes:
        component: what is touched.
        first, last: inclusive layer indices (0-based), where chosen by index.
        depth: (low, high) fractions of the depth, where chosen so.
        position: where in the prompt; "all" unless narrowed with `site[...]`. Of attention probabilities it is
            the query.
        heads: which heads, or groups of heads for keys and values; None is all of them.

    Raises:
        SiteError: a depth that is no range within [0, 1], heads of a component that has none, or no head, a negative or
            a repeated one.
        TypeError: an argument of another kind; or where a site is iterated, or searched with `in`: `site[...]` narrows
            a site to positions, so that it is no list of anything.
    """

    component: Component
    first: int | None = None
    last: int | None = None
    depth: tuple[float, float] | None = None
    position: Position = "all"
    heads: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        arguments.one("component", self.component, Component, "a Component, such as Component.MLP")
        for layer in (self.first, self.last):
            arguments.one("a site's layer", layer, (Integral, type(None)), "a layer counted from 0")
        arguments.position("a site's position", self.position)
        arguments.indices("a site's heads", self.heads, "heads")
        if self.depth is not None and not 0 <= self.depth[0] <= self.depth[1] <= 1:
            low, high = self.depth
            raise SiteError(f"depth {low:g} to {high:g}: give fractions with 0 <= low <= high <= 1")
        if self.heads is None:
            return
        if self.component.shape is Shape.STREAM:
            raise SiteError(f"{replace(self, heads=None)} has no heads; use z, q, k, v or pattern")
        if not self.heads or min(self.heads) < 0 or len(set(self.heads)) < len(self.heads):
            raise SiteError(
                f"{replace(self, heads=None)}: heads {self.heads} asked for, give different indices from 0 on"
            )

    def __getitem__(self, position: Position) -> Site:
        """The same site at some positions only: `site["identity"]`, `site[-1]`, `site[2, 5]`.

        Raises:
            TypeError: no name, index or half-open span.
        """
        return replace(self, position=position)

    def __iter__(self) -> NoReturn:
        # Without this, Python would iterate by `site[0]`, `site[1]`, ..., each of which is a site: for ever.
        raise TypeError(f"the site '{self}' is no list of sites; where a list is meant, write [site]")

    def __contains__(self, _: object) -> NoReturn:
        raise TypeError(
            f"nothing is in the site '{self}'; compare sites with ==, or ask `site.layer_indices(layers)`"
        )

    def head(self, *indices: int) -> Site:
        """The same site at some heads only (0-based); for keys and values these are groups of heads.

        Raises:
            SiteError: a component that has no heads, no index, a negative or a repeated one.
        """
        arguments.indices("heads", indices, "heads")
        return replace(self, heads=tuple(sorted(indices)))

    def head_indices(self, heads: int, groups: int) -> tuple[int, ...]:
        """The heads this site covers in a model of `heads` heads in `groups` groups; empty where it has no heads.

        Raises:
            SiteError: out of range.
        """
        if self.component.shape is Shape.STREAM:
            return ()
        shared = self.component.shape is Shape.GROUPS
        size = groups if shared else heads
        if self.heads is None:
            return tuple(range(size))
        if max(self.heads) >= size:
            what = f"{size} groups of heads that share keys and values (0 to {size - 1})"
            raise SiteError(f"{self}: this model has {what if shared else f'heads 0 to {size - 1}'}")
        return self.heads

    def layer_indices(self, layers: int) -> range:
        """The layers this site covers in a model of `layers` blocks.

        A fraction f of the depth is the layer nearest to f x layers, so [0.06, 0.19] of 16 layers is 1 to 3 and
        of 30 layers is 2 to 6.

        Raises:
            SiteError: out of range.
        """
        if self.depth is not None:
            low, high = (min(math.floor(fraction * layers + 0.5), layers - 1) for fraction in self.depth)
            return range(low, high + 1)
        first = 0 if self.first is None else self.first
        last = layers - 1 if self.last is None else self.last
        if not 0 <= first <= last < layers:
            raise SiteError(f"{self}: layers {first} to {last} asked for, this model has layers 0 to {layers - 1}")
        return range(first, last + 1)

    def span(self, length: int, spans: Mapping[str, Span]) -> Span:
        """Half-open token span in a prompt of `length` tokens with named `spans`.

        Raises:
            SiteError: an unknown name, an index out of range, an empty span.
        """
        if isinstance(self.position, str):
            known = {"all": (0, length), "last": (length - 1, length), **spans}
            if self.position not in known:
                raise SiteError(
                    f"{self}: no span named '{self.position}'; this prompt has {', '.join(sorted(known))}"
                )
            start, stop = known[self.position]
        elif isinstance(self.position, tuple):
            start, stop = self.position
        else:
            start = self.position + length if self.position < 0 else self.position
            stop = start + 1
        if not 0 <= start < stop <= length:
            raise SiteError(
                f"{self}: positions {start} to {stop - 1} asked for, this prompt has positions 0 to {length - 1}"
            )
        return start, stop

    def __str__(self) -> str:
        if self.component is Component.EMBEDDINGS:
            where = ""
        elif self.depth is not None:
            where = f" at depth {self.depth[0]:g}-{self.depth[1]:g}"
        elif self.first is None and self.last is None:
            where = " of every layer"
        elif self.first == self.last:
            where = f" of layer {self.first}"
        else:
            where = f" of layers {self.first}-{self.last}"
        at = "" if self.position == "all" else f" at {self._position_words()}"
        return f"{_NAMES[self.component]}{self._head_words()}{where}{at}"

    def _head_words(self) -> str:
        if self.heads is None:
            return ""
        what = "group" if self.component.shape is Shape.GROUPS else "head"
        return f" of {what}{'s' * (len(self.heads) > 1)} {', '.join(map(str, self.heads))}"

    def _position_words(self) -> str:
        if isinstance(self.position, str):
            return "the last token" if self.position == "last" else f"the {self.position} span"
        if isinstance(self.position, tuple):
            return "positions {}-{}".format(*self.position)
        return f"position {self.position}"


@dataclass(frozen=True)
class _Family:
    """Sites of one component; the module's constants are what suites use."""

    component: Component

    def __str__(self) -> str:
        return f"'{self.component}'"

    def layer(self, index: int) -> Site:
        """One layer (0-based)."""
        return self.layers(index, index)

    def layers(self, first: int, last: int) -> Site:
        """Layers `first` to `last`, both included (0-based).

        Raises:
            SiteError: for an empty or negative range.
        """
        for layer in (first, last):
            arguments.one(f"a layer of {self}", layer, Integral, "a layer counted from 0")
        if not 0 <= first <= last:
            raise SiteError(f"layers {first} to {last}: give 0 <= first <= last")
        return Site(self.component, first, last)

    def at_depth(self, low: float, high: float) -> Site:
        """Layers whose relative depth lies in [low, high], 0 the first block and 1 the last.

        Raises:
            SiteError: unless 0 <= low <= high <= 1.
        """
        for depth in (low, high):
            arguments.one(f"a depth of {self}", depth, Real, "a fraction of the depth, from 0 to 1")
        return Site(self.component, depth=(low, high))

    def everywhere(self) -> Site:
        """Every layer."""
        return Site(self.component)


_NAMES = {
    Component.EMBEDDINGS: "embeddings",
    Component.BLOCK_INPUT: "block input",
    Component.MIDDLE: "middle of the residual stream",
    Component.RESIDUAL: "residual stream",
    Component.ATTENTION: "attention",
    Component.MLP: "MLP",
    Component.Z: "attended values",
    Component.Q: "queries",
    Component.K: "keys",
    Component.V: "values",
    Component.PATTERN: "attention probabilities",
}

embeddings = Site(Component.EMBEDDINGS, 0, 0)
block_input = _Family(Component.BLOCK_INPUT)
middle = _Family(Component.MIDDLE)
residual = _Family(Component.RESIDUAL)
attention = _Family(Component.ATTENTION)
mlp = _Family(Component.MLP)
z = _Family(Component.Z)
q = _Family(Component.Q)
k = _Family(Component.K)
v = _Family(Component.V)
pattern = _Family(Component.PATTERN)


def head(layer: int, index: int) -> Site:
    """What one head has attended to, before the output projection (0-based layer and head).

    Raises:
        SiteError: a negative index.
    """
    return z.layer(layer).head(index)
