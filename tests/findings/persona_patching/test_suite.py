"""What claims of the suite put into the record: everything they measured, and the same in whatever order they run."""

from __future__ import annotations

import contextlib
import inspect
import runpy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import auditkit
from auditkit.claims.evidence import Evidence, gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.engine.sites import Site, embeddings, mlp
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.persona_patching.measurements.answers import PersonaAnswers
from auditkit.findings.persona_patching.measurements.head_edits import HeadEdits
from auditkit.findings.persona_patching.measurements.heads import PersonaHeads
from auditkit.findings.persona_patching.measurements.layers import PersonaLayers
from auditkit.findings.persona_patching.measurements.patching import (
    EARLY,
    EARLY_FROM_ONE,
    MIDDLE,
    MIDDLE_FROM_ONE,
    PersonaPatching,
)
from auditkit.methods.attention import RAW
from auditkit.methods.patching import CLEAN, CORRUPT, FromDonor, Held, RandomBands
from auditkit.record.schema import Verdict
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream
from tests.planted.circuits import Circuit, items, open_circuit
from tests.planted.seeing import SEEING, set_heads

pytestmark = pytest.mark.unit

SUITE = Path(auditkit.__file__).parents[1] / "suites" / "persona_patching"


def claims(file: str) -> dict[str, Callable[..., None]]:
    return {name: value for name, value in runpy.run_path(str(SUITE / file)).items() if name.startswith("test_")}


def evidence_of(claim: Callable[..., None], fixtures: Mapping[str, Any]) -> Evidence:
    """What a claim gathers, to its end or to the first comparison that fails or is undecided."""
    names = inspect.signature(claim).parameters
    with gathering() as evidence, contextlib.suppress(AssertionError, Inconclusive, NotApplicable):
        claim(**{name: fixtures[name] for name in names})
    return evidence


def comparable(evidence: Evidence) -> dict[str, Any]:
    """Everything that a claim puts into the record; notes in no particular order."""
    return {
        "notes": sorted(evidence.notes),
        "figures": sorted((figure.title, str(figure.data)) for figure in evidence.figures),
        "grids": sorted(grid.name for grid in evidence.grids),
        "beside": [(control.name, control.effect) for control in evidence.controls],
        "decisions": [(decision.verdict, decision.effect) for decision in evidence.decisions],
        "alternatives": evidence.alternatives,
        "items": evidence.items,
    }


DEEP = Circuit(layers=10, mlp_layer=2, head=(6, 1), noise=0.3)
"""Deep enough for other bands after the early one."""


Fixtures = Callable[[], dict[str, Any]]
"""Makes the fixtures of a suite anew."""


@pytest.fixture(scope="module")
def deep() -> Fixtures:
    questions = PersonaQuestions(open_circuit(DEEP), items=items(), n_items=8)

    def fixtures() -> dict[str, Any]:
        patching = PersonaPatching(questions, bands=(EARLY, MIDDLE))
        return {
            "patching": patching,
            "layers": PersonaLayers(patching),
            "answers": PersonaAnswers(questions, n_items=4, n_words=5),
            "threshold": lambda default, *_: default,
        }

    return fixtures


@pytest.fixture(scope="module")
def seeing() -> Fixtures:
    heads = set_heads(open_circuit(SEEING), SEEING)

    def fixtures() -> dict[str, Any]:
        fresh = PersonaHeads(heads.questions)
        return {"heads": fresh, "head_edits": HeadEdits(fresh)}

    return fixtures


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("test_how_personas_answer.py", "deep"),
        ("test_where_personas_act.py", "deep"),
        ("test_which_heads_see_personas.py", "seeing"),
    ],
)
def test_a_claim_gathers_the_same_whichever_claims_ran_before(file: str, planted: str, request) -> None:
    """A note that only the first user of a measurement had would differ between one order and its reverse."""
    suite, fixtures = claims(file), request.getfixturevalue(planted)
    one, other = (
        {name: comparable(evidence_of(suite[name], shared)) for name in order}
        for order, shared in ((list(suite), fixtures()), (list(suite)[::-1], fixtures()))
    )
    assert all(gathered["notes"] and gathered["decisions"] for gathered in one.values())
    for name in suite:
        assert one[name] == other[name], name


MEASURED = {
    "test_early_mlps_carry_the_persona": (EARLY, RandomBands(EARLY)),
    "test_middle_attention_carries_the_persona": (MIDDLE, RandomBands(MIDDLE)),
    "test_first_mlp_acts_at_the_identity_word": (
        *(mlp.layer(0)[at] for at in ("identity", "all", "elsewhere")),
        *(embeddings[at] for at in ("identity", "elsewhere")),
    ),
    "test_early_mlps_act_through_the_middle_attention": (
        EARLY["identity"],
        Held(EARLY["identity"], MIDDLE),
        Held(EARLY["identity"], RandomBands(MIDDLE, 2)),
    ),
    "test_the_early_mlps_of_the_right_run_count": (
        EARLY,
        *(FromDonor(EARLY, (), label) for label in ("another negative persona", "another question")),
    ),
}
"""Claim -> what it restores; on this model the early band ends with layer 2."""


