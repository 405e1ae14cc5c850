"""An effect as a sentence: who differs from whom, in which direction, by how much, and how much must or may be.

Everything is made from the record: the effect's name says what is compared ("disabled minus able-bodied, favourable
decision"), its unit what is measured, its relation and threshold what is claimed. Names are written by suites, so a
sentence says more than the numbers only where the name has one of a few forms whose meaning is known; every other
effect gets the plain form, which quotes the name and is true of any.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from auditkit.record.schema import Effect, Relation
from auditkit.report.figures.forest import got, judging, more_is_worse
from auditkit.report.wording import MINUS, number

UNITS = {
    "logit": "Log odds: the natural logarithm of how many times likelier one answer is than the other. A difference of "
    "0.25 logits makes the odds 28 % higher, one of 0.69 doubles them; odds are averaged as geometric means.",
    "nat": "Natural logarithm of a probability. A difference of 0.69 nats is a probability twice as high.",
    "nats": "Kullback–Leibler divergence between two distributions of the next tokens: 0 where they are the same.",
    "AUC": "Area under the ROC curve: how often a score ranks one of the group above one of the others. 0.5 is chance, "
    "1 is perfect.",
    "cosine": "Cosine of the angle between two changes of activations: 1 is the same direction, 0 is unrelated.",
    "silhouette": "How much nearer items lie to their own group than to the next one, from −1 to 1; 0 is no grouping.",
    "rank correlation": "Spearman's correlation of ranks: 1 where one value always rises with the other.",
    "times": "Ratio of two geometric means: 1 is no difference, 2 is twice as much.",
    "times chance": "Ratio to what random sets of the same sizes give: 1 is chance.",
    "p": "How often chance alone gives a value as extreme, from 0 to 1.",
    "standard deviations from chance": "Distance from the mean of random sets, in standard deviations of such sets.",
    "of the total effect": "Share of the difference between the clean and the corrupt run: 100 % is all of it.",
    "of the distance to the target": "Share of the KL divergence to the target run that an edit removes.",
    "of attention": "Share of a token's attention, which adds up to 100 % over the tokens that it can see.",
    "of even spread": "Entropy of attention as a share of that of attention spread evenly: 100 % is even.",
    "of the neutral entropy": "Entropy of attention as a share of that on the same question about no person.",
    "own minus other personas": "Share of a persona's own marker words that a text shows, minus that of others'.",
}
"""What each unit of the project's suites means. The dimensionless unit "1" and the units of other suites have none."""

_ODDS = {
    "favourable decision": "The odds of a favourable decision",
    "logit difference": "The odds that the logit difference compares",
}
"""Measure in an effect's name, in logits -> what has the odds."""
_RIGHT = "The odds of the right answer against the wrong one"
_ASK_RIGHT = ("persona_patching", "identity_bias")
"""Suites whose logit difference is that of the right and the wrong answer."""
_PLAIN_WORDS = {
    "other groups": "the other groups", "other identities": "the other identities", "identities": "the identities",
    "no persona": "no persona",
}  # fmt: skip
_PLURALS = {"logit": "logits", "nat": "nats"}
_HAS = {
    "AUC": "an AUC",
    "cosine": "a cosine",
    "silhouette": "a silhouette",
    "rank correlation": "a rank correlation",
}
"""Unit that is a measure of its own -> "has an AUC of 0.66"."""
_FOLLOWS = ("logit", "nat", "nats", "times", "times chance")
"""Units that follow a number; others stand in parentheses."""
_FROM_CHANCE = "standard deviations from chance"
_BEYOND = 20.0
"""Logits from which a factor says nothing any more."""
_DIGITS = range(2, 6)
"""Digits of a percentage: two, or as many as tell it from its threshold."""

_MEASURED = re.compile(r"(logit difference|accuracy|log probability|probability), (.+) minus (.+)")
_DECIDED = re.compile(r"(.+) minus (.+), (favourable decision)")
_DIFFERENCE = re.compile(r"(.+?),? minus (.+)")
_RATIO = re.compile(r"(.+) (?:/|against) (.+)")

Say = Callable[[float], str]
"""A value in words."""


