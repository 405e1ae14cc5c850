"""A page in fewer bytes is the same document (`test_browser.py` compares them in Chromium); here is what it lacks."""

from __future__ import annotations

import pytest

from auditkit.report.shortening import shortened, tight, without_remarks

pytestmark = pytest.mark.unit

HEAD = '<thead><tr><th scope="col">Name</th><th scope="col" class="wide">Value</th></tr></thead>'


def table(*rows: str, head: str = HEAD) -> str:
    return f"<table>{head}<tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>"


def test_a_table_whose_first_row_and_column_are_heads_needs_no_scopes() -> None:
    short = shortened(table('<th scope="row">a</th><td>1</td>', '<th scope="row" class="x">b</th><td>2</td>'))
    assert short == (
        "<table><thead><tr><th>Name<th class=wide>Value<tbody><tr><th>a<td>1<tr><th class=x>b<td>2</table>"
    )
    assert "scope" not in shortened(table('<th scope="row">a</th><td>1</td>', head="")), "names and values"


@pytest.mark.parametrize(
    "row",
    [
        '<td>1</td><th scope="row">a</th>',
        '<th scope="row">a</th><th scope="row">b</th>',
        '<th scope="rowgroup" colspan="2">a</th>',
        '<th scope="row">a</th>',
    ],
    ids=["data first", "two heads", "a head of a group", "no data"],
)
def test_any_other_table_keeps_them(row: str) -> None:
    assert shortened(table('<th scope="row">a</th><td>1</td>', row)).count("scope=") >= 3


def test_a_corner_without_a_head_keeps_them() -> None:
    head = '<thead><tr><td></td><th scope="col">Value</th></tr></thead>'
    assert shortened(table('<th scope="row">a</th><td>1</td>', head=head)).count("scope=") == 2


def test_a_value_in_front_of_a_slash_keeps_its_end() -> None:
    assert shortened('<use href="#a"/><path class="b" d="m0 0h1"/>') == '<use href=#a /><path class=b d="m0 0h1"/>'


def test_style_and_script_are_left_alone_by_the_page_and_tightened_apart() -> None:
    page = '<style>a { color: red }</style><script>if (a > "b") {}</script><p>a &gt; b</p><p>c</p>'
    assert shortened(page) == '<style>a { color: red }</style><script>if (a > "b") {}</script><p>a > b<p>c</p>'
    assert tight("/* why */ .a, .b { color: red; }\n") == " .a,.b{color:red}"
    assert without_remarks("// why\nlet a = 1;\n  let b = 2;\n") == "let a = 1;\nlet b = 2;\n"
