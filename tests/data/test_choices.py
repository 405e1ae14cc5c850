"""Multiple-choice questions: the layouts of MMLU, rows that cannot be asked, shuffling, and where they come from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.choices import ChoiceItem, Choices, read_choices, right_places, shuffled
from auditkit.data.errors import DataError
from auditkit.data.sources import read_questions, source_files, source_sha256

pytestmark = pytest.mark.unit

GOOD = ["Which of these is a bird?", "heron", "otter", "pike", "newt", "A"]
OTHER = ["Which of these swims?", "hare", "pike", "wren", "mole", "B"]
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "mmlu"


def hendrycks(folder: Path, name: str, *rows: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("".join(",".join(f'"{field}"' for field in row) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet(path: Path, *rows: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def hub_row(subject: str = "birds") -> dict[str, object]:
    return {"question": GOOD[0], "subject": subject, "choices": GOOD[1:5], "answer": 0}


BIRD = ("heron", "otter", "pike", "newt")


def test_every_layout_gives_the_same_question(tmp_path: Path) -> None:
    lines = tmp_path / "birds_test.jsonl"
    lines.write_text(json.dumps({**hub_row(), "answer": "A"}) + "\n")
    headed = tmp_path / "birds.csv"
    headed.write_text("Answer,Question,A,B,C,D,Subject\nA," + ",".join(GOOD[:5]) + ",birds\n")
    plain = hendrycks(tmp_path, "birds_test.csv", GOOD)
    bare = {key: value for key, value in hub_row().items() if key != "subject"}
    tables = (
        parquet(tmp_path / "x" / "other.parquet", hub_row()),
        parquet(tmp_path / "birds" / "test-0.parquet", bare),
    )
    for path in (lines, headed, plain, *tables):
        (item,) = read_choices([path]).kept
        assert (item.topic, item.question, item.options, item.right) == ("birds", GOOD[0], BIRD, 0), path


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([*GOOD[:4], "", "A"], "1 of four options are missing"),
        ([*GOOD[:3], "A"], "2 of four options are missing"),
        ([*GOOD[:5], "E"], "its answer 'E' is none of the options"),
        ([*GOOD[:5], ""], "its answer '' is none of the options"),
        ([*GOOD[:4], "heron", "A"], "two of its options are the same"),
        ([*GOOD[:4], "eel", "ray", "A"], "it has 5 options, not four"),
        (["", *GOOD[1:]], "there is no question"),
        ([*GOOD[:4], "All of the above", "A"], "speaks of the others' places"),
        ([*GOOD[:4], "Both A and B", "A"], "speaks of the others' places"),
    ],
)
def test_rows_that_cannot_be_asked_are_left_out_with_the_reason(tmp_path: Path, row, reason) -> None:
    read = read_choices([hendrycks(tmp_path, "birds_test.csv", GOOD, row, OTHER)])
    assert [item.id for item in read.kept] == ["birds-1", "birds-3"]
    (dropped,) = read.dropped
    assert dropped.item_id == "birds-2"
    assert reason in dropped.reason


@pytest.mark.parametrize("option", ["None of these", "A and a half", "Above average costs", "plan b or C major"])
def test_only_words_about_places_leave_a_row_out(tmp_path: Path, option: str) -> None:
    read = read_choices([hendrycks(tmp_path, "x_test.csv", [*GOOD[:4], option, "A"], GOOD)])
    assert len(read.kept) == (1 if option.startswith("Above") else 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no questions"),
        (b"\xff\xfe", "not UTF-8"),
        (b'"open', "line 1"),
        (b"a,b\n", "none of its rows is a question with four options"),
    ],
)
def test_files_that_are_no_questions_are_refused(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "x_test.csv").write_bytes(text)
    with pytest.raises(DataError, match=said) as caught:
        read_choices([tmp_path / "x_test.csv"])
    assert "\n" not in str(caught.value)


def test_damaged_parquet_and_json_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "a.jsonl").write_text('{"question": \n')
    for name, said in (("a.parquet", "no Parquet file"), ("a.jsonl", "line 1: not JSON")):
        with pytest.raises(DataError, match=said):
            read_choices([tmp_path / name])


def test_a_subject_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    hendrycks(tmp_path, "us_birds_test.csv", GOOD)
    hendrycks(tmp_path, "fishes_test.csv", OTHER)
    with pytest.raises(DataError, match=r"no subject 'us_brids' among the 2 of the data: did you mean us_birds\?"):
        read_questions(f"{tmp_path}#us_brids")
    chosen = read_questions(f"{tmp_path}#us_birds")
    assert isinstance(chosen, Choices)
    assert [item.id for item in chosen.kept] == ["us_birds-1"]


# Shuffling


items = st.builds(
    ChoiceItem,
    id=st.text("abc-12", min_size=1),
    topic=st.just("t"),
    question=st.just("q"),
    options=st.lists(st.text("wxyz", min_size=1), min_size=4, max_size=4, unique=True).map(tuple),
    right=st.integers(0, 3),
)


@given(items, st.integers(0, 3), st.integers(0, 99))
def test_shuffling_keeps_the_options_and_puts_the_right_one_where_it_belongs(item, place, seed) -> None:
    options = shuffled(item, place, seed=seed)
    assert sorted(options) == sorted(item.options)
    assert options[place] == item.options[item.right]
    assert options == shuffled(item, place, seed=seed)


@given(st.integers(0, 60), st.integers(0, 99))
def test_the_right_letter_is_each_of_the_four_equally_often(n: int, seed: int) -> None:
    places = right_places(n, seed=seed)
    counts = [places.count(k) for k in range(4)]
    assert len(places) == n
    assert max(counts) - min(counts) <= 1
    assert places == right_places(60, seed=seed)[:n], "more questions leave the first ones as they were"


def test_the_order_of_wrong_options_differs_between_items_and_seeds() -> None:
    made = [ChoiceItem(f"i{k}", "t", "q", ("a", "b", "c", "d"), 0) for k in range(60)]
    orders = Counter(shuffled(item, 0, seed=0)[1:] for item in made)
    assert len(orders) == 6
    assert [shuffled(item, 0, seed=1) for item in made] != [shuffled(item, 0, seed=0) for item in made]


# Sources


def test_of_a_folder_the_test_split_is_read_and_all_is_not_read_twice(tmp_path: Path) -> None:
    for name in ("dev", "test", "val"):
        hendrycks(tmp_path / name, f"birds_{name}.csv", GOOD)
    assert [path.name for path in source_files(str(tmp_path))] == ["birds_test.csv"]
    hub = tmp_path / "hub"
    for name in (
        "all/test-0.parquet",
        "birds/test-0.parquet",
        "birds/dev-0.parquet",
        "auxiliary_train/train-0.parquet",
    ):
        parquet(hub / name, hub_row())
    assert [str(path.relative_to(hub)) for path in source_files(str(hub))] == ["birds/test-0.parquet"]


def test_completion_items_are_told_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,topic,question,start,right,wrong\na,one,Q?,It is,x,y\nb,two,Q?,It is,x,y\n")
    read = read_questions(f"{path}#two")
    assert not isinstance(read, Choices)
    assert [item.id for item in read] == ["b"]
    with pytest.raises(DataError, match="no topic 'three'; there are one, two"):
        read_questions(f"{path}#three")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("./nowhere", "no file, no folder, and no hub data set of the form owner/name"),
        ("", "no file, no folder"),
        ("{folder}", r"holds no \.csv, \.jsonl, \.parquet, \.tsv, .* file"),
        ("{folder}/a.xlsx", "it is a zip archive or an Excel workbook; save the sheet as 'CSV UTF-8'"),
    ],
)
def test_what_is_no_source_is_said_in_one_line(tmp_path: Path, spec: str, said: str) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=said):
        source_files(spec.format(folder=tmp_path))


def test_the_digest_follows_content_and_subjects_and_not_the_place(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for folder, row in ((one, GOOD), (two, GOOD), (other, OTHER)):
        hendrycks(folder, "birds_test.csv", row)
    assert source_sha256(str(one)) == source_sha256(str(two))
    assert len({source_sha256(str(one)), source_sha256(f"{one}#birds"), source_sha256(str(other))}) == 3


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"needs the published files in {PUBLISHED}")
def test_the_published_files_are_read_whole() -> None:
    read = read_questions(str(PUBLISHED))
    assert isinstance(read, Choices)
    assert len({item.topic for item in read.kept}) == 8
    rows = len(read.kept) + len(read.dropped)
    assert rows > 1900
    assert len(read.dropped) < 0.05 * rows