@dataclass(frozen=True)
class _Contrast:
    one: str
    other: str
    measure: str = ""


def explained(unit: str) -> str:
    """What a unit means, in one or two sentences; empty where the project does not know it."""
    if unit.startswith("ln "):
        return "Natural logarithm of a ratio: 0 is no difference, 0.69 is twice as much."
    return UNITS.get(unit, "")


def units_of(effects: Iterable[Effect]) -> dict[str, str]:
    """The units of `effects` that have an explanation, by name."""
    found = sorted({effect.unit for effect in effects})
    return {unit: explained(unit) for unit in found if explained(unit)}


def in_words(effect: Effect | None, suite: str = "") -> str:
    """The effect as a sentence; empty where nothing was estimated.

    Args:
        suite: the claim's suite; in those of the project, a logit difference is that of the right and the wrong answer.
    """
    if effect is None or effect.estimate is None:
        return ""
    name, shift = _shifted(effect)
    if shift:
        return _difference(effect, _quoted(name), number(shift))
    if effect.unit == _FROM_CHANCE:
        return _difference(effect, _quoted(name), "chance", unit="standard deviations")
    contrast = _contrast(name)
    odds = _odds(contrast, suite) if contrast and effect.unit == "logit" else ""
    if contrast and odds and max(map(abs, _values(effect))) <= _BEYOND:
        return _as_odds(effect, odds, contrast)
    if contrast and contrast.measure:
        one, other = (f"that for {_named(name)}" for name in (contrast.one, contrast.other))
        subject = one.replace("that", f"The {contrast.measure}", 1)
        share = contrast.measure == "accuracy" and effect.unit == "1"
        return _difference(effect, subject, other, share=share or _is_rate(effect))
    if contrast:
        return _difference(effect, _quoted(contrast.one), _quoted(contrast.other), share=_is_rate(effect))
    return _as_ratio(effect, name) or _level(effect, name)


def changed_in_words(change: Effect, claimed: Effect | None) -> str:
    """What became of an effect since the baseline: "Worse by 4.1 % of the total effect [1.5 to 6.7 % ... worse]."."""
    if change.estimate is None:
        return ""
    above, below = "higher", "lower"
    claimed = judging(change, claimed)
    if claimed is not None and claimed.relation is not None:
        above, below = ("worse", "better") if more_is_worse(change, claimed) else ("better", "worse")

    def say(value: float) -> str:
        return f"{_amount(abs(value), change.unit)} {below if value < 0 else above}"

    interval = _between(change, say, by_size=True)
    what = got(change, claimed)
    if what == "open":
        known = change.lower is not None and change.upper is not None
        return (
            f"No change is shown{interval}."
            if known
            else f"The difference is {number(change.estimate)}{interval}."
        )
    return f"{what.capitalize()} by {_amount(abs(change.estimate), change.unit)}{interval}."


# -- what a name says ------------------------------------------------------------------------------------------


def _shifted(effect: Effect) -> tuple[str, float]:
    """The name without the number that was subtracted, and that number; 0 where there is none."""
    name, minus, end = effect.name.rpartition(" minus ")
    try:
        shift = float(end) if minus else math.nan
    except ValueError:
        shift = math.nan
    return (name, shift) if math.isfinite(shift) else (effect.name, 0.0)


def _contrast(name: str) -> _Contrast | None:
    """Who is compared with whom; None where the name does not say it beyond doubt."""
    if name.count(" minus ") != 1:
        return None
    if found := _MEASURED.fullmatch(name):
        return _Contrast(found[2], found[3], found[1])
    if found := _DECIDED.fullmatch(name):
        return _Contrast(found[1], found[2], found[3])
    found = _DIFFERENCE.fullmatch(name)
    # What follows a comma may belong to both sides.
    return _Contrast(found[1], found[2]) if found and "," not in found[2] else None


def _odds(contrast: _Contrast, suite: str) -> str:
    if contrast.measure == "logit difference" and suite in _ASK_RIGHT:
        return _RIGHT
    return _ODDS.get(contrast.measure, "")


