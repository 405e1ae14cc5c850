"""What is not there is refused by every public function, in one line, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component, Support
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine.attention import entropies
from auditkit.engine.continuation.divergence import divergence
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.timed import Continued, Timed
from auditkit.engine.continuation.transplant import PrefixGraft, SpanGraft, answers, spans
from auditkit.engine.edits import Edit, Edited, add, replace, scale
from auditkit.engine.forward import capture, means
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.paths import path
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.screening import attribution, screen
from auditkit.engine.patching.sweep import sweep
from auditkit.engine.sites import Site, SiteError, attention, embeddings, k, mlp, pattern, q, residual, v, z
from auditkit.engine.sites import head as head_of

pytestmark = pytest.mark.unit

Run = Callable[[HFAdapter, PatchPair, Edit], Any]


def within(edit: Edit, pair: PatchPair) -> Continued:
    return Continued(pair.base, (edit,), pair.spans)


EDITED: dict[str, Run] = {
    "patch": lambda adapter, pair, edit: patch(adapter, [pair], {"bad": [[edit]]}),
    "patch, in a donor": lambda adapter, pair, edit: patch(
        adapter, [pair], {"bad": [[replace(residual.layer(3), Edited(pair.base, (edit,), pair.spans))]]}
    ),
    "generate": lambda adapter, pair, edit: generate(adapter, [within(edit, pair)], 2),
    "divergence": lambda adapter, pair, edit: divergence(
        adapter, [pair.base], [(5, 6)], {"bad": [within(edit, pair)]}
    ),
    "divergence, in the reference": lambda adapter, pair, edit: divergence(
        adapter, [within(edit, pair)], [(5, 6)], {"plain": [pair.base]}
    ),
}
"""Runs with one edit."""

SITED: dict[str, Callable[[HFAdapter, PatchPair, Site], Any]] = {
    **{
        name: lambda adapter, pair, site, run=run: run(adapter, pair, scale(site, 0.5))
        for name, run in EDITED.items()
    },
    "sweep": lambda adapter, pair, site: sweep(adapter, [pair], [site]),
    "attribution": lambda adapter, pair, site: attribution(adapter, [pair], [mlp.layer(0), site]),
    "screen": lambda adapter, pair, site: screen(
        adapter, [pair], [mlp.layer(0), site], top=1, sample=1, generator=np.random.default_rng(0)
    ),
    "path, sender": lambda adapter, pair, site: path(adapter, [pair], [site]),
    "path, frozen": lambda adapter, pair, site: path(adapter, [pair], [mlp.layer(0)], frozen=[site]),
    "path, receiver": lambda adapter, pair, site: path(adapter, [pair], [mlp.layer(0)], receivers=[site]),
}
"""Runs at one site."""

SITES = {
    "layer": (mlp.layer(6), "MLP of layer 6: layers 6 to 6 asked for, this model has layers 0 to 5"),
    "layers": (q.layers(4, 9), "queries of layers 4-9: layers 4 to 9 asked for, this model has layers 0 to 5"),
    "embeddings": (Site(Component.EMBEDDINGS, 1, 1), "embeddings: layers 1 to 1 asked for"),
    "head": (head_of(5, 4), "attended values of head 4 of layer 5: this model has heads 0 to 3"),
    "group": (
        k.layer(1).head(2),
        r"keys of group 2 of layer 1: this model has 2 groups of heads that share keys and values \(0 to 1\)",
    ),
    "position": (
        attention.layer(1)[9],
        "attention of layer 1 at position 9: positions 9 to 9 asked for, this prompt has positions 0 to 8",
    ),
    "negative position": (mlp.layer(1)[-10], "MLP of layer 1 at position -10: .* has positions 0 to 8"),
    "empty span": (mlp.layer(1)["none"], "MLP of layer 1 at the none span: .* has positions 0 to 8"),
    "span beyond": (mlp.layer(1)[7, 10], "positions 7 to 9 asked for, this prompt has positions 0 to 8"),
    "name": (mlp.layer(1)["who"], "no span named 'who'; this prompt has all, last, none, word"),
}

SHAPES = {
    "stream": (mlp.layer(1)[0, 3], (31,), r"\(32,\) or \(3, 32\)"),
    "positions": (residual.layer(1)[0, 3], (2, 32), r"\(32,\) or \(3, 32\)"),
    "scalar": (residual.layer(1), (), r"\(32,\) or \(9, 32\)"),
    "embeddings": (embeddings, (8,), r"\(32,\) or \(9, 32\)"),
    "queries": (q.layers(1, 2)[0, 3], (9,), r"\(8,\), \(4, 8\) or \(3, 4, 8\)"),
    "one for all": (q.layer(1), (1,), r"\(8,\), \(4, 8\) or \(9, 4, 8\)"),
    "keys": (k.layer(1), (4, 8), r"\(8,\), \(2, 8\) or \(9, 2, 8\)"),
    "values": (v.layer(1).head(1), (2, 8), r"\(8,\), \(1, 8\) or \(9, 1, 8\)"),
    "heads": (z.layer(1).head(0, 2), (4, 8), r"\(8,\), \(2, 8\) or \(9, 2, 8\)"),
    "axes": (z.layer(1), (1, 9, 4, 8), r"\(8,\), \(4, 8\) or \(9, 4, 8\)"),
    "pattern": (pattern.layer(1).head(0)[0, 3], (3, 1, 8), r"\(9,\), \(1, 9\) or \(3, 1, 9\)"),
    "weight": (pattern.layer(1)[0, 3], (4, 1), r"\(9,\), \(4, 9\) or \(3, 4, 9\)"),
}


@pytest.fixture
def pair(pairs: Sequence[PatchPair]) -> PatchPair:
    return PatchPair(pairs[0].base, pairs[0].source, (11, 12), {"word": (3, 4), "none": (4, 4)})


@pytest.fixture
def refuses(tiny: HFAdapter) -> Callable[..., None]:
    """The call raises one line that matches, and the model has not run."""

    def check(call: Callable[[], Any], message: str, error: type[Exception] = SiteError) -> None:
        before = tiny.meter.runs
        with pytest.raises(error, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
        assert tiny.meter.runs == before

    return check


@pytest.mark.parametrize("bad", SITES)
@pytest.mark.parametrize("name", SITED)
def test_a_site_that_is_not_there(tiny, pair, refuses, name: str, bad: str) -> None:
    site, message = SITES[bad]
    refuses(lambda: SITED[name](tiny, pair, site), message)


@pytest.mark.parametrize("name", SITED)
def test_a_component_that_the_family_lacks(tiny, pair, refuses, monkeypatch, name: str) -> None:
    support = {**tiny.support(), Component.ATTENTION: Support(False, "it has none")}
    monkeypatch.setattr(tiny, "support", lambda: support)
    message = "attention of layer 1 cannot be touched on this model: it has none"
    refuses(lambda: SITED[name](tiny, pair, attention.layer(1)), message, NotApplicable)


@pytest.mark.parametrize("bad", SHAPES)
@pytest.mark.parametrize("name", EDITED)
def test_a_tensor_of_the_wrong_shape(tiny, pair, refuses, name: str, bad: str) -> None:
    site, shape, allowed = SHAPES[bad]
    given = f"layer {site.first}.* a tensor of shape .* was given; give {allowed}$"
    message = given if site.component is not Component.EMBEDDINGS else given.replace("layer 0.*", "embeddings:")
    refuses(lambda: EDITED[name](tiny, pair, replace(site, torch.zeros(shape))), message)


@pytest.mark.parametrize("site", [mlp.layer(1), q.layer(1), v.layer(1).head(1)], ids=str)
def test_a_tensor_of_the_wrong_shape_at_generated_tokens(tiny, pair, refuses, site: Site) -> None:
    edit = Timed(add(site, torch.zeros(9)), "generated")
    refuses(lambda: generate(tiny, [Continued(pair.base, (edit,))], 2), r"shape \(9,\) was given; give ")


@pytest.mark.parametrize("name", EDITED)
def test_a_donor_of_another_length(tiny, pair, refuses, name: str) -> None:
    edit = replace(mlp.layer(1), Prompt("", (5, 6)))
    message = "MLP of layer 1: the donor has 2 tokens and the prompt 9; give equal lengths"
    refuses(lambda: EDITED[name](tiny, pair, edit), message)


@pytest.mark.parametrize(
    "shape", [(8,), (1, 8), (4, 8), (1, 1, 8), (9, 1, 8), (1, 4, 8), (9, 4, 8)], ids=lambda shape: str(shape)
)
def test_leading_axes_may_be_one_or_left_out(tiny, pair, shape: tuple[int, ...]) -> None:
    """What is allowed means what broadcasting means."""
    values = torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)

    def logits(give: Tensor) -> Tensor:
        return patch(tiny, [pair], {"given": [[replace(z.layer(1), give)]]}).conditions["given"]

    torch.testing.assert_close(logits(values), logits(values.expand(9, 4, 8)), rtol=0, atol=0)


@pytest.mark.parametrize("bad", ["layer", "position", "negative position", "span beyond"])
def test_means_and_captures(tiny, pair, refuses, bad: str) -> None:
    site, message = SITES[bad]
    refuses(lambda: means(tiny, [pair.base], site, 100), message)
    batch = tiny.batch([pair.base])
    refuses(
        lambda: capture(tiny, batch, [(Component.Z, 6)]), "z of layer 6: this model has layers 0 to 5", ValueError
    )


def test_transplants(tiny, pair, refuses) -> None:
    graft = SpanGraft(pair.base, pair.source, ((1, 2),), (4, 6))
    message = "keys and values: layers 4 to 6 asked for, this model has layers 0 to 5"
    refuses(lambda: spans(tiny, [graft], [(5,)]), message)
    refuses(lambda: SpanGraft(pair.base, pair.source, ((3, 3),)), "span 3 to 2 of a prompt with positions 0 to 8")
    refuses(
        lambda: SpanGraft(pair.base, Prompt("", (5,)), ((1, 2),)), "equal length for a span, got 9 and 1 tokens"
    )
    refuses(lambda: PrefixGraft(pair.base, 9, pair.source, 1), "a prefix of 9 of the host's 9 tokens")
    run = spans(tiny, [SpanGraft(pair.base, pair.source, ((1, 2),))], [(5,)])
    refuses(lambda: answers(tiny, run, [(1, 2), (3, 4)]), "1 runs need one pair of answers each, got 2")


def test_attention(tiny, pair, refuses) -> None:
    for options, message in (
        ({"layers": [6]}, "attention probabilities of layer 6: .* this model has layers 0 to 5"),
        ({"heads": [4]}, "attention probabilities of head 4 .* this model has heads 0 to 3"),
        ({"heads": []}, r"heads \(\) asked for, give different indices from 0 on"),
        ({"queries": 9}, "at position 9: .* this prompt has positions 0 to 8"),
        ({"queries": (3, 3)}, "positions 3 to 2 asked for, this prompt has positions 0 to 8"),
    ):
        refuses(lambda options=options: entropies(tiny, [pair.base], **options), message)


def test_nothing_to_measure(tiny, pair, refuses) -> None:
    refuses(lambda: patch(tiny, [], {"none": []}), "patching needs pairs, .* got 0")
    two = torch.zeros(2, 2)
    refuses(lambda: patch(tiny, [pair], {}, base=two), "got 1 with the base logits of 2")
    refuses(lambda: attribution(tiny, [], [mlp.layer(0)]), "got 0 pairs and 1 sites")
    refuses(lambda: attribution(tiny, [pair], []), "got 1 pairs and 0 sites")
    refuses(lambda: divergence(tiny, [], [], {}), "no prompts to compare conditions over")
    refuses(lambda: PatchPair(pair.base, Prompt("", (5,)), (11, 12)), "equal length .* got 9 and 1 tokens")


def test_several_layers_are_refused_before_they_are_screened(tiny, pair, refuses) -> None:
    several = [mlp.layer(0), q.everywhere()]
    draw = np.random.default_rng(0)
    refuses(
        lambda: screen(tiny, [pair], several, top=1, sample=1, generator=draw),
        "queries of every layer: a sweep restores one layer at a time, this site has 6",
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Site(Component.MLP, depth=(0.9, 0.1)), "depth 0.9 to 0.1: give fractions"),
        (lambda: Site(Component.MLP, 1, 1, heads=(2,)), "MLP of layer 1 has no heads"),
        (lambda: Site(Component.Z, 1, 1, heads=()), r"attended values of layer 1: heads \(\) asked for"),
        (lambda: Site(Component.Z, 1, 1, heads=(9, 2)).head_indices(4, 2), "this model has heads 0 to 3"),
    ],
)
def test_a_site_that_cannot_be_is_not_made(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SiteError, match=message):
        make()
