"""A candidate against its baseline: the planted head is kept, weakened or gone; a model against itself."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pandas as pd
import pytest
import torch

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.findings.induction.measurements.changes import BY_HEAD, kept_heads
from auditkit.findings.induction.measurements.heads import InductionHeads
from auditkit.findings.induction.measurements.repeats import Repeats
from auditkit.gate.changes import Counterpart, Past
from auditkit.record.baseline import Recorded
from auditkit.record.schema import Run
from tests.planted.inducing import NOTHING, SIZE, Inducing, plant

pytestmark = pytest.mark.unit

INDUCTION = Inducing().induction


def searched(adapter: HFAdapter) -> InductionHeads:
    heads = InductionHeads(Repeats(adapter, seed=0))
    assert heads.repeats.measured
    return heads


def recorded(heads: InductionHeads, a_run: Run, folder: Path) -> Counterpart:
    """The counterpart of a run on these heads' model, as a later run asks for it."""
    claim = a_run.claims[0].id
    with gathering() as evidence, pytest.raises(NotApplicable, match="no baseline"):
        kept_heads(heads, Counterpart(claim, "suite", None))
    rows = [msgspec.structs.replace(row, claim=claim) for row in evidence.items.values()]
    assert sum(row.measurement == BY_HEAD and not row.effect for row in rows) == 16 * 16
    run = msgspec.structs.replace(a_run, claims=a_run.claims[:1])
    frame = pd.DataFrame(msgspec.to_builtins(rows))
    return Counterpart(claim, "suite", Past(Recorded("base", folder, run, "ab", frame), run.plan, run.model))


@torch.no_grad()
def test_a_lost_head_fails_a_kept_one_passes_and_itself_is_undecided(
    inducing: HFAdapter, a_run: Run, tmp_path: Path
) -> None:
    plant(inducing, Inducing())
    base = recorded(searched(inducing), a_run, tmp_path)
    now, then = kept_heads(searched(inducing), base).both()
    with pytest.raises(Inconclusive, match="the same value on every item"):
        assert now.no_worse_than(then, by=0.1, better="higher")

    weights = inducing.module.model.layers[INDUCTION[0]].self_attn.q_proj.weight
    part = weights[INDUCTION[1] * SIZE : (INDUCTION[1] + 1) * SIZE]
    part += 1e-4 * torch.randn(part.shape, generator=torch.Generator().manual_seed(1))
    kept = kept_heads(searched(inducing), base)
    now, then = kept.both()
    assert now.no_worse_than(then, by=0.1, better="higher")
    assert kept.found(False) == [INDUCTION]
    assert kept.figures()

    part.zero_()
    now, then = kept_heads(searched(inducing), base).both()
    assert not now.no_worse_than(then, by=0.1, better="higher")

    plant(inducing, NOTHING)
    nothing = recorded(searched(inducing), a_run, tmp_path)
    with pytest.raises(NotApplicable, match="the baseline has no induction heads"):
        kept_heads(searched(inducing), nothing).both()
    plant(inducing, Inducing())
