"""Whether persona and task add up in the residual stream (Xu 2026, arXiv:2605.23147)."""

import pytest

from auditkit import Choice, alternatives, beside, control, figure, present, sensitivity
from auditkit.findings.persona_composition.measurements.geometry import APART, NULL_APART, OTHER, SUM, TASK
from auditkit.findings.persona_composition.measurements.patches import ADDITIVE, EVERY, FILLER, REFERENCES

DEPTH = 0.40
"""Of the claims about directions: the paper's second layer, at which all three of its models add up."""
OTHER_DEPTHS = Choice("depth", "depth 0.40", {"depth 0.25": {"depth": 0.25}, "depth 0.55": {"depth": 0.55}})
SITES = ("p_last", "g1", "g2")
NEXT_LAYER = Choice(
    "layer", "the first one at which the site matters", {"the next measured layer": {"later": True}}
)
NEAR = 0.10
"""Nats over ten tokens below which the paper calls a run near-clean."""
TWICE = 2.0
BASELINES_STATE = "the clean state from the baseline's"
FURTHER = "the baseline's state in the same place takes the run further away"


@pytest.mark.causal(edits=False)
def test_the_sum_points_to_its_own_cell(geometry, threshold):
    """At depth 0.40, the change of activations that persona and task cause together has a higher cosine with the sum of
    their separate changes than with a sum that takes another persona's or another task's change. That cosine is also at
    least 0.05 higher than the cosine with the task's change alone."""
    present(geometry.at(DEPTH))
    by = threshold(0.05, "protocol W3.c: more than a cosine of 0.05 above the task's direction alone")

    def compare(depth=DEPTH, sites=SITES):
        others = [geometry.compare(site, depth, SUM, other) for site in sites for other in OTHER.values()]
        alone = [geometry.compare(site, depth, SUM, TASK) for site in sites]
        for estimate in (*others, *alone):
            beside(estimate.name, estimate)
        for estimate in others:
            assert estimate > 0
        for estimate in alone:
            assert estimate >= by

    alternatives(compare, OTHER_DEPTHS, _one_by_one(SITES))
    compare()


@pytest.mark.causal(edits=False)
def test_persona_and_task_point_apart(geometry, threshold):
    """At depth 0.40, the changes of activations that the persona and the task cause have a cosine below 0.5.
    Independent states would have a cosine of 0.5, because both changes are differences from the same baseline."""
    null = threshold(NULL_APART, "four independent states of equal variance with one of them shared")
    for site in SITES:
        beside(f"{site}, without a baseline in common", geometry.level(site, DEPTH, "independent baselines"))

    def compare(depth=DEPTH, sites=SITES):
        for site in sites:
            assert geometry.level(site, depth, APART) < null

    alternatives(compare, OTHER_DEPTHS, _one_by_one(SITES))
    compare()


@pytest.mark.causal
def test_a_state_in_its_own_place_changes_nothing(patches):
    """Patching a state with its own value changes no cell's run at any site or layer: the KL divergence is at most
    0.0001 nats over ten tokens."""
    with control("in the last measured layer the baseline's state changes it, at the prompt's last token"):
        assert patches.typical("p_last", patches.layers[-1], "BB") >= 0.05
    assert patches.plumbing() >= 1.0


@pytest.mark.causal(control=FURTHER)
def test_the_additive_prediction_is_near_clean_at_the_prompts_end(patches, threshold):
    """Patching the prompt's last token with the additive prediction keeps the KL divergence from the clean run at or
    below 0.10 nats over ten tokens, in the geometric mean over cells. The prediction is the state of the persona alone,
    plus that of the task alone, minus the baseline's. The layer is the first one, up to depth 0.55, at which patching
    this token changes the output."""
    present(patches)
    _near_clean(patches, SITES[:1], threshold)


@pytest.mark.causal(control=FURTHER)
def test_the_additive_prediction_is_near_clean_in_the_answer(patches, threshold):
    """Patching the answer's first or second token with the additive prediction keeps the KL divergence from the clean
    run at or below 0.10 nats over ten tokens, in the geometric mean over cells. The prediction is the state of the
    persona alone, plus that of the task alone, minus the baseline's. The layer is the first one, up to depth 0.55, at
    which patching this token changes the output."""
    _near_clean(patches, SITES[1:], threshold)


