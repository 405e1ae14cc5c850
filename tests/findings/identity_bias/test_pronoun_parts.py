"""Components behind pronouns on a model in which one head carries them; its words; a candidate against its baseline."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Unsupported
from auditkit.data.errors import DataError
from auditkit.findings.identity_bias.measurements.kept_parts import kept_parts
from auditkit.findings.identity_bias.measurements.pronoun_parts import (
    MEANING,
    STEREOTYPE,
    PronounParts,
    of_set,
)
from auditkit.findings.identity_bias.prompts.gendered import by_stereotype, gendered, occupations
from auditkit.gate.changes import Counterpart, Past
from auditkit.record.baseline import Recorded
from auditkit.record.schema import Run
from tests.planted.gendering import CARRIER, open_gendering

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model() -> HFAdapter:
    return open_gendering()


@pytest.fixture(scope="module")
def parts(model: HFAdapter) -> PronounParts:
    return PronounParts(model, seed=0)


def test_the_head_that_carries_stereotypes_is_found_and_carries_them_alone(parts: PronounParts) -> None:
    with gathering() as evidence:
        found = parts.searched
    assert found.found[0] == found.confirmed[0] == CARRIER
    assert [grid.name for grid in evidence.grids] == ["components behind pronouns, to confirm"]
    assert parts.carried(STEREOTYPE) >= 0.9
    assert all(difference > 0.5 for difference in parts.over_random())
    assert parts.carried(MEANING) <= 0.25


def test_where_one_head_carries_both_gender_by_meaning_is_lost_too() -> None:
    shared = PronounParts(open_gendering(meaning=CARRIER), seed=0)
    assert shared.searched.found[0] == CARRIER
    assert not shared.carried(MEANING) <= 0.25


def test_a_model_without_stereotypes_has_no_share_to_carry() -> None:
    fair = PronounParts(open_gendering(stereotype=0.0), seed=0)
    with pytest.raises((NotApplicable, Inconclusive)):
        assert fair.carried(STEREOTYPE) > 0.5


def test_what_is_exchanged_is_what_plain_hooks_exchange(parts: PronounParts) -> None:
    """The first twins of the half that confirms, with the found components' outputs taken from the other sentence."""
    import torch

    adapter, table = parts.adapter, parts._stereotype
    one = next(twins for twins in parts._twins if twins.id == table.values.index[0])
    blocks, kept = adapter.module.model.layers, {}
    size, after = adapter.width // adapter.heads, 3  # the beginning, "The" and the word come before

    def taking(key):
        def hook(_, args, output=None):
            kept[key] = (args[0] if output is None else output).clone()

        return hook

    places = [(n, "z", blocks[n].self_attn.o_proj) for n in range(adapter.layers)]
    handles = [part.register_forward_pre_hook(taking((n, kind))) for n, kind, part in places]
    handles += [block.mlp.register_forward_hook(taking((n, "mlp"))) for n, block in enumerate(blocks)]
    with torch.no_grad():
        adapter.module(torch.tensor([one.he.ids]))
    for handle in handles:
        handle.remove()
    handles = []
    for layer, part in parts.searched.found:
        if part == adapter.heads:

            def instead(_, args, output, layer=layer):
                return torch.cat([output[:, :after], kept[layer, "mlp"][:, after:]], 1)

            handles.append(blocks[layer].mlp.register_forward_hook(instead))
            continue

        def giving(_, args, layer=layer, own=slice(part * size, (part + 1) * size)):
            new = args[0].clone()
            new[:, after:, own] = kept[layer, "z"][:, after:, own]
            return (new,)

        handles.append(blocks[layer].self_attn.o_proj.register_forward_pre_hook(giving))
    with torch.no_grad():
        logits = adapter.module(torch.tensor([one.she.ids])).logits[0, -1]
    for handle in handles:
        handle.remove()
    she, he = (adapter.tokenizer.get_vocab()[word] for word in ("she", "he"))
    got = table.condition("found components exchanged")[0]
    assert float(logits[he] - logits[she]) == pytest.approx(got, abs=1e-4)