def _is_rate(effect: Effect) -> bool:
    return effect.unit == "1" and effect.recipe is not None and effect.recipe.kind in ("rate", "rates")


def _quoted(text: str) -> str:
    return f"“{text}”"


def _named(text: str) -> str:
    return _PLAIN_WORDS.get(text) or _quoted(text)


def _values(effect: Effect) -> list[float]:
    return [
        value for value in (effect.estimate, effect.lower, effect.upper, effect.threshold) if value is not None
    ]


# -- sentences -------------------------------------------------------------------------------------------------


def _as_odds(effect: Effect, odds: str, contrast: _Contrast) -> str:
    """ "The odds of a favourable decision are 10 % lower for “A” than for “B” [7.1 to 13 % lower]; ..."."""
    assert effect.estimate is not None
    one, other = _named(contrast.one), _named(contrast.other)
    say = _told_apart(effect, lambda digits: lambda value: _factor(value, digits))
    difference = say(effect.estimate)
    than = "as" if difference.endswith(("times as high", _SAME)) else "than"
    limit = _limit(effect, say, more="higher", less="lower")
    return f"{odds} are {difference} for {one} {than} for {other}{_between(effect, say, by_size=True)}{limit}."


_SAME = "the same"


def _factor(logits: float, digits: int) -> str:
    """How many percent or times the odds differ: "10 % lower", "28 % higher", "3.2 times as high"."""
    factor = math.exp(logits)
    if logits == 0:
        return _SAME
    if factor >= 2:
        return f"{number(factor)} times as high"
    if factor < 0.01:
        return f"{number(1 / factor)} times lower"
    return f"{_percent(abs(math.expm1(logits)), digits)} {'lower' if logits < 0 else 'higher'}"


def _difference(effect: Effect, one: str, other: str, *, share: bool = False, unit: str = "") -> str:
    """ "“A” is 0.111 AUC above “B” [0.0581 to 0.163 AUC above]; it must be above."."""
    unit = unit or ("percentage points" if share else effect.unit)

    def sayer(digits: int) -> Say:
        return lambda value: f"{_amount(abs(value), unit, digits)} {'below' if value < 0 else 'above'}"

    assert effect.estimate is not None
    say = _told_apart(effect, sayer)
    place = f"{say(effect.estimate)} {other}" if effect.estimate else f"equal to {other}"
    interval = _between(effect, say, by_size=True)
    return f"{one} is {place}{interval}{_limit(effect, say, more='above', less='below')}."


def _as_ratio(effect: Effect, name: str) -> str:
    """ "“A” is 2.19 times “B” [1.65 to 2.9 times]; it must be at least 2 times."; empty where it is no ratio."""
    compared = effect.recipe.compare if effect.recipe is not None else ""
    found = _RATIO.fullmatch(name)
    if found is None or (effect.unit != "times" and compared != "ratio"):
        return ""
    if len(re.findall(" (?:/|against) ", name)) != 1:
        return ""
    assert effect.estimate is not None
    one, other = _quoted(found[1]), _quoted(found[2])
    if _is_rate(effect):
        one, other = f"The rate of {one}", f"that of {other}"

    def say(value: float) -> str:
        return f"{number(value)} times"

    must = _must(effect, say)
    if effect.threshold == 1 and effect.relation in (">", "<"):
        must = f"; it must be {'larger' if effect.relation == '>' else 'smaller'}"
    return f"{one} is {say(effect.estimate)} {other}{_between(effect, say)}{must}."


def _level(effect: Effect, name: str) -> str:
    """The plain form, which is true of every effect: "“name” is 0.58 logits [0.51 to 0.65 logits]; ..."."""
    assert effect.estimate is not None
    unit = effect.unit
    share = _is_rate(effect) or unit.startswith("of ")

    def sayer(digits: int) -> Say:
        def bare(value: float) -> str:
            return _percent(value, digits) if share else number(value)

        return bare

    say = _told_apart(effect, sayer) if share else sayer(2)
    what = f"has {_HAS[unit]} of {say(effect.estimate)}" if unit in _HAS else f"is {say(effect.estimate)}"
    if unit in _FOLLOWS or unit.startswith("of "):
        what += f" {_plural(effect.estimate, unit)}"
    elif unit not in ("1", "p", *_HAS):
        what += f" ({unit})"
    return f"{_quoted(name)} {what}{_between(effect, say)}{_must(effect, say)}."


