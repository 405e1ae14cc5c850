"""Known answers: the planted head is found exactly, edits of it do what they must, and without one nothing is found."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component, Support
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.engine.sites import mlp
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.persona_patching.measurements.head_edits import ABLATIONS, SAMPLED, SCREENED, HeadEdits
from auditkit.findings.persona_patching.measurements.heads import PersonaHeads
from auditkit.findings.persona_patching.prompts import CONFIRMATION, DISCOVERY
from auditkit.methods.attention import COUNTS, NO_SINK, RAW, WEIGHTED
from auditkit.methods.head_search import LEAST, Searched, dz, search
from auditkit.stats.design import incomplete_crossing
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream
from tests.planted.circuits import open_circuit
from tests.planted.seeing import BLIND, HEAD, SEEING, items, set_heads

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def heads() -> PersonaHeads:
    return set_heads(open_circuit(SEEING), SEEING)


@pytest.fixture(scope="module")
def edits(heads: PersonaHeads) -> HeadEdits:
    return HeadEdits(heads)


@pytest.fixture(scope="module")
def blind() -> HFAdapter:
    return open_circuit(BLIND)


# -- searching -----------------------------------------------------------------------------------------------------


def test_the_planted_head_is_found_exactly(heads: PersonaHeads) -> None:
    searched = heads.searched
    assert searched.found == searched.confirmed == (HEAD,)
    assert searched.strongest[0] == HEAD
    assert len(searched.strongest) == 24
    assert heads.singled_out() > 0.2
    for count in COUNTS:
        assert heads.selectivity(count=count) > 0.2
        assert heads.selectivity(against="neutral", count=count) > 0.2
    assert heads.selectivity(query="answer") > 0.2


@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_found_exactly_with_other_words_questions_and_noise(blind: HFAdapter, seed: int) -> None:
    assert set_heads(blind, SEEING, seed).searched.confirmed == (HEAD,)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_a_planted_head_none_is_confirmed_and_claims_say_so(blind: HFAdapter, seed: int) -> None:
    heads = set_heads(blind, BLIND, seed)
    searched = heads.searched
    assert searched.confirmed == ()
    assert heads.selectivity().describe().upper is not None, "attention varies all the same"
    if heads.selectivity().describe().upper > 0:
        with pytest.raises(Inconclusive, match="no_head_confirmed: of 24 heads"):
            _ = heads.singled_out() > 0
    edits = HeadEdits(heads)
    for ask in (lambda: edits.lost(mlp.layer(0)), lambda: edits.moved("zero")):
        with pytest.raises(NotApplicable, match="no head qualified: of 24 heads, "):
            ask()


def test_a_head_that_looks_away_fails_instead_of_being_undecided(heads: PersonaHeads) -> None:
    """Where the strongest head attends less to racial and colour words, whole interval, there are none."""
    none = Searched(24, heads.searched.strongest, (), (), {}, {})
    undecided = PersonaHeads(heads.questions)
    PersonaHeads.searched.keep(undecided, none)
    PersonaHeads.items.keep(undecided, heads.items)
    undecided._known = heads._known
    with pytest.raises(Inconclusive, match="no_head_confirmed"):
        _ = undecided.singled_out() > 0
    undecided._known = {key: -values for key, values in heads._known.items()}
    assert not (undecided.singled_out() > 0)


def test_halves_share_neither_words_nor_topics(heads: PersonaHeads) -> None:
    discovery, held, neutral = (heads.items[name] for name in ("discovery", "valence", "neutral"))
    assert not set(discovery.table["topic"]) & set(held.table["topic"])
    sides = [
        {word for pair in items.table["pair"].unique() for word in pair.split(">")} for items in (discovery, held)
    ]
    assert not sides[0] & sides[1]
    assert neutral.words() <= held.words()
    assert set(neutral.table["topic"]) <= set(held.table["topic"])
    for item in (discovery, held, neutral):
        words = [word for pair in item.table["pair"].unique() for word in pair.split(">")]
        assert len(words) == len(set(words)), "no word comes in two pairs"
        for pair in item.pairs:
            assert len(pair.base) == len(pair.source)


@pytest.mark.parametrize("seed", range(4))
def test_items_are_as_many_as_stated_and_meet_many_pairs_evenly(blind: HFAdapter, seed: int) -> None:
    items = set_heads(blind, BLIND, seed).items  # of 16 questions
    counts = {"discovery": round(16 * DISCOVERY), "valence": round(16 * CONFIRMATION)}
    for name, count in counts.items():
        topics, pairs = (items[name].table[factor].value_counts() for factor in ("topic", "pair"))
        assert len(items[name].pairs) == count
        assert len(topics) == 8
        assert topics.max() - topics.min() <= 1
        assert len(pairs) >= 0.8 * min(count, 32)
        assert pairs.max() <= 3
    half = items["valence"].first(1 / 2)
    assert len(half.pairs) == len(half.table["pair"].unique()) == 14, "few items: every one under another pair"
    assert len(half.table["topic"].unique()) == 8


def test_valence_and_neutral_words_are_compared_with_the_same_prompts(heads: PersonaHeads) -> None:
    """So that these are run once: the racial or colour word meets the same questions."""
    one, other = ({pair.base for pair in heads.items[name].pairs} for name in ("valence", "neutral"))
    assert len(one) == len(heads.items["valence"].pairs)
    assert len(one & other) == len(other) >= 0.95 * len(one)


@pytest.mark.parametrize("words", [24, 60])
def test_fewer_words_give_fewer_pairs_and_as_many_items(blind: HFAdapter, words: int) -> None:
    set_heads(blind, BLIND)
    heads = PersonaHeads(PersonaQuestions(blind, items=items()), n_pairs=words)
    assert len(heads.items["discovery"].pairs) == 48
    assert heads.items["discovery"].table["pair"].nunique() == words // 2


def test_every_claim_has_the_notes_and_grids_of_the_search(heads: PersonaHeads) -> None:
    gathered = []
    for read in (heads.singled_out, heads.qualified, heads.figures):
        with gathering() as evidence:
            read()
        gathered.append(evidence)
    for evidence in gathered:
        assert any("items to discover" in note for note in evidence.notes)
        assert [grid.name for grid in evidence.grids] == [
            "heads that single out racial and colour words, to discover",
            "heads that single out racial and colour words, to confirm",
        ]
        assert len(evidence.grids[0].cells) == heads.searched.candidates
    assert [text for text in gathered[1].notes if text not in gathered[0].notes] == [
        f"heads: layer 3, head 2; {heads.searched}"
    ]


def test_the_heat_maps_and_the_table_single_out_the_planted_head(heads: PersonaHeads) -> None:
    figures = heads.figures()
    *maps, table = figures
    assert [figure.kind for figure in figures] == ["heatmap"] * 3 + ["table"]
    for count, drawn in zip(COUNTS, maps, strict=True):
        values = np.array(drawn.data["values"])
        assert drawn.data["outlined"] == [(HEAD[1], HEAD[0])]
        assert values.shape == (4, 6)
        assert np.unravel_index(values.argmax(), values.shape) == (HEAD[1], HEAD[0])
        assert values[HEAD[1], HEAD[0]] == pytest.approx(heads.selectivity(count=count).describe().estimate)
    (row,) = table.data["rows"]
    assert row[:2] == ["layer 3, head 2", "confirmed"]
    assert row[-1] >= LEAST


def test_too_few_topics_for_two_halves_are_undecided_before_anything_is_read(blind: HFAdapter) -> None:
    set_heads(blind, BLIND)
    heads = PersonaHeads(PersonaQuestions(blind, items=items(9)))
    before = blind.meter.runs
    for ask in (lambda: heads.searched, HeadEdits(heads).restored):
        with pytest.raises(
            Inconclusive, match=r"too_few_clusters: 9 topics and \d+ persona pairs; to discover and"
        ):
            ask()
    assert blind.meter.runs == before


def test_attention_that_cannot_be_read_is_not_applicable_with_the_reason(blind: HFAdapter, monkeypatch) -> None:
    heads = set_heads(blind, BLIND)
    support = {**blind.support(), Component.PATTERN: Support(False, "it attends in its own way")}
    monkeypatch.setattr(blind, "support", lambda: support)
    for ask in (heads.singled_out, heads.figures, heads.qualified):
        with pytest.raises(NotApplicable, match="cannot be read on this model: it attends in its own way"):
            ask()


# -- the procedure, on numbers -------------------------------------------------------------------------------------


def simulated(seed: int, heads: int = 20, planted: float = 0.0, everywhere: bool = False) -> Searched:
    """A search on noise: effects of words and topics on every head, and of both halves' own items."""
    draw = np.random.default_rng(seed)
    sides = []
    for _ in range(2):
        topics, words = 8, 32
        asked = [f"{n % topics}-{n}" for n in range(12)]
        cells = incomplete_crossing(asked, list(map(str, range(words))), 4, seed=seed, name="noise")[:43]
        rows = [(int(question.split("-")[0]), int(word)) for question, word in cells]
        index = [f"{question}|{word}" for question, word in cells]
        table = pd.DataFrame(rows, columns=["topic", "pair"], index=index)
        values = (
            draw.normal(size=(heads, 1, words))[:, 0, [w for _, w in rows]]
            + 0.5 * draw.normal(size=(heads, topics))[:, [t for t, _ in rows]]
            + draw.standard_t(4, size=(heads, len(rows)))
        )
        values[slice(None) if everywhere else 3] += planted
        sides.append((Measurement("noise", "logit", pd.DataFrame(index=index), table), values))
    (one, found), (other, held) = sides
    estimates = {(0, n): Estimate(f"head {n}", "logit", one, found[n]) for n in range(heads)}
    return search("noise", estimates, lambda head: [Estimate("held out", "logit", other, held[head[1]])])


