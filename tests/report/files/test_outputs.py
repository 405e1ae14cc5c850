"""Comment, model card, table, annotations and JUnit's gates: what each must hold, and what no text in it may do."""

from __future__ import annotations

import csv
import io
import re
import time
import xml.etree.ElementTree as ET
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hostile import CLOSED, HOSTILE
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditkit.claims.verdicts import exit_code, summarize
from auditkit.record.canonical import canonical
from auditkit.record.escaping import plain, printed
from auditkit.record.schema import Claim, CrossCheck, FamilyPlace, Run, Untested, Verdict, Waiver
from auditkit.record.store import write_run
from auditkit.report import (
    render_annotations,
    render_card,
    render_comment,
    render_csv,
    render_junit,
    render_markdown,
    wording,
    write_outputs,
)
from auditkit.report.files.github import SHOWN
from auditkit.report.files.junit import GATES
from auditkit.report.files.markdown import COMMENT_LIMIT, COMMENT_MARK, LIMIT
from auditkit.report.terminal import details, overview

pytestmark = pytest.mark.unit


def hostile(run: Run, text: str) -> Run:
    """`run` with `text` before every text of a claim, and in what names the model and the run."""

    def changed(value: object, key: str = "") -> object:
        if isinstance(value, str):
            return value if key in CLOSED or key == "alone" else f"{text} {value}"
        if isinstance(value, dict):
            return {name: changed(item, name) for name, item in value.items()}
        return [changed(item) for item in value] if isinstance(value, list | tuple) else value

    claims = msgspec.convert(changed(msgspec.to_builtins(run.claims)), tuple[Claim, ...])
    claims = tuple(msgspec.structs.replace(claim, location=f"{text}.py:3") for claim in claims)
    model = msgspec.structs.replace(run.model, name=f"{text} m", source=f"{text} s")
    untested = (Untested(what=text, reason=text),)
    return msgspec.structs.replace(run, claims=claims, model=model, untested=untested)


def many(run: Run, number: int) -> Run:
    """The run with so many claims in 60 suites."""
    claims = [run.claims[i % len(run.claims)] for i in range(number)]
    return msgspec.structs.replace(
        run,
        claims=tuple(
            msgspec.structs.replace(claim, id=f"suite{i % 60}/claim{i}", suite=f"suite{i % 60}")
            for i, claim in enumerate(claims)
        ),
    )


def totals(run: Run) -> dict[str, int]:
    root = ET.fromstring(render_junit(run))
    return {name: int(root.get(name, "")) for name in ("tests", "failures", "errors", "skipped")}


def gates(run: Run) -> dict[str, tuple[str, str]]:
    """Gate -> outcome and message."""
    suite = ET.fromstring(render_junit(run)).findall(f"testsuite[@name='{GATES}']")[0]
    found = {}
    for case in suite.iter("testcase"):
        outcome = [child for child in case if child.tag != "properties"]
        shown = case.findall("properties/property[@name='result']")[0].get("value", "")
        found[case.get("name", "")] = (outcome[0].tag if outcome else "passed", shown)
    return found


# -- JUnit: the file and the exit code -------------------------------------------------------------------------


def _check(agrees: bool | None) -> CrossCheck:
    return CrossCheck(
        adapter="nnterp", asked=4, offered=9, measured=4, missing={}, largest=1.0, where="mlp 1", allowed=0.1,
        agrees=agrees, reason="no site was edited" if agrees is None else "",
    )  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])  # runs are immutable
@given(
    verdicts=st.lists(st.tuples(st.sampled_from(Verdict), st.booleans(), st.booleans()), max_size=4),
    profile=st.sampled_from(["pr", "release"]),
    check=st.sampled_from([None, False, True, "nothing"]),
)
def test_something_fails_in_the_file_exactly_when_the_exit_code_is_not_0(
    sample_run: Run, verdicts: list[tuple[Verdict, bool, bool]], profile: str, check: bool | str | None
) -> None:
    claims = []
    for number, (verdict, waive, family) in enumerate(verdicts):
        waiver = Waiver(claim="c", owner="o", reason="r", expires="2999-01-01", state="applied")
        applies = waive and verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)
        claims.append(
            msgspec.structs.replace(
                sample_run.claims[0],
                id=f"s/c{number}",
                verdict=verdict,
                waiver=waiver if applies else None,
                family=FamilyPlace(name="f", size=2, alone=Verdict.FAIL) if family else None,
            )
        )
    crossed = None if check is None else _check(None if check == "nothing" else bool(check))
    run = msgspec.structs.replace(
        sample_run,
        claims=tuple(claims),
        profile=profile,
        cross_check=crossed,
        summary=summarize(claims, wording.distrust(crossed)),
    )
    counted = totals(run)
    assert (counted["failures"] + counted["errors"] > 0) == (exit_code(run.summary, profile) != 0)


