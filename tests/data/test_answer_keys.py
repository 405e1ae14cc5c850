"""How a file names the right one of four options: by letter, or by a number counted from 0 or from 1."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.choices import Choices, read_choices
from auditkit.data.errors import DataError
from auditkit.data.sources import read_questions, source_first, source_sha256, source_subjects
from auditkit.findings.identity_bias.prompts.sources import read_bias_items

pytestmark = pytest.mark.unit

OPTIONS = ["heron", "otter", "pike", "newt"]


def table(path: Path, *answers: object) -> Path:
    """A CSV file with a header, as KMMLU has it: one question for each answer."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "answer", "A", "B", "C", "D", "Category"])
        for n, answer in enumerate(answers):
            writer.writerow([f"Which is number {n}?", answer, *OPTIONS, "Birds"])
    return path


def rights(*paths: Path, first: int | None = None) -> list[int]:
    return [item.right for item in read_choices(paths, first=first).kept]


@pytest.mark.parametrize(
    ("answers", "expected", "said"),
    [
        ([1, 2, 3, 4], [0, 1, 2, 3], "numbers counted from 1 in 1 file"),
        ([1, 1, 4, 1], [0, 0, 3, 0], "numbers counted from 1 in 1 file"),
        ([0, 1, 2, 3], [0, 1, 2, 3], "numbers counted from 0 in 1 file"),
        ([3, 0, 3, 3], [3, 0, 3, 3], "numbers counted from 0 in 1 file"),
        (["A", "d", "C", "B"], [0, 3, 2, 1], "letters in 1 file"),
    ],
)
def test_the_base_is_found_over_the_whole_file_and_said(tmp_path: Path, answers, expected, said) -> None:
    read = read_choices([table(tmp_path / "birds.csv", *answers)])
    assert [item.right for item in read.kept] == expected
    assert read.key.startswith(said)
    assert not read.dropped


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 1))
def test_no_answer_is_ever_read_as_the_option_beside_it(tmp_path_factory, places, first) -> None:
    """Whatever a file holds: it is read as it is meant, or refused."""
    path = table(tmp_path_factory.mktemp("data") / "birds.csv", *(place + first for place in places))
    try:
        assert rights(path) == places
    except DataError:
        assert {place + first for place in places} <= {1, 2, 3}
    assert rights(path, first=first) == places


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            [1, 2, 3, 1],
            r"the numbers 1 \(in 2 rows\), 2 \(in 1 rows\), 3 \(in 1 rows\) and nothing else.*#answers=1",
        ),
        ([2], "may count the four options from 0 or from 1; write letters A to D"),
        (
            [0, 1, 2, 3, 4],
            r"0 \(in 1 rows\).*4 \(in 1 rows\), and four options are counted from 0 to 3 or from 1 to 4",
        ),
        ([1, 2, 3, 4, 5], "counted from 0 to 3 or from 1 to 4; mend the rows that are wrong"),
        ([0, 1, 7], "counted from 0 to 3 or from 1 to 4"),
    ],
)
def test_numbers_that_do_not_say_what_they_mean_are_refused_in_one_line(tmp_path: Path, answers, said) -> None:
    path = table(tmp_path / "birds.csv", *answers)
    for read in (
        lambda: read_choices([path]),
        lambda: read_questions(str(path)),
        lambda: read_bias_items(str(path)),
    ):
        with pytest.raises(DataError, match=said) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_rows_with_another_number_of_options_say_nothing_about_the_others(tmp_path: Path) -> None:
    """A fifth option may be number 4, and a hidden answer is -1."""
    path = tmp_path / "birds.jsonl"
    rows = [(OPTIONS, 0), ([*OPTIONS, "eel"], 4), (OPTIONS, 3), (OPTIONS, -1)]
    path.write_text(
        "".join(
            json.dumps({"question": f"Which {n}?", "choices": o, "answer": a}) + "\n"
            for n, (o, a) in enumerate(rows)
        )
    )
    read = read_choices([path])
    assert [item.right for item in read.kept] == [0, 3]
    assert [one.reason for one in read.dropped] == [
        "it has 5 options, not four",
        "its answer '-1' is none of the options",
    ]


def test_parquet_is_read_by_the_same_rule(tmp_path: Path) -> None:
    rows = [{"question": f"Which {n}?", "choices": OPTIONS, "answer": n} for n in range(1, 5)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "birds.parquet")
    assert rights(tmp_path / "birds.parquet") == [0, 1, 2, 3]


def test_a_file_that_does_not_show_it_is_read_as_the_other_files_of_its_source(tmp_path: Path) -> None:
    clear, short = table(tmp_path / "fishes.csv", 1, 2, 4), table(tmp_path / "birds.csv", 1, 2, 3)
    read = read_questions(str(tmp_path))
    assert isinstance(read, Choices)
    assert [item.right for item in read.kept] == [0, 1, 2, 0, 1, 3]
    assert read.key == "numbers counted from 1 in 2 files (found over each whole file)"
    table(tmp_path / "mammals.csv", 0, 1)
    with pytest.raises(DataError, match=r"birds\.csv: its answers are"):
        read_choices([short, clear, tmp_path / "mammals.csv"])
    assert rights(clear, tmp_path / "mammals.csv") == [0, 1, 3, 0, 1]


def test_the_source_may_say_it(tmp_path: Path) -> None:
    path = table(tmp_path / "birds.csv", 1, 2, 3)
    for told, expected in ((0, [1, 2, 3]), (1, [0, 1, 2])):
        read = read_questions(f"{path}#answers={told}")
        assert isinstance(read, Choices)
        assert [item.right for item in read.kept] == expected
        assert read.key == f"numbers counted from {told} in 1 file (as told)"
        given = read_bias_items(f"{path}#answers={told}")
        assert given.choices == read
        assert f"right answers of multiple choice: numbers counted from {told}" in given.described
    assert source_subjects(f"{path}#birds,answers=1") == ("birds",)
    assert len({source_sha256(f"{path}{end}") for end in ("", "#answers=0", "#answers=1")}) == 3
    with pytest.raises(DataError, match="so they do not count from 0 as #answers says"):
        read_questions(f"{table(tmp_path / 'clear.csv', 1, 4)}#answers=0")
    for wrong in ("#answers=2", "#answers=0,answers=1", "#answers=A"):
        with pytest.raises(DataError, match="write #answers=0 where the first option is 0, or #answers=1"):
            source_first(f"{path}{wrong}")
