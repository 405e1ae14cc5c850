"""JUnit and Markdown: the same claims in the forms that build servers and reviewers read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import msgspec
import pytest

from auditkit.record.schema import Run, Verdict
from auditkit.report import render_junit, render_markdown
from auditkit.report.answers.headline import answer
from auditkit.report.files.junit import GATES
from auditkit.report.files.markdown import LIMIT

pytestmark = pytest.mark.unit


def outcomes(run: Run) -> dict[str, str]:
    root = ET.fromstring(render_junit(run))
    return {
        f"{case.get('classname')}/{case.get('name')}": next(
            (e.tag for e in case if e.tag != "properties"), "passed"
        )
        for case in root.iter("testcase")
        if case.get("classname") != GATES
    }


def test_one_test_case_per_claim(sample_run: Run) -> None:
    assert outcomes(sample_run) == {
        "persona_patching/early_mlps_carry_the_persona": "passed",
        "persona_patching/negative_personas_lower_the_answer": "passed",
        "persona_patching/neutral_personas_change_nothing": "failure",
        "persona_patching/attention_reads_identity_words": "skipped",
        "composition/role_vectors_compose": "skipped",
        "composition/task_vectors_survive_a_persona_swap": "error",
    }


def test_undecided_fails_a_release(sample_run: Run) -> None:
    release = msgspec.structs.replace(sample_run, profile="release")
    assert outcomes(release)["persona_patching/attention_reads_identity_words"] == "failure"
    assert outcomes(release)["composition/role_vectors_compose"] == "skipped"


def test_totals_count_what_is_there(sample_run: Run) -> None:
    root = ET.fromstring(render_junit(sample_run))
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["7", "1", "1", "2"]
    assert [suite.get("tests") for suite in root] == ["4", "2", "1"], "the last is that something passed"


def test_statistics_are_properties_and_missing_ones_are_left_out(sample_run: Run) -> None:
    case = next(ET.fromstring(render_junit(sample_run)).iter("testcase"))
    values = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
    assert values["effect.estimate"] == "0.5832"
    assert values["also.1.threshold"] == "0.0"
    assert values["control.1.verdict"] == "PASS"
    assert values["control.2.verdict"] == "shown"
    assert "effect.items_needed" not in values
    assert not {"None", "nan"} & set(values.values())


def test_characters_that_xml_cannot_hold_are_replaced(sample_run: Run) -> None:
    text = "a\x00b\ud800c\ufffe<d>&\n\u2028]]>"
    claims = tuple(
        msgspec.structs.replace(claim, id=f"{claim.suite}/{text}{i}", statement=text, reason=text)
        for i, claim in enumerate(sample_run.claims)
    )
    root = ET.fromstring(render_junit(msgspec.structs.replace(sample_run, claims=claims)))
    cases = [case for case in root.iter("testcase") if case.get("classname") != GATES]
    assert {case.get("name", "")[:-1] for case in cases} == {"a\ufffdb\ufffdc\ufffd<d>&\n\u2028]]>"}


def test_empty_run(empty_run: Run) -> None:
    assert outcomes(empty_run) == {}
    assert render_markdown(empty_run).startswith("## ? INCONCLUSIVE: SmolLM2-135M-Instruct\n")


def test_summary_leads_with_the_sentence_that_answers_and_shows_every_claim(sample_run: Run) -> None:
    text = render_markdown(sample_run)
    assert text.startswith(f"## ✗ FAIL: SmolLM2-135M-Instruct\n\n**{answer(sample_run).sentence}**\n")
    head, attention, table = re.split("### Needs attention|<details>", text)
    assert "| all suites |  | 2 | 1 | 1 | 1 | 1 |" in head
    assert attention.index("**✗ FAIL**") < attention.index("**! ERROR**")
    assert "INCONCLUSIVE" not in attention, "it blocks nothing under the profile pr"
    commands = re.findall("`(pytest .*)`", attention)
    assert commands == [claim.rerun for claim in sample_run.claims if claim.verdict is Verdict.FAIL]
    assert all(claim.statement in table for claim in sample_run.claims)
    assert r"0.201 \[0.119, 0.284\] fraction of the total effect" in table
    assert "needs 1.5 to 10 times the clusters of topic (12 now), and as many times the runs" in table
    assert table.endswith("</details>\n")


def test_text_cannot_break_out_of_a_cell(sample_run: Run) -> None:
    text = "a | b `c` \n\n| x |\n<img src=x> ![i](https://example.org) \\| **d** \x00\ud800"
    claims = tuple(msgspec.structs.replace(claim, statement=text, reason=text) for claim in sample_run.claims)
    summary = render_markdown(msgspec.structs.replace(sample_run, claims=claims))
    rows = summary.split("| --- | --- | --- | --- |\n")[1].split("\n\n")[0].splitlines()
    assert len(rows) == len(claims)
    for row in rows:
        plain = re.sub(r"\\[\\|`*\[\]]", "", row)
        assert plain.count("|") == 5
        assert not re.search(r"[`*<>\[\]]", plain)
    summary.encode()


def test_summary_stays_below_the_limit(sample_run: Run) -> None:
    claims = tuple(
        msgspec.structs.replace(sample_run.claims[2], id=f"s/{number}", statement="\ud83d" + "é|" * 400)
        for number in range(4000)
    )
    text = render_markdown(msgspec.structs.replace(sample_run, claims=claims))
    assert len(text.encode()) <= LIMIT
    assert text.count("more are in audit.html") == 2
