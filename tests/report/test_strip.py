"""The strip shows what a claim says under other choices, in a sentence, in numbers, and drawn."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hostile import Document

from auditkit.record.schema import Alternative, Claim, Effect, FamilyPlace, Run, Verdict
from auditkit.report import render_html, render_markdown
from auditkit.report.strip import WIDTH, Strip, sentence, strip_of
from tests.report.conftest import build_run, claim, effect

pytestmark = pytest.mark.unit

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def other(name: str, verdict: Verdict, *effects: Effect) -> Alternative:
    return Alternative(choice="ablation", own="zero", other=name, verdict=verdict, reason="so", effects=effects)


def claimed(verdict: Verdict, *others: Alternative, own: Effect | None = None, **changes: Any) -> Claim:
    return claim(
        verdict, "a_claim", "It holds.", "so", own or effect(0.5, 0.4, 0.6), alternatives=others, **changes
    )


def strip(one: Claim) -> Strip:
    found = strip_of(one)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("own", "others", "said"),
    [
        (PASS, {"a": PASS}, "The verdict is the same under the other choice."),
        (FAIL, {"a": FAIL, "b": FAIL}, "The verdict is the same under both other choices."),
        (PASS, {"a": PASS, "b": PASS, "c": PASS}, "The verdict is the same under all 3 other choices."),
        (
            PASS,
            {"a": PASS, "mean ablation": OPEN, "b": PASS},
            "The verdict is the same under 2 of 3 other choices; with mean ablation the claim is undecided.",
        ),
        (
            OPEN,
            {"a": PASS, "b": FAIL, "c": PASS, "d": PASS},
            "The verdict is the same under none of 4 other choices; with a, c or d the claim holds; with b the claim "
            "fails.",
        ),
        (PASS, {"a": FAIL}, "The verdict is not the same under the other choice; with a the claim fails."),
        (
            Verdict.NOT_APPLICABLE,
            {"a": Verdict.ERROR, "b": Verdict.NOT_APPLICABLE},
            "The verdict is the same under 1 of 2 other choices; with a the claim cannot be read.",
        ),
    ],
)
def test_one_sentence_says_whether_the_verdict_hangs_on_a_choice(own, others, said) -> None:
    assert sentence(claimed(own, *(other(name, verdict) for name, verdict in others.items()))) == said


def test_alternatives_are_compared_with_the_verdict_that_the_claim_has_without_its_family() -> None:
    family = FamilyPlace(name="all", size=9, alone=FAIL, alone_reason="so", p=0.01, p_adjusted=0.09)
    one = claimed(OPEN, other("a", FAIL), family=family)
    assert sentence(one) == "The verdict is the same under the other choice. The claim by itself fails."
    assert strip(one).rows[0].verdict is FAIL


def test_alternatives_are_compared_with_what_the_claim_came_to_before_a_baseline_was_asked() -> None:
    one = claimed(FAIL, other("a", Verdict.NOT_APPLICABLE), lack="behaviour")
    assert sentence(one) == "The verdict is the same under the other choice. The claim by itself does not apply."


def test_a_claim_without_alternatives_shows_nothing() -> None:
    assert strip_of(claimed(PASS)) is None
    without = build_run(claims=(claimed(PASS),))
    assert "Other choices" not in Document(render_html(without)).text


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", path)]


def test_intervals_of_one_unit_are_drawn_on_one_scale_and_the_claimed_side_is_shaded() -> None:
    drawn = [
        row.drawing
        for row in strip(claimed(PASS, other("a", PASS, effect(0.7, 0.6, 0.8)), own=effect(0.5, 0.4, 0.6))).rows
    ]
    first, second = drawn
    assert first is not None
    assert second is not None
    assert first.ticks == second.ticks, "the threshold is at one place"
    assert numbers(first.point)[0] < numbers(second.point)[0]
    assert numbers(first.whisker)[2] == pytest.approx(numbers(second.whisker)[0]), (
        "one ends where the other begins"
    )
    assert numbers(first.region)[0] == numbers(first.ticks)[0]
    assert f"H{WIDTH:g}" in first.region


@pytest.mark.parametrize("relation", [">=", ">", "<=", "<", "within", None])
@pytest.mark.parametrize(
    "ends",
    [
        (0.5, 0.4, 0.6),
        (0.5, None, None),
        (None, None, None),
        (0.5, -900.0, 900.0),
        (1e308, -1e308, 1e308),
        (0, 0, 0),
    ],
)
def test_every_effect_is_drawn_inside_its_drawing(relation, ends) -> None:
    threshold = None if relation is None else 0.3
    for one in (effect(*ends, relation=relation, threshold=threshold), effect(*ends, exact=True)):
        for row in strip(claimed(PASS, other("a", PASS, one), own=one)).rows:
            assert (row.drawing is None) == (ends[0] is None)
            if row.drawing is not None:
                across = re.findall(
                    r"[MH](-?[\d.]+)", row.drawing.whisker + row.drawing.ticks + row.drawing.region
                )
                assert all(0 <= float(x) <= WIDTH for x in across)
                assert not one.exact or not row.drawing.whisker


def test_the_page_shows_every_choice_with_its_numbers_and_the_summary_none(sample_run: Run) -> None:
    page = Document(render_html(sample_run))
    assert (
        "The verdict is the same under 1 of 3 other choices; with layers counted from one the claim is undecided; with "
        "a band below the first layer the claim does not apply." in page.text
    )
    for text in (
        "0.321 [0.227, 0.416]",
        "layers of the band, instead of counted from zero",
        "Bands counted from one",
    ):
        assert text in page.text
    assert "other choices" not in render_markdown(sample_run)


def test_only_controls_of_the_alternative_itself_are_listed_again(sample_run: Run) -> None:
    one = sample_run.claims[0]
    shared = [msgspec.structs.replace(o, controls=one.controls[:1]) for o in one.alternatives]
    rows = strip(msgspec.structs.replace(one, alternatives=tuple(shared))).rows
    assert [row.controls for row in rows] == [()] * 4
    assert [len(row.controls) for row in strip(one).rows] == [0, 0, 1, 0]
