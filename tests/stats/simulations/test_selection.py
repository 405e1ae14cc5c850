"""What the simulations of choosing compute is what the estimates of a suite compute."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.methods.separation.auc import auc_parts
from auditkit.methods.separation.probes import fitted_scores
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import CrossFitted
from auditkit.stats.measurement import Measurement
from auditkit.stats.simulations.selection import TABLES, _half, _parts, _ridge

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("kind", "doubled"), [(Estimate, False), (CrossFitted, True)])
def test_intervals_are_those_of_estimates(kind: type[Estimate], doubled: bool) -> None:
    values = np.random.default_rng(0).normal(size=(3, 12))
    mean, half = _half(values, doubled)
    index = [str(n) for n in range(12)]
    for row, (centre, width) in enumerate(zip(mean, half, strict=True)):
        table = Measurement("m", "1", pd.DataFrame(index=index), pd.DataFrame({"item": index}, index=index))
        effect = kind("x", "1", table, values[row]).describe()
        assert (effect.lower, effect.upper) == pytest.approx((centre - width, centre + width))


def test_probes_and_areas_are_those_of_the_suite() -> None:
    draw = np.random.default_rng(1)
    points, positive = draw.normal(size=(40, 15)), np.arange(40) % 2 == 0
    train, test = points[:28], points[28:]
    probe = _ridge(train, positive[:28])
    own = fitted_scores(train, positive[:28], test, "ridge", standardise=False)
    mine = test @ probe
    assert mine - mine.mean() == pytest.approx(own - own.mean())
    assert _parts(mine, positive[28:]) == pytest.approx(auc_parts(own, positive[28:]))


def test_every_table_has_a_block_in_the_docs() -> None:
    from pathlib import Path

    import auditkit

    page = (Path(auditkit.__file__).parents[1] / "docs" / "statistics.md").read_text()
    for name in TABLES:
        block = page.split(f"<!-- simulated: {name} -->\n")[1].split("\n<!-- end -->")[0]
        assert block.startswith("| ")
        assert block.count("\n") >= 5
