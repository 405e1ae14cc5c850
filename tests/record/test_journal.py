"""The journal: what a kill leaves can be read and continued, and damage is not taken for a kill."""

from __future__ import annotations

import errno
import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journals import edited

from auditkit.record.journal import Entry, Header, Journal, read_journal
from auditkit.record.schema import Claim, Cost, ItemRow, Verdict
from auditkit.record.store import NotVerified, RecordError

pytestmark = pytest.mark.unit

HEADER = Header(plan_sha256="ab", model_sha256="cd", seed=7, created="2025-07-11T00:00:00Z")


def entry(number: int, text: str = "öffnet\n") -> Entry:
    claim = Claim(
        id=f"suite/claim{number}", suite="suite", statement=text, source="", verdict=Verdict.PASS, reason="",
        threshold_source="", effect=None, cost=Cost(seconds=0.5, token_layers=3, share_of_minimum=None),
    )  # fmt: skip
    values = (0.5, None)
    rows = tuple(
        ItemRow(
            claim=claim.id, measurement="m", condition="c", item=f"i{i}", clusters="t=a", value=v, unit="logit"
        )
        for i, v in enumerate(values)
    )
    return Entry(claim=claim, items=rows)


@pytest.fixture
def written(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", HEADER)
    for number in range(3):
        journal.append(entry(number))
    return journal.path


def test_entries_come_back_in_order_after_the_header(written):
    assert read_journal(written) == (HEADER, (entry(0), entry(1), entry(2)))


class Filling:
    """A file that takes so many bytes more, a few at a time, and then fails as a full disk does."""

    def __init__(self, stream, room):
        self.stream, self.room = stream, room

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(self.room, 40, len(data))
        self.room -= taken
        return self.stream.write(bytes(data[:taken]))

    def fileno(self):
        return self.stream.fileno()

    def close(self):
        self.stream.close()


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_line_that_does_not_fit_is_taken_back_and_may_be_written_later(written, room):
    before = written.read_bytes()
    journal = Journal(written, HEADER)
    stream = journal._stream
    journal._stream = Filling(stream, room)
    with pytest.raises(OSError, match="No space left"):
        journal.append(entry(3))
    assert written.read_bytes() == before
    assert read_journal(written)[1] == (entry(0), entry(1), entry(2))
    journal._stream = Filling(stream, 10**6)
    journal.append(entry(3))
    journal.close()
    assert read_journal(written)[1] == (entry(0), entry(1), entry(2), entry(3))


def test_a_journal_of_a_run_that_finished_no_claim_has_no_entries(tmp_path):
    Journal(tmp_path / "journal.jsonl", HEADER)
    assert read_journal(tmp_path / "journal.jsonl") == (HEADER, ())


@given(st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_claim_can_be_kept(records, tmp_path, data):
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    kept = Entry(claim=data.draw(records["claim"]), items=tuple(data.draw(st.lists(records["row"], max_size=3))))
    Journal(path, HEADER).append(kept)
    assert read_journal(path)[1] == (kept,)


def test_texts_that_many_rows_share_are_written_once(tmp_path):
    """A claim of a thousand rows: what a row adds is its item and a few digits."""
    (row,) = entry(0).items[:1]
    rows = tuple(
        msgspec.structs.replace(row, item=f"i{n}", clusters="topic=" + "t" * 200, value=0.5) for n in range(1000)
    )
    journal = Journal(tmp_path / "journal.jsonl", HEADER)
    journal.append(Entry(claim=entry(0).claim, items=rows))
    assert read_journal(journal.path)[1][0].items == rows
    assert journal.path.stat().st_size < 45_000


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items["values"].append(1.0),
        lambda items: items["which"]["item"].pop(),
        lambda items: items["which"]["item"].__setitem__(0, 99),
        lambda items: items["which"]["item"].__setitem__(0, -1),
        lambda items: items["texts"].pop("clusters"),
        lambda items: items["which"].pop("clusters"),
        lambda items: items.update(values="many"),
    ],
)
def test_columns_that_do_not_fit_each_other_are_damage(written, change):
    edited(written, lambda lines: change(lines[1]["items"]), chain=True)
    with pytest.raises(NotVerified, match="is damaged before its last line"):
        read_journal(written)


