"""Text on its way out: what each function promises, for every string of a corpus and for any string."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from auditkit.record.escaping import (
    LONGEST_CELL,
    cell,
    command_property,
    command_value,
    document,
    line,
    markdown,
    path_part,
    plain,
    printed,
    shell,
    shell_join,
)

pytestmark = pytest.mark.unit

OBEYED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
ENDS = re.compile("[\t\r\n\u2028\u2029]")
COMMAND = re.compile(r"^\s*::|##\[|##vso\[|##teamcity\[", re.IGNORECASE | re.MULTILINE)
PIECES = [
    "::",
    "##[",
    "##vso[",
    "=",
    "@",
    "\n",
    "\r",
    "\x1b[",
    "\u202e",
    " ",
    "|",
    "](",
    "`",
    "a",
    "'",
    "\\",
    "$(",
]
ANY = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(PIECES)).map("".join)


def trimmed(text: str) -> str:
    """As an importer of tables may trim it."""
    return text.strip().strip("\u200b\u200c\u200d\u2060\ufeff\u00ad").strip()


def check(text: str) -> None:
    for function in (document, printed, line, plain, markdown, cell, command_value, command_property):
        assert not OBEYED.search(function(text)), function
    for function in (line, plain, markdown):
        assert not ENDS.search(function(text)), function
    for function in (printed, line, plain, markdown, cell, command_value, command_property):
        assert not COMMAND.search(function(text)), function
    assert not re.search("[\r\n]", command_value(text))
    assert not re.search("[\r\n:,]", command_property(text))
    assert not trimmed(cell(text)).startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    assert shell(text).isprintable()
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", path_part(text, "model"))


def test_the_corpus_is_large_and_holds_nothing_twice() -> None:
    assert len(HOSTILE) >= 110
    assert len(set(HOSTILE)) == len(HOSTILE)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_in_a_hostile_text_is_obeyed(text: str) -> None:
    check(text)
    check(f"a {text}")
    check(f"a\n{text}")


@given(text=ANY)
def test_nothing_in_any_text_is_obeyed(text: str) -> None:
    check(text)


def test_a_shell_reads_every_value_back_as_one_word_and_runs_nothing(tmp_path: Path) -> None:
    values = [text.replace("\x00", "") for text in HOSTILE if not re.search("[\ud800-\udfff]", text)]
    command = "printf '%s\\0' " + shell_join(values)
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode().split("\0")[:-1] == values
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "text", "said"),
    [
        (document, "a\x1b[31m\u202eb", "a\ufffd[31m[U+202E]b"),
        (plain, " a \n b ", "a b"),
        (line, "  a  b", "  a  b"),
        (line, "::error::x", ":\u200b:error::x"),
        (line, "suites/a.py::test_b", "suites/a.py::test_b"),
        (markdown, "[a](b) @c | GH-4", "\\[a\\](b) @\u200bc \\| GH-\u200b4"),
        (markdown, "at 09:24:31", "at 09:24:31"),
        (cell, " =1", "' =1"),
        (cell, "a=1", "a=1"),
        (shell, "$(touch x)", "'$(touch x)'"),
        (shell, "it's\n", "$'it\\'s\\x0a'"),
        (shell, "plain", "plain"),
    ],
)
def test_what_is_written_instead(function: Callable[[str], str], text: str, said: str) -> None:
    assert function(text) == said


def test_a_cell_is_as_long_as_pythons_reader_takes() -> None:
    (row,) = csv.reader(io.StringIO(f'"{cell("x" * 1_000_000)}"'))
    assert len(row[0]) == LONGEST_CELL
    assert row[0].endswith("…")
