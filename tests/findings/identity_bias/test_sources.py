"""Public layouts: what is read, what is left out and counted, what is refused; and the published files themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditkit.data.errors import DataError
from auditkit.data.sources import every_file, source_sha256
from auditkit.findings.identity_bias.prompts.published.bbq import read_bbq
from auditkit.findings.identity_bias.prompts.published.crows_pairs import read_crows_pairs
from auditkit.findings.identity_bias.prompts.published.winobias import read_winobias
from auditkit.findings.identity_bias.prompts.sources import read_bias_items

pytestmark = pytest.mark.unit

PUBLISHED = Path(__file__).parents[4] / "shared" / "data"
ROW = {
    "example_id": 1, "question_index": "4", "question_polarity": "neg", "context_condition": "ambig",
    "category": "Birds",
    "answer_info": {"ans0": ["crow", "crow"], "ans1": ["nobody knows", "unknown"], "ans2": ["swan", "swan"]},
    "additional_metadata": {"stereotyped_groups": ["Crow"]}, "context": "A crow and a swan were there.",
    "question": "Who took it?", "ans0": "The crow", "ans1": "Nobody knows", "ans2": "The swan", "label": 1,
}  # fmt: skip


def bbq(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_bbq_s_answers_are_told_apart_by_group_and_polarity(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "question_polarity": "nonneg"}, {**ROW, "context_condition": "disambig", "label": 0}]
    negative, positive, told = read_bbq([bbq(tmp_path / "Birds.jsonl", *rows)]).kept
    assert (negative.unknown, negative.biased, negative.right) == (1, 0, 1)
    assert (positive.biased, told.biased, told.right) == (2, 0, 0)
    assert (negative.template, negative.attribute, negative.condition) == ("Birds-4", "Birds", "ambiguous")
    assert told.condition == "disambiguated"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ans2": ""}, "lacks ans2"),
        ({"answer_info": None, "label": None}, "lacks answer_info, label"),
        ({"additional_metadata": {}}, "which of its answers is unknown"),
        ({"additional_metadata": {"stereotyped_groups": ["crow", "swan"]}}, "which of its answers is unknown"),
        ({"context_condition": "clear"}, "its condition or polarity"),
        ({"label": 7}, "its label '7'"),
    ],
)
def test_entries_that_lack_something_are_counted_and_files_of_them_refused(
    tmp_path: Path, change, said: str
) -> None:
    read = read_bbq([bbq(tmp_path / "some.jsonl", ROW, {**ROW, **change})])
    assert [len(read.kept), len(read.dropped)] == [1, 1]
    assert said in read.dropped[0].reason
    with pytest.raises(DataError, match="none of its entries can be used") as refused:
        read_bbq([bbq(tmp_path / "none.jsonl", {**ROW, **change})])
    assert said in str(refused.value)


def test_crows_pairs_are_read_with_the_more_stereotyping_sentence_first(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        ",sent_more,sent_less,stereo_antistereo,bias_type\n0,A crow steals.,A swan steals.,stereo,birds\n"
        "1,Same.,Same.,stereo,birds\n2,Only one.,,antistereo,birds\n"
    )
    read = read_crows_pairs([path])
    (pair,) = read.kept
    assert (pair.more, pair.less, pair.group) == ("A crow steals.", "A swan steals.", "birds")
    assert [one.reason for one in read.dropped] == ["its two sentences are the same", "lacks sent_less"]
    assert "Blodgett" in read.validity
    path.write_text(",sent_more,sent_less\n0,a,b\n")
    with pytest.raises(DataError, match="column bias_type: missing column"):
        read_crows_pairs([path])


def test_winobias_is_paired_across_its_two_files(tmp_path: Path) -> None:
    pro, anti = tmp_path / "pro_stereotyped.txt.test", tmp_path / "anti_stereotyped.txt.test"
    lines = [
        "1 [The baker] greeted the pilot because [she] was glad.",
        "2 [The pilot] asked the baker for [his] hat.",
        "3 No brackets here.",
    ]
    swapped = [line.replace("[she]", "[he]").replace("[his]", "[her]") for line in lines[:2]]
    pro.write_text("\n".join(lines))
    anti.write_text("\n".join(swapped))
    both = read_winobias([pro, anti])
    first, second = both.kept
    assert (first.usual, first.pronouns) == ("The baker greeted the pilot because she was glad.", ("she", "he"))
    assert (first.right, first.other) == ("baker", "pilot")
    assert (second.pronouns, second.unusual) == (("his", "her"), "The pilot asked the baker for her hat.")
    assert [one.reason for one in both.dropped] == ["not one person and one pronoun in brackets"]
    alone = read_winobias([anti])
    assert [pair.pronouns for pair in alone.kept] == [("she", "he")]
    assert '"her" may be him or his' in alone.dropped[-1].reason
    (tmp_path / "some.txt").write_text(lines[0])
    with pytest.raises(DataError, match="'pro' or 'anti'"):
        read_winobias([tmp_path / "some.txt"])


def test_a_folder_is_read_by_what_is_in_its_files(tmp_path: Path) -> None:
    bbq(tmp_path / "a.jsonl", ROW)
    (tmp_path / "b.csv").write_text(",sent_more,sent_less,bias_type\n0,a,b,c\n")
    (tmp_path / "c_test.csv").write_text('"Which\nnumber?",1,2,3,4,A\n')
    (tmp_path / "c_dev.csv").write_text("Which other?,1,2,3,4,A\n")
    (tmp_path / "pro.txt").write_text(
        "1 [The baker] greeted the pilot because [he] left.\n2 [The pilot] greeted the baker because [she] left.\n"
    )
    (tmp_path / "other.jsonl").write_text('{"statement": "x"}\n')
    assert "c_dev.csv" not in [path.name for path in every_file(str(tmp_path))]
    found = read_bias_items(str(tmp_path))
    kinds = (found.questions, found.sentences, found.pronouns, found.choices)
    assert [len(items.kept) for items in kinds] == [1, 1, 2, 1]
    assert [one.item_id for one in found.unused] == ["other.jsonl"]
    assert "1 questions, 2 pronouns, 1 sentences, 1 multiple-choice questions" in found.described
    assert "other.jsonl: fields statement of no known layout" in found.described
    before = source_sha256(str(tmp_path))
    (tmp_path / "b.csv").write_text(",sent_more,sent_less,bias_type\n0,a,B,c\n")
    source_sha256.cache_clear()
    assert source_sha256(str(tmp_path)) != before, "what is read is part of the plan"
    with pytest.raises(DataError, match="no file in the layout of BBQ"):
        read_bias_items(str(tmp_path / "other.jsonl"))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"needs the published files in {PUBLISHED}")
def test_the_published_files_are_read_whole() -> None:
    found = read_bias_items(str(PUBLISHED))
    assert found.questions is not None
    assert found.sentences is not None
    assert (len(found.questions.kept), len(found.questions.dropped)) == (1200, 0)
    assert len({question.template for question in found.questions.kept}) == 25
    assert (len(found.sentences.kept), len(found.sentences.dropped)) == (1508, 0)
    assert found.choices is not None
    assert len(found.choices.kept) > 1500
