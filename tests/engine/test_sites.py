"""The algebra of sites: what it says is what it covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.engine.sites import SiteError, attention, block_input, mlp, residual

pytestmark = pytest.mark.unit

fractions = st.floats(0, 1)
depths = st.integers(1, 200)
families = st.sampled_from([mlp, attention, residual, block_input])


@pytest.mark.parametrize(("layers", "band"), [(16, [1, 2, 3]), (30, [2, 3, 4, 5, 6]), (26, [2, 3, 4, 5])])
def test_the_early_band_of_the_paper(layers: int, band: list[int]) -> None:
    assert list(mlp.at_depth(0.06, 0.19).layer_indices(layers)) == band


@given(families, fractions, fractions, depths)
def test_a_depth_band_is_never_empty_and_never_leaves_the_network(family, a, b, layers) -> None:
    low, high = sorted((a, b))
    band = family.at_depth(low, high).layer_indices(layers)
    assert len(band) >= 1
    assert band[0] >= 0
    assert band[-1] <= layers - 1


@given(families, st.lists(fractions, min_size=4, max_size=4), depths)
def test_a_wider_band_contains_a_narrower_one(family, numbers, layers) -> None:
    a, b, c, d = sorted(numbers)
    assert set(family.at_depth(b, c).layer_indices(layers)) <= set(family.at_depth(a, d).layer_indices(layers))


@given(families, depths)
def test_everywhere_is_every_layer(family, layers) -> None:
    assert list(family.everywhere().layer_indices(layers)) == list(range(layers))


@given(families, st.integers(0, 50), st.integers(0, 50), st.integers(1, 40))
def test_layers_by_index_are_both_included_or_refused(family, first, last, layers) -> None:
    if first > last:
        with pytest.raises(SiteError, match="first <= last"):
            family.layers(first, last)
    elif last >= layers:
        with pytest.raises(SiteError, match=f"this model has layers 0 to {layers - 1}"):
            family.layers(first, last).layer_indices(layers)
    else:
        assert list(family.layers(first, last).layer_indices(layers)) == list(range(first, last + 1))


@given(st.integers(-60, 60), st.integers(1, 50))
def test_an_index_counts_from_either_end(index: int, length: int) -> None:
    site = mlp.layer(0)[index]
    if -length <= index < length:
        start, stop = site.span(length, {})
        assert (start, stop) == (index % length, index % length + 1)
    else:
        with pytest.raises(SiteError, match=f"positions 0 to {length - 1}"):
            site.span(length, {})


def test_named_spans() -> None:
    spans = {"identity": (3, 5)}
    assert mlp.layer(0)["identity"].span(9, spans) == (3, 5)
    assert mlp.layer(0)["last"].span(9, spans) == (8, 9)
    assert mlp.layer(0).span(9, spans) == (0, 9)
    with pytest.raises(SiteError, match="no span named 'idenity'; this prompt has all, identity, last"):
        mlp.layer(0)["idenity"].span(9, spans)


@pytest.mark.parametrize("band", [(-0.1, 0.5), (0.6, 0.5), (0.2, 1.1)])
def test_impossible_depths_are_refused(band: tuple[float, float]) -> None:
    with pytest.raises(SiteError, match="0 <= low <= high <= 1"):
        mlp.at_depth(*band)


def test_sites_read_aloud() -> None:
    assert str(mlp.at_depth(0.06, 0.19)) == "MLP at depth 0.06-0.19"
    assert str(mlp.layer(0)["identity"]) == "MLP of layer 0 at the identity span"
    assert str(residual.layers(3, 5)[-1]) == "residual stream of layers 3-5 at position -1"
    assert str(attention.everywhere()[2, 5]) == "attention of every layer at positions 2-5"


@given(families, depths)
def test_different_sites_have_different_names(family, layers) -> None:
    sites = [
        family.everywhere(),
        family.layer(0),
        family.layers(0, 1),
        family.layer(0)[0],
        family.layer(0)["last"],
    ]
    assert len({str(site) for site in sites}) == len(sites)