@pytest.mark.parametrize("name", MEASURED)
def test_every_condition_that_was_measured_is_recorded_and_every_effect_follows_from_it(
    deep: Fixtures, name: str
) -> None:
    """Whatever the claim's verdict: an undecided comparison ends it before the next one is made."""
    evidence = evidence_of(claims("test_where_personas_act.py")[name], deep())
    assert evidence.decisions
    values = {
        (row.measurement, row.condition, row.item): row.value for row in evidence.items.values() if not row.effect
    }
    recorded = {condition for _, condition, _ in values}
    assert recorded >= {CORRUPT, CLEAN, *map(str, MEASURED[name])}
    for decision in evidence.decisions:
        columns: dict[str, list[float]] = {}
        for row in evidence.items.values():
            if row.effect == decision.effect.name:
                columns.setdefault(row.condition, []).append(row.value)
        denominator = np.mean(columns["denominator"]) if "denominator" in columns else 1.0
        assert np.mean(columns["numerator"]) / denominator == pytest.approx(decision.effect.estimate)


@pytest.mark.parametrize(("layer", "verdict"), [(2, Verdict.FAIL), (1, Verdict.PASS)])
def test_a_band_whose_verdict_hangs_on_how_layers_are_counted_is_shown_to(layer: int, verdict: Verdict) -> None:
    """Of 10 layers the early band is 1 and 2 counted from zero, and 0 and 1 counted from one."""
    questions = PersonaQuestions(open_circuit(replace(DEEP, mlp_layer=layer)), items=items(), n_items=8)
    patching = PersonaPatching(questions, bands=(EARLY, MIDDLE))
    fixtures = {"patching": patching, "layers": PersonaLayers(patching), "threshold": lambda default, *_: default}
    evidence = evidence_of(claims("test_where_personas_act.py")["test_early_mlps_carry_the_persona"], fixtures)
    assert [decision.verdict for decision in evidence.decisions] == [Verdict.PASS, Verdict.PASS]
    found = {one.other: one.verdict for one in evidence.alternatives}
    assert found == {"layers counted from one": verdict, "probabilities of the answer": Verdict.PASS}


def test_bands_counted_from_one_run_in_the_batch_of_the_claims_own_and_give_the_same_numbers(
    deep: Fixtures,
) -> None:
    """So the claims' alternatives cost two bands, and not both runs of every item again."""
    apart: PersonaPatching = deep()["patching"]
    meter, others = apart.adapter.meter, (EARLY_FROM_ONE, MIDDLE_FROM_ONE)
    together = PersonaPatching(apart.questions, bands=(EARLY, MIDDLE), alternatives=others)
    costs, found = [], []
    for patching in (apart, together):
        before = meter.token_layers
        found.append([patching.recovery(site).numerator.tolist() for site in (EARLY, MIDDLE, *others)])
        costs.append(meter.token_layers - before)
    assert found[0] == found[1]
    assert costs[1] < 0.7 * costs[0]


def told(mean: float, name: str) -> Estimate:
    index = pd.Index([f"item {i}" for i in range(12)], name="item")
    measured = Measurement("told", "logit", pd.DataFrame(index=index), pd.DataFrame({"topic": index}, index))
    return Estimate(name, "logit", measured, mean + stream(0, "told", name).normal(0, 0.05, 12))


class ToldHeads:
    """Heads of which only zero ablation and raw attention show anything."""

    def moved(self, ablation: str) -> tuple[Estimate, Estimate]:
        return told(1.0 if ablation == "zero" else 0.0, f"those, {ablation}"), told(0.5, f"random, {ablation}")

    def lost(self, site: Site, count: str = RAW) -> tuple[Estimate, Estimate, Estimate]:
        return (
            told(1.0 if count == RAW else -1.0, count),
            told(0.5, f"other, {count}"),
            told(-2.0, f"there, {count}"),
        )

    def singled_out(self, against: str = "valence", count: str = RAW, query: str = "last") -> Estimate:
        return told(1.0 if query == "last" else -1.0, "heads")

    def figures(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "test_removing_those_heads_moves_the_answer",
            {"zero ablation alone": "PASS", "mean ablation alone": "FAIL", "resample ablation alone": "FAIL"},
        ),
        (
            "test_valence_activations_take_those_heads_attention_away",
            {"the first token left out": "FAIL", "attention weighted by value": "FAIL"},
        ),
        (
            "test_some_heads_single_out_racial_and_colour_words",
            {
                "the first token left out": "PASS",
                "attention weighted by value": "PASS",
                "neutral words": "PASS",
                "the answer's side": "FAIL",
            },
        ),
    ],
)
def test_a_verdict_on_heads_that_hangs_on_a_choice_is_shown_to(name: str, expected: dict[str, str]) -> None:
    heads = ToldHeads()
    evidence = evidence_of(claims("test_which_heads_see_personas.py")[name], {"heads": heads, "head_edits": heads})
    assert {one.other: str(one.verdict) for one in evidence.alternatives} == expected


def test_where_a_head_is_planted_its_claims_hang_on_no_choice(seeing: Fixtures) -> None:
    fixtures = seeing()
    for name, claim in claims("test_which_heads_see_personas.py").items():
        evidence = evidence_of(claim, fixtures)
        own = {decision.verdict for decision in evidence.decisions}
        assert {one.verdict for one in evidence.alternatives} == own, name
