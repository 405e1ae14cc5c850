"""Steering and ablation of persona units equal plain hooks, and are of one size with their random counterparts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from auditkit.adapters import open_model
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.evidence import figure, gathering
from auditkit.claims.outcomes import NotApplicable
from auditkit.findings.persona_localization.measurements import steering as localization_steering
from auditkit.findings.persona_localization.measurements.material import PersonaActivations, persona_items
from auditkit.findings.persona_localization.measurements.steering import STRENGTH, PersonaSteering

pytestmark = pytest.mark.unit

LAYER = 2


@pytest.fixture(scope="module")
def activations(tiny_llama: Path) -> PersonaActivations:
    torch.set_num_threads(1)
    adapter = open_model(str(tiny_llama))
    some = persona_items(n_items=9, personas=("extraversion", "politically-liberal", "anti-immigration"))
    return PersonaActivations(adapter, some, seed=0, cache=False)


@pytest.fixture
def steering(activations: PersonaActivations, monkeypatch: pytest.MonkeyPatch) -> PersonaSteering:
    monkeypatch.setattr(localization_steering, "AGREE", " Paris")
    monkeypatch.setattr(localization_steering, "DISAGREE", " not")
    return PersonaSteering(activations, LAYER)


def hooked(adapter: HFAdapter, ids: tuple[int, ...], added: torch.Tensor) -> float:
    """The difference of the two answers' logits with something added to a block's output, by transformers alone."""

    def hook(module: object, args: object, out: torch.Tensor | tuple[torch.Tensor, ...]) -> object:
        first = out[0] if isinstance(out, tuple) else out
        changed = first + added
        return (changed, *out[1:]) if isinstance(out, tuple) else changed

    handle = adapter.module.model.layers[LAYER].register_forward_hook(hook)
    with torch.no_grad():
        logits = adapter.module(torch.tensor([ids])).logits[0, -1]
    handle.remove()
    yes, no = (adapter.chat.encode(word)[0] for word in (" Paris", " not"))
    return float(logits[yes] - logits[no])


def test_edits_are_what_plain_hooks_do(activations: PersonaActivations, steering: PersonaSteering) -> None:
    adapter, answers, asked = activations.adapter, steering._answers, steering._asked
    assert isinstance(adapter, HFAdapter)
    streams = []
    for one in asked:
        with torch.no_grad():
            states = adapter.module(torch.tensor([one.prompt.ids]), output_hidden_states=True).hidden_states
        streams.append(states[LAYER + 1][0].double())
    middle = torch.cat([stream[1:] for stream in streams]).mean(0)
    for i in (0, len(asked) - 1):
        one, apart = asked[i], torch.from_numpy(asked[i].persona.difference)
        added = torch.zeros(len(one.prompt), len(apart), dtype=torch.float64)
        assert answers["unedited"][i] == pytest.approx(hooked(adapter, one.prompt.ids, added.float()), abs=1e-4)
        added[1:] = -STRENGTH * apart
        assert answers["against direction"][i] == pytest.approx(
            hooked(adapter, one.prompt.ids, added.float()), abs=1e-4
        )
        unit = apart / apart.norm()
        added[1:] = -((streams[i][1:] - middle) @ unit)[:, None] * unit
        assert answers["without direction"][i] == pytest.approx(
            hooked(adapter, one.prompt.ids, added.float()), abs=1e-4
        )
        added[1:] = 0
        units = one.persona.units.tolist()
        added[1:, units] = (middle - streams[i][1:])[:, units]
        assert answers["without units"][i] == pytest.approx(
            hooked(adapter, one.prompt.ids, added.float()), abs=1e-4
        )


def test_random_edits_are_as_large_as_those_they_stand_beside(steering: PersonaSteering) -> None:
    one = steering._asked[0]
    away = torch.randn(len(one.prompt) - 1, 32, generator=torch.Generator().manual_seed(0)).double()
    from auditkit.engine.sites import residual

    given = {name: edit.give for name, edit in steering._edits(one, away, residual.layer(LAYER)).items()}
    sizes = {name: float(give.norm()) for name, give in given.items() if isinstance(give, torch.Tensor)}
    assert len(sizes) == 12
    length = STRENGTH * np.linalg.norm(one.persona.difference)
    for name, size in sizes.items():
        if not name.startswith("without"):
            assert size == pytest.approx(length, rel=1e-5)
    for what in ("units", "direction"):
        assert sizes[f"without {what}"] == pytest.approx(sizes[f"without random {what}"], rel=1e-5)
    random = given["along random units"]
    assert isinstance(random, torch.Tensor)
    assert not set(random.nonzero()[:, 0].tolist()) & set(one.persona.units.tolist())


def test_statements_asked_are_none_that_units_come_from(steering: PersonaSteering) -> None:
    asked = steering._asked
    assert len(asked) == 2 * 2 * 3  # topics, kinds, a third of nine
    assert sum(one.positive for one in asked) == len(asked) / 2
    found, random = steering.steered("units")
    assert found.measurement.clusters["statement"].nunique() == 6
    assert not np.array_equal(found.numerator, random.numerator)
    lost, _ = steering.ablated("direction")
    assert (lost.numerator >= 0).all()
    with gathering() as evidence:
        figure(steering.edits())
        steering.agreement()
    assert [len(group["dots"]) for group in evidence.figures[0].data["groups"]] == [4, 4]
    assert any("none of which" in text for text in evidence.notes)


def test_a_tokenizer_that_splits_the_answers_is_not_asked(activations: PersonaActivations) -> None:
    with pytest.raises(NotApplicable, match="agreement cannot be read"):
        PersonaSteering(activations, LAYER).steered("units")