@pytest.mark.slow
def test_on_noise_no_head_is_confirmed_in_at_least_95_of_100_seeds() -> None:
    searches = [simulated(seed) for seed in range(100)]
    assert sum(bool(searched.confirmed) for searched in searches) <= 5


def test_a_found_head_is_confirmed_at_the_level_of_every_other_decision() -> None:
    """One found head whose only contrast has p = 0.035: enough for a rate of 5 %, not for 2.5 %."""
    table = pd.DataFrame({"topic": [str(n) for n in range(20)]}, index=[str(n) for n in range(20)])
    measurement = Measurement("m", "logit", pd.DataFrame(index=table.index), table)
    shape = np.random.default_rng(0).normal(size=20)
    shape = (shape - shape.mean()) / shape.std(ddof=1)

    def with_p(p: float) -> Estimate:
        return Estimate(f"p = {p}", "logit", measurement, shape + stats.t.isf(p, 19) / np.sqrt(20))

    for p, confirmed in ((0.035, ()), (0.005, ((0, 0),))):
        searched = search("s", {(0, 0): with_p(1e-6)}, lambda head, p=p: [with_p(p)])
        assert searched.found == ((0, 0),)
        assert searched.confirmed == confirmed


@pytest.mark.slow
def test_the_mean_of_found_heads_is_not_too_large_and_that_of_confirmed_ones_is() -> None:
    """Small effects in every head: those that the second half confirms came out large there."""
    truth, found, confirmed = 0.8, [], []
    for seed in range(40):
        searched = simulated(seed, planted=truth, everywhere=True)
        values = {head: float(held[0].numerator.mean()) for head, held in searched.contrasts.items()}
        if searched.confirmed:
            found.append(np.mean([values[head] for head in searched.judged]))
            confirmed.append(np.mean([values[head] for head in searched.confirmed]))
    assert len(found) > 12
    assert np.mean(confirmed) - truth > 0.1
    assert abs(np.mean(found) - truth) < np.mean(confirmed) - truth


