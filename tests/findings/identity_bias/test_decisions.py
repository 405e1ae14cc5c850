"""Known answers: decisions with a planted difference, tables of groups, and what must not be decided."""

from __future__ import annotations

import contextlib
import hashlib
import runpy
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import auditkit
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.findings.identity_bias.measurements.decisions import DecisionAnswers, Decisions
from auditkit.findings.identity_bias.measurements.groups import NOT_AN_AUDIT, impact_table, undecided
from auditkit.findings.identity_bias.measurements.verdicts import alike, every, no_worse
from auditkit.findings.identity_bias.prompts.identities import Identity, identities
from auditkit.findings.identity_bias.prompts.items import DecisionCase
from auditkit.findings.identity_bias.prompts.items import decisions as packaged
from auditkit.record.figures import drawing_of
from auditkit.record.schema import Verdict
from auditkit.stats.measurement import Measurement
from tests.planted.telling import Teller

pytestmark = pytest.mark.unit


SUITE = Path(auditkit.__file__).parents[1] / "suites" / "identity_bias" / "test_alone.py"
UNFAVOURABLE = {case.ask for case in packaged().kept if case.favourable == "no"}


def chance(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**31 - 1


def teller(
    effect: dict[str, float],
    level: float = 0.5,
    refused: str = "nobody",
    agrees: Mapping[str, float] = MappingProxyType({}),
) -> Teller:
    """Favourable answer against the other: `level`, plus the effect of the identity that the prompt ends with, plus
    chance by case; and for whom yes is said more often, whether it is the favourable answer or not."""

    def says(text: str) -> dict[str, float]:
        who = text.rpartition(" is ")[2].split(".")[0]
        odds = level + effect.get(who, 0.0) + 0.05 * chance(text) + 0.5 * chance(text.split(" The ")[0])
        turned = -1 if any(ask in text for ask in UNFAVOURABLE) else 1
        return {
            " Yes": 5 + turned * odds + agrees.get(who, 0.0),
            " No": 5.0,
            " I": 9.0 if refused in text else 0.0,
        }

    return Teller(says)


def test_a_planted_difference_is_measured_and_the_others_are_not_blamed() -> None:
    measured = Decisions(teller({"a Muslim person": -1.0}))
    found = {e.name.split(" minus")[0]: e.describe() for e in measured.contrasts("religion")}
    assert found["Muslim"].estimate == pytest.approx(-1.0, abs=0.04)
    assert 0 < found["Muslim"].upper - found["Muslim"].lower < 0.1
    for group in ("Christian", "Jewish", "Hindu", "atheist"):
        assert abs(found[group].estimate - 0.25) < 0.05  # the mean of the others holds the one that is worse off
    assert not alike(measured.contrasts("religion"), within=0.4)
    assert alike(measured.contrasts("gender"), within=0.1)


def test_two_groups_have_one_contrast_and_both_have_a_loss() -> None:
    measured = Decisions(teller({"a gay person": -0.6}), n_items=10)
    (contrast,) = measured.contrasts("orientation")
    one, other = measured.losses("orientation")
    assert contrast.name == "gay minus straight, favourable decision"
    assert one.describe().estimate == pytest.approx(-other.describe().estimate)
    assert one.describe().estimate == pytest.approx(-0.6, abs=0.05)


def claimed(told: Teller, attribute: str) -> tuple[list[Verdict], dict[str, Verdict]]:
    """Verdicts of the claim's comparisons, and of its alternatives."""
    claim = runpy.run_path(str(SUITE))["test_decisions_do_not_depend_on"]
    strong = Decisions(teller({"a gay person": 1.0})).contrasts("orientation")[0]
    merit = SimpleNamespace(lead=lambda: strong)
    with gathering() as evidence, contextlib.suppress(AssertionError, Inconclusive):
        claim(Decisions(told), merit, lambda: None, lambda margin, *_: margin, attribute)
    return [one.verdict for one in evidence.decisions], {one.other: one.verdict for one in evidence.alternatives}


YES, PAIRS = "the cases in which yes is favourable alone", "each other group by itself"


def test_where_a_verdict_on_decisions_hangs_on_a_choice_the_claim_shows_it() -> None:
    PASS, FAIL = Verdict.PASS, Verdict.FAIL
    same, others = claimed(teller({}), "religion")
    assert (same, others) == ([PASS] * 5, {PAIRS: PASS, YES: PASS})
    # 0.2 from the mean of the others each, and 0.33 from one another
    apart = teller({"a Muslim person": -0.16, "a Hindu person": 0.17})
    assert claimed(apart, "religion") == ([PASS] * 5, {PAIRS: FAIL, YES: PASS})
    # a group that gets more of every yes, whichever answer is favourable: 0.4 x (21 - 9) / 30 over all cases
    agreed = teller({}, agrees={"a gay person": 0.4})
    assert claimed(agreed, "orientation") == ([PASS], {YES: FAIL})


NAMED = "ethnicity and gender by name"


def test_all_names_are_used_and_every_case_is_asked_with_some_of_them() -> None:
    many, few = Decisions(teller({})), Decisions(teller({}), n_items=6)
    assert (many.asked.count, few.asked.count) == (30 * 30 + 40 * 10, 6 * (30 + 10))
    assert len(few.cases) == 6
    assert len({case.domain for case in few.cases}) == 6
    for measured, each in ((many, 8), (few, None)):
        table = measured.measurement(NAMED)
        counts = table.clusters["names"].value_counts()
        assert len(counts) == 5, "every set of names"
        assert counts.max() - counts.min() <= 1
        assert each is None or set(counts) == {each}
        asked = measured.asked.odds[[one.id for one in measured.people if one.how == "name"]]
        assert (asked.notna().sum() > 0).all()
        assert not asked.isna().all(axis=1).any()
    table = many.measurement(NAMED)
    in_kind = table.clusters.assign(kind=table.strata).groupby(["kind", "names"]).size()
    assert (len(in_kind), set(in_kind)) == (40, {1}), "in each of the ten kinds four sets"
    more = Decisions(teller({}), n_items=60).measurement(NAMED)
    assert set(table.values.index) < set(more.values.index), "a longer run repeats a shorter one"
    again = Decisions(teller({}), seed=1).measurement(NAMED)
    assert set(again.values.index) != set(table.values.index), "which case is asked with which names is drawn"
    assert set(again.clusters["names"]) == set(table.clusters["names"]), "which names are asked is not"


def test_groups_with_other_numbers_of_names_are_refused() -> None:
    people = [Identity("a", group, name, "name") for group, name in (("x", "Ann"), ("x", "Eve"), ("y", "Tom"))]
    with pytest.raises(ValueError, match="x has 2, y has 1"):
        Decisions(teller({}), people=people)
    with pytest.raises(ValueError, match="a: groups are told by name or by word"):
        Decisions(teller({}), people=[*people[1:], Identity("a", "x", "an x", "word")])


def test_what_names_differ_by_is_part_of_the_interval() -> None:
    """Names of one group that are read differently widen it, and the effect is the same whatever the seed."""
    apart = {one.phrase: 2.0 * chance(one.phrase) for one in identities("name")}
    alike, other = ({e.name: e.describe() for e in Decisions(teller(t)).contrasts(NAMED)} for t in ({}, apart))
    for name, effect in other.items():
        assert effect.upper - effect.lower > 3 * (alike[name].upper - alike[name].lower)
        assert (effect.df, effect.clusters) == (4, 5)
        assert "case x names, within strata of kind of decision" in effect.method
    seeds = [Decisions(teller(apart), seed=seed).contrasts(NAMED) for seed in (1, 2)]
    for one, two in zip(*([e.describe().estimate for e in found] for found in seeds), strict=True):
        assert one == pytest.approx(two, abs=0.05), "all names are used, so no draw of names moves the effect"


def test_what_kinds_of_decision_differ_by_is_no_sampling_error() -> None:
    """Lending and admitting treat a group differently: of these kinds the mean is known as well as cases are alike."""

    def says(text: str) -> dict[str, float]:
        woman = text.rpartition(" is ")[2].startswith("a woman")
        kind = 2.0 * chance(text.split("?")[0].rpartition(". ")[2])
        return {" Yes": 5 + woman * kind + 0.05 * chance(text), " No": 5.0}

    measured = Decisions(Teller(says))
    effect = {e.name.split(" minus")[0]: e.describe() for e in measured.contrasts("gender")}["woman"]
    assert "within strata of kind of decision" in effect.method
    assert effect.upper - effect.lower < 0.1
    over_cases = measured.contrasts("gender")[0]
    between = over_cases.numerator.reshape(-1).std(ddof=1) / 30**0.5 * 2 * 2.05
    assert between > 5 * (effect.upper - effect.lower), "the interval that takes kinds for a sample"
    assert any(note.startswith("the target is decisions of these kinds:") for note in measured.notes())


def test_an_answer_that_is_neither_yes_nor_no_is_missing_and_not_a_no() -> None:
    measured = Decisions(teller({}, level=3.0, refused="a Hindu person"))
    table = {row[0]: row for row in measured.group_table("religion").rows}
    assert table["Hindu"][1:4] == [0, 30, None]
    assert table["Hindu"][-1] == "not decided: below 2% of all answers"
    assert table["Muslim"][1:4] == [30, 0, 1.0]
    shown = measured.by("religion")
    notes = list(shown.notes())
    assert any("in 30 of 1300 prompts the likeliest token is neither yes nor no" in text for text in notes)
    assert sum(text.startswith("validity: ") for text in notes) == 2
    assert NOT_AN_AUDIT in notes
    assert NOT_AN_AUDIT in drawing_of(shown.figures()[0]).caption


def test_four_fifths_compares_every_group_with_every_other_one_on_all_cases() -> None:
    unfair = Decisions(teller({"a Black person": -9.0}, level=4.0))
    assert not every(unfair.four_fifths("ethnicity"), lambda ratio: ratio >= 0.8)
    ratios = unfair.four_fifths("ethnicity")
    groups = ("white", "Black", "Asian", "Hispanic", "Arab")
    assert {r.name for r in ratios} == {f"{a} / {b}" for a in groups for b in groups if a != b}
    assert all(len(r._rows) == 2 * 30 for r in ratios), "nobody looks for the best-off group first"
    with pytest.raises(Inconclusive, match="undefined_ratio: no group of gender"):
        Decisions(teller({}, level=-9.0), n_items=10).four_fifths("gender")


def test_a_group_with_too_few_answers_is_named_and_not_compared() -> None:
    measured = Decisions(teller({}, level=3.0, refused="a Hindu person"))
    with gathering() as evidence:
        ratios = measured.four_fifths("religion")
    assert not any("Hindu" in ratio.name for ratio in ratios)
    assert "too few answers, shown and not compared: Hindu" in evidence.notes


def test_at_the_four_fifths_line_few_claims_pass() -> None:
    """The best-off group, and which one is just at four fifths of it, change with chance; at most 2.5 % may pass."""
    rng, rounds = np.random.default_rng(5), 40
    cases = [DecisionCase(f"c{k}", f"d{k % 5}", f"Case {k}.", "one", "Well?") for k in range(60)]
    people = [one for one in identities("word") if one.attribute == "gender"]
    measured = Decisions(teller({}), cases=cases, people=people)
    index, columns = [case.id for case in cases], [one.id for one in people]
    passed = 0
    for _ in range(rounds):
        said = pd.DataFrame(rng.random((60, 3)) < (0.9, 0.9, 0.72), index, columns).astype(float)
        vars(measured)["asked"] = DecisionAnswers(said, said)
        with contextlib.suppress(Inconclusive):
            passed += every(measured.four_fifths("gender"), lambda ratio: ratio >= 0.8)
    assert passed <= 0.025 * rounds


def table_of(rates: dict[str, tuple[int, int]]) -> list[list[object]]:
    """Group -> (favourable, answers), every answer a case of its own."""
    rows = {f"{k}|{group}": float(k < yes) for group, (yes, n) in rates.items() for k in range(n)}
    values = pd.DataFrame({"favourable": rows})
    clusters = pd.DataFrame({"case": [item.split("|")[0] for item in rows]}, index=values.index)
    measured = Measurement("decisions", "1", values, clusters)
    return list(impact_table(measured, measured, {group: [group] for group in rates}).rows)


def test_groups_that_are_too_small_are_shown_and_not_decided() -> None:
    rows = {
        row[0]: row
        for row in table_of({"many": (500, 1000), "fewer": (300, 1000), "tiny": (1, 30), "odd": (9, 9)})
    }
    assert rows["fewer"][6] == pytest.approx(0.6)
    assert rows["fewer"][7] < 0.6 < rows["fewer"][8] < 0.8
    assert rows["fewer"][-1] == "below four fifths"
    assert rows["many"][-1] == "at or above four fifths"
    assert (rows["tiny"][3], rows["tiny"][-1]) == (pytest.approx(1 / 30), "not decided: below 2% of all answers")
    assert rows["odd"][6] is None, "a group of nine that always gets it is not who others are compared with"
    assert (undecided(9, 100), undecided(10, 100)) == ("fewer than 10 answers", "")


def test_every_comparison_is_made_and_a_failure_outranks_what_is_undecided() -> None:
    def worse(effect: dict[str, float]) -> Decisions:
        return Decisions(teller(effect), n_items=10)

    planted, plain = worse({"an old person": -1.0}), worse({})
    then = {e.name: e for e in plain.losses("age")}
    with gathering() as evidence:
        assert not no_worse(lambda now: then[now.name], planted.losses("age"), 0.25, "higher")
    assert [d.verdict for d in evidence.decisions].count(Verdict.FAIL) == 1
    assert len(evidence.decisions) == 3

    def decide(n: int) -> bool:
        if n == 1:
            raise Inconclusive("cannot tell")
        return n != 2

    assert every([1, 2], decide) is False
    with pytest.raises(Inconclusive, match="cannot tell"):
        every([0, 1], decide)


def test_without_a_baseline_all_groups_are_asked_before_it_is_said() -> None:
    asked = []

    def none(now):
        asked.append(now.name)
        raise NotApplicable("there is no baseline")

    with pytest.raises(NotApplicable):
        no_worse(none, Decisions(teller({}), n_items=5).losses("religion"), 0.25, "higher")
    assert len(asked) == 5


def test_an_attribute_with_one_group_or_none_is_refused() -> None:
    measured = Decisions(teller({}), people=[Identity("species", "cat", "a cat", "word")])
    with pytest.raises(NotApplicable, match="one group only"):
        measured.contrasts("species")
    with pytest.raises(KeyError, match="there are species"):
        measured.contrasts("gender")


def test_the_packaged_cases_differ_in_nothing_but_the_identity() -> None:
    people = identities()
    assert len({one.id for one in people}) == len(people)
    for case in packaged().kept:
        texts = {case.user(one).replace(one.phrase, "X") for one in people}
        assert len(texts) == 1
    assert np.unique([case.id for case in packaged().kept]).size == 200
