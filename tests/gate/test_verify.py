"""`auditkit verify`: what follows from the items is derived again, and a record that was bent does not pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from audits import ROOT
from days import in_days

from auditkit.gate.verify import verify
from auditkit.record.schema import Run
from auditkit.record.store import read_items

pytestmark = pytest.mark.unit

CONFTEST = """
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

def measured(columns, unit="logit", name="m"):
    index = pd.Index([f"item{i}" for i in range(60)], name="item")
    labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
    return Measurement(name, unit, pd.DataFrame(columns, index=index), labels)

def noise(seed, center=0.0, spread=0.4):
    values = np.random.default_rng(seed).normal(0, spread, 60)
    return values + center - values.mean()

@pytest.fixture
def estimate(model):
    def make(center, name="effect", seed=0, share=False):
        table = measured({"p": noise(seed, center), "q": noise(9, 2.0, 0.1)}, name=f"m {name}")
        below = table.condition("q") if share else None
        return Estimate(name, "logit", table, table.condition("p"), below, ("p",))
    return make
"""
SUITE = '''"""A finding (Somebody 2020)."""
import numpy as np
import pytest
from auditkit import Choice, alternatives, beside, control, sensitivity
from auditkit.stats.effects.exact import exactly
from auditkit.stats.effects.geometric import geometric_ratio
from auditkit.stats.effects.rate import rate
from .conftest import measured, noise

def test_mean(estimate):
    """A mean, with a control and an effect beside it."""
    with control("the other way round"):
        assert estimate(-1.0, "control") < 0
    beside("beside", estimate(0.2, "beside", seed=3))

    def compare(center=1.0, check=1.0):
        with control("inside"):
            assert estimate(check, "inside") > 0
        assert estimate(center) > 0.5

    others = {"a low place": {"center": 0.1}, "a high place": {"center": 2.0}, "no place": {"check": -1.0}}
    alternatives(compare, Choice("place", "the middle", others))
    compare()

def test_several(estimate):
    """Two comparisons and a difference."""
    assert estimate(1.0, "one") > estimate(0.2, "two", seed=2)
    assert estimate(1.0, "share", share=True) > 0.2

def test_undecided(estimate):
    """Undecided."""
    assert estimate(1.0) > 1.0

@pytest.mark.claim(family="pair")
def test_fails(estimate):
    """Fails beyond chance."""
    assert estimate(1.0) > 2.0

@pytest.mark.claim(family="pair")
def test_holds(estimate):
    """Holds, in the same family."""
    assert estimate(1.0) > 0.5

def test_rates(model):
    """Rates, their difference and ratio."""
    values = (np.arange(60) % 5 > 0).astype(float)
    table = measured({"right": values}, unit="1", name="rates")
    one = rate(table, "right", name="one", among=[f"item{i}" for i in range(30)])
    other = rate(table, "right", name="other", among=[f"item{i}" for i in range(30, 60)])
    assert rate(table, "right", name="all") > 0.5
    assert one / other > 0.5
    assert (one - other).equals(0.0, within=0.4)

def test_scales(model):
    """A geometric mean and an exact value."""
    table = measured({"a": np.exp(noise(1, 1.0)), "b": np.exp(noise(2))}, unit="nat", name="scales")
    ratio = geometric_ratio(table, "a", "b", name="a over b")
    with sensitivity("a from b", ratio, by=1.5):
        assert ratio > 1.2
    from auditkit.stats.effects.mean import Estimate
    whole = Estimate("all of it", "nat", table, table.condition("a"), None, ("a",))
    assert exactly(whole, population="these", size=60) > 1.0

def test_not_applicable(estimate):
    """Its share is of nothing."""
    table = measured({"p": noise(0, 1.0), "q": noise(4, 0.0)}, name="nothing")
    from auditkit.stats.effects.mean import Estimate
    assert Estimate("of nothing", "logit", table, table.condition("p"), table.condition("q")) > 0.2

def test_waived(estimate):
    """Fails and is waived."""
    assert estimate(1.0) > 3.0

@pytest.mark.skip(reason="not today")
def test_skipped(estimate):
    """Skipped."""

def test_broken(estimate):
    """Breaks."""
    1 / 0
'''
WAIVERS = f'[[waiver]]\nclaim = "suite/waived"\nowner = "Ada"\nreason = "known"\nexpires = {in_days(30)}\n'


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The record of that suite as a plain document, and its items."""
    from audits import audit

    folder = tmp_path_factory.mktemp("suite") / "suite"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_finding.py").write_text(SUITE)
    (folder.parent / "waivers.toml").write_text(WAIVERS)
    options = ["--model", str(tiny_llama), "--waivers", str(folder.parent / "waivers.toml")]
    run = audit(folder.parent / "reports", str(folder), *options, codes=(1,))
    return json.loads((run / "audit.json").read_text()), read_items(run)


