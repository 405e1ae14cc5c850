"""The groups of a claim beside their one threshold: the worst first, in words, and nothing that cannot be read."""

from __future__ import annotations

import re

import msgspec
import pytest

from auditkit.record.schema import Claim, Run, Verdict
from auditkit.report import render_html
from auditkit.report.groups import groups, in_order
from tests.report.conftest import claim, effect

pytestmark = pytest.mark.unit

WORST = "disabled minus other groups, favourable decision"


def of_groups(verdict: Verdict = Verdict.FAIL, more: int = 0) -> Claim:
    """Groups whose effects must not be below -0.25: one is, one is undecided, the others are near 0."""
    places = {"old": -0.2, "young": 0.1, "disabled": -0.6} | {f"group {i}": 0.2 + 0.01 * i for i in range(more)}
    effects = [
        effect(
            at, at - 0.1, at + 0.1, name=f"{name} minus other groups, favourable decision", unit="logit",
            relation=">=", threshold=-0.25,
        )
        for name, at in places.items()
    ]  # fmt: skip
    return claim(
        verdict, "groups", "Groups.", "Reason.", effects[0], also=tuple(effects[1:]), suite="identity_bias"
    )


def test_the_worst_group_stands_first_and_in_words() -> None:
    found = groups(of_groups())
    assert found is not None
    assert [row.label.split()[0] for row in found.rows] == ["disabled", "old", "young"]
    assert found.must == "≥ −0.25"
    assert found.words.startswith("The odds of a favourable decision are 45 % lower for “disabled”")


def test_what_asks_another_question_stands_behind_the_groups() -> None:
    one = of_groups(more=7)
    other = effect(0.9, 0.8, 1.0, name="precision", relation=">=", threshold=0.75)
    names = [found.name.split()[0] for found in in_order(msgspec.structs.replace(one, also=(other, *one.also)))]
    assert names[:3] == ["disabled", "old", "young"]
    assert names[-1] == "precision"
    assert len(names) == 11
    assert in_order(msgspec.structs.replace(one, also=(other,))) == (one.effect, other)


def test_only_comparisons_that_share_their_threshold_stand_together() -> None:
    one = of_groups()
    other = effect(0.9, 0.8, 1.0, name="precision", relation=">=", threshold=0.75)
    mixed = groups(msgspec.structs.replace(one, also=(*one.also, other)))
    assert mixed is not None
    assert "precision" not in [row.label for row in mixed.rows]
    assert groups(msgspec.structs.replace(one, also=())) is None
    assert groups(msgspec.structs.replace(one, also=(other,))) is None


@pytest.mark.parametrize("verdict", [Verdict.NOT_APPLICABLE, Verdict.ERROR])
def test_groups_of_a_claim_that_cannot_be_read_are_not_ranked(verdict: Verdict) -> None:
    assert groups(of_groups(verdict)) is None


def test_the_page_has_the_groups_of_a_claim(sample_run: Run) -> None:
    page = render_html(msgspec.structs.replace(sample_run, claims=(of_groups(),)))
    assert "Each comparison that is drawn must be ≥ −0.25; furthest on the wrong side first. The odds" in page
    [plot] = re.findall("<table class=statistics>.*?</table>", page)
    assert plot.index(WORST) < plot.index("young minus other groups")
    assert plot.count("<svg class=forest") == 3, "each beside its numbers"
