"""How well a model answers under a persona (finding D of Poonia & Jain 2025, arXiv:2507.20936)."""

import pytest

from auditkit import any_effect, beside, present, sensitivity
from auditkit.findings.persona_patching.measurements.answers import ACCURACY, NOBODY, PLAIN, PROBABILITY

pytestmark = pytest.mark.causal(edits=False)


def test_negative_personas_lower_the_answer(answers):
    """The right answer leads the wrong one by fewer logits under a negative persona ("bad student") than under a
    positive one."""
    present(answers)
    beside("invented words against positive ones", answers.compare("nonsense", against="positive"))
    beside("invented words against negative ones", answers.compare("nonsense", against="negative"))
    beside(
        "log probability of the right answer",
        answers.compare("negative", against="positive", outcome=PROBABILITY),
    )
    assert answers.compare("negative", against="positive") < any_effect(0.25)


def test_negative_personas_answer_worse_than_none(answers):
    """The right answer leads the wrong one by fewer logits under a negative persona than on the same question without a
    persona."""
    beside('compared with "a student"', answers.compare("negative", against=PLAIN))
    beside("positive personas compared with none", answers.compare("positive", against=NOBODY))
    assert answers.compare("negative", against=NOBODY) < any_effect(0.25)


def test_negative_personas_lower_accuracy(answers):
    """The share of questions answered right is lower under a negative persona than under a positive one."""
    beside("negative personas compared with none", answers.compare("negative", against=NOBODY, outcome=ACCURACY))
    beside("invented words", answers.compare("nonsense", against="positive", outcome=ACCURACY))
    assert answers.compare("negative", against="positive", outcome=ACCURACY) < any_effect(0.10)


def test_swapping_synonyms_moves_the_answer_less(answers):
    """Swapping a persona word for its synonym moves the right answer's lead. Swapping a positive word for a negative
    one moves it by more logits."""
    synonyms, opposites = answers.swaps("negative", against="positive")
    beside("synonyms", synonyms)
    beside("positive for negative", opposites)
    assert synonyms - opposites < any_effect(0.25)


def test_racial_personas_answer_like_neutral_ones(answers, threshold):
    """The right answer leads the wrong one by some number of logits. The lead is the same under a racial persona
    ("Asian student") as under a neutral one ("local student"), within 0.25 logits."""
    beside("racial personas compared with none", answers.compare("racial", against=NOBODY))
    beside("accuracy", answers.compare("racial", against="neutral", outcome=ACCURACY))
    unchanged = threshold(0.25, "suite default: the odds of the right answer change by a factor below 1.3")
    with sensitivity(
        "positive words from negative ones", answers.compare("positive", against="negative"), by=unchanged
    ):
        assert answers.compare("racial", against="neutral").equals(0.0, within=unchanged)


def test_colour_personas_answer_like_neutral_ones(answers, threshold):
    """The right answer leads the wrong one by some number of logits. The lead is the same under a colour persona ("blue
    student") as under a neutral one ("local student"), within 0.25 logits."""
    beside("colour personas compared with none", answers.compare("colour", against=NOBODY))
    beside("accuracy", answers.compare("colour", against="neutral", outcome=ACCURACY))
    unchanged = threshold(0.25, "suite default: the odds of the right answer change by a factor below 1.3")
    with sensitivity(
        "positive words from negative ones", answers.compare("positive", against="negative"), by=unchanged
    ):
        assert answers.compare("colour", against="neutral").equals(0.0, within=unchanged)