def test_what_is_decided_over_many_claims_has_test_cases_of_its_own(gated_run: Run) -> None:
    verdicts = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    alone = (Verdict.FAIL, Verdict.FAIL, Verdict.PASS)
    family = [
        msgspec.structs.replace(
            gated_run.claims[0], id=f"s/{i}", verdict=verdict, family=FamilyPlace(name="all", size=3, alone=one)
        )
        for i, (verdict, one) in enumerate(zip(verdicts, alone, strict=True))
    ]
    claims = (*gated_run.claims[:4], *family)
    run = msgspec.structs.replace(gated_run, claims=claims, summary=summarize(claims), cross_check=_check(True))
    found = gates(run)
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "something passed": "passed",
        "family all": "failure",
        "cross-check": "passed",
        "changes since baseline": "skipped",
    }
    assert (
        "1 of 3 claims fail after Holm's correction: s/0; failed alone, which can be chance"
        in found["family all"][1]
    )
    assert "not compared: persona_patching/neutral_personas_change_nothing, " in found["changes since baseline"][1]
    waived = msgspec.structs.replace(claims[-3], waiver=gated_run.claims[2].waiver)
    assert gates(msgspec.structs.replace(run, claims=(*claims[:-3], waived)))["family all"][0] == "passed"


def test_nothing_passed_is_a_failure_of_its_own(empty_run: Run) -> None:
    assert totals(empty_run) == {"tests": 1, "failures": 1, "errors": 0, "skipped": 0}
    assert gates(empty_run)["something passed"][0] == "failure"


def test_a_test_case_names_its_file_and_line(sample_run: Run) -> None:
    claim = msgspec.structs.replace(sample_run.claims[0], location="suites/a/test_b.py:12")
    case = ET.fromstring(render_junit(msgspec.structs.replace(sample_run, claims=(claim,)))).find(".//testcase")
    assert case is not None
    assert (case.get("file"), case.get("line")) == ("suites/a/test_b.py", "12")


def without_code(markdown: str) -> str:
    """The text without its code, in which nothing is a link or a mention."""
    return re.sub(r"\\.|(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", lambda found: "" if found[1] else found[0], markdown)


# -- Markdown --------------------------------------------------------------------------------------------------


def test_the_comment_shows_what_blocks_and_what_changed_and_nothing_else(gated_run: Run) -> None:
    text = render_comment(gated_run)
    assert text.startswith(f"{COMMENT_MARK}\n## ✗ FAIL: SmolLM2-135M-Instruct\n")
    attention = text.split("### Needs attention")[1].split("\nVerdict: ")[0]
    assert "**! ERROR**" in attention
    assert "role\\_vectors\\_compose" in attention, "decided on the baseline, and no longer"
    assert "**✗ FAIL**" not in attention, "a waived FAIL does not block"
    assert "All claims" not in text
    rows = text.split("### Changes since baseline")[1]
    assert "recovery minus the baseline" in rows
    assert "shift minus the baseline" not in rows, "neither verdict nor effect moved"
    assert "not comparable: other data" in rows


