"""Whatever is wrong with a data file is one line that names it."""

from pathlib import Path

import pytest

from auditkit.data.errors import DataError
from auditkit.data.files import json_lines, text_of, toml_of

pytestmark = pytest.mark.unit


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt: No such file"):
        text_of(tmp_path / "absent.txt")
    latin = tmp_path / "latin.toml"
    latin.write_bytes("a = 'é'".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.toml: not UTF-8 \(.*at byte 5\)"):
        toml_of(latin)
    broken = tmp_path / "broken.toml"
    broken.write_text("a = ")
    with pytest.raises(DataError, match=r"broken\.toml: Invalid value"):
        toml_of(broken)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('\ufeffa = "b"', encoding="utf-8")
    assert toml_of(tmp_path / "a.toml") == {"a": "b"}


def test_lines_are_numbered_as_an_editor_does_and_other_separators_are_text(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"a": "x\u2028y"}\n\n{"a": 2}\n', encoding="utf-8")
    assert list(json_lines(source)) == [(1, {"a": "x\u2028y"}), (3, {"a": 2})]


@pytest.mark.parametrize(("bad", "message"), [("{", "not JSON"), ("[1]", "not an object of fields")])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, bad: str, message: str) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(f'{{"a": 1}}\n{bad}\n')
    with pytest.raises(DataError, match=rf"a\.jsonl, line 2: {message}"):
        list(json_lines(source))
