"""The suite of docs/contrast.md concludes what is planted, and does not where nulls do as much."""

from __future__ import annotations

import pytest
from docpages import ROOT, blocks

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Threshold
from auditkit.claims.verdicts import concluded
from auditkit.methods.contrast.effects import Effects, effects
from auditkit.methods.contrast.nulls import nulls
from auditkit.record.schema import Verdict
from tests.methods.contrast.conftest import CARRIES, Asked

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def removal(valence: Asked) -> Effects:
    split = valence.contrast.halves(seed=0)
    direction = valence.contrast.direction(CARRIES, -1, split.discovery)
    null = nulls(valence.contrast, direction, split.discovery, seed=0, each=2)
    edits = {"direction": direction.remove()} | {name: other.remove() for name, other in null.items()}
    outcome = valence.outcome.only([item for item in split.confirmation if item.endswith("+")])
    return effects(valence.adapter, outcome, edits)


def verdict_of(removal: Effects) -> Verdict:
    (text,) = [t for kind, t, _ in blocks((ROOT / "docs/contrast.md").read_text()) if kind == "python sketch"]
    names: dict = {}
    exec(compile(text, "docs/contrast.md", "exec"), names)
    claim, error = names["test_the_direction_lowers_the_odds_of_yes"], None
    with gathering() as evidence:
        try:
            claim(removal, lambda value: Threshold(value, ""))
        except Exception as raised:
            error = raised
        return concluded(evidence, error)[0]


def test_the_planted_direction_passes(removal: Effects) -> None:
    assert verdict_of(removal) is Verdict.PASS


def test_a_null_in_its_place_does_not_pass(removal: Effects) -> None:
    swapped = dict(removal.values)
    swapped["direction"], swapped["random 2"] = swapped["random 2"], swapped["direction"]
    assert verdict_of(Effects(removal.name, removal.unit, removal.table, swapped)) in (Verdict.FAIL, Verdict.ERROR)
