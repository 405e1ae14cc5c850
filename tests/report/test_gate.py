"""Changes and waivers in every output: nothing hidden, nothing subtracted that is not comparable."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import msgspec
import pytest

from auditkit.record.identity import model_digest
from auditkit.record.schema import Run, Verdict
from auditkit.report import changes, render_html, render_junit, render_markdown, wording

pytestmark = pytest.mark.unit


def test_only_comparable_claims_enter_the_matrix(gated_run: Run) -> None:
    moved = {
        (was, now): count
        for was, row in wording.transitions(gated_run).items()
        for now, count in row.items()
        if count
    }
    assert moved == {
        (Verdict.PASS, Verdict.PASS): 2,
        (Verdict.PASS, Verdict.NOT_APPLICABLE): 1,
        (Verdict.NOT_APPLICABLE, Verdict.ERROR): 1,
    }
    table = wording.transitions(gated_run)
    assert [*table] == [Verdict.PASS, Verdict.NOT_APPLICABLE], "verdicts that no claim has are left out"
    assert all([*row] == [Verdict.PASS, Verdict.NOT_APPLICABLE, Verdict.ERROR] for row in table.values())
    alone = msgspec.structs.replace(gated_run, claims=tuple(
        msgspec.structs.replace(claim, change=None) for claim in gated_run.claims
    ))  # fmt: skip
    assert wording.transitions(alone) == {}
    assert "no claim was asked the same in both runs" in render_html(alone)


def test_changes_are_summed_up_in_one_line(gated_run: Run) -> None:
    assert wording.changes(gated_run) == (
        "baseline 20250601T101112Z-base (SmolLM2-135M-Instruct, 2025-06-01T10:11:12Z, another plan): 4 of 6 claims "
        "comparable; of 2 effects 1 lower, 1 no interval; "
        "1 of its claims was not asked here; "
        f"the models are the same in every part (identity {model_digest(gated_run.model)[:12]})"
    )


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((0.1, 0.2), "higher"),
        ((-0.2, -0.1), "lower"),
        ((-0.1, 0.1), "no change shown"),
        ((None, None), "no interval"),
    ],
)
def test_a_change_is_shown_only_by_its_whole_interval(
    gated_run: Run, interval: tuple[float, float], word: str
) -> None:
    effect = gated_run.claims[0].change.effects[0]
    assert wording.moved(msgspec.structs.replace(effect, lower=interval[0], upper=interval[1])) == word


def test_the_page_shows_changes_plan_and_waivers(gated_run: Run) -> None:
    page = render_html(gated_run)
    section = page.split("id=changes ")[1].split("id=waivers ")[0]
    assert section.count("<strong>not comparable</strong>") == 3, "one differs, one is new, one is gone"
    assert "other data: persona_patching/a.csv" in section
    assert "persona_patching/old_claim" in section
    assert "seed was 0, is 20250711" in section
    assert "−0.0671, −0.0153" in section
    waivers = page.split("id=waivers ")[1].split("id=claims ")[0]
    assert all(f"owner {waiver.state}" in waivers for waiver in gated_run.waivers)
    assert "expired, so ignored" in waivers
    assert "href=#changes" in page
    assert 'style="' not in page


def test_changes_of_every_layer_are_summed_up_and_stand_folded(gated_run: Run) -> None:
    claim = gated_run.claims[0]
    effect = claim.change.effects[0]
    named = [msgspec.structs.replace(effect, name=f"layer {k} minus the baseline") for k in range(30)]
    named[29] = msgspec.structs.replace(named[29], lower=0.001, upper=0.059, estimate=0.03)
    change = msgspec.structs.replace(claim.change, effects=tuple(named))
    changed = msgspec.structs.replace(claim, change=change)
    run = msgspec.structs.replace(gated_run, claims=(changed, *gated_run.claims[1:]))
    said = "22 further effects of this claim: 1 higher, 21 lower"
    page = render_html(run).split("id=changes ")[1].split("id=waivers ")[0]
    assert page.count(f">{claim.statement}<") == 1
    before, folded = page.split(said)
    assert [before.count(f"layer {k} minus") for k in (0, 7, 8)] == [1, 1, 0]
    assert folded.count("layer 29 minus") == 1, "what is folded is there"
    assert before.endswith("<details><summary>")
    for lines in (wording.remarks(changed), render_markdown(run).splitlines()):
        assert len([line for line in lines if "layer 7 minus" in line]) == 1
        assert not [line for line in lines if "layer 8 minus" in line]
        assert len([line for line in lines if said in line]) == 1


def test_what_got_worse_for_a_claim_comes_first_and_says_so(gated_run: Run) -> None:
    """Claims in the order of their worst change, and the words of the change beside it."""
    first, second = gated_run.claims[:2]
    effect = first.change.effects[0]
    ends = {"a": (-0.2, -0.1), "b": (0.1, 0.2), "c": (-0.3, 0.1), "d": (-0.5, -0.4)}
    claims = []
    for name, (lower, upper) in ends.items():
        claimed = msgspec.structs.replace(first.effect, name=name)
        change = msgspec.structs.replace(
            effect, name=f"{name} minus the baseline", lower=lower, upper=upper, estimate=(lower + upper) / 2
        )
        moved = msgspec.structs.replace(first.change, effects=(change,))
        claims.append(msgspec.structs.replace(first, id=f"s/{name}", statement=name, effect=claimed, change=moved))
    found = changes.moved([*claims, second], lambda claim: claim.id)
    assert [made.rows[0].label for made in found] == ["d", "a", "c", second.statement, "b"], "worse, open, better"
    words = [made.rows[0].words for made in found]
    assert words[0].startswith("PASS on the baseline, PASS now. d minus the baseline: Worse by 0.45")
    assert "Better by 0.15" in words[-1]
    assert "192 items in 24 clusters." in words[0]
    page = render_html(msgspec.structs.replace(gated_run, claims=tuple(claims)))
    section = page.split("id=changes ")[1].split("id=waivers ")[0]
    places = [section.index(f">{name}</") for name in "dacb"]
    assert places == sorted(places)
    assert "nothing, or not everything, could be subtracted" in section, "one claim of the baseline is gone"


def test_changes_of_one_claim_share_a_scale_where_their_unit_is_one(gated_run: Run) -> None:
    claim = gated_run.claims[0]
    base = claim.change.effects[0]
    ends = {"narrow": (0.1, 0.3, "logit"), "wide": (-0.8, 1.2, "logit"), "other": (0.001, 0.003, "AUC")}
    made = [
        msgspec.structs.replace(base, name=name, lower=lower, upper=upper, estimate=(lower + upper) / 2, unit=unit)
        for name, (lower, upper, unit) in ends.items()
    ]
    change = msgspec.structs.replace(claim.change, effects=tuple(made))
    (found,) = changes.moved([msgspec.structs.replace(claim, change=change)], lambda claim: claim.id)
    units = {row.effect.name: row.drawn.units for row in found.rows}
    assert units == pytest.approx({"narrow": 0.2, "wide": 0.2, "other": 2.0})


def test_a_run_without_a_gate_has_no_empty_sections(sample_run: Run) -> None:
    page, summary = render_html(sample_run), render_markdown(sample_run)
    assert "id=changes " not in page
    assert "id=waivers " not in page
    assert "baseline" not in summary.lower()


def test_the_summary_keeps_its_tables_whole(gated_run: Run) -> None:
    text = render_markdown(gated_run)
    rows = [
        line
        for line in text.split("### Changes since baseline")[1].split("<details>")[0].splitlines()
        if line[:1] == "|"
    ]
    assert len(rows) == 2 + 7
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert "not comparable: other data" in text
    assert "EXPIRED on 2025-12-31 and ignored" in text
    assert "(waived)" in text


def test_junit_skips_what_is_waived_and_names_the_waiver(gated_run: Run) -> None:
    root = ET.fromstring(render_junit(gated_run))
    cases = {case.get("name"): case for case in root.iter("testcase")}
    waived = cases["neutral_personas_change_nothing"]
    assert "waived until 2025-12-31" in waived.find("skipped").get("message")
    assert waived.find("failure") is None
    properties = {p.get("name"): p.get("value") for p in cases["early_mlps_carry_the_persona"].iter("property")}
    assert (properties["baseline.verdict"], properties["baseline.comparable"]) == ("PASS", "true")
    assert properties["change.1.estimate"] == "-0.0412"
    assert root.get("failures") == "0"
