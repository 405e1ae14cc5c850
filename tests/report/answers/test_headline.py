"""The sentence that answers: what it counts apart, and that no gap in the evidence reads as good news."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from auditkit.record.plan import OTHER_SHARDS
from auditkit.record.provenance import Recipe
from auditkit.record.schema import Claim, CrossCheck, Run, Untested, Verdict
from auditkit.report.answers.headline import answer, duration
from auditkit.report.answers.kinds import is_finding, short, word
from tests.report.conftest import build_run, claim, effect

pytestmark = pytest.mark.unit

CHECKED = "Whether the candidate treats identities worse than its baseline."
SHARE = effect(0.58, 0.51, 0.65)
NO_BASE = "there is no baseline to compare with (--baseline); the values are recorded, so this run can be one"
UNLESS_SELECTED = "not selected: the command line, or a plugin such as --lf, left it out"


def check(verdict: Verdict, name: str = "a", **changes: Any) -> Claim:
    fields = {"suite": "gate", "source": CHECKED, "decided": SHARE} | changes
    return claim(verdict, name, "Statement.", fields.pop("reason", "Reason."), **fields)


def finding(verdict: Verdict, name: str = "f", **changes: Any) -> Claim:
    return claim(verdict, name, "Statement.", "Reason.", SHARE, **changes)


def gate(gated_run: Run, *claims: Claim, **changes: Any) -> Run:
    return msgspec.structs.replace(gated_run, claims=claims, untested=(), **changes)


def research(*claims: Claim, **changes: Any) -> Run:
    return build_run(claims=claims, untested=(), **changes)


def test_a_gate_that_blocks_says_what_got_worse_and_what_is_open(gated_run: Run) -> None:
    claims = [check(Verdict.FAIL, f"bad_{i}") for i in range(2)] + [
        check(Verdict.PASS, f"ok_{i}") for i in range(13)
    ]
    claims += [check(Verdict.INCONCLUSIVE, f"open_{i}", decided=effect(0.3, 0.1, 0.5)) for i in range(3)]
    said = answer(gate(gated_run, *claims))
    assert said.sentence == ("Not ready: 2 of 18 gate checks got worse than the base; 3 are still open; 13 pass.")
    assert said.tone == "bad"


def test_what_more_items_cost_is_said_where_they_can_decide(gated_run: Run) -> None:
    near = effect(0.3, 0.1, 0.5, n=96, items_needed=120, items_range=(100, 400))
    far = effect(0.3, 0.1, 0.5, n=96, items_needed=9000, items_range=(8000, None))
    standard = msgspec.structs.replace(
        gated_run.plan, settings={"seed": "0", "items": "None", "effort": "standard"}
    )
    run = gate(gated_run, check(Verdict.INCONCLUSIVE, decided=near), check(Verdict.FAIL, "b"), plan=standard)
    assert answer(run).sentence.endswith("1 is still open, `--effort thorough` would take about 3 minutes.")
    both = gate(
        gated_run,
        check(Verdict.INCONCLUSIVE, decided=near),
        check(Verdict.INCONCLUSIVE, "b", decided=far),
        plan=standard,
    )
    assert "would take about 3 minutes and may decide 1" in answer(both).sentence
    none = gate(gated_run, check(Verdict.INCONCLUSIVE, decided=far), plan=standard)
    assert "--effort" not in answer(none).sentence
    fixed = gate(gated_run, check(Verdict.INCONCLUSIVE, decided=near))
    assert fixed.plan.settings["items"] == "192"
    assert "--effort" not in answer(fixed).sentence


def test_a_gate_is_ready_only_where_all_of_it_was_measured_and_decided(gated_run: Run) -> None:
    passed = [check(Verdict.PASS, f"ok_{i}") for i in range(2)]
    ready = gate(gated_run, *passed)
    assert answer(ready).sentence == "Ready: 2 of 2 gate checks pass."
    assert answer(ready).tone == "good"
    left = Untested(what="suites/gate/test_a.py::test_b", reason=UNLESS_SELECTED)
    shard = Untested(what=OTHER_SHARDS, reason="12 claims")
    disagree = CrossCheck(
        adapter="nnterp", asked=1, offered=1, measured=1, missing={}, largest=1.0, where="layer 3", allowed=0.1,
        agrees=False, reason="",
    )  # fmt: skip
    others: dict[str, Run] = {
        "an undecided check": gate(gated_run, *passed, check(Verdict.INCONCLUSIVE)),
        "an error": gate(gated_run, *passed, check(Verdict.ERROR, decided=None)),
        "nothing that passed": gate(gated_run, check(Verdict.NOT_APPLICABLE, decided=None, lack="behaviour")),
        "a claim left out": msgspec.structs.replace(ready, untested=(left,)),
        "another shard": msgspec.structs.replace(ready, untested=(shard,)),
        "adapters that disagree": msgspec.structs.replace(ready, cross_check=disagree),
        "a finding that blocks": gate(gated_run, *passed, finding(Verdict.FAIL)),
        "no claims": gate(gated_run),
    }
    for why, run in others.items():
        assert not answer(run).sentence.startswith("Ready"), why
        assert answer(run).tone != "good", why


def test_a_release_blocks_on_what_is_open(gated_run: Run) -> None:
    claims = (check(Verdict.PASS), check(Verdict.INCONCLUSIVE, "b", decided=effect(0.3, 0.1, 0.5)))
    said = answer(gate(gated_run, *claims, profile="release"))
    assert said.sentence == "Not ready: 1 of 2 gate checks is still open; 1 passes."
    assert answer(gate(gated_run, *claims)).sentence.startswith("Not shown to be ready: ")


def test_changed_and_lost_are_told_from_worse(gated_run: Run) -> None:
    within = effect(0.2, 0.15, 0.25, relation="within", threshold=0.1)
    run = gate(
        gated_run, check(Verdict.FAIL, decided=within), check(Verdict.FAIL, "b", decided=None, lack="behaviour")
    )
    assert (
        answer(run).sentence == "Not ready: 1 of 2 gate checks changed from the base; 1 lost what the base shows."
    )


def test_a_check_that_compares_with_no_base_did_not_get_worse_than_it(gated_run: Run) -> None:
    mean = msgspec.structs.replace(SHARE, recipe=Recipe(kind="mean", rows="share"))
    change = msgspec.structs.replace(SHARE, recipe=Recipe(kind="change", rows="share"))
    alone, compared = check(Verdict.FAIL, decided=mean), check(Verdict.FAIL, "b", decided=change)
    assert answer(gate(gated_run, alone)).sentence == "Not ready: 1 of 1 gate check fails by itself."
    assert (
        answer(gate(gated_run, alone, compared)).sentence
        == "Not ready: 1 of 2 gate checks got worse than the base; 1 fails by itself."
    )


def test_findings_are_counted_apart_from_checks(gated_run: Run) -> None:
    found = [finding(Verdict.PASS, f"p{i}") for i in range(6)] + [finding(Verdict.FAIL, f"f{i}") for i in range(3)]
    found += [finding(Verdict.INCONCLUSIVE, f"i{i}") for i in range(5)]
    said = answer(research(*found, check(Verdict.PASS)))
    assert said.sentence == "Of 14 published findings 6 hold on this model, 3 do not and 5 are undecided."
    assert said.more == ("Of 1 check of this model by itself 1 passes.",)
    assert said.tone == "plain", "what holds on a model is neither good nor bad"


def test_a_check_that_fails_is_bad_news_without_a_baseline_too() -> None:
    said = answer(research(check(Verdict.FAIL), check(Verdict.PASS, "b")))
    assert said.sentence == "Of 2 checks of this model by itself 1 fails and 1 passes."
    assert said.tone == "bad"


def test_claims_that_need_a_base_are_one_sentence_with_a_command() -> None:
    needing = [
        check(
            Verdict.NOT_APPLICABLE, f"n{i}", decided=None, reason=NO_BASE, lack="not asked",
            location=f"suites/gate/test_{i}.py:3",
        )
        for i in range(16)
    ]  # fmt: skip
    said = answer(research(finding(Verdict.PASS), *needing))
    assert said.sentence == "Of 1 published finding 1 holds on this model."
    assert said.base == "16 claims compare this model with a base, and the run was given none."
    assert said.base_command == "pytest suites/gate --model smollm2-135m-instruct --baseline BASE"
    assert answer(research(*needing)).sentence.startswith("Nothing could be decided")
    installed = [
        msgspec.structs.replace(one, suite="gate", rerun=f"auditkit audit gate/test_{i}.py")
        for i, one in enumerate(needing)
    ]
    called = answer(research(*installed)).base_command
    assert called == "auditkit audit gate --model smollm2-135m-instruct --baseline BASE", (
        "it lies in no folder here"
    )


def test_one_verdict_has_two_words() -> None:
    run = research()
    assert word(run, finding(Verdict.FAIL)) == "does not hold"
    assert word(run, check(Verdict.FAIL)) == "blocks"
    assert is_finding(finding(Verdict.FAIL))
    assert not is_finding(check(Verdict.FAIL))


@pytest.mark.parametrize(
    ("source", "published"),
    [
        ("Where persona words act (Poonia & Jain 2025, arXiv:2507.20936).", True),
        ("Attention on questions (mduffster/self-referent-test, 2025: RFC).", True),
        ("Two systems of thought, doi 10.1000/182.", True),
        ("Whether our 2025 release is polite.", False),
        ("Compact mode (after mduffster/self-referent-test).", False),
        ("", False),
    ],
)
def test_a_finding_cites_where_it_was_published(source: str, published: bool) -> None:
    assert is_finding(finding(Verdict.PASS, source=source)) is published


def test_names_are_words() -> None:
    assert short(check(Verdict.PASS, "no_group_gets_worse[ethnicity and gender]")) == (
        "no group gets worse (ethnicity and gender)"
    )
    assert len(short(check(Verdict.PASS, "x" * 500))) <= 90


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 second"), (59, "59 seconds"), (360, "6 minutes"), (7200, "2 hours")]
)
def test_durations_are_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_findings_that_sit_at_their_threshold_are_counted_among_the_undecided() -> None:
    small = effect(0.01, -0.1, 0.12, relation=">", threshold=0.0, counts_from=0.25)
    vague = effect(0.01, -0.9, 0.92, relation=">", threshold=0.0, counts_from=0.25)
    claims = [
        claim(Verdict.INCONCLUSIVE, name, "Statement.", "Reason.", measured)
        for name, measured in (("a", small), ("b", vague))
    ]
    whole = msgspec.structs.replace(effect(0.5, None, None, relation=">=", threshold=0.3), exact=True)
    claims[0] = msgspec.structs.replace(claims[0], also=(whole,))  # decided without an interval
    said = answer(research(*claims)).sentence
    assert said == "Of 2 published findings 2 are undecided (1 with no effect that counts)."
    assert (
        answer(research(finding(Verdict.FAIL))).sentence == "Of 1 published finding 1 does not hold on this model."
    )