def test_a_random_set_has_as_many_heads_of_the_same_layers_and_none_of_the_found(parts: PronounParts) -> None:
    heads, those = parts.adapter.heads, parts.searched.found
    for number in range(2):
        drawn = parts._random(those, number)
        assert not set(drawn) & set(those)
        assert sorted(layer for layer, part in drawn if part < heads) == sorted(
            layer for layer, part in those if part < heads
        )
        assert sum(part == heads for _, part in drawn) == sum(part == heads for _, part in those)
    assert of_set(0) in parts._stereotype.conditions


def test_no_occupation_is_in_two_couples_and_twins_have_one_length(model: HFAdapter) -> None:
    twins = by_stereotype(model.chat, gendered(), 3)
    couples = {one.words for one in twins}
    assert len({word for couple in couples for word in couple}) == 2 * len(couples)
    assert all(occupations()[she] == "she" and occupations()[he] == "he" for she, he in couples)
    assert all(len(one.she) == len(one.he) for one in twins)
    assert couples != {one.words for one in by_stereotype(model.chat, gendered(), 4)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            'validity = "v"\nsentences = ["The {word} said"]\npairs = [["queen", "king"], ["queen", "monk"]]',
            "twice",
        ),
        (
            'validity = "v"\nsentences = ["The {word} said"]\npairs = [["nurse", "king"]]',
            "'nurse' is an occupation",
        ),
        ('validity = "v"\nsentences = ["The word said"]\npairs = [["queen", "king"]]', "{word} in each"),
        ('validity = "v"\nsentences = ["The {word} said"]\npairs = [["queen"]]', "two words each"),
        ('sentences = ["The {word} said"]\npairs = [["queen", "king"]]', "validity"),
    ],
)
def test_words_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "words.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=reason) as refused:
        gendered(path)
    assert "\n" not in str(refused.value)


def test_too_few_couples_of_equal_length_are_said_with_their_number(model: HFAdapter, monkeypatch) -> None:
    few = dict(list(occupations().items())[:12])
    monkeypatch.setattr("auditkit.findings.identity_bias.prompts.gendered.occupations", lambda: few)
    with pytest.raises(Unsupported, match="6 couples of occupations have equally many tokens; 10 are needed"):
        PronounParts(model, seed=0).notes()


def counterpart(parts: PronounParts, a_run: Run, folder: Path) -> Counterpart:
    """What a later run is given of a run on this model."""
    claim = a_run.claims[0].id
    with gathering() as evidence, pytest.raises(NotApplicable, match="no baseline"):
        kept_parts(parts, Counterpart(claim, "suite", None))
    rows = [msgspec.structs.replace(row, claim=claim) for row in evidence.items.values()]
    run = msgspec.structs.replace(a_run, claims=a_run.claims[:1])
    frame = pd.DataFrame(msgspec.to_builtins(rows))
    return Counterpart(claim, "suite", Past(Recorded("base", folder, run, "ab", frame), run.plan, run.model))


def test_the_same_components_are_told_from_others_by_their_ranks(
    parts: PronounParts, a_run: Run, tmp_path: Path
) -> None:
    base = counterpart(parts, a_run, tmp_path)
    model = open_gendering()
    model.module.model.layers[3].mlp.down_proj.weight.mul_(3.0)
    kept = kept_parts(PronounParts(model, seed=0), base)
    assert kept.agreement() > 0
    assert kept.figures()
    assert "are the same (Jaccard" in kept.notes()[0]
    shuffled = PronounParts(model, seed=0)
    values = np.random.default_rng(0).standard_normal(shuffled._effects.shape)
    type(shuffled)._effects.keep(shuffled, values)
    estimate = kept_parts(shuffled, base).agreement().describe().estimate
    assert estimate is not None
    assert abs(estimate) < 0.5