def checked(document: dict[str, Any], items: pd.DataFrame) -> tuple[str, ...]:
    return verify(msgspec.convert(document, Run), items).problems


def test_a_record_as_it_was_written_holds(recorded) -> None:
    document, items = recorded
    assert len(document["claims"]) == 11
    verified = verify(msgspec.convert(document, Run), items)
    assert verified.problems == ()
    assert verified.effects >= 14
    assert verified.not_computed == ()
    found = {claim["id"].split("/")[1]: claim["verdict"] for claim in document["claims"]}
    assert found == {
        "mean": "PASS", "several": "PASS", "undecided": "INCONCLUSIVE", "fails": "FAIL", "holds": "PASS",
        "rates": "PASS", "scales": "PASS", "not_applicable": "NOT_APPLICABLE", "waived": "FAIL",
        "skipped": "NOT_APPLICABLE", "broken": "ERROR",
    }  # fmt: skip


def claim(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in document["claims"] if one["id"] == f"suite/{name}")


def setting(path: str, value: object) -> Callable[[dict[str, Any], pd.DataFrame], None]:
    """An edit of one field: "fails.effect.estimate" of a claim, or "summary.verdict" of the run."""
    first, *rest = path.split(".")

    def edit(document: dict[str, Any], items: pd.DataFrame) -> None:
        place: Any = document if first == "run" else claim(document, first)
        *way, last = rest
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        assert place.get(last) != value, "the edit changes nothing"
        place[last] = value

    return edit


def without(name: str, field: str) -> Callable[[dict[str, Any], pd.DataFrame], None]:
    return lambda document, items: claim(document, name).update({field: []})


def item(effect: str, column: str, value: object) -> Callable[[dict[str, Any], pd.DataFrame], None]:
    def edit(document: dict[str, Any], items: pd.DataFrame) -> None:
        row = items.index[items["effect"] == effect][0]
        items.loc[row, column] = value

    return edit


def dropped(document: dict[str, Any], items: pd.DataFrame) -> None:
    items.loc[items.index[items["effect"] == "effect"][:5], "effect"] = ""


def doubled(document: dict[str, Any], items: pd.DataFrame) -> None:
    document["claims"].append(dict(claim(document, "mean")))


def removed(document: dict[str, Any], items: pd.DataFrame) -> None:
    document["claims"].remove(claim(document, "fails"))


def exchanged(document: dict[str, Any], items: pd.DataFrame) -> None:
    one, other = claim(document, "fails"), claim(document, "holds")
    one["effect"], other["effect"] = other["effect"], one["effect"]


def first_comparison_gone(document: dict[str, Any], items: pd.DataFrame) -> None:
    claim(document, "several")["also"] = []


def waived(document: dict[str, Any], items: pd.DataFrame) -> None:
    claim(document, "fails")["waiver"] = claim(document, "waived")["waiver"]


