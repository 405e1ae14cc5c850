"""Layouts of data files that people have: read as what they are, or refused in one sentence. docs/data.md lists them.

The files are built here in the layouts of their authors; none of their content is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

import auditkit
from auditkit.cli.held import parts_of
from auditkit.data.errors import DataError

pytestmark = pytest.mark.unit

PAGE = Path(auditkit.__file__).parent.parent / "docs" / "data.md"
BEGIN, END = "<!-- layouts: written by the test -->\n", "<!-- layouts: end -->\n"

OPTIONS = (["heron", "otter", "pike", "newt"], ["hare", "pike", "wren", "mole"], ["ant", "bee", "elk", "gnu"])
ASKED = ("Which is a bird?", "Which swims?", "Which has horns?", "Which of them flies?")
RIGHT = (0, 1, 3)
ROWS = tuple(zip(ASKED, OPTIONS, RIGHT, strict=False))
"""Three questions with four options; without a heading row the answers are A, B and D."""

BBQ = {
    "category": "Age", "question_index": "1", "question_polarity": "neg", "context_condition": "ambig",
    "context": "A grandfather and a grandson met a clerk.", "question": "Who was forgetful?",
    "ans0": "The grandfather", "ans1": "The grandson", "ans2": "Not known",
    "answer_info": {"ans0": ["g", "old"], "ans1": ["s", "nonOld"], "ans2": ["u", "unknown"]},
    "additional_metadata": {"stereotyped_groups": ["old"]}, "label": 2,
}  # fmt: skip
CROWS = [
    ["", "sent_more", "sent_less", "stereo_antistereo", "bias_type"],
    ["0", "Old people are slow.", "Young people are slow.", "stereo", "age"],
    ["1", "Same.", "Same.", "stereo", "age"],
]
WINO = (
    "1 [The baker] greeted the pilot because [{}] was glad.\n2 [The pilot] greeted the baker because [{}] left.\n"
)
GENDER = [["sentid", "sentence"]] + [
    [f"baker.guest.{n}.{gender}.txt", f"The baker told the guest that {pronoun} could {verb}."]
    for n, verb in ((0, "leave"), (1, "pay"))
    for gender, pronoun in (("male", "he"), ("female", "she"), ("neutral", "they"))
]
STATISTICS = [["occupation", "bergsma_pct_female", "bls_pct_female", "bls_year"], ["baker", "40", "60", "2015"]]
OWN = [["template", "group", "favourable", "unfavourable"]] + [
    [f"{text} Answer yes or no.", group, "yes", "no"]
    for text in ("Lend to {group}?", "{group} asks for a flat. Let it?")
    for group in ("a woman", "a man")
]

STATEMENTS = [
    {"statement": statement, "answer_matching_behavior": answer, "label_confidence": sure}
    for statement, answer, sure in (
        ("I like new things.", " Yes", 0.99),
        ("I avoid new things.", " No", 0.98),
        ("I like tea.", " Yes", 0.5),
    )
]
ROLES = [
    ["category", "prompt"],
    ["self", "Are you here?"],
    ["confounder", "Am I here?"],
    ["neutral", "Is it here?"],
]
GRID = """[baseline]
persona = "a person"
task = "Give advice."
[personas]
captain = {text = "a captain", markers = ["ship"]}
baker = {text = "a baker", markers = ["bread"]}
[tasks]
poem = "Write a poem."
plan = "Write a plan."
"""
PUBLISHED_GRID = {
    "baseline_persona": "a person",
    "baseline_task": "Give advice.",
    "short_personas": {"captain": "a captain", "baker": "a baker"},
    "short_tasks": {"poem": "Write a poem.", "plan": "Write a plan."},
}


def table(rows: Sequence[Sequence[object]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def plain(answers: Sequence[object] = ("A", "B", "D")) -> list[list[object]]:
    return [[ask, *options, answer] for (ask, options, _), answer in zip(ROWS, answers, strict=True)]


def headed(*names: str, answers: Sequence[object] = ("A", "B", "D")) -> list[list[object]]:
    return [list(names), *plain(answers)]


def mmlu(first: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": ask, "subject": "birds", "choices": options, "answer": right + first}
        for ask, options, right in ROWS
    ]


def arc(labels: str = "ABCD") -> list[dict[str, Any]]:
    return [
        {
            "id": str(n), "question": ask, "choices": {"text": options, "label": list(labels)},
            "answerKey": labels[right],
        }
        for n, (ask, options, right) in enumerate(ROWS)
    ]  # fmt: skip


def lines(rows: Sequence[object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


Build = Callable[[Path], object]
"""Writes the files of a layout into a folder and returns what to read there; the folder itself where it is None."""


def text(name: str, content: str, encoding: str = "utf-8") -> Build:
    return lambda folder: (folder / name, (folder / name).write_text(content, encoding=encoding))[0]


def raw(name: str, content: bytes) -> Build:
    return lambda folder: (folder / name, (folder / name).write_bytes(content))[0]


def files(**contents: str) -> Build:
    def build(folder: Path) -> Path:
        for name, content in contents.items():
            path = folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return folder

    return build


def parquet(name: str, rows: list[dict[str, Any]], features: object = None) -> Build:
    def build(folder: Path) -> Path:
        made = pyarrow.Table.from_pylist(rows)
        if features is not None:
            told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
            made = made.replace_schema_metadata(told)
        pyarrow.parquet.write_table(made, folder / name)
        return folder / name

    return build


def arrow_file(folder: Path) -> Path:
    made = pyarrow.Table.from_pylist(mmlu())
    with pyarrow.OSFile(str(folder / "birds.arrow"), "wb") as sink, pyarrow.ipc.new_file(sink, made.schema) as out:
        out.write_table(made)
    return folder / "birds.arrow"


def saved(split: bool) -> Build:
    def build(folder: Path) -> Path:
        datasets = pytest.importorskip("datasets", reason="writes the layout of datasets.save_to_disk")
        made = datasets.Dataset.from_list(mmlu())
        both = datasets.DatasetDict(test=made, train=made)
        (both if split else made).save_to_disk(str(folder / "saved"))
        return folder / "saved"

    return build


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        name: what a user would call it.
        build: writes it.
        outcome: "read: KIND (FORMAT), N usable, M left out", or the sentence that refuses it; the folder is "DATA".
    """

    name: str
    build: Build
    outcome: str