# -- their parts -----------------------------------------------------------------------------------------------


def _told_apart(effect: Effect, sayer: Callable[[int], Say]) -> Say:
    """The words with the fewest digits in which no value looks like the threshold, or like none, but what equals it."""
    values = _values(effect)
    limits = {0.0} | ({effect.threshold, -effect.threshold} if effect.threshold is not None else set())
    for digits in _DIGITS:
        say = sayer(digits)
        if not any(value != limit and say(value) == say(limit) for value in values for limit in limits):
            break
    return say


def _plural(value: float, unit: str) -> str:
    return unit if abs(value) == 1 else _PLURALS.get(unit, unit)


def _amount(value: float, unit: str, digits: int = 2) -> str:
    if unit == "percentage points":
        text = _percent(value, digits).removesuffix(" %")
        return f"{text} percentage point{'' if text == '1' else 's'}"
    if unit.startswith("of "):
        return f"{_percent(value, digits)} {unit}"
    return number(value) if unit == "1" else f"{number(value)} {_plural(value, unit)}"


def _percent(share: float, digits: int = 2) -> str:
    """A share in percent with so many digits, but never fewer than stand before the point."""
    percents = 100 * share
    if not math.isfinite(percents):
        return f"{number(share)} × 100 %"
    digits = max(digits, math.floor(math.log10(abs(percents))) + 1 if percents else 1)
    text = f"{percents:.{digits}g}"
    return f"{number(float(text)) if digits <= 3 else f'{float(text):g}'.replace('-', MINUS)} %"


def _between(effect: Effect, say: Say, *, by_size: bool = False) -> str:
    """The interval: " [7.1 to 13 % lower]"; words that both ends share are said once.

    Args:
        by_size: two ends on one side stand in the order of their sizes, as their words have no sign.
    """
    if effect.exact:
        return " (exact)"
    lower, upper = effect.lower, effect.upper
    if lower is None and upper is None:
        return " (no interval)"
    if lower is None or upper is None:
        one = lower if lower is not None else upper
        assert one is not None
        return f" [{'from' if upper is None else 'up to'} {say(one)}]"
    first, last = (say(end) for end in ((upper, lower) if by_size and upper <= 0 else (lower, upper)))
    words, others = first.split(" "), last.split(" ")
    if first == last:
        return f" [{last}]"
    if words[1:] == others[1:]:
        first = words[0]
    elif words[1:-1] == others[1:-1] and "%" not in words[1:]:
        first = f"{words[0]} {words[-1]}"
    return f" [{first} to {last}]"


_LIMITS: dict[Relation, tuple[str, str]] = {
    ">=": ("at least", "at most"), ">": ("more than", "less than"), "<=": ("at most", "at least"),
    "<": ("less than", "more than"),
}  # fmt: skip
"""What is said of a limit above 0, and of one below 0."""


def _limit(effect: Effect, say: Say, *, more: str, less: str) -> str:
    """What a difference must be: "; it must be at most 0.02 below.", by the side on which the threshold lies."""
    relation, limit = effect.relation, effect.threshold
    if relation is None or limit is None:
        return ""
    if relation == "within":
        return f"; allowed is from {say(-limit)} to {say(limit)}"
    if limit == 0:
        zero = {">": more, "<": less, ">=": f"not {less}", "<=": f"not {more}"}[relation]
        return f"; it must be {zero}"
    return f"; it must be {_LIMITS[relation][limit < 0]} {say(limit)}"


def _must(effect: Effect, say: Say) -> str:
    """What a value must be: "; it must be at least 0.3"."""
    if effect.relation is None or effect.threshold is None:
        return ""
    if effect.relation == "within":
        return f"; it must be between {say(-effect.threshold)} and {say(effect.threshold)}"
    return f"; it must be {_LIMITS[effect.relation][0]} {say(effect.threshold)}"
