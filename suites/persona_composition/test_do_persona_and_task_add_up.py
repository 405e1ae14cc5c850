"""Do persona and task add up in the residual stream? (Xu 2026, arXiv:2605.23147, sections on additivity)"""

import pytest

from auditkit import control, shown
from auditkit.analyses.composition_geometry import APART, NULL_APART, OTHER, SUM, TASK
from auditkit.analyses.composition_patches import EVERY, FILLER, REFERENCES

DEPTH = 0.40
"""Of the claims about directions: the paper's second layer, at which all three of its models add up."""
SITES = ("p_last", "g1", "g2")
NEAR = -1.0
"""Logarithm of 0.10 nats over ten tokens."""


@pytest.mark.causal(edits=False)
def test_the_sum_points_to_its_own_cell(geometry, threshold):
    """At depth 0.40 the sum of the persona's and the task's difference points more to the cell's own difference than
    the sum with another persona or another task does, and more, by at least 0.05, than the task's alone."""
    geometry.cells.tell()
    geometry.show(DEPTH)
    by = threshold(0.05, "protocol W3.c: more than a cosine of 0.05 above the task's direction alone")
    for site in SITES:
        for other in OTHER.values():
            assert geometry.compare(site, DEPTH, SUM, other) > 0
        assert geometry.compare(site, DEPTH, SUM, TASK) >= by


@pytest.mark.causal(edits=False)
def test_persona_and_task_point_apart(geometry, threshold):
    """At depth 0.40 the persona's and the task's difference have a smaller cosine than the baseline that they share
    gives to independent states (0.5)."""
    null = threshold(NULL_APART, "four independent states of equal variance with one of them shared")
    for site in SITES:
        shown(f"{site}, without a baseline in common", geometry.level(site, DEPTH, "independent baselines"))
        assert geometry.level(site, DEPTH, APART) < null


@pytest.mark.causal
def test_a_state_in_its_own_place_changes_nothing(patches):
    """Given its own state back, the run of every cell stays the same at every site and layer (KL of at most 0.0001
    nats over ten tokens)."""
    with control("in the last measured layer the baseline's state changes it, at the prompt's last token"):
        assert patches.level("p_last", "BB", patches.layers[-1]) >= 0.05
    assert patches.plumbing() >= 1.0


@pytest.mark.causal
def test_the_additive_prediction_is_near_clean(patches, threshold):
    """Where a site begins to matter (by depth 0.55), the additive prediction in the place of the state leaves the run
    within 0.10 nats of the clean one over ten tokens, in the geometric mean over cells."""
    patches.cells.tell()
    patches.show()
    near = threshold(NEAR, "the logarithm of the 0.10 nats that the paper's medians stay below")
    layers = patches.sites_that_matter()
    for site, layer in layers.items():
        shown(f"{site}: share of the cells within 0.10 nats", patches.near(site, layer))
        with control(f"{site}: the baseline's state takes it further away"):
            assert patches.typical(site, layer, "BB") > patches.typical(site, layer)
    for site, layer in layers.items():
        assert patches.typical(site, layer) <= near


@pytest.mark.causal
def test_other_baselines_add_up_as_well(patches, threshold):
    """The same holds on average over five other neutral personas as the baseline, and for a filler that says nothing
    and is as long as the persona."""
    layers = patches.sites_that_matter()
    patches.show_baselines(layers)
    near = threshold(NEAR, "as for the first baseline")
    for site, layer in layers.items():
        with control(f"{site}: the baseline's state takes it further away"):
            assert patches.typical(site, layer, "BB") > patches.typical(site, layer)
    for site, layer in layers.items():
        assert patches.typical_with(site, layer, EVERY) <= near
        assert patches.typical_with(site, layer, FILLER) <= near


@pytest.mark.causal(control="other states at the same site")
def test_the_additive_prediction_beats_other_states(patches, threshold):
    """Where a site begins to matter, the additive prediction takes away at least half of the divergence that each of
    these makes there: BB, BY, XB, the sum with another persona, the sum with another task."""
    layers = patches.sites_that_matter()
    patches.show_references(layers)
    half = threshold(0.5, "protocol W3.b")
    for site, layer in layers.items():
        with control(f"{site}: BB costs at least 0.05 nats"):
            assert patches.level(site, "BB", layer) >= 0.05
    for site, layer in layers.items():
        for reference in REFERENCES[:-1]:
            assert patches.explained(site, layer, reference) >= half


@pytest.mark.causal(control="BB at the same site")
def test_what_does_not_add_up_is_less_than_noise(patches, threshold):
    """Where a site begins to matter, what does not add up costs at most half of what a random vector of the same length
    costs there."""
    layers = patches.sites_that_matter()
    half = threshold(0.5, "protocol W3.b")
    for site, layer in layers.items():
        with control(f"{site}: BB costs at least 0.05 nats"):
            assert patches.level(site, "BB", layer) >= 0.05
    for site, layer in layers.items():
        assert patches.explained(site, layer, "random") >= half


@pytest.mark.causal(control="a state in its own place")
def test_additivity_degrades_with_depth(patches, threshold):
    """At the prompt's last token the divergence of the additive prediction rises from layer to layer, with a rank
    correlation of at least 0.8 in the mean over cells."""
    shown("the same for BB", patches.rises(what="BB"))
    with control("a state in its own place changes nothing at any layer"):
        assert patches.plumbing() >= 1.0
    assert patches.rises() >= threshold(0.8, "protocol W3.d")