def test_a_journal_of_another_layout_is_named(written):
    edited(written, lambda lines: lines[0].pop("layout"), chain=True)
    with pytest.raises(RecordError, match="layout of journals 1, this one reads 2"):
        read_journal(written)


def test_text_that_no_file_can_hold_is_kept_with_replacement_characters(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", HEADER)
    journal.append(entry(0, "half \ud83d"))
    assert read_journal(journal.path)[1][0].claim.statement == "half \ufffd"


def test_a_line_is_on_disk_when_append_returns(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), fsync(fd)))
    journal = Journal(tmp_path / "journal.jsonl", HEADER)
    journal.append(entry(0))
    assert synced[-1] == journal.path.stat().st_size
    assert len(synced) == 2


def test_a_last_line_cut_anywhere_is_dropped(written):
    whole = written.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start, len(whole)):
        written.write_bytes(whole[:cut])
        assert read_journal(written) == (HEADER, (entry(0), entry(1))), cut


def test_a_journal_cut_anywhere_can_be_continued(written):
    whole = written.read_bytes()
    for cut in range(0, len(whole), 23):
        written.write_bytes(whole[:cut])
        kept = max(whole[:cut].count(b"\n") - 1, 0)
        Journal(written, HEADER).append(entry(9))
        assert read_journal(written) == (HEADER, (*map(entry, range(kept)), entry(9))), cut


def test_opening_an_existing_journal_keeps_its_header_and_entries(written):
    Journal(written, msgspec.structs.replace(HEADER, seed=8))
    assert read_journal(written) == (HEADER, (entry(0), entry(1), entry(2)))


@pytest.mark.parametrize("line", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "damage",
    [lambda line: line[:-5], lambda line: b"", lambda line: b"{}", lambda line: line[:20] + b"\xff" + line[20:],
     lambda line: b'{"claim":' + b"[" * 100_000],
    ids=["cut", "empty", "other", "bytes", "nested"],
)  # fmt: skip
def test_a_damaged_line_is_refused_in_one_line_of_words(written, line, damage):
    lines = written.read_bytes().split(b"\n")
    lines[line] = damage(lines[line])
    written.write_bytes(b"\n".join(lines))
    with pytest.raises(RecordError, match="damaged before its last line") as raised:
        read_journal(written)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b'{"plan_sha', msgspec.json.encode(HEADER)])
def test_without_a_whole_header_line_nothing_can_be_resumed(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="no header line"):
        read_journal(path)


def test_a_journal_that_begins_with_a_claim_is_refused(written):
    written.write_bytes(written.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(RecordError, match="damaged"):
        read_journal(written)


def test_a_journal_that_is_not_there_is_one_line_of_words(tmp_path):
    with pytest.raises(RecordError, match=r"cannot read .*No such file"):
        read_journal(tmp_path / "journal.jsonl")


def test_a_second_writer_is_refused_until_the_first_is_done(written):
    before = written.read_bytes()
    first = Journal(written, HEADER)
    with pytest.raises(RecordError, match="is being measured by another process"):
        Journal(written, HEADER)
    assert written.read_bytes() == before
    first.close()
    Journal(written, HEADER).append(entry(3))
    assert len(read_journal(written)[1]) == 4


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_a_line_that_is_not_the_one_that_was_written_is_refused(written, line):
    text = written.read_bytes().splitlines(keepends=True)
    text[line] = text[line].replace("öffnet".encode(), b"offnet").replace(b'"seed":7', b'"seed":8')
    written.write_bytes(b"".join(text))
    with pytest.raises(NotVerified, match=rf"line {max(line, 1) + 1} of .* is not the one"):
        read_journal(written)


def test_a_line_of_another_journal_is_refused(written, tmp_path):
    other = Journal(tmp_path / "other.jsonl", msgspec.structs.replace(HEADER, seed=8))
    other.append(entry(0))
    lines = written.read_bytes().splitlines(keepends=True)
    lines[1] = other.path.read_bytes().splitlines(keepends=True)[1]
    written.write_bytes(b"".join(lines))
    with pytest.raises(NotVerified, match="line 2 of"):
        read_journal(written)


def test_two_entries_of_one_claim_are_refused(written):
    Journal(written, HEADER).append(entry(1))
    with pytest.raises(NotVerified, match="two entries of suite/claim1"):
        read_journal(written)
