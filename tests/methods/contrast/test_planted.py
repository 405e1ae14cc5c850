"""The planted direction is found where it was planted, nulls are not, and a model without it shows nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.claims.evidence import gathering
from auditkit.methods.contrast.doses import dose_curve, length_of
from auditkit.methods.contrast.drift import drift
from auditkit.methods.contrast.effects import effects
from auditkit.methods.contrast.nulls import kind_of, nulls
from auditkit.methods.contrast.outcomes import PLAIN, BenignText
from auditkit.methods.contrast.separation import separation
from auditkit.methods.contrast.states import ContrastError, read_states
from auditkit.methods.contrast.sweeps import choose, sweep
from auditkit.record.figures import Heatmap, drawing_of
from tests.methods.contrast.conftest import CARRIES, Asked, asked
from tests.planted.circuits import CARRIED, Circuit, open_circuit

pytestmark = pytest.mark.unit


def kinds(asked: Asked, items, sign: str) -> list[str]:
    return [item for item in items if item.endswith(sign)]


def test_the_planted_layer_and_position_are_chosen(valence: Asked) -> None:
    split = valence.contrast.halves(seed=0)
    outcome = valence.outcome.only(kinds(valence, split.discovery, "+"))
    found = sweep(valence.adapter, valence.contrast, outcome, split.discovery, kind="remove")
    means = found.changes.mean(0)
    last = found.positions.index(-1)
    assert (np.abs(means[:CARRIES]) < 0.05).all()  # the last token knows nothing of the word there
    assert (means[CARRIES:, last] < -1).all()
    place = choose(found, -1, share=0.6)
    assert place is not None
    assert (place.layer, place.position) == (CARRIES, -1)
    refused = []
    assert choose(found, -1, allowed=lambda direction: refused.append(direction.layer) or False) is None
    assert {CARRIES, CARRIES + 1} == set(refused[:2])  # from the best on, without the last layers
    assert max(refused) < 0.8 * valence.adapter.layers
    direction = found.directions[CARRIES, -1]
    assert int(np.abs(direction.unit).argmax()) == CARRIED
    grid = drawing_of(found.figures("Sweep", place)[0])
    assert isinstance(grid, Heatmap)
    assert [tuple(cell) for cell in grid.outlined] == [(last, CARRIES)]
    assert len(found.to_frame()) == means.size


def test_the_direction_moves_more_than_every_null_on_held_out_items(valence: Asked) -> None:
    split = valence.contrast.halves(seed=0)
    direction = valence.contrast.direction(CARRIES, -1, split.discovery)
    null = nulls(valence.contrast, direction, split.discovery, seed=0, each=3)
    assert {kind_of(name) for name in null} == {"random", "covariance", "shuffled"}
    for other in null.values():
        assert other.length == pytest.approx(direction.length)
    outcome = valence.outcome.only(kinds(valence, split.confirmation, "+"))
    conditions = {"direction": direction.remove()} | {name: one.remove() for name, one in null.items()}
    found = effects(valence.adapter, outcome, conditions)
    assert found.change("direction") <= -0.9
    for name in conditions:
        if name != "direction":
            assert found.beyond("direction", name) <= -0.2
    assert found.wrong_way("direction", -1).describe().estimate == 0
    frame = found.to_frame().set_index("condition")
    assert frame.loc["direction", "change"] == pytest.approx(
        (found.values["direction"] - found.values[PLAIN]).mean()
    )
    assert found.figures("Removal")


def test_one_direction_does_what_four_do(valence: Asked) -> None:
    split = valence.contrast.halves(seed=0)
    one = valence.contrast.direction(CARRIES, -1, split.discovery)
    four = valence.contrast.subspace(CARRIES, -1, 4, split.discovery)
    np.testing.assert_allclose(four.vectors @ four.vectors.T, np.eye(4) * one.length**2, atol=1e-4)
    outcome = valence.outcome.only(kinds(valence, split.confirmation, "+"))
    found = effects(valence.adapter, outcome, {"k = 1": one.remove("own"), "k = 4": four.remove("own")})
    share = found.share("k = 1", "k = 4", -1)
    assert share >= 0.7, "both lower the outcome, as declared"
    assert share.describe().estimate == pytest.approx(1.0, abs=0.2)


def test_every_claim_that_uses_an_effect_notes_what_the_guards_measured(valence: Asked) -> None:
    direction = valence.contrast.direction(CARRIES, -1)
    some = valence.outcome.only(kinds(valence, valence.contrast.table.index, "+")[:6])
    texts = BenignText("text", valence.prompts[:6], valence.contrast.table.iloc[:6])
    with gathering() as first:
        curve = dose_curve(valence.adapter, direction, some, (0.05, 0.1), damage=texts)
        swept = sweep(valence.adapter, valence.contrast, some, layers=(CARRIES,))
    removed = effects(valence.adapter, some, {"removed": direction.remove()}, "removal")  # outside a claim
    uses = {
        "guards (removal, agreement): ": [
            removed.level, lambda: removed.change("removed"), lambda: removed.share("removed", "removed", -1),
            removed.to_frame, lambda: removed.figures("Removal"),
        ],
        "guards (doses, agreement): ": [curve.slope, lambda: curve.change(0.1), lambda: curve.dose_for(0.1)],
        "guards (damage, text): ": [lambda: curve.damage(0.1)],
        "guards (sweep over places, agreement): ": [lambda: choose(swept, -1), swept.to_frame],
    }  # fmt: skip
    for begins, reads in uses.items():
        for read in reads:
            with gathering() as evidence:
                read()
                read()
            (text,) = evidence.notes
            assert text.startswith(begins)
            assert "edits that change nothing changed logits by at most" in text
            assert "missed whole runs by at most" in text
            assert text.endswith("every edit was made as often as declared")
    assert [text.split(":")[0] + ": " for text in first.notes] == list(uses)[1:]


def test_the_two_kinds_separate_from_the_planted_layer_on(valence: Asked) -> None:
    found = separation(valence.contrast, valence.contrast.halves(seed=0))
    assert found.gap(CARRIES, -1) >= 1.0
    assert found.auc(CARRIES, -1).describe().estimate > 0.95
    frame = found.to_frame().set_index(["layer", "position"])
    assert frame.loc[(0, -1), "gap upper"] < 1
    direction = found.direction(CARRIES, -1)
    null = nulls(valence.contrast, direction, found.split.discovery, seed=1, each=1)["random 1"]
    assert abs(found.gap(CARRIES, -1, null).describe().estimate) < 1.5
    assert [drawing_of(figure).scale for figure in found.figures("Separation")] == ["linear", "linear"]


def test_the_outcome_follows_the_dose(valence: Asked) -> None:
    split = valence.contrast.halves(seed=0)
    direction = valence.contrast.direction(CARRIES, -1, split.discovery)
    null = nulls(valence.contrast, direction, split.discovery, seed=0, each=1)
    texts = BenignText("text", valence.prompts[:6], valence.contrast.table.iloc[:6])
    curve = dose_curve(
        valence.adapter, direction, valence.outcome.only(split.confirmation), (-0.1, -0.05, 0.05, 0.1),
        damage=texts, null={"random 1": null["random 1"]},
    )  # fmt: skip
    assert curve.monotone
    assert curve.change(0.1) >= 0.3
    assert curve.change(-0.1) <= -0.3
    assert curve.slope_beyond("random 1") >= 1.0
    assert curve.wrong_way(0.1).describe().estimate == 0
    assert curve.damage(0.1).describe().estimate > curve.damage(0.05).describe().estimate > 0
    half = curve.dose_for(float(curve.change(0.1).describe().estimate) / 2)
    assert half == pytest.approx(0.05, abs=0.01)
    assert curve.dose_for(100.0) is None
    with pytest.raises(ContrastError, match="so a shift has no unit"):
        length_of(curve.dose_for(100.0), valence.contrast, direction)
    assert {"dose", "change", "wrong way", "damage", "null lowest"} <= set(curve.to_frame().columns)
    assert len(curve.figures("Doses")) == 3


def test_a_model_drifts_along_the_direction_by_what_it_was_moved(valence: Asked) -> None:
    split = valence.contrast.halves(seed=0)
    direction = valence.contrast.direction(CARRIES, -1, split.discovery)
    unit = length_of(0.05, valence.contrast, direction)
    same = drift(valence.contrast, valence.contrast, direction, unit, split.confirmation)
    assert same.cosine.estimate == pytest.approx(1.0)
    assert (same.projections["candidate"] == same.projections["base"]).all()
    moved = valence.contrast.states.values.copy()
    rng = np.random.default_rng(0)
    moved += 0.7 * unit * direction.unit.astype(np.float32)
    moved += rng.normal(0, 0.01, moved.shape).astype(np.float32)
    other = type(valence.contrast)(
        "valence", type(valence.contrast.states)(moved, valence.contrast.states.layers, (-1, "word")),
        valence.contrast.positive, valence.contrast.table,
    )  # fmt: skip
    found = drift(valence.contrast, other, direction, unit, split.confirmation)
    assert found.shift >= 0.6
    assert found.shift.describe().estimate == pytest.approx(0.7, abs=0.01)
    assert found.cosine.estimate > 0.9
    assert 0.7 < found.reliability < 1
    assert found.to_frame()["what"].tolist() == ["cosine", "reliability", "shift"]
    assert len(found.figures("Drift")) == 2


def test_without_the_circuit_nothing_is_found() -> None:
    known_negative = asked(open_circuit(Circuit(planted=False, noise=0.05)))
    split = known_negative.contrast.halves(seed=0)
    outcome = known_negative.outcome.only(kinds(known_negative, split.confirmation, "+"))
    direction = known_negative.contrast.direction(CARRIES, -1, split.discovery)
    null = nulls(known_negative.contrast, direction, split.discovery, seed=0, each=2)
    conditions = {"direction": direction.remove("own")} | {name: one.remove("own") for name, one in null.items()}
    found = effects(known_negative.adapter, outcome, conditions)
    largest = max(abs(found.change(name).describe().estimate) for name in null)
    assert abs(found.change("direction").describe().estimate) <= max(largest, 0.05)


def test_states_are_what_the_model_passes(valence: Asked) -> None:
    got = read_states(valence.adapter, valence.prompts, (-1, "word"), layers=(2, 4), spans=valence.spans)
    for row in (0, 5, 17):
        ids, kept = valence.prompts[row].ids, []
        handles = [
            valence.adapter.module.model.layers[layer].register_forward_hook(
                lambda module, args, output, kept=kept: kept.append(
                    output if isinstance(output, torch.Tensor) else output[0]
                )
            )
            for layer in (2, 4)
        ]
        with torch.no_grad():
            valence.adapter.module(torch.tensor([ids]))
        for handle in handles:
            handle.remove()
        for number, value in enumerate(kept):
            np.testing.assert_allclose(got.values[row, number, 0], value[0, -1], atol=2e-5)
            np.testing.assert_allclose(got.values[row, number, 1], value[0, 1], atol=2e-5)
