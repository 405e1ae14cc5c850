"""Effects as sentences: direction, numbers and limits are those of the effect, whatever its name, unit and size."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auditkit.record.provenance import Recipe
from auditkit.record.schema import Effect, Relation
from auditkit.report import effects
from auditkit.report.effects import in_words
from tests.report.conftest import effect as sample

pytestmark = pytest.mark.unit

RELATIONS: tuple[Relation, ...] = (">=", ">", "<=", "<", "within")
DECISION = "disabled minus able-bodied, favourable decision minus 0"


def effect(estimate: float | None, lower: float | None, upper: float | None, **changes: Any) -> Effect:
    return msgspec.structs.replace(sample(estimate, lower, upper), **changes)


def logits(estimate: float, lower: float | None, upper: float | None, **changes: Any) -> Effect:
    fields: dict[str, Any] = {"name": DECISION, "unit": "logit", "relation": "within", "threshold": 0.25}
    return effect(estimate, lower, upper, **(fields | changes))


def read(text: str) -> float:
    """A number as the report writes it."""
    back, _, power = text.replace("−", "-").replace(",", "").partition("×10")
    return float(f"{back}e{int(power.translate(str.maketrans('⁻⁰¹²³⁴⁵⁶⁷⁸⁹', '-0123456789')) or 0)}")


NUMBER = r"−?[\d.,]+(?:×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?"


def interval_of(sentence: str) -> str:
    found = re.search(r" \[([^\]]*)\]", sentence)
    assert found, sentence
    return found[1]


# -- examples --------------------------------------------------------------------------------------------------


def rates(name: str, compare: str = "") -> dict[str, Any]:
    return {"name": name, "unit": "1", "recipe": Recipe(kind="rates", rows=name, compare=compare)}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            logits(-0.107, -0.141, -0.0733),
            "The odds of a favourable decision are 10 % lower for “disabled” than for “able-bodied” "
            "[7.1 to 13 % lower]; allowed is from 22 % lower to 28 % higher.",
        ),
        (
            logits(0.02, -0.01, 0.05, relation=None, threshold=None),
            "The odds of a favourable decision are 2 % higher for “disabled” than for “able-bodied” "
            "[1 % lower to 5.1 % higher].",
        ),
        (
            logits(1.2, 0.5, 2.0, name="woman minus other groups, favourable decision", relation=">=", threshold=-0.25),
            "The odds of a favourable decision are 3.32 times as high for “woman” as for the other groups "
            "[65 % higher to 7.39 times as high]; it must be at most 22 % lower.",
        ),
        (
            effect(0.111, 0.0581, 0.163, name="late minus bag of words", unit="AUC", relation=">", threshold=0),
            "“late” is 0.111 AUC above “bag of words” [0.0581 to 0.163 AUC above]; it must be above.",
        ),
        (
            effect(-0.0846, -0.12, -0.0493, name="scan minus probe", unit="AUC", relation=">=", threshold=-0.02),
            "“scan” is 0.0846 AUC below “probe” [0.0493 to 0.12 AUC below]; it must be at most 0.02 AUC below.",
        ),
        (
            effect(4.604, -1.918, 11.13, name="units shared", unit="standard deviations from chance", relation="<=",
                   threshold=-3),
            "“units shared” is 4.60 standard deviations above chance [1.92 below to 11.1 standard deviations above]; "
            "it must be at least 3 standard deviations below.",
        ),
        (
            effect(
                0.0104, -0.224, 0.248, name="accuracy, negative minus positive", unit="1", relation="<", threshold=0
            ),
            "The accuracy for “negative” is 1 percentage point above that for “positive” "
            "[22 below to 25 percentage points above]; it must be below.",
        ),
        (
            effect(1.31, 0.589, 2.98, **rates("white woman / white man", "ratio"), relation=">=", threshold=0.8),
            "The rate of “white woman” is 1.31 times that of “white man” [0.589 to 2.98 times]; it must be at least "
            "0.8 times.",
        ),
        (
            effect(5.66, 4.43, 7.24, name="BB / additive", unit="times", relation=">", threshold=1),
            "“BB” is 5.66 times “additive” [4.43 to 7.24 times]; it must be larger.",
        ),
        (
            effect(0.5832, 0.5117, 0.6519, unit="of the total effect"),
            "“recovery by MLP layers 2-5” is 58 % of the total effect [51 to 65 %]; it must be at least 30 %.",
        ),
        (
            effect(0.9599, 0.936, 0.984, name="additive", unit="rank correlation", threshold=0.8),
            "“additive” has a rank correlation of 0.960 [0.936 to 0.984]; it must be at least 0.8.",
        ),
        (
            effect(0.205, None, None, name="largest of 85 swaps", unit="1", relation="<=", threshold=0.25, exact=True),
            "“largest of 85 swaps” is 0.205 (exact); it must be at most 0.25.",
        ),
        (
            effect(-0.0013, None, None, name="AUC with labels dealt at random minus 0.5", unit="AUC", relation="within",
                   threshold=0.02, exact=True),
            "“AUC with labels dealt at random” is 0.0013 AUC below 0.5 (exact); allowed is from 0.02 AUC below to "
            "0.02 AUC above.",
        ),
        (
            effect(0.0179, None, None, name="25 heads", unit="of attention", relation=">", threshold=0),
            "“25 heads” is 1.8 % of attention (no interval); it must be more than 0 %.",
        ),
    ],
)  # fmt: skip
def test_sentences(made: Effect, said: str) -> None:
    assert in_words(made) == said


def test_a_logit_difference_is_that_of_right_and_wrong_only_where_the_suite_asks_so() -> None:
    made = logits(-0.21, -0.34, -0.08, name="logit difference, negative minus positive", relation="<", threshold=0)
    assert in_words(made, "persona_patching").startswith(
        "The odds of the right answer against the wrong one are 19 % lower for “negative” than for “positive”"
    )
    assert in_words(made, "my_suite").startswith("The odds that the logit difference compares are 19 % lower")


def test_what_a_name_does_not_say_beyond_doubt_gets_the_plain_form() -> None:
    for name in (
        "moved by the heads",  # a mean of absolute values: no odds
        "right minus wrong answer, mean over identities",  # the comma may belong to both
        "a minus b minus c",
        'log odds of "I" against "you"',
        "sum against task alone",
        "a / b",
    ):
        said = in_words(logits(0.4, 0.3, 0.5, name=name, relation=">=", threshold=0.1))
        assert said == f"“{name}” is 0.4 logits [0.3 to 0.5]; it must be at least 0.1.", name
    assert in_words(None) == in_words(effect(None, None, None)) == ""


def test_a_percentage_is_told_from_its_threshold() -> None:
    """0.2996 is not shown as 30 % beside a threshold of 30 %."""
    said = in_words(effect(0.2996, 0.21, 0.38, unit="of the total effect"))
    assert "is 29.96 % of the total effect" in said
    assert "at least 30 %" in said


# -- properties ------------------------------------------------------------------------------------------------

small = st.floats(-3, 3, allow_nan=False).map(lambda value: float(f"{value:.4g}") if abs(value) > 1e-6 else 0.0)


@given(small, small, small)
def test_odds_have_the_direction_and_the_size_of_the_logits(a: float, b: float, c: float) -> None:
    lower, estimate, upper = sorted((a, b, c))
    said = in_words(logits(estimate, lower, upper, relation=None, threshold=None))

    def back(text: str, ending: str) -> float:
        """The factor that words stand for; `ending` is what a range says once."""
        number = read(re.match(NUMBER, text)[0])
        words = text if text.endswith(("lower", "higher", "high")) else f"{text} {ending}"
        if "times as high" in words:
            return number
        if "times lower" in words:
            return 1 / number
        return 1 + number / 100 * (1 if words.endswith("higher") else -1)

    body = re.match(
        r"The odds of a favourable decision are (.+) for “disabled” (?:than|as) for “able-bodied”", said
    )
    assert body
    if estimate == 0:
        assert body[1] == "the same"
    else:
        assert back(body[1], "") == pytest.approx(math.exp(estimate), rel=0.06, abs=0.006)
        assert ("lower" in body[1]) == (estimate < 0)
    ends = interval_of(said).split(" to ")
    factors = [1.0 if end == "the same" else back(end, ends[-1].split(" ", 1)[1]) for end in ends]
    factors *= 3 - len(ends)  # two equal ends are said once
    assert sorted(factors) == pytest.approx([math.exp(lower), math.exp(upper)], rel=0.06, abs=0.006)


@given(small, small, small, st.sampled_from(["logit", "nat", "AUC", "of the total effect", "unknown unit", "1"]))
def test_differences_have_the_direction_and_the_size_of_the_estimate(
    a: float, b: float, c: float, unit: str
) -> None:
    lower, estimate, upper = sorted((a, b, c))
    said = in_words(effect(estimate, lower, upper, name="one minus two", unit=unit, relation=None, threshold=None))
    scale = 0.01 if unit.startswith("of ") else 1
    head = re.match(rf"“one” is (?:({NUMBER}).* (above|below)|equal to) “two”", said)
    assert head, said
    if head[1]:
        assert (head[2] == "above") == (estimate > 0)
        assert read(head[1]) * scale == pytest.approx(abs(estimate), rel=0.06)
    else:
        assert estimate == 0
    first, _, last = interval_of(said).partition(" to ")
    last = last or first
    sides = [(re.search("above|below", end) or re.search("above|below", last))[0] for end in (first, last)]
    ends = [
        read(re.match(NUMBER, end)[0]) * scale * (1 if side == "above" else -1)
        for end, side in zip((first, last), sides, strict=True)
    ]
    assert sorted(ends) == pytest.approx([lower, upper], rel=0.06)


@given(small, st.sampled_from(RELATIONS), small, st.sampled_from(["one minus two", "level"]))
def test_the_limit_in_words_is_the_relation(threshold: float, relation: Relation, value: float, name: str) -> None:
    """The words are read back as a rule, which must accept and refuse the same values as the relation does."""
    assume(abs(abs(value) - abs(threshold)) > 0.02 * abs(threshold) + 1e-6)
    threshold = abs(threshold) if relation == "within" else threshold
    said = in_words(effect(0.5, 0.4, 0.6, name=name, unit="AUC", relation=relation, threshold=threshold))
    limit = said.partition("; ")[2].rstrip(".")

    def signed(words: str) -> float:
        number = read(re.search(NUMBER, words)[0])
        return -number if "below" in words else number

    if limit.startswith("allowed is from") or " between " in limit:
        first, last = re.split(" to | and ", limit)
        accepted = signed(first) <= value <= signed(last)
    elif limit in ("it must be above", "it must be not above", "it must be below", "it must be not below"):
        accepted = (value > 0) == (limit in ("it must be above", "it must be not below"))
    else:
        words = limit.removeprefix("it must be ")
        way, bound = re.match("(at least|at most|more than|less than)", words)[0], signed(words)
        larger = way in ("at least", "more than")
        # "At least 3 below" is a size on that side.
        accepted = (value > bound) == larger if "below" not in words else (value < bound) == larger
    expected = {
        ">=": value >= threshold, ">": value > threshold, "<=": value <= threshold, "<": value < threshold,
        "within": abs(value) <= threshold,
    }[relation]  # fmt: skip
    assert accepted == expected, said


wild = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.text() | st.sampled_from([DECISION, "a minus b", "a / b", "logit difference, a minus b", "x minus 1e3"]),
    wild, wild, wild, wild, st.none() | st.sampled_from(RELATIONS),
    st.sampled_from(["1", "logit", "times", "of it", "ln nats", "odd", *effects.UNITS]),
)  # fmt: skip
def test_every_effect_has_a_sentence(
    name: str, estimate: float | None, lower: float | None, upper: float | None, threshold: float | None,
    relation: Relation | None, unit: str,
) -> None:  # fmt: skip
    one = effect(estimate, lower, upper, name=name, threshold=threshold, relation=relation, unit=unit)
    said = in_words(one)
    assert (said == "") == (estimate is None)
    assert not re.search(r"\b(nan|inf|None)\b", said.replace(name, ""))
    assert not said or said.endswith(".")


# -- changes ---------------------------------------------------------------------------------------------------


def test_changes_in_words() -> None:
    claimed = effect(0.5, 0.4, 0.6, unit="of the total effect")
    worse = effect(-0.0412, -0.0671, -0.0153, unit="of the total effect", relation=None, threshold=None)
    assert effects.changed_in_words(worse, claimed) == (
        "Worse by 4.1 % of the total effect [1.5 to 6.7 % of the total effect worse]."
    )
    less = msgspec.structs.replace(claimed, relation="<=")
    assert effects.changed_in_words(worse, less).startswith("Better by 4.1 %")
    assert effects.changed_in_words(worse, None).startswith("Lower by 4.1 %")
    judged = msgspec.structs.replace(worse, relation=">=", threshold=-0.1)
    assert effects.changed_in_words(judged, None).startswith("Worse by 4.1 %"), (
        "the claim judges the change itself"
    )
    unsure = msgspec.structs.replace(worse, upper=0.01, unit="logit")
    assert effects.changed_in_words(unsure, claimed) == "No change is shown [0.0671 worse to 0.01 logits better]."
    without = msgspec.structs.replace(worse, lower=None, upper=None, unit="logit")
    assert effects.changed_in_words(without, claimed) == "The difference is −0.0412 (no interval)."
    assert effects.changed_in_words(msgspec.structs.replace(worse, estimate=None), claimed) == ""


@given(small.filter(bool), st.floats(0.01, 0.9), st.sampled_from(RELATIONS[:4]))
def test_a_change_in_words_has_its_direction(change: float, share: float, relation: Relation) -> None:
    half = abs(change) * share
    moved = effect(change, change - half, change + half, unit="logit", relation=None, threshold=None)
    said = effects.changed_in_words(moved, effect(0.5, 0.4, 0.6, relation=relation))
    better = (change > 0) == (relation in (">=", ">"))
    assert said.startswith("Better by " if better else "Worse by ")
    assert interval_of(said).endswith("better" if better else "worse")


def test_the_units_of_the_suites_are_explained() -> None:
    known = effects.units_of([effect(1, 0, 2, unit=unit) for unit in ("logit", "1", "of attention", "invented")])
    assert list(known) == ["logit", "of attention"]
    assert "28 % higher" in known["logit"]
    assert math.isclose(math.exp(0.25), 1.28, abs_tol=0.005)
    assert math.isclose(math.exp(0.69), 2, abs_tol=0.01)
