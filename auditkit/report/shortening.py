"""The same page, style sheet or script in fewer bytes: what HTML implies and what separates nothing is left away.

A parser makes the same document of it. A page of a default run has 20,000 elements, so that what each repeats counts.
"""

from __future__ import annotations

import re

_FOREIGN = re.compile(r"(<(?:style|script)\b.*?</(?:style|script)>)", re.S)
"""What is no HTML inside."""
_IMPLIED = re.compile(
    r"</(?:td|th|tr|li)>|</thead>(?=<tbody)|</tbody>(?=</table)"
    r"|</p>(?=<(?:p|div|h[2-6]|table|ul|ol|dl|pre|details|section|figure|form|nav)\b|</(?:div|details|section|td)>)"
)
_TABLE = re.compile(r"<table\b.*?</table>", re.S)
_SCOPE = re.compile(r'(<th\b[^<>]*?) scope="(?:col|row)"')
_ONE_HEAD = re.compile(r"[^<>]*><th\b(?:(?!<th\b).)*<td\b(?:(?!<th\b).)*", re.S)
"""What follows the "<tr" of a row that has one head, in front, and data behind it."""
_TAG = re.compile(r"<[a-z][^<>]*>")
_SIMPLE = re.compile(r'="([A-Za-z0-9_.#-]+)"(?=([ >]|/>))')
_NEEDLESS = {"&gt;": ">", "&#39;": "'", "&#34;": '"', "&#10;": "\n"}
"""References that only the value of an attribute needs: outside of tags, "<" and "&" alone have a meaning."""
_OUTSIDE = re.compile(r"(?<=>)[^<>]+")
_REFERENCE = re.compile("&gt;|&#39;|&#34;|(?<=.)&#10;", re.S)
"""A line break that begins a text stays, since a browser drops one at the start of a `pre`."""


def shortened(page: str) -> str:
    """The same document in fewer bytes: HTML implies the end of a cell, a row, an item of a list, and of a paragraph
    before a block, and which cells a head is of; a simple value of an attribute needs no quotes, and a quote in a text
    no reference.

    Lines between elements would be nodes of their own, a third of all. No text has one of these, since "<" is escaped.
    """
    parts = _FOREIGN.split(re.sub(r">\n+<", "><", page))
    parts[::2] = [_html(part) for part in parts[::2]]
    return "".join(parts)


def _html(part: str) -> str:
    plain = _TABLE.sub(lambda table: _heads(table[0]), part)
    return _OUTSIDE.sub(_plainly, _TAG.sub(_unquoted, _IMPLIED.sub("", plain)))


def _heads(table: str) -> str:
    """The table without the scopes of its heads, if HTML implies them: the first row and the first column are heads,
    and nothing else is."""
    head, _, body = table.partition("<tbody")
    regular = "<td" not in head and all(map(_ONE_HEAD.fullmatch, body.split("<tr")[1:]))
    return _SCOPE.sub(r"\1", table) if regular else table


def _unquoted(tag: re.Match[str]) -> str:
    return _SIMPLE.sub(lambda value: f"={value[1]}{'' if value[2] in (' ', '>') else ' '}", tag[0])


def _plainly(text: re.Match[str]) -> str:
    return _REFERENCE.sub(lambda found: _NEEDLESS[found[0]], text[0])


def without_remarks(source: str) -> str:
    """A style sheet or script without comments and indentation; no string in them holds the start of a comment."""
    bare = re.sub(r"^ *//.*\n", "", re.sub(r"/\*.*?\*/", "", source, flags=re.S), flags=re.M)
    return re.sub(r"\n\s*", "\n", bare)


def tight(style: str) -> str:
    """A style sheet without the blanks that separate nothing; no string in it holds one of the signs."""
    return re.sub(r";?\s*([{};,])\s*", r"\1", without_remarks(style)).replace(": ", ":")