@pytest.mark.slow
def test_on_noise_few_heads_are_found() -> None:
    searches = [simulated(seed) for seed in range(100)]
    assert sum(bool(searched.found) for searched in searches) <= 15, "the first half alone holds its rate, roughly"


def test_a_planted_effect_among_noise_is_found_exactly() -> None:
    searches = [simulated(seed, planted=6.0) for seed in range(20)]
    assert sum(searched.confirmed == ((0, 3),) for searched in searches) >= 18


def test_a_head_is_confirmed_only_where_all_contrasts_hold_and_none_is_small() -> None:
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"topic": [n % 8 for n in range(64)], "pair": [n // 8 for n in range(64)]})
    table.index = [str(n) for n in range(64)]
    measurement = Measurement("m", "logit", pd.DataFrame(index=table.index), table)

    def made(mean: float, name: str = "contrast") -> Estimate:
        return Estimate(name, "logit", measurement, mean + draw.normal(size=64))

    held = {
        (0, 0): [made(2.0), made(2.0)],
        (0, 1): [made(2.0), made(0.0, "against neutral words")],
        (0, 2): [made(2.0), made(-2.0, "without the first token")],
        (0, 3): [made(2.0), Estimate("thin", "logit", measurement, 0.3 + np.sin(np.arange(64.0)))],
    }
    searched = search("s", {head: made(3.0) for head in held}, held.__getitem__)
    assert set(searched.found) == set(held)
    assert searched.confirmed == ((0, 0),)
    assert searched.why_not[0, 1] == "against neutral words is not above zero"
    assert searched.why_not[0, 2] == "without the first token is not above zero"
    assert searched.why_not[0, 3].startswith("thin ")
    assert str(searched) == (
        "of 4 heads, 4 attend to the word, 4 were selected on one half of the items, "
        "1 was confirmed on the other half"
    )
    some = search("s", {head: made(3.0) for head in held}, held.__getitem__, {(0, 1), (0, 2)})
    assert (some.candidates, set(some.found), some.confirmed) == (2, {(0, 1), (0, 2)}, ())
    none = search("s", {head: made(3.0) for head in held}, held.__getitem__, set())
    assert (none.candidates, len(none.strongest), none.found) == (0, 4, ())


def test_dz_is_the_mean_over_the_spread_of_items() -> None:
    table = pd.DataFrame({"topic": list("abcd")}, index=list("abcd"))
    measurement = Measurement("m", "logit", pd.DataFrame(index=table.index), table)
    assert dz(Estimate("e", "logit", measurement, np.array([1.0, 2.0, 3.0, 4.0]))) == pytest.approx(
        2.5 / 1.2909944
    )
    assert dz(Estimate("e", "logit", measurement, np.ones(4))) == 0.0


# -- edits ---------------------------------------------------------------------------------------------------------


def test_valence_activations_take_the_attention_away_and_other_words_do_not(edits: HeadEdits) -> None:
    """The planted MLP marks the word, so giving its layer to the word decides what the head sees."""
    for count in (RAW, NO_SINK, WEIGHTED):
        valence, other, elsewhere = edits.lost(mlp.layers(0, 1), count)
        assert valence > 0.2
        assert valence > other
        assert valence > elsewhere
        assert elsewhere.equals(0.0, within=1e-5)
        assert other.equals(0.0, within=0.05)
    valence, _, _ = edits.lost(mlp.layer(0))
    assert np.abs(valence.numerator).max() < 1e-5, "the MLP of layer 0 writes nothing"


@torch.no_grad()
def test_lost_attention_is_that_of_plain_hooks_and_eager_attention(heads: PersonaHeads, edits: HeadEdits) -> None:
    valence, _, _ = edits.lost(mlp.layers(0, 1))
    twin = copy.deepcopy(heads.adapter.module)
    twin.set_attn_implementation("eager")
    held = heads.items["valence"].first(1 / 2)
    pair = held.pairs[0]
    assert valence.measurement.values.index[0] == held.table.index[0]
    start, stop = pair.spans["identity"]

    def attention() -> float:
        pattern = twin(torch.tensor([pair.base.ids]), output_attentions=True).attentions[HEAD[0]]
        return float(pattern[0, HEAD[1], -1, start:stop].sum())

    before, given = attention(), {}
    parts = [twin.model.layers[n].mlp for n in (0, 1)]
    keeping = [
        part.register_forward_hook(lambda m, a, out: given.__setitem__(m, out[0, start:stop])) for part in parts
    ]
    twin(torch.tensor([pair.source.ids]))
    for handle in keeping:
        handle.remove()

    def give(module, args, out):
        out = out.clone()
        out[0, start:stop] = given[module]
        return out

    for part in parts:
        part.register_forward_hook(give)
    assert valence.numerator[0] == pytest.approx(before - attention(), abs=1e-5)


def test_removing_the_planted_head_moves_the_answer_and_random_heads_do_not(edits: HeadEdits) -> None:
    for ablation in ABLATIONS:
        those, others = edits.moved(ablation)
        assert those > 0.1
        assert those > others
        assert others < 0.05


@torch.no_grad()
def test_zero_ablation_is_that_of_a_plain_hook(heads: PersonaHeads, edits: HeadEdits) -> None:
    those, _ = edits.moved("zero")
    pair, module = heads.items["valence"].first(1 / 2).pairs[3], heads.adapter.module

    def answer() -> float:
        logits = module(torch.tensor([pair.base.ids])).logits[0, -1, list(pair.answers)]
        return float(logits[0] - logits[1])

    def remove(part, args):
        z = args[0].clone()
        z[..., HEAD[1] * 8 : (HEAD[1] + 1) * 8] = 0
        return (z,)

    before = answer()
    handle = module.model.layers[HEAD[0]].self_attn.o_proj.register_forward_pre_hook(remove)
    after = answer()
    handle.remove()
    assert those.numerator[3] == pytest.approx(abs(after - before), abs=1e-4)


def test_the_head_that_carries_valence_is_screened_and_restores_all_of_it(edits: HeadEdits) -> None:
    with gathering() as evidence:
        those, others = edits.restored()
        assert those.equals(1.0, within=0.05)
        assert those > others
        assert others <= 0.05
    rows = edits.screening().data["rows"]
    assert rows[0][:2] == ["layer 3, head 2", "chosen"]
    assert rows[0][-1] == "yes"
    assert [row[1] for row in rows].count("chosen") == SCREENED
    assert len(rows) == SCREENED + SAMPLED
    assert any(re.search(rf"the screen missed \d+ of {SAMPLED} others", note) for note in evidence.notes)
    assert any(note.startswith("guards (restoring heads)") for note in evidence.notes)


def test_random_heads_are_others_of_the_same_layers_or_the_nearest(edits: HeadEdits) -> None:
    draw = stream(0, "test")
    for some in ([(3, 2)], [(1, 0), (1, 3), (5, 2)]):
        for _ in range(20):
            drawn = edits._alike(some, draw)
            assert [layer for layer, _ in drawn] == [layer for layer, _ in some]
            assert not set(drawn) & set(some)
            assert len(set(drawn)) == len(some)
    whole = [(2, n) for n in range(4)]
    assert {layer for layer, _ in edits._alike(whole, draw)} <= {1, 3}
    with pytest.raises(NotApplicable, match="no 24 other heads to compare with"):
        edits._alike(edits.heads.every(), draw)


def test_edits_are_measured_once_and_noted_under_every_claim_that_uses_them(edits: HeadEdits) -> None:
    uses = {
        "guards (removing heads)": lambda: edits.moved("zero"),
        "guards (swap)": lambda: edits.lost(mlp.layers(0, 1)),
        "guards (restoring heads)": edits.restored,
    }
    for use in uses.values():
        use()
    runs = edits.adapter.meter.runs
    for guards, use in uses.items():
        with gathering() as evidence:
            use()
        assert [note.split(":")[0] for note in evidence.notes if note.startswith("guards")] == [guards]
        found = any(note.startswith("heads: layer 3, head 2; of 24 heads, ") for note in evidence.notes)
        assert found == (use != edits.restored)
    assert edits.adapter.meter.runs == runs