EDITS: dict[str, Callable[[dict[str, Any], pd.DataFrame], None]] = {
    "FAIL becomes PASS": setting("fails.verdict", "PASS"),
    "FAIL becomes INCONCLUSIVE": setting("waived.verdict", "INCONCLUSIVE"),
    "INCONCLUSIVE becomes PASS": setting("undecided.verdict", "PASS"),
    "NOT APPLICABLE becomes PASS": setting("not_applicable.verdict", "PASS"),
    "a skipped claim becomes PASS": setting("skipped.verdict", "PASS"),
    "ERROR becomes NOT APPLICABLE": setting("broken.verdict", "NOT_APPLICABLE"),
    "PASS becomes FAIL": setting("mean.verdict", "FAIL"),
    "an estimate": setting("fails.effect.estimate", 2.4),
    "the lower end of an interval": setting("undecided.effect.lower", 1.01),
    "the upper end of an interval": setting("fails.effect.upper", 2.5),
    "a threshold": setting("fails.effect.threshold", 0.5),
    "a relation": setting("fails.effect.relation", "<"),
    "alpha": setting("undecided.effect.alpha", 0.9),
    "the number of items": setting("mean.effect.n", 600),
    "the number of clusters": setting("mean.effect.clusters", 120),
    "a p-value": setting("fails.effect.p_fail", 0.4),
    "degrees of freedom": setting("mean.effect.df", 100.0),
    "the minimum detectable effect": setting("undecided.effect.mde", 0.001),
    "an effect becomes exact": setting("undecided.effect.exact", True),
    "a recipe says that there is no interval": setting("fails.effect.recipe.refused", "no_items: nothing"),
    "a recipe's rows": setting("fails.effect.recipe.rows", "another"),
    "the estimate of a control": setting("mean.controls.0.effect.estimate", -3.0),
    "the verdict of a control": setting("mean.controls.0.verdict", "FAIL"),
    "the estimate beside a claim": setting("mean.controls.1.effect.estimate", 3.0),
    "the estimate of an alternative": setting("mean.alternatives.0.effects.0.estimate", 3.0),
    "the threshold of an alternative": setting("mean.alternatives.0.effects.0.threshold", 0.05),
    "the verdict of an alternative": setting("mean.alternatives.0.verdict", "PASS"),
    "a control of an alternative": setting("mean.alternatives.2.controls.1.verdict", "PASS"),
    "the name of an alternative": setting("mean.alternatives.1.other", "a better place"),
    "an alternative is taken out": without("mean", "alternatives"),
    "a control is taken out": without("mean", "controls"),
    "a comparison is taken out": first_comparison_gone,
    "a rate": setting("rates.also.0.estimate", 0.95),
    "a contrast of rates": setting("rates.also.1.lower", 0.7),
    "an exact value": setting("scales.also.0.estimate", 9.0),
    "a geometric mean": setting("scales.effect.estimate", 9.0),
    "a claim is removed": removed,
    "a claim is doubled": doubled,
    "a claim is renamed": setting("fails.id", "suite/other"),
    "effects of two claims are exchanged": exchanged,
    "a waiver is added": waived,
    "a waiver is taken off": setting("waived.waiver", None),
    "the size of a family": setting("fails.family.size", 40),
    "a p-value in a family": setting("fails.family.p", 0.5),
    "an adjusted p-value": setting("fails.family.p_adjusted", 0.5),
    "the run's verdict": setting("run.summary.verdict", "PASS"),
    "the run's counts": setting("run.summary.fail", 0),
    "the digest of the plan": setting("run.plan_sha256", "0" * 64),
    "a threshold of the plan": setting("run.plan.thresholds", {"suite/fails#1": "0.5"}),
    "a setting of the plan": setting("run.plan.settings.alpha", "0.5"),
    "a value in the items": item("effect", "value", 9.0),
    "a cluster in the items": item("effect", "clusters", "topic=other"),
    "the claim of an item": item("effect", "claim", "suite/holds"),
    "items are taken out": dropped,
}


@pytest.mark.parametrize("name", EDITS)
def test_a_record_that_was_edited_does_not_hold(recorded, name: str) -> None:
    document, items = json.loads(json.dumps(recorded[0])), recorded[1].copy()
    EDITS[name](document, items)
    assert checked(document, items)


def test_the_table_of_edits_in_the_docs_is_this_one() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    written = text.split("<!-- edits: begin -->\n")[1].split("<!-- edits: end -->")[0].splitlines()
    assert written == [f"- {name}" for name in EDITS]