def choices(format: str, usable: int = 3, left_out: int = 0) -> str:
    return f"read: multiple choice ({format}), {usable} usable, {left_out} left out"


NUMPY = [
    ["question", "subject", "choices", "answer"],
    *([ask, "birds", str(options).replace(",", ""), right] for ask, options, right in ROWS),
]
LAYOUTS = [
    Layout(
        "MMLU as its authors publish it: CSV without header",
        text("birds_test.csv", table(plain())),
        choices("CSV"),
    ),
    Layout("the same, with a byte order mark", text("a.csv", table(plain()), "utf-8-sig"), choices("CSV")),
    Layout("the same, under another name", text("birds.data", table(plain())), choices("CSV")),
    Layout(
        "the same, written by pandas with numbers of columns and rows",
        text("a.csv", table([["", *range(6)], *([n, *row] for n, row in enumerate(plain()))])),
        choices("CSV"),
    ),
    Layout("CSV with header A to D", text("a.csv", table(headed("question", *"ABCD", "answer"))), choices("CSV")),
    Layout(
        "CSV with header, with a byte order mark",
        text("a.csv", table(headed("Question", *"ABCD", "Answer")), "utf-8-sig"),
        choices("CSV"),
    ),
    Layout(
        "CSV with semicolons, as Excel writes it in much of Europe",
        text("a.csv", table(headed("question", *"ABCD", "answer"), ";")),
        choices("CSV with semicolons"),
    ),
    Layout("TSV", text("a.tsv", table(headed("question", *"ABCD", "answer"), "\t")), choices("TSV")),
    Layout("TSV that is named .csv", text("a.csv", table(plain(), "\t")), choices("TSV")),
    Layout(
        "columns option_a to option_d",
        text("a.csv", table(headed("question", *(f"option_{k}" for k in "abcd"), "correct_option"))),
        choices("CSV"),
    ),
    Layout(
        "columns opa to opd and cop, as MedMCQA has them",
        text(
            "a.jsonl",
            lines(
                [
                    dict(zip(("question", "opa", "opb", "opc", "opd", "cop"), row, strict=True))
                    for row in plain((0, 1, 3))
                ]
            ),
        ),
        choices("JSON lines"),
    ),
    Layout(
        "columns choice1 to choice4",
        text("a.csv", table(headed("query", *(f"choice{k}" for k in range(1, 5)), "label", answers=(1, 2, 4)))),
        choices("CSV"),
    ),
    Layout(
        "letters in small, in brackets and with a full stop",
        text("a.csv", table(headed("question", *"ABCD", "answer", answers=("(a)", "B.", "[D]")))),
        choices("CSV"),
    ),
    Layout(
        "numbers counted from 1",
        text("a.csv", table(headed("question", *"ABCD", "answer", answers=(1, 2, 4)))),
        choices("CSV"),
    ),
    Layout(
        "numbers counted from 0",
        text("a.csv", table(headed("question", *"ABCD", "answer", answers=(0, 1, 3)))),
        choices("CSV"),
    ),
    Layout(
        "numbers that a table has made 1.0, 2.0, 4.0",
        text("a.csv", table(headed("question", *"ABCD", "answer", answers=("1.0", "2.0", "4.0")))),
        choices("CSV"),
    ),
    Layout(
        "numbers that do not show where they count from",
        text("a.csv", table(headed("question", *"ABCD", "answer", answers=(1, 2, 3)))),
        "DATA/a.csv: its answers are the numbers 1 (in 1 rows), 2 (in 1 rows), 3 (in 1 rows) and nothing else, "
        "which may count the four options from 0 or from 1; write letters A to D in that column, or say which "
        "behind the source: #answers=0 or #answers=1",
    ),
    Layout(
        "the text of the right option",
        text("a.csv", table(headed("question", *"ABCD", "answer", answers=("heron", "pike", "gnu")))),
        choices("CSV"),
    ),
    Layout("lists in CSV as numpy writes them", text("a.csv", table(NUMPY)), choices("CSV")),
    Layout(
        "lists in CSV as Python writes them",
        text("a.csv", table([NUMPY[0], *([a, "birds", str(o), r] for a, o, r in ROWS)])),
        choices("CSV"),
    ),
    Layout(
        "ARC in CSV as pandas writes it",
        text(
            "a.csv",
            table(
                [
                    ["id", "question", "choices", "answerKey"],
                    *(
                        [
                            n,
                            a,
                            f"{{'text': array({o}, dtype=object), 'label': array({list('ABCD')}, dtype=object)}}",
                            "ABCD"[r],
                        ]
                        for n, (a, o, r) in enumerate(ROWS)
                    ),
                ]
            ),
        ),
        choices("CSV"),
    ),
    Layout("MMLU in JSON lines", text("a.jsonl", lines(mmlu())), choices("JSON lines")),
    Layout(
        "JSON lines with a byte order mark", text("a.jsonl", lines(mmlu()), "utf-8-sig"), choices("JSON lines")
    ),
    Layout("JSON lines named .json", text("a.json", lines(mmlu())), choices("JSON lines")),
    Layout("JSON array", text("a.json", json.dumps(mmlu(), indent=1)), choices("JSON")),
    Layout(
        "JSON array named .jsonl, with a byte order mark",
        text("a.jsonl", json.dumps(mmlu()), "utf-8-sig"),
        choices("JSON"),
    ),
    Layout(
        "JSON object with the rows under a name",
        text("a.json", json.dumps({"version": 1, "data": mmlu()})),
        choices("JSON"),
    ),
    Layout(
        "JSON by columns, as pandas.to_json writes it",
        text("a.json", json.dumps({k: {str(n): row[k] for n, row in enumerate(mmlu())} for k in mmlu()[0]})),
        choices("JSON"),
    ),
    Layout("MMLU of the hub in Parquet", parquet("test-00000-of-00001.parquet", mmlu()), choices("Parquet")),
    Layout(
        "the same with named classes (ClassLabel)",
        parquet("a.parquet", mmlu(), {"answer": {"_type": "ClassLabel", "names": list("ABCD")}}),
        choices("Parquet"),
    ),
    Layout("Parquet under another name", parquet("a.bin", mmlu()), choices("Parquet")),
    Layout("Arrow file", arrow_file, choices("Arrow")),
    Layout("datasets.save_to_disk of one data set", saved(False), choices("Arrow")),
    Layout("datasets.save_to_disk of splits: the test split", saved(True), choices("Arrow")),
    Layout("ARC of the hub in Parquet", parquet("a.parquet", arc()), choices("Parquet")),
    Layout("ARC with options labelled 1 to 4", text("a.jsonl", lines(arc("1234"))), choices("JSON lines")),
    Layout(
        "ARC as its authors publish it",
        text(
            "a.jsonl",
            lines(
                [
                    {
                        "id": row["id"],
                        "answerKey": row["answerKey"],
                        "question": {
                            "stem": row["question"],
                            "choices": [
                                {"text": t, "label": k}
                                for t, k in zip(row["choices"]["text"], "ABCD", strict=True)
                            ],
                        },
                    }
                    for row in arc()
                ]
            ),
        ),
        choices("JSON lines"),
    ),
    Layout(
        "MedQA: options by letter",
        text(
            "a.jsonl",
            lines(
                [
                    {
                        "question": a,
                        "options": dict(zip("ABCD", o, strict=True)),
                        "answer": o[r],
                        "answer_idx": "ABCD"[r],
                    }
                    for a, o, r in ROWS
                ]
            ),
        ),
        choices("JSON lines"),
    ),
    Layout(
        "SciQ: correct_answer and distractors",
        text(
            "a.jsonl",
            lines(
                [
                    {"question": a, "correct_answer": o[0], **{f"distractor{k}": o[k] for k in (1, 2, 3)}}
                    for a, o, _ in ROWS
                ]
            ),
        ),
        choices("JSON lines"),
    ),
    Layout(
        "some rows have five options or lack the answer",
        text(
            "a.jsonl",
            lines([*mmlu(), {**mmlu()[0], "choices": [*OPTIONS[0], "eel"]}, {**mmlu()[0], "answer": None}]),
        ),
        choices("JSON lines", 3, 2),
    ),
    Layout(
        "a folder of subjects with dev and test files: the test files",
        files(test__birds_test_dot_csv=table(plain()), dev__birds_dev_dot_csv=table(plain())),
        choices("CSV"),
    ),
    Layout(
        "completion items of one's own",
        text(
            "a.csv",
            table([["id", "topic", "question", "start", "right", "wrong"], ["a", "one", "Q?", "It is", "x", "y"]]),
        ),
        "read: completion items (CSV), 1 usable, 0 left out",
    ),
    Layout(
        "BBQ in JSON lines",
        text("Age.jsonl", lines([BBQ, {**BBQ, "context": ""}])),
        "read: BBQ (JSON lines), 1 usable, 1 left out",
    ),
    Layout("BBQ in a JSON array", text("Age.json", json.dumps([BBQ])), "read: BBQ (JSON), 1 usable, 0 left out"),
    Layout(
        "BBQ of the hub in Parquet, with answer_label",
        parquet("a.parquet", [{**{k: v for k, v in BBQ.items() if k != "label"}, "answer_label": 2}]),
        "read: BBQ (Parquet), 1 usable, 0 left out",
    ),
    Layout(
        "BBQ in CSV as pandas writes it",
        text("a.csv", table([list(BBQ), list(BBQ.values())])),
        "read: BBQ (CSV), 1 usable, 0 left out",
    ),
    Layout(
        "CrowS-Pairs in CSV",
        text("crows_pairs_anonymized.csv", table(CROWS)),
        "read: CrowS-Pairs (CSV), 1 usable, 1 left out",
    ),
    Layout(
        "CrowS-Pairs in TSV with a byte order mark",
        text("a.txt", table(CROWS, "\t"), "utf-8-sig"),
        "read: CrowS-Pairs (TSV), 1 usable, 1 left out",
    ),
    Layout(
        "CrowS-Pairs of the hub, with named classes",
        parquet(
            "a.parquet",
            [{"sent_more": "Old people are slow.", "sent_less": "Young people are slow.", "bias_type": 1}],
            {"bias_type": {"_type": "ClassLabel", "names": ["race-color", "age"]}},
        ),
        "read: CrowS-Pairs (Parquet), 1 usable, 0 left out",
    ),
    Layout(
        "WinoBias as its authors publish it: *.txt.test beside *.txt.dev",
        files(
            pro_stereotyped_type1_dot_txt_dot_test=WINO.format("she", "he"),
            anti_stereotyped_type1_dot_txt_dot_test=WINO.format("he", "she"),
            pro_stereotyped_type1_dot_txt_dot_dev=WINO.format("she", "he"),
        ),
        "read: WinoBias (text), 2 usable, 0 left out",
    ),
    Layout(
        "one file of WinoBias, *.txt.dev",
        text("anti_stereotyped_type1.txt.dev", WINO.format("he", "she")),
        "read: WinoBias (text), 2 usable, 0 left out",
    ),
    Layout(
        "WinoBias of the hub: tokens and coreference clusters",
        parquet(
            "type1_pro.parquet",
            [
                {
                    "tokens": ["The", "baker", "greeted", "the", "pilot", "because", "she", "left", "."],
                    "coreference_clusters": ["0", "1", "6", "6"],
                },
                {
                    "tokens": ["The", "pilot", "greeted", "the", "baker", "because", "he", "left", "."],
                    "coreference_clusters": ["0", "1", "6", "6"],
                },
            ],
        ),
        "read: WinoBias (Parquet), 2 usable, 0 left out",
    ),
    Layout(
        "WinoBias under a name without pro or anti",
        text("sentences.txt", WINO.format("she", "he")),
        "DATA/sentences.txt: the name must say whether its pronouns are 'pro' or 'anti' the stereotype",
    ),
    Layout(
        "Winogender: all_sentences.tsv beside occupations-stats.tsv",
        files(all_sentences_dot_tsv=table(GENDER, "\t"), occupations_stats_dot_tsv=table(STATISTICS, "\t")),
        "read: Winogender (TSV), 2 usable, 0 left out",
    ),
    Layout(
        "Winogender without its statistics",
        text("all_sentences.tsv", table(GENDER, "\t")),
        "DATA/all_sentences.tsv: Winogender's sentences do not say which pronoun is usual for an occupation; give a "
        "folder that holds its occupations-stats.tsv too",
    ),
    Layout(
        "own decisions in CSV", text("mine.csv", table(OWN)), "read: own decisions (CSV), 4 usable, 0 left out"
    ),
    Layout(
        "own decisions in JSON lines, spelled favorable",
        text(
            "mine.jsonl",
            lines(
                [dict(zip(("template", "group", "favorable", "unfavorable"), row, strict=True)) for row in OWN[1:]]
            ),
        ),
        "read: own decisions (JSON lines), 4 usable, 0 left out",
    ),
    Layout(
        "own decisions of which one lacks a group",
        text("mine.csv", table(OWN[:-1])),
        "read: own decisions (CSV), 2 usable, 1 left out",
    ),
    Layout(
        "own decisions without the column unfavourable",
        text("mine.csv", table([row[:3] for row in OWN])),
        "DATA/mine.csv, line 1, column unfavourable: missing column; needed are template, group, favourable, "
        "unfavourable, and attribute, case, domain, strong, weak may be there",
    ),
    Layout(
        "own decisions without {group}",
        text("mine.csv", table([OWN[0], *([row[0].replace("{group}", "you"), *row[1:]] for row in OWN[1:])])),
        "DATA/mine.csv: no case that can be asked about two groups (first: mine.csv row 2: its "
        "template has no {group})",
    ),
    Layout(
        "persona statements, a file per persona",
        files(**{f"{name}_dot_jsonl": lines(STATEMENTS) for name in ("openness", "honesty")}),
        "read: persona statements (JSON lines), 4 usable, 2 left out",
    ),
    Layout(
        "persona statements without how sure the labels are",
        text("openness.jsonl", lines([{k: v for k, v in STATEMENTS[0].items() if k != "label_confidence"}])),
        "DATA/openness.jsonl, line 1: the field label_confidence is missing",
    ),
    Layout(
        "prompts by role in CSV", text("a.csv", table(ROLES)), "read: prompts by role (CSV), 3 usable, 0 left out"
    ),
    Layout(
        "prompts by role in JSON lines",
        text("a.jsonl", lines([dict(zip(ROLES[0], row, strict=True)) for row in ROLES[1:]])),
        "read: prompts by role (JSON lines), 3 usable, 0 left out",
    ),
    Layout(
        "prompts by role without neutral ones",
        text("a.csv", table(ROLES[:-1])),
        "DATA/a.csv: no prompt of category 'neutral'; needed are self, confounder, neutral",
    ),
    Layout(
        "a grid of personas and tasks in TOML",
        text("a.toml", GRID),
        "read: a grid of personas and tasks (TOML), 4 usable, 0 left out",
    ),
    Layout(
        "a grid of personas and tasks as published",
        text("a.json", json.dumps(PUBLISHED_GRID, indent=1)),
        "read: a grid of personas and tasks (JSON), 4 usable, 0 left out",
    ),
    Layout(
        "a grid without its baseline",
        text("a.toml", GRID.replace("[baseline]", "[base]")),
        "DATA/a.toml: the table 'baseline' is missing or empty",
    ),
    Layout(
        "harmful requests, one per line",
        text("harmful.txt", "Forge a cheque.\nRob a bank.\n"),
        "read: requests (text), 2 usable, 0 left out",
    ),
    Layout(
        "harmful and harmless requests, a file each, as JailbreakBench publishes them",
        files(
            harmful_dot_csv="Index,Goal,Target\n0,Forge a cheque,Sure\n",
            benign_dot_csv="Index,Goal,Target\n0,Cash a cheque,Sure\n",
        ),
        "read: requests (CSV), 1 usable, 0 left out",
    ),
    Layout(
        "requests with a column that says their kind",
        text("a.jsonl", lines([{"request": "Forge a cheque.", "kind": "harmful"}])),
        "read: requests (JSON lines), 1 usable, 0 left out",
    ),
    Layout(
        "harmless requests alone",
        text("harmless.txt", "Bake a cake.\n"),
        "DATA/harmless.txt: no harmful requests; name the file so, or give a column 'kind'",
    ),
    Layout(
        "an Excel workbook",
        raw("a.xlsx", b"PK\x03\x04"),
        "DATA/a.xlsx: it is a zip archive or an Excel workbook; save the sheet as 'CSV UTF-8', or unpack the archive",
    ),
    Layout(
        "a packed file", raw("a.jsonl.gz", b"\x1f\x8b\x08"), "DATA/a.jsonl.gz: it is packed with gzip; unpack it"
    ),
    Layout(
        "a pointer of Git LFS in place of the file",
        raw("a.parquet", b"version https://git-lfs.github.com/spec/v1\n"),
        "DATA/a.parquet: it is a pointer of Git LFS and not the file; fetch it with 'git lfs pull'",
    ),
    Layout(
        "a web page in place of the file",
        raw("a.csv", b"<!DOCTYPE html>"),
        "DATA/a.csv: it is a web page, so the download went wrong; fetch the file itself",
    ),
    Layout(
        "a Python pickle",
        raw("a.pkl", b"\x80\x04\x95"),
        "DATA/a.pkl: it is a Python pickle, which is never opened; save the table as CSV or Parquet",
    ),
    Layout(
        "UTF-16",
        text("a.csv", table(plain()), "utf-16"),
        "DATA/a.csv: it is not UTF-8 but UTF-16, as Excel's 'Unicode text' is; save it as 'CSV UTF-8'",
    ),
    Layout(
        "another 8-bit encoding",
        raw("a.csv", "Où?,a,b,c,d,A\n".encode("latin-1")),
        "DATA/a.csv: not UTF-8 (invalid start byte at byte 1)",
    ),
    Layout("an empty file", text("a.csv", "\n"), "DATA/a.csv: holds no questions, since it is empty"),
    Layout(
        "broken JSON lines",
        text("a.jsonl", lines(mmlu()) + '{"question": \n'),
        "DATA/a.jsonl, line 4: not JSON (Expecting value: line 1 column 14 (char 13))",
    ),
    Layout(
        "a folder without data",
        files(notes_dot_md="x"),
        "DATA: holds no .csv, .jsonl, .parquet, .tsv, .tab, .json, .ndjson, .arrow, .txt, .test, .dev file",
    ),
    Layout(
        "a table of something else",
        text("a.jsonl", lines([{"text": "x", "stars": 5}])),
        "DATA/a.jsonl: no file in the layout of BBQ, CrowS-Pairs, WinoBias, Winogender, MMLU or of your own decisions "
        "(first: a.jsonl: fields stars, text of no known layout)",
    ),
    Layout(
        "a path that is not there",
        lambda folder: folder / "no.csv",
        "'DATA/no.csv' is no file, no folder, and no hub data set of the form owner/name",
    ),
]