@pytest.mark.parametrize(("render", "limit"), [(render_markdown, LIMIT), (render_comment, COMMENT_LIMIT)])
def test_markdown_is_cut_honestly(gated_run: Run, render: object, limit: int) -> None:
    failed = msgspec.structs.replace(gated_run.claims[2], waiver=None)
    run = hostile(many(msgspec.structs.replace(gated_run, claims=(failed,)), 1200), "é|" * 300)
    lines = tuple(msgspec.structs.replace(w, reason="é" * 5000) for w in gated_run.waivers * 100)
    text = render(msgspec.structs.replace(run, waivers=lines))  # type: ignore[operator]
    assert len(text.encode()) <= limit
    attention = text.split("### Needs attention")[1].split("\nVerdict: ")[0]
    left_out = int(re.findall(r"\n(\d+) more are in audit.html", attention)[0])
    assert attention.count("\n- **") + left_out == len(run.claims)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_is_markup_in_markdown(gated_run: Run, text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it", reason="a Markdown parser")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

    def shape(source: str) -> list[tuple[str, str]]:
        flat = [token for block in parser.parse(source) for token in [block, *(block.children or [])]]
        harmless = ("text", "text_special", "inline", "code_inline")  # a command that is too long is left out
        return [(token.type, token.tag) for token in flat if token.type not in harmless]

    run, plainly = hostile(gated_run, text), hostile(gated_run, "x")
    for render in (render_markdown, render_comment, lambda run: render_card(run).split("\n---\n", 1)[1]):
        assert shape(render(run)) == shape(render(plainly))
        linked = without_code(render(run)).replace(":\u200b//", "")
        assert not re.search(r"(?<!\\)@(?!\u200b)|https?://(?!\S*\u200b)|www\.", linked)


# -- model card ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_card_is_read_back_by_the_hub_library(sample_run: Run, text: str) -> None:
    run = hostile(sample_run, text)
    card = ModelCard(render_card(run))
    results = {result.metric_type.replace("\u200b", ""): result for result in card.data.eval_results}
    measured = [claim for claim in run.claims if claim.effect is not None and claim.effect.estimate is not None]
    assert len(results) == len(measured) == 4
    for claim in measured:
        result = results[printed(claim.id).replace("\u200b", "")]
        assert result.metric_value == claim.effect.estimate
        assert result.metric_args["verdict"] == wording.WORDS[claim.verdict]
        assert result.metric_args["interval"] == [claim.effect.lower, claim.effect.upper]
    assert card.data.tags == ["auditkit"]


def test_the_card_hides_no_verdict(sample_run: Run, empty_run: Run) -> None:
    text = render_card(sample_run)
    for claim in sample_run.claims:
        assert f"| {wording.GLYPHS[claim.verdict]} {wording.WORDS[claim.verdict]} | {claim.statement} |" in text
    assert "Languages other than English" in text
    assert ModelCard(render_card(empty_run)).data.to_dict() == {"tags": ["auditkit"]}


def test_a_card_that_is_full_counts_the_rest_and_keeps_what_failed(sample_run: Run) -> None:
    run = many(sample_run, 2000)
    text = render_card(run)
    assert "1500 more claims are in the report." in text
    assert text.count("| ✗ FAIL |") == sum(claim.verdict is Verdict.FAIL for claim in run.claims)


# -- table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_table_gives_every_text_back_and_no_formula(gated_run: Run, text: str) -> None:
    run = hostile(gated_run, text)
    rows = list(csv.DictReader(io.StringIO(render_csv(run), newline="")))
    assert len(rows) == len(run.claims)
    for row, claim in zip(rows, run.claims, strict=True):
        for name in ("id", "suite", "statement", "reason", "source", "rerun"):
            assert row[name].removeprefix("'") == printed(getattr(claim, name)).removeprefix("'")
        assert not any(
            row[name].startswith(("=", "+", "-", "@", "\t", "\r")) for name in ("id", "statement", "reason")
        )


def test_numbers_of_the_table_are_as_measured(gated_run: Run) -> None:
    change = gated_run.claims[0].change.effects[0]
    change = msgspec.structs.replace(change, name=f"{gated_run.claims[0].effect.name} minus the baseline")
    first = msgspec.structs.replace(
        gated_run.claims[0], change=msgspec.structs.replace(gated_run.claims[0].change, effects=(change,))
    )
    run = msgspec.structs.replace(gated_run, claims=(first, *gated_run.claims[1:]))
    rows = list(csv.DictReader(io.StringIO(render_csv(run))))
    effect = run.claims[1].effect
    assert (float(rows[1]["effect.estimate"]), float(rows[1]["effect.lower"])) == (effect.estimate, effect.lower)
    assert (rows[0]["change.estimate"], rows[0]["baseline.verdict"], rows[0]["comparable"]) == (
        "-0.0412",
        "PASS",
        "true",
    )
    assert [row["waived"] for row in rows] == ["false", "false", "true", "false", "false", "false"]
    assert rows[4]["effect.estimate"] == "", "not measured"


# -- GitHub ----------------------------------------------------------------------------------------------------


def test_annotations_are_for_what_blocks_and_stand_at_the_test(gated_run: Run) -> None:
    claims = [msgspec.structs.replace(c, location="suites/a/test_b.py:12") for c in gated_run.claims]
    lines = render_annotations(msgspec.structs.replace(gated_run, claims=tuple(claims), profile="release"))
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error"], (
        "what is waived or lost blocks nothing"
    )
    start = (
        "::error file=suites/a/test_b.py,line=12,title=composition/task_vectors_survive_a_persona_swap::ERROR: "
    )
    assert lines[0].startswith(start)
    assert "INCONCLUSIVE" in lines[1]
    assert f"measure it again: {claims[3].rerun}" in lines[1]


def test_a_run_that_blocks_nothing_has_no_annotation(sample_run: Run) -> None:
    claims = tuple(c for c in sample_run.claims if c.verdict not in (Verdict.FAIL, Verdict.ERROR))
    assert {claim.verdict for claim in claims} == {Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE}
    assert render_annotations(msgspec.structs.replace(sample_run, claims=claims, summary=summarize(claims))) == []


