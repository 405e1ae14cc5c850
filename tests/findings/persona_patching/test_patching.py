"""Known answers: a model in which one MLP reads the persona word and one head carries it to the last token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.engine.sites import attention, embeddings, head, mlp
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.persona_patching.measurements.layers import PersonaLayers
from auditkit.findings.persona_patching.measurements.patching import EARLY, MIDDLE, PersonaPatching
from auditkit.methods.patching import CORRUPT, Held
from tests.planted.circuits import Circuit, items, open_circuit

pytestmark = pytest.mark.unit


def _patching(adapter: HFAdapter, *, n_items: int = 8, n_pairs: int = 6, **settings: Any) -> PersonaPatching:
    questions = PersonaQuestions(adapter, items=items(), n_items=n_items, **settings)
    return PersonaPatching(questions, n_pairs=n_pairs, each=6, bands=(EARLY, MIDDLE))


@pytest.fixture(scope="module")
def patching(circuit: HFAdapter) -> PersonaPatching:
    return _patching(circuit)


@pytest.fixture(scope="module")
def layers(patching: PersonaPatching) -> PersonaLayers:
    return PersonaLayers(patching)


@pytest.fixture(scope="module")
def noisy() -> PersonaPatching:
    return _patching(open_circuit(Circuit(noise=0.3, seed=3)))


def _share(estimate: Any) -> float:
    return float(estimate.numerator.sum() / estimate.denominator.sum())


def test_the_planted_effect_is_measured(patching: PersonaPatching) -> None:
    total = patching.require_effect()
    effect = total.describe()
    assert total > 1.0
    assert effect.estimate < 2 * 1.4, "a valence of at most 1.4 on either side, at one logit each"
    assert effect.n == 48
    assert effect.clusters == 6


# -- single layers ---------------------------------------------------------------------------------------------


def test_sweeps_find_the_planted_mlp_and_attention_and_nothing_else(layers: PersonaLayers) -> None:
    for sweep in (layers.restoring, layers.noising):
        total = float(sweep.total().numerator.mean())
        for site in sweep.sites:
            expected = total if (site.component, site.first) in (("mlp", 1), ("attention", 3)) else 0.0
            if site.component == "attention" and site.position == "identity":
                expected = 0.0  # the head writes at the last token
            assert float(sweep.values(site).mean()) == pytest.approx(expected, abs=1e-5), site


def test_sweeps_find_the_circuit_wherever_it_is() -> None:
    other = open_circuit(Circuit(mlp_layer=2, head=(5, 1), seed=5))
    restoring = PersonaLayers(_patching(other)).restoring
    total = float(restoring.total().numerator.mean())
    whole = {
        (site.component, site.first): float(restoring.values(site).mean()) / total
        for site in restoring.sites
        if site.position == "all"
    }
    assert {place for place, share in whole.items() if share > 0.999} == {("mlp", 2), ("attention", 5)}
    assert max(share for place, share in whole.items() if place not in {("mlp", 2), ("attention", 5)}) < 1e-5


def test_with_noise_everywhere_the_planted_layers_still_stand_out(noisy: PersonaPatching) -> None:
    restoring = PersonaLayers(noisy).restoring
    total = float(restoring.total().numerator.mean())
    for site in restoring.sites:
        if site.position == "all":
            share = float(restoring.values(site).mean()) / total
            if (site.component, site.first) in (("mlp", 1), ("attention", 3)):
                assert share > 0.9
            else:
                assert abs(share) < 0.1


def test_only_the_planted_head_carries_it(patching: PersonaPatching) -> None:
    mine, neighbour, word = patching.recoveries(head(3, 2)["last"], head(3, 1), mlp.layer(1)["identity"])
    assert _share(mine) == pytest.approx(1.0, abs=1e-5)
    assert _share(neighbour) == pytest.approx(0.0, abs=1e-5)
    np.testing.assert_allclose(mine.numerator, word.numerator, atol=1e-5)


# -- bands, positions, paths, donors ---------------------------------------------------------------------------


def test_the_bands_that_hold_the_circuit_recover_the_effect_and_random_ones_do_not(noisy: PersonaPatching) -> None:
    for band in (EARLY, MIDDLE):
        recovered, elsewhere = noisy.recoveries(band, noisy.random_bands(band))
        assert recovered >= 0.8
        assert elsewhere <= 0.2
        assert recovered > elsewhere


def test_bands_are_measured_in_one_go(circuit: HFAdapter) -> None:
    def runs(*bands: Any) -> list[int]:
        patching, counts = _patching(circuit), []
        for band in bands:
            before = circuit.meter.runs
            patching.recoveries(band, patching.random_bands(band))
            counts.append(circuit.meter.runs - before)
        return counts

    first, second = runs(EARLY, MIDDLE)
    assert first > 0
    assert second == 0
    assert runs(MIDDLE, EARLY) == [first, 0]


def test_the_word_is_where_the_mlp_acts(noisy: PersonaPatching) -> None:
    layer = mlp.layer(1)
    word, everywhere, elsewhere = noisy.recoveries(layer["identity"], layer, layer["elsewhere"], share=0.5)
    assert word.equals(everywhere, within=0.05)
    assert elsewhere <= 0.05


def test_the_embedding_of_the_word_is_everything_and_that_of_another_nothing(patching: PersonaPatching) -> None:
    word, other = patching.recoveries(embeddings["identity"], embeddings["elsewhere"], share=0.5)
    assert _share(word) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(other.numerator, 0.0, atol=1e-6)


def test_the_path_goes_through_the_planted_attention() -> None:
    deep = _patching(open_circuit(Circuit(layers=10, mlp_layer=2, head=(6, 1), noise=0.3)))
    sender = EARLY["identity"]
    elsewhere = deep.random_bands(MIDDLE, after=EARLY)
    assert {site.first for site in elsewhere.drawn(10, 50, 0)} == {3, 4, 8}
    free, held, other = deep.recoveries(sender, Held(sender, MIDDLE), Held(sender, elsewhere), share=0.5)
    assert free >= 0.8
    assert held <= 0.1
    assert held < other


def test_a_network_too_shallow_for_another_band_is_not_applicable(patching: PersonaPatching) -> None:
    with pytest.raises(NotApplicable, match="hold no other band as wide"):
        patching.random_bands(mlp.layers(0, 3))
    with pytest.raises(NotApplicable, match="hold no other band as wide"):
        patching.random_bands(MIDDLE, after=EARLY)


def test_donors_without_the_valence_bring_nothing_back(patching: PersonaPatching) -> None:
    right, other_persona, other_question = patching.from_donors(EARLY, share=0.5)
    total = patching.on(0.5).total()
    np.testing.assert_allclose(right.numerator, total.numerator, atol=1e-5)
    assert len(right.numerator) == 24, "every item has both donors"
    assert right > other_persona
    assert abs(other_persona.numerator.mean() / total.numerator.mean()) < 0.6, (
        "another negative word: its valence differs by chance alone"
    )
    # The planted MLP acts at the word, before any question: there the other question gives what the right one does.
    np.testing.assert_allclose(other_question.numerator, right.numerator, atol=1e-5)


# -- figures ---------------------------------------------------------------------------------------------------


def test_the_heat_map_and_the_pairs_show_the_circuit(layers: PersonaLayers) -> None:
    pooled, by_pair = layers.by_layer().data, layers.by_pair().data
    values = dict(zip(pooled["rows"], pooled["values"], strict=True))
    assert [int(np.argmax(values[f"MLP {what}"])) for what in ("restored", "taken away", "restored at the word")] == [
        1, 1, 1,
    ]  # fmt: skip
    assert int(np.argmax(values["attention restored"])) == 3
    assert list(values) == [
        "MLP restored", "attention restored", "MLP restored at the word", "MLP taken away", "attention taken away",
    ]  # fmt: skip
    assert all(lower is None or lower <= upper for rows in zip(pooled["lower"], pooled["upper"], strict=True)
               for lower, upper in zip(*rows, strict=True))  # fmt: skip
    assert len(by_pair["rows"]) == 12
    assert {int(np.argmax(row)) for row in by_pair["values"]} == {1, 3}
    with gathering() as evidence:
        standing = layers.standing(EARLY)
    assert "hold 100% of the summed positive effect; by mean effect the band is number 1 of" in standing
    # Layers that add exactly nothing may be found above zero by the last digit of a logit, which all items share.
    sizes = [np.abs(estimate.numerator).max() for estimate in layers._alone(Component.MLP)]
    assert [size > 1e-6 for size in sizes] == [False, True, False, False, False, False]
    assert "MLP of layer 1" in standing.split("found above zero: ")[1]
    found = [cell.found for cell in evidence.grids[0].cells]
    assert found[1]
    assert all(size > 0 for size, cell in zip(sizes, found, strict=True) if cell)


def test_the_identity_curve_is_near_one_for_words_that_mean_nothing_too() -> None:
    # The effect of nonsense words is all noise: enough of them that its square is told apart from zero.
    layers = PersonaLayers(_patching(open_circuit(Circuit(noise=0.3, seed=5)), n_pairs=12))
    curve = layers.at_the_word()
    names = [series["name"] for series in curve.data["series"]]
    assert names == ["negative and clean words", "nonsense words", "synonyms"]
    assert len(curve.data["series"][0]["x"]) == 6
    assert layers.agreement("nonsense words") >= 0.8
    shares = curve.data["series"][0]["y"]
    below = next((n for n, share in enumerate(shares) if share is not None and share < 0.5), None)
    assert layers.leaving_the_word().startswith(
        "the share made at the persona word "
        + ("stays above one half in every layer" if below is None else f"falls below one half at layer {below}")
    )


def test_the_cumulative_curve_steps_up_at_the_planted_layers(layers: PersonaLayers) -> None:
    curve = layers.cumulated()
    total = curve.data["reference"]
    mlps, heads = (np.array(series["y"]) for series in curve.data["series"])
    np.testing.assert_allclose(mlps, [0, *[total] * 5], atol=1e-5)
    np.testing.assert_allclose(heads, [0, 0, 0, *[total] * 3], atol=1e-5)


def test_the_head_acts_directly_and_the_mlp_through_it(layers: PersonaLayers) -> None:
    curve = layers.direct()
    series = {each["name"]: np.array(each["y"]) for each in curve.data["series"]}
    total = float(layers.restoring.total().numerator.mean())
    assert series["attention, direct"][3] == pytest.approx(total, rel=0.02)
    assert series["attention, indirect"][3] == pytest.approx(0.0, abs=0.02 * total)
    assert series["mlp, direct"][1] == pytest.approx(0.0, abs=1e-5)
    assert series["mlp, indirect"][1] == pytest.approx(total, rel=1e-4)


# -- models that show nothing ----------------------------------------------------------------------------------


def test_without_the_circuit_nothing_is_patched_and_the_reason_says_so() -> None:
    adapter = open_circuit(Circuit(planted=False, noise=0.3, seed=4))
    patching = _patching(adapter)
    with gathering() as evidence, pytest.raises(NotApplicable, match="touches zero, so the model does not show"):
        patching.recovery(mlp.layer(1))
    assert [control.name for control in evidence.controls] == ["persona effect, clean minus corrupt"]
    before = adapter.meter.runs
    layers = PersonaLayers(patching)
    for figure in (layers.by_layer, layers.by_pair, layers.at_the_word, layers.cumulated, layers.direct):
        with pytest.raises(NotApplicable, match="does not show the behaviour"):
            figure()
    assert adapter.meter.runs == before


def test_a_model_with_the_opposite_effect_is_not_applicable() -> None:
    patching = _patching(open_circuit(Circuit(strength=-1.0)))
    with pytest.raises(NotApplicable, match="opposite sign"):
        patching.recovery(mlp.layer(1))


def test_a_model_at_chance_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match=r"in \d+ of 60 items; chance plus three standard errors is 0.69"):
        _patching(open_circuit(Circuit(knowledge=0.0)))


# -- items -----------------------------------------------------------------------------------------------------


def test_a_share_of_the_items_meets_every_pair_and_many_questions(patching: PersonaPatching) -> None:
    some = patching.items(0.25)
    clusters = some.measurement.clusters
    assert len(some.pairs) == 12
    assert clusters["pair"].nunique() == 6
    assert clusters["topic"].nunique() == 8
    for pair, item in zip(some.pairs, some.measurement.values.index, strict=True):
        assert pair == patching.arm.pairs[list(patching.arm.table["item"]).index(item)]
    least = patching.items(1e-9).measurement.clusters
    assert least.nunique().tolist() == [6, 6]


def test_a_question_is_asked_under_some_of_the_pairs(circuit: HFAdapter) -> None:
    patching = _patching(circuit, n_pairs=12)
    table = patching.arm.table
    assert len(table) == 8 * 6
    assert table["pair"].nunique() == 12
    assert set(table.groupby(table["item"].str.split("|").str[0])["pair"].nunique()) == {6}
    more = _patching(circuit, n_items=16, n_pairs=12).arm.table
    assert set(table["item"]) <= set(more["item"])
    assert PersonaPatching(patching.questions, n_pairs=12, each=2).items().pairs == patching.items().pairs[:16]


def test_the_same_seed_gives_the_same_numbers(circuit: HFAdapter) -> None:
    def numerators(seed: int) -> list[float]:
        patching = _patching(circuit, seed=seed)
        return [x for e in patching.recoveries(patching.random_bands(EARLY)) for x in e.numerator]

    assert numerators(3) == numerators(3)


def test_notes_say_how_prompts_were_made_and_what_the_model_knows(patching: PersonaPatching) -> None:
    with gathering() as evidence:
        patching.recovery(mlp.layer(1))
    assert "prompts: chat template" in evidence.notes
    assert any("right answer beats the wrong one in 60 of 60 items" in note for note in evidence.notes)


def test_more_items_than_there_are_measures_all_and_says_so(circuit: HFAdapter) -> None:
    patching = _patching(circuit, n_items=10_000, n_pairs=8)
    assert len(patching.arm.pairs) == 64 * 6
    assert any(note.startswith("10000 items were asked for; all") for note in patching.questions.notes())


def test_a_random_band_that_recovers_nothing_does_not_pass(patching: PersonaPatching) -> None:
    (elsewhere,) = patching.recoveries(patching.random_bands(MIDDLE))
    with pytest.raises((Inconclusive, AssertionError)):
        assert elsewhere >= 0.1


def test_attention_at_other_layers_is_not_the_carrier(patching: PersonaPatching) -> None:
    assert _share(patching.recovery(attention.layer(4))) == pytest.approx(0.0, abs=1e-5)


# -- what is recorded ------------------------------------------------------------------------------------------


def test_a_claim_that_ends_early_has_recorded_what_it_measured(noisy: PersonaPatching) -> None:
    with gathering() as evidence:
        wanted, _ = noisy.effects(EARLY, MIDDLE, share=0.5)
        assert not wanted <= -100  # here a claim would end, and the other effect was never compared
    assert {row.condition for row in evidence.items.values()} >= {CORRUPT, str(EARLY), str(MIDDLE)}
