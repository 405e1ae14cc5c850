"""`--effort stepwise`: undecided claims get more items at a declared look, and decided ones stop early."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from auditkit.claims.evidence import gathering, note
from auditkit.claims.outcomes import Inconclusive, any_effect
from auditkit.gate.forecast import chance, forecasts, towards
from auditkit.gate.verify import verify
from auditkit.pytest_plugin.looks import is_open
from auditkit.record.plan import LOOKS
from auditkit.record.schema import Verdict
from auditkit.record.store import read_items
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.families import claim_p
from auditkit.stats.intervals import ALPHA, critical, spending
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit

CONFTEST = '''
import numpy as np
import pandas as pd
import pytest
from auditkit import note
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

MADE = []

class Table:
    """Items whose first values are those of a smaller table."""

    def __init__(self, n):
        MADE.append(n)
        self.n = n

    def effect(self, centre, name="effect"):
        noise = np.random.default_rng(0).normal(0, 1, 400)[: self.n]
        values = centre + noise - noise.mean()
        index = pd.Index([f"item{i}" for i in range(self.n)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i}" for i in range(self.n)]}, index=index)
        note(f"measured on {self.n}")
        return Estimate(name, "1", Measurement("m", "1", pd.DataFrame({"p": values}, index=index), labels), values)

@pytest.fixture(scope="session")
def table(model, audit):
    return Table(audit.sized(20))

@pytest.fixture
def fresh(audit):
    return audit.sized(20)

@pytest.fixture(scope="session")
def fixed(model):
    return Table(20)

def pytest_sessionfinish():
    print("tables made:", MADE)
'''
SUITE = '''"""A finding."""
from auditkit import NotApplicable, any_effect, present
import pytest

def test_far(table, threshold):
    """Is far above zero."""
    assert table.effect(3.0) > threshold(0.0)

def test_near(table, fresh, threshold):
    """Is above zero, as more items show."""
    assert fresh == table.n
    assert table.effect(0.4) > threshold(0.0, "first call")

def test_small(table):
    """Is above zero, which does not count."""
    assert table.effect(0.01) > any_effect(1.0)

def test_open(table):
    """Is above zero, and no look shows it."""
    assert table.effect(0.01) > 0

def test_absent(table):
    """Shows its behaviour with more items."""
    if table.n < 30:
        raise NotApplicable("too few to show it")
    assert table.effect(3.0) > 0

def test_fixed(fixed):
    """Has no number of items."""
    assert fixed.effect(0.4) > 0

def test_broken(table):
    """Breaks."""
    raise RuntimeError("broken")
'''


@pytest.fixture
def stepwise(audits: Any) -> Any:
    (audits.suite / "conftest.py").write_text(CONFTEST)
    (audits.suite / "test_finding.py").write_text(SUITE)
    audits.result = audits("--effort", "stepwise", "-s")
    return audits


def test_open_claims_are_looked_at_again_and_others_stop(stepwise: Any) -> None:
    found = {claim.id.removeprefix("suite/"): claim for claim in stepwise.run.claims}
    seen = {name: (claim.verdict, claim.effect and claim.effect.n) for name, claim in found.items()}
    assert seen == {
        "far": (Verdict.PASS, 20),
        "near": (Verdict.PASS, 60),
        "small": (Verdict.INCONCLUSIVE, 20),
        "open": (Verdict.INCONCLUSIVE, 60),
        "absent": (Verdict.PASS, 60),
        "fixed": (Verdict.INCONCLUSIVE, 20),
        "broken": (Verdict.ERROR, None),
    }
    effects = {name: claim.effect for name, claim in found.items() if claim.effect}
    assert [effects[name].spent for name in ("far", "near", "fixed")] == [0.1, 0.9, 1.0]
    assert effects["near"].alpha == pytest.approx(0.9 * ALPHA)
    assert effects["near"].threshold_call == 1, "what a test asks for is counted anew at each look"
    assert effects["fixed"].alpha == ALPHA
    assert found["near"].notes[0] == "measured on 60", "what was noted at the first look is forgotten"
    assert [
        claim.notes[-1].endswith(f"this is look {n}") for claim, n in ((found["far"], 1), (found["near"], 2))
    ] == [
        True,
        True,
    ]
    assert not any("looks were declared" in text for text in found["fixed"].notes)
    stepwise.result.stdout.fnmatch_lines(["*tables made: [[]20, 60, 20[]]*"])


def test_a_claim_alone_says_what_it_says_in_the_suite(stepwise: Any) -> None:
    whole = {claim.id: claim for claim in stepwise.run.claims}
    for name in ("near", "open"):
        stepwise("--effort", "stepwise", "-k", name)
        alone = stepwise.claim(name)
        assert (alone.effect, alone.notes, alone.verdict) == (
            whole[alone.id].effect,
            whole[alone.id].notes,
            whole[alone.id].verdict,
        )
        assert "--effort stepwise" in alone.rerun


def test_the_record_verifies_and_a_share_that_was_not_declared_does_not(stepwise: Any) -> None:
    run, items = stepwise.run, read_items(stepwise.folder)
    assert verify(run, items).problems == ()
    (near,) = (claim for claim in run.claims if claim.id == "suite/near")
    for spent, alpha in ((0.5, 0.045), (0.9, 0.2)):
        effect = msgspec.structs.replace(near.effect, spent=spent, alpha=alpha)
        claims = tuple(msgspec.structs.replace(c, effect=effect) if c is near else c for c in run.claims)
        problems = verify(msgspec.structs.replace(run, claims=claims), items).problems
        assert any("which the plan does not declare" in problem for problem in problems)
    settings = {**run.plan.settings, "effort": "thorough"}
    other = msgspec.structs.replace(run, plan=msgspec.structs.replace(run.plan, settings=settings))
    assert any("which the plan does not declare" in problem for problem in verify(other, items).problems)


def test_a_plan_knows_how_many_items_each_claim_had(stepwise: Any) -> None:
    by_name = {one.claim.id: one.power["thorough"] for one in forecasts(stepwise.run)}
    (claim,) = (claim for claim in stepwise.run.claims if claim.id == "suite/open")
    distance, half = towards(claim.effect)
    assert by_name["suite/open"] == pytest.approx(chance(distance, half, claim.effect, 2 / 3))
    (claim,) = (claim for claim in stepwise.run.claims if claim.id == "suite/small")
    distance, half = towards(claim.effect)
    assert by_name["suite/small"] == pytest.approx(chance(distance, half, claim.effect, 2))


def test_looks_cost_between_one_and_all(audits: Any) -> None:
    (audits.suite / "conftest.py").write_text(
        CONFTEST + "\ndef pytest_audit_tokens(suite):\n    return 1000 if suite == 'suite' else None\n"
    )
    (audits.suite / "test_finding.py").write_text(SUITE)
    audits("--effort", "stepwise", "-k", "far or near").stdout.no_fnmatch_line("this run:*")  # of some claims only
    audits("--effort", "stepwise").stdout.fnmatch_lines(
        ["this run: stepwise, between 1s and 1s (*to*token-layers*"]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--items", "8"), "--items and --effort both say"),
        (("--baseline", "."), "needs the same items on both models"),
        (("--audit-as-baseline",), "needs the same items on both models"),
        (("--data", "suite=x.csv"), "--data is measured whole"),
    ],
)
def test_what_it_cannot_go_with_is_refused_in_one_line(audits: Any, options: tuple[str, ...], words: str) -> None:
    result = audits("--effort", "stepwise", *options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{words}*"])


def drawn(values: np.ndarray) -> Estimate:
    index = pd.Index([f"item{i}" for i in range(len(values))], name="item")
    labels = pd.DataFrame({"topic": index.to_numpy()}, index=index)
    return Estimate("e", "1", Measurement("m", "1", pd.DataFrame({"p": values}, index=index), labels), values)


def test_looks_together_err_as_one_look_does() -> None:
    """At the threshold itself at most 2.5 % on either side, and the last look is hardly wider."""
    assert sum(look.spends for look in LOOKS) == pytest.approx(1.0)
    rounds = 40_000
    values = np.random.default_rng(7).normal(0, 1, (rounds, 60))
    open_still, wrong = np.ones(rounds, bool), {1: 0, -1: 0}
    for look in LOOKS:
        n = int(20 * look.share)
        with spending(look.spends):
            half = critical(n - 1) * values[:, :n].std(axis=1, ddof=1) / np.sqrt(n)
        for side in wrong:
            beyond = open_still & (side * values[:, :n].mean(axis=1) > half)
            wrong[side] += int(beyond.sum())
            open_still &= ~beyond
    assert all(0.022 <= count / rounds <= 0.0265 for count in wrong.values()), (
        "the error that is declared is spent"
    )
    items = values[0, :48]
    with spending(LOOKS[-1].spends):
        last = drawn(items).describe()
    once = drawn(items).describe()
    assert 1 < (last.upper - last.lower) / (once.upper - once.lower) < 1.05


def test_a_family_counts_the_share_that_was_spent(stepwise: Any) -> None:
    (near,) = (claim for claim in stepwise.run.claims if claim.id == "suite/near")
    whole = msgspec.structs.replace(near, effect=msgspec.structs.replace(near.effect, spent=1.0))
    assert claim_p(near) == pytest.approx(min(1.0, claim_p(whole) / 0.9))


def test_only_open_claims_get_more_items() -> None:
    values = np.linspace(-1, 1.2, 12)
    for threshold, expected in ((0.0, True), (any_effect(5.0), False), (-9.0, False), (9.0, False)):
        with gathering() as evidence:
            error = None
            try:
                _ = drawn(values) > threshold
            except Inconclusive as ended:
                error = ended
        assert is_open(evidence, error) is expected
    with gathering() as evidence:
        note("nothing was compared")
        assert not is_open(evidence, RuntimeError("broken"))