def test_more_annotations_than_github_shows_are_counted(sample_run: Run) -> None:
    claims = tuple(msgspec.structs.replace(sample_run.claims[2], id=f"s/c{i}") for i in range(23))
    lines = render_annotations(msgspec.structs.replace(sample_run, claims=claims, summary=summarize(claims)))
    assert len(lines) == SHOWN
    assert lines[-1] == "::error title=and more::14 more are in the summary and in audit.html"
    assert len(render_annotations(msgspec.structs.replace(sample_run, claims=claims[:10]))) == 10


def test_a_run_that_blocks_without_a_failing_claim_is_an_error_too(empty_run: Run, sample_run: Run) -> None:
    assert render_annotations(empty_run) == [
        "::error title=audit of SmolLM2-135M-Instruct::INCONCLUSIVE: Nothing was measured."
    ]
    check = _check(False)
    summary = summarize(sample_run.claims, wording.distrust(check))
    lines = render_annotations(msgspec.structs.replace(sample_run, cross_check=check, summary=summary))
    assert "the two adapters do not agree" in lines[0]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_is_a_workflow_command(gated_run: Run, text: str) -> None:
    for line, same in zip(
        render_annotations(hostile(gated_run, text)), render_annotations(hostile(gated_run, "x")), strict=True
    ):
        assert len(f"{line}\n".splitlines()) == 1 or not re.search("[\r\n]", line)
        command, _, properties = line.split("::", 2)[1].partition(" ")
        names = [part.split("=", 1)[0] for part in properties.split(",")]
        assert command == "error"
        assert names == [part.split("=", 1)[0] for part in same.split("::", 2)[1].partition(" ")[2].split(",")]


# -- the terminal ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_moves_the_cursor_or_changes_colours(gated_run: Run, text: str) -> None:
    run = canonical(hostile(gated_run, text))
    printed = [*overview(run), *(line for claim in run.claims for line in details(run, claim.id))]
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "".join(printed))
    colours = "".join(overview(run, colour=True))
    assert re.sub(r"\x1b\[(31|32|33|0)m", "", colours) == "".join(overview(run))


def test_show_leads_with_the_sentence_that_answers_and_what_needs_a_human(sample_run: Run) -> None:
    text = "\n".join(overview(sample_run, folder="reports/run"))
    order = ["✗ FAIL", "Of 4 published findings 2 hold", "suite ", "Needs attention", "neutral_personas"]
    order += [
        "auditkit show reports/run --claim",
        "task_vectors",
        "1 claim is undecided",
        "auditkit plan reports/run",
    ]
    order += ["weights", "Other claims", "early_mlps", "Not tested"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_all_of_one_claim(sample_run: Run) -> None:
    claim = sample_run.claims[0]
    text = "\n".join(details(sample_run, claim.id))
    in_one_line = " ".join(text.split())
    for part in (
        claim.statement,
        claim.reason,
        claim.source,
        claim.rerun,
        *claim.notes,
        "0.4603",
        "Wrong donor: shown",
    ):
        assert " ".join(part.split()) in in_one_line
    assert all(plain(prompt) in text for example in claim.examples for prompt in example.prompts.values())
    with pytest.raises(KeyError):
        list(details(sample_run, "no/such"))


# -- all of them -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_5000_claims_are_written_and_nothing_is_lost_in_the_whole_files(gated_run: Run) -> None:
    run = many(gated_run, 5000)
    started = time.process_time()
    assert totals(run)["tests"] == 5000 + 2
    assert len(list(csv.reader(io.StringIO(render_csv(run))))) == 5001
    assert len("\n".join(overview(run))) > 5000 * 20
    assert len(render_annotations(run)) <= 2 * SHOWN
    assert len(render_card(run)) < 1_000_000
    assert time.process_time() - started < 60, "some step takes time that grows with the square of the claims"


def test_every_output_is_written_and_the_same_again(sample_run: Run, tmp_path: Path) -> None:
    written = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, sample_run, [])
        assert write_outputs(tmp_path / name, sample_run) == tmp_path / name / "audit.html"
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {
        "audit.html", "audit.json", "claims.csv", "comment.md", "items.parquet", "junit.xml", "manifest.json",
        "model-card.md", "summary.md",
    }  # fmt: skip
    digest = sha256(written[0]["audit.json"]).hexdigest()
    assert f"Record: SHA-256 `{digest}`." in written[0]["comment.md"].decode()
    properties = ET.fromstring(written[0]["junit.xml"]).findall(
        "testsuite/properties/property[@name='record_sha256']"
    )
    assert {one.get("value") for one in properties} == {digest}