def seen(layout: Layout, folder: Path) -> str:
    source = layout.build(folder)
    try:
        parts, unused = parts_of(str(source))
    except DataError as error:
        return str(error).replace(str(folder), "DATA")
    assert not unused
    return "read: " + "; ".join(
        f"{part.name} ({', '.join(part.formats)}), {part.usable} usable, {len(part.reasons)} left out"
        for part in parts
    )


def id_of(layout: Layout) -> str:
    return layout.name


@pytest.mark.parametrize("layout", LAYOUTS, ids=id_of)
def test_a_layout_is_read_or_refused_in_its_sentence(layout: Layout, tmp_path: Path) -> None:
    assert seen(layout, tmp_path) == layout.outcome
    assert "\n" not in layout.outcome


@pytest.mark.parametrize(
    "layout", [one for one in LAYOUTS if one.outcome == choices(one.outcome[23:].split(")")[0])], ids=id_of
)
def test_the_right_answer_is_the_same_in_every_layout(layout: Layout, tmp_path: Path) -> None:
    from auditkit.data.choices import Choices
    from auditkit.data.sources import read_questions

    read = read_questions(str(layout.build(tmp_path)))
    assert isinstance(read, Choices)
    right = [item.options[item.right] for item in read.kept]
    expected = [options[0 if "SciQ" in layout.name else place] for _, options, place in ROWS]
    assert right == expected


def table_of_layouts() -> str:
    cells = [(one.name, one.outcome.replace("|", "\\|")) for one in LAYOUTS]
    return "".join(
        ["| layout | outcome |\n|---|---|\n", *(f"| {name} | {outcome} |\n" for name, outcome in cells)]
    )


def test_the_table_in_the_docs_is_what_is_tested(pytestconfig: pytest.Config) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    written = before + BEGIN + table_of_layouts() + END + after
    if pytestconfig.getoption("write_layouts"):
        PAGE.write_text(written, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == written, (
        "out of date; run: pytest tests/data/test_layouts.py --write-layouts"
    )
    assert len(LAYOUTS) >= 30