@pytest.mark.causal(control=FURTHER)
def test_other_baselines_add_up_as_well(patches, threshold):
    """With other baselines too, the additive prediction keeps the KL divergence from the clean run at or below 0.10
    nats over ten tokens, in the geometric mean over cells. They are the average of five other neutral personas, and a
    neutral filler as long as the persona. The prediction is patched in at the prompt's last token and at the answer's
    first two."""
    near = threshold(NEAR, "as for the first baseline")
    layers = patches.sites_that_matter(SITES)
    present(patches.baselines(layers))
    _controlled(patches, layers)
    estimates = [
        patches.typical_with(*where, baseline) for where in layers.items() for baseline in (EVERY, FILLER)
    ]
    for estimate in estimates:
        beside(estimate.name, estimate)
    with sensitivity(BASELINES_STATE, _baselines_state(patches, layers), by=near):
        for estimate in estimates:
            assert estimate <= near


@pytest.mark.causal(control=FURTHER)
def test_the_additive_prediction_beats_other_states_at_the_prompts_end(patches, threshold):
    """At the first layer where patching the prompt's last token changes the output, five other states are patched in
    too. Each raises the KL divergence from the clean run at least twice as much as the additive prediction does, in the
    geometric mean over cells. The five are the states of the baseline, of the task alone and of the persona alone, and
    the sums with another persona and with another task."""
    _better(patches, SITES[:1], REFERENCES[:-1], threshold)


@pytest.mark.causal(control=FURTHER)
def test_the_additive_prediction_beats_other_states_in_the_answer(patches, threshold):
    """At the first layer where patching the answer's first or second token changes the output, five other states are
    patched in too. Each raises the KL divergence from the clean run at least twice as much as the additive prediction
    does, in the geometric mean over cells. The five are the states of the baseline, of the task alone and of the
    persona alone, and the sums with another persona and with another task."""
    _better(patches, SITES[1:], REFERENCES[:-1], threshold)


@pytest.mark.causal(control=FURTHER)
def test_what_does_not_add_up_is_less_than_noise(patches, threshold):
    """At the first layer where patching changes the output, a random vector of the same norm as the interaction term is
    added. It raises the KL divergence at least twice as much as the additive prediction does."""
    _better(patches, SITES, REFERENCES[-1:], threshold)


@pytest.mark.causal
def test_additivity_degrades_with_depth(patches, threshold):
    """The additive prediction is patched in at the prompt's last token. The KL divergence that it causes rises with the
    layer. Their rank correlation is at least 0.8, averaged over cells."""
    beside("the same for BB", patches.rises(what="BB"))
    with control("a state in its own place changes nothing at any layer"):
        assert patches.plumbing() >= 1.0
    assert patches.rises() >= threshold(0.8, "protocol W3.d")


def _near_clean(patches, sites, threshold):
    near = threshold(NEAR, "the paper's reference line for a run that is nearly clean")
    layers = patches.sites_that_matter(sites)
    for site, layer in layers.items():
        beside(f"{site}: share of the cells within 0.10 nats", patches.near(site, layer))
        beside(f"{site}: divergence", patches.typical(site, layer))

    def compare(sites=sites, later=False, mean=False):
        layers = patches.sites_that_matter(sites)
        layers = patches.behind(layers) if later else layers
        _controlled(patches, layers)
        with sensitivity(BASELINES_STATE, _baselines_state(patches, layers), by=near):
            for site, layer in layers.items():
                cost = patches.level(site, ADDITIVE, layer) if mean else patches.typical(site, layer)
                assert cost <= near

    averaged = Choice("average over cells", "the geometric mean", {"the arithmetic mean": {"mean": True}})
    alternatives(compare, NEXT_LAYER, averaged, *([_one_by_one(sites)] if len(sites) > 1 else []))
    compare()


def _one_by_one(sites):
    """Each site alone in the place of all of them."""
    return Choice("position", " and ".join(sites), {f"{site} alone": {"sites": [site]} for site in sites})


def _baselines_state(patches, layers):
    """KL divergence that the baseline's state in the place of the clean one causes at each site, in nats."""
    return [patches.typical(site, layer, "BB") for site, layer in layers.items()]


def _better(patches, sites, references, threshold):
    twice = threshold(TWICE, "protocol W3.b: at least half of the reference's divergence goes away")
    layers = patches.sites_that_matter(sites)
    if len(references) > 1:
        figure(*patches.references(layers))

    def compare(sites=sites):
        layers = patches.sites_that_matter(sites)
        _controlled(patches, layers)
        estimates = [patches.costlier(*where, reference) for where in layers.items() for reference in references]
        for estimate in estimates:
            beside(estimate.name, estimate)
        for estimate in estimates:
            assert estimate >= twice

    if len(sites) > 1:
        alternatives(compare, _one_by_one(sites))
    compare()


def _controlled(patches, layers):
    for site, layer in layers.items():
        with control(f"{site}: {FURTHER}"):
            assert patches.typical(site, layer, "BB") > patches.typical(site, layer)
