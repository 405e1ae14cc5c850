"""Whether the suite's verdicts hang on a layer, a position or an average, where the divergences are planted."""

from __future__ import annotations

import contextlib
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import auditkit
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.findings.persona_composition.measurements.cells import Cells, Design
from auditkit.findings.persona_composition.measurements.geometry import Geometry
from auditkit.findings.persona_composition.measurements.patches import ADDITIVE, Patches
from auditkit.record.schema import Verdict
from auditkit.stats.streams import stream
from tests.planted.composing import grid, open_additive

pytestmark = pytest.mark.unit

SUITE = (
    Path(auditkit.__file__).parents[1] / "suites" / "persona_composition" / "test_do_persona_and_task_add_up.py"
)
PASS, FAIL = Verdict.PASS, Verdict.FAIL


@pytest.fixture(scope="module")
def cells() -> Cells:
    return Cells(Design(open_additive(), grid(), n_cells=18))


class Planted(Patches):
    """Divergences of about `cost(site, layer)` nats for the additive prediction, and of 1 nat for all else."""

    def __init__(self, cells: Cells, cost: Callable[[str, int], float], worst: float = 1.0) -> None:
        super().__init__(cells, deepest=0.55)
        self.cost, self.worst = cost, worst

    def totals(self, site: str, layer: int, what: str) -> np.ndarray:
        spread = np.exp(stream(0, "planted", site, str(layer), what).normal(0, 0.1, len(self.cells.cells)))
        level = self.cost(site, layer) if what == ADDITIVE else 1.0
        several = np.where(np.arange(len(spread)) < 3, self.worst, 1.0) if what == ADDITIVE else 1.0
        return level * spread * several


def claimed(name: str, measured: Patches | Geometry) -> tuple[set[Verdict], dict[str, Verdict]]:
    """Verdicts of the claim's comparisons, and of its alternatives."""
    with gathering() as evidence, contextlib.suppress(AssertionError, Inconclusive, NotApplicable):
        runpy.run_path(str(SUITE))[name](measured, lambda default, *_: default)
    return {one.verdict for one in evidence.decisions}, {one.other: one.verdict for one in evidence.alternatives}


AT_THE_END = "test_the_additive_prediction_is_near_clean_at_the_prompts_end"
IN_THE_ANSWER = "test_the_additive_prediction_is_near_clean_in_the_answer"


def test_where_nothing_hangs_on_a_choice_the_strip_says_the_same(cells: Cells) -> None:
    assert claimed(AT_THE_END, Planted(cells, lambda *_: 0.01)) == (
        {PASS},
        {"the next measured layer": PASS, "the arithmetic mean": PASS},
    )
    assert set(claimed(IN_THE_ANSWER, Planted(cells, lambda *_: 0.01))[1].values()) == {PASS}


def test_a_verdict_that_hangs_on_the_layer_is_shown_to(cells: Cells) -> None:
    first = cells.layers[0]
    own, others = claimed(AT_THE_END, Planted(cells, lambda _, layer: 0.01 if layer == first else 0.5))
    assert (own, others) == ({PASS}, {"the next measured layer": FAIL, "the arithmetic mean": PASS})


def test_a_verdict_that_hangs_on_the_average_is_shown_to(cells: Cells) -> None:
    own, others = claimed(AT_THE_END, Planted(cells, lambda *_: 0.01, worst=60.0))
    assert own == {PASS}
    assert others["the arithmetic mean"] is Verdict.INCONCLUSIVE


def test_a_verdict_that_hangs_on_the_position_is_shown_to(cells: Cells) -> None:
    own, others = claimed(IN_THE_ANSWER, Planted(cells, lambda site, _: 0.01 if site == "g1" else 0.5))
    assert own == {PASS, FAIL}
    assert (others["g1 alone"], others["g2 alone"]) == (PASS, FAIL)
    better = "test_the_additive_prediction_beats_other_states_in_the_answer"
    _, others = claimed(better, Planted(cells, lambda site, _: 0.01 if site == "g1" else 0.9))
    assert others == {"g1 alone": PASS, "g2 alone": FAIL}


def test_without_a_layer_behind_that_alternative_does_not_apply(cells: Cells) -> None:
    patches = Planted(cells, lambda *_: 0.01)
    last = [layer for layer in cells.layers if layer <= cells.layer(0.55)][-1]
    assert patches.behind({"p_last": cells.layers[0], "g1": last}) == {"p_last": cells.layers[1]}
    with pytest.raises(NotApplicable, match=f"no measured layer up to {last} lies behind {last}"):
        patches.behind({"g1": last})


def test_claims_about_directions_are_shown_at_other_depths_and_single_positions(cells: Cells) -> None:
    expected = {"depth 0.25", "depth 0.55", "p_last alone", "g1 alone", "g2 alone"}
    for name in ("test_the_sum_points_to_its_own_cell", "test_persona_and_task_point_apart"):
        _, others = claimed(name, Geometry(cells))
        assert set(others) == expected
        assert Verdict.ERROR not in others.values()
