"""Completion items: the packaged file, a user's file, selection and the token check."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.items import COLUMNS, CompletionItem, DataError, check_tokens, completion_items, select
from auditkit.testing.strategies import completion_items as generated_items

pytestmark = pytest.mark.unit

FRANCE = CompletionItem(
    "capital-france",
    "capitals",
    "What is the capital of France?",
    "The capital of France is",
    "Paris",
    "London",
)

many_items = st.lists(generated_items(), max_size=40, unique_by=lambda item: item.id)
seeds = st.integers(0, 2**32)


def contains_word(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def write_csv(path: Path, *rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def row(item: CompletionItem) -> tuple[str, ...]:
    return tuple(getattr(item, column) for column in COLUMNS)


# The packaged file


def test_packaged_items_cover_many_topics() -> None:
    counts = Counter(item.topic for item in completion_items())
    assert counts.total() >= 220
    assert len(counts) >= 12
    assert min(counts.values()) >= 14


def test_packaged_ids_are_kebab_case_with_one_prefix_per_topic() -> None:
    prefixes: dict[str, set[str]] = {}
    for item in completion_items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", item.id)
        prefixes.setdefault(item.topic, set()).add(item.id.split("-")[0])
    assert all(len(names) == 1 for names in prefixes.values())
    assert len(set.union(*prefixes.values())) == len(prefixes)


def test_packaged_answers_are_one_word_and_not_given_away() -> None:
    for item in completion_items():
        assert (item.right + item.wrong).isalpha(), item.id
        assert item.right[0].isupper() == item.wrong[0].isupper(), item.id
        for answer in (item.right, item.wrong):
            assert not contains_word(f"{item.question} {item.start}", answer), item.id
        assert item.question.endswith("?"), item.id
        assert item.start[-1].isalpha(), item.id


def test_packaged_facts_appear_once() -> None:
    items = completion_items()
    assert len({item.start for item in items}) == len(items)
    assert len({item.question for item in items}) == len(items)


def test_packaged_answers_are_as_often_right_as_wrong_within_a_topic() -> None:
    # Otherwise preferring the frequent word would look like knowing the facts.
    items = completion_items()
    right = Counter((item.topic, item.right) for item in items)
    wrong = Counter((item.topic, item.wrong) for item in items)
    assert right == wrong


# A user's file


def test_user_file_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", row(FRANCE))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert completion_items(path) == (FRANCE,)


def test_further_columns_are_ignored(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", ("me", *row(FRANCE)), columns=("author", *COLUMNS))
    assert completion_items(path) == (FRANCE,)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(*row(FRANCE)[:-1], "")], "line 2, column wrong: empty field"),
        ([row(FRANCE)[:-1]], "line 2, column wrong: empty field"),
        ([(*row(FRANCE)[:-1], "London ")], "line 2, column wrong: leading or trailing space"),
        ([(*row(FRANCE)[:-1], "Paris")], "line 2, column wrong: 'Paris' is also the right answer"),
        ([row(FRANCE), row(FRANCE)], "line 3, column id: 'capital-france' is already used in line 2"),
        ([(*row(FRANCE), "extra")], "line 2: more fields than columns"),
        ([], "line 1: no items"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path: Path, rows: list[tuple[str, ...]], message: str) -> None:
    path = write_csv(tmp_path / "mine.csv", *rows)
    with pytest.raises(DataError) as caught:
        completion_items(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", row(FRANCE)[:-1], columns=COLUMNS[:-1])
    with pytest.raises(DataError, match=r"line 1, column wrong: missing column"):
        completion_items(path)


@pytest.mark.parametrize("content", [b"", b"id,topic\xff", b'id,topic,question,start,right,wrong\n"a,b'])
def test_files_that_are_no_csv_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"mine\.csv"):
        completion_items(path)


# Selection


@given(items=many_items, seed=seeds, data=st.data())
def test_selections_are_nested(items: list[CompletionItem], seed: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, len(items)))
    everything = select(items, len(items), seed=seed)
    assert select(items, n, seed=seed) == everything[:n]
    assert sorted(item.id for item in everything) == sorted(item.id for item in items)


@given(items=many_items, seed=seeds, data=st.data())
def test_topics_are_balanced_until_one_runs_out(
    items: list[CompletionItem], seed: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(items)))
    supply = Counter(item.topic for item in items)
    counts = Counter(item.topic for item in select(items, n, seed=seed))
    most = max(counts.values(), default=0)
    assert all(counts[topic] >= min(most - 1, supply[topic]) for topic in supply)


@given(items=many_items, seed=seeds, data=st.data())
def test_selection_ignores_the_order_of_the_input(
    items: list[CompletionItem], seed: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(items)))
    shuffled = data.draw(st.permutations(items))
    assert select(items, n, seed=seed) == select(shuffled, n, seed=seed)


def test_seeds_give_different_selections() -> None:
    items = completion_items()
    assert select(items, 40, seed=1) != select(items, 40, seed=2)


def test_selection_order_is_the_same_in_every_process() -> None:
    # Written out: results recorded with a seed must be repeatable later.
    items = [CompletionItem(f"capital-{name}", "capitals", "?", "x", "a", "b") for name in "abcdef"]
    assert "".join(item.id[-1] for item in select(items, 6, seed=7)) == "ebdcfa"


@pytest.mark.parametrize("n", [-1, 2])
def test_impossible_numbers_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"cannot select {n} items from 1"):
        select([FRANCE], n, seed=0)


# Token check


class PieceTokenizer:
    """Splits text into words with their leading space; listed words are split in two."""

    def __init__(self, *split: str) -> None:
        self.split = split
        self.ids: dict[str, int] = {}

    def __call__(self, text: str) -> list[int]:
        pieces: list[str] = []
        for piece in re.findall(r"\s*\S+", text):
            pieces += [piece[:2], piece[2:]] if piece.strip() in self.split else [piece]
        return [self.ids.setdefault(piece, len(self.ids)) for piece in pieces]


def prefix_of(item: CompletionItem) -> str:
    return f"{item.question}\n{item.start}"


def test_single_token_answers_are_kept_with_their_ids() -> None:
    encode = PieceTokenizer()
    check = check_tokens([FRANCE], encode, prefix_of)
    (kept,) = check.kept
    assert check.dropped == ()
    assert kept.item == FRANCE
    assert (kept.right_id, kept.wrong_id) == (encode.ids[" Paris"], encode.ids[" London"])


@given(items=many_items, data=st.data())
def test_every_item_is_kept_or_dropped(items: list[CompletionItem], data: st.DataObject) -> None:
    answers = [answer for item in items for answer in (item.right, item.wrong)]
    split = data.draw(st.sets(st.sampled_from(answers))) if answers else set()
    check = check_tokens(items, PieceTokenizer(*split), prefix_of)
    expected = [item for item in items if not {item.right, item.wrong} & split]
    assert [kept.item for kept in check.kept] == expected
    assert {dropped.item_id for dropped in check.dropped} == {item.id for item in items} - {
        item.id for item in expected
    }


def test_reason_for_an_answer_of_two_tokens() -> None:
    (dropped,) = check_tokens([FRANCE], PieceTokenizer("London"), prefix_of).dropped
    assert (dropped.item_id, dropped.reason) == ("capital-france", "' London' takes 2 tokens, not 1")


def test_reason_for_an_answer_that_merges_with_the_prompt() -> None:
    def encode(text: str) -> list[int]:
        return [hash(text)]

    (dropped,) = check_tokens([FRANCE], encode, prefix_of).dropped
    assert dropped.reason == "' Paris' changes the tokens of the prompt before it"


def test_reason_for_answers_that_are_the_same_token() -> None:
    def encode(text: str) -> list[int]:
        return [0 if word in ("Paris", "London") else 1 for word in text.split()]

    (dropped,) = check_tokens([FRANCE], encode, prefix_of).dropped
    assert dropped.reason == "' Paris' and ' London' are the same token"
