"""Text of models, data and suites on its way out: one function for each place where text could be obeyed.

Names, statements, reasons and paths may come from strangers. A terminal obeys control characters, a build server obeys
lines that begin with its command's mark, a spreadsheet runs cells that begin like a formula, Markdown makes links and
mentions, a shell expands what is not quoted, and marks of writing direction make a text look like another one. Every
output of auditkit passes foreign text through the function here that fits the place:

| where the text goes | function |
|---|---|
| one part of a line in a terminal or a build server's log | `plain` |
| a whole such line, whose blanks are kept | `line` |
| a page, an XML file, any document | `document` |
| a document that may also be printed into a log | `printed` |
| Markdown | `markdown` |
| a cell of a CSV table | `cell` |
| value or property of a GitHub workflow command | `command_value`, `command_property` |
| a command for a shell | `shell`, `shell_join` |
| a part of a path | `path_part` |
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

LONGEST_CELL = 100_000
"""Most characters of a CSV cell: Python's reader refuses longer ones than 131,072. The record holds the whole text."""

LONGEST_MARKDOWN = 300
"""Most characters of one text in Markdown; the page holds all of it."""

LONGEST_PATH_PART = 100
"""Most characters of a file's or folder's name that is made of a text: file systems take 255 bytes."""

DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Marks of writing direction, as part of a character class."""

CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
"""What no document can hold or shows as nothing, as part of a character class; tab and ends of lines are not in it."""

_LOST, _BREAK = "\N{REPLACEMENT CHARACTER}", "\N{ZERO WIDTH SPACE}"
_NOT_SHOWN = re.compile(f"[{CONTROLS}]")
_IN_A_LINE = re.compile("[\t\r\n\u2028\u2029]")
_DIRECTION = re.compile(f"[{DIRECTIONS}]")
# GitHub's runner, Azure Pipelines and TeamCity find their second kind of mark anywhere in a line.
_COMMAND_AT_START = re.compile("(^|[\r\n\u2028\u2029])([^\\S\r\n\u2028\u2029]*:)(?=:)")
_COMMAND_ANYWHERE = re.compile(r"##(?=[\[A-Za-z])")
# Importers trim blanks and signs without width, and take full-width signs for the plain ones.
_FORMULA = re.compile("[\t\r\n]|[\\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_SHORTCODE = r":(?=(?:[a-z+-][a-z0-9_+-]*|100|1234):)"
_COMMIT = r"\b[0-9a-f]{20}(?=[0-9a-f]{20}\b)"
_LINKED = re.compile(rf"(@|:(?=//)|www(?=\.)|#(?=\d)|!(?=\d)|\bGH-(?=\d)|{_SHORTCODE}|{_COMMIT})")


def document(text: str) -> str:
    """`text` as a document can hold and show it: U+FFFD for control characters, "[U+202E]" for marks of direction."""
    return _DIRECTION.sub(lambda mark: f"[U+{ord(mark[0]):04X}]", _NOT_SHOWN.sub(_LOST, text))


def printed(text: str) -> str:
    """`document` for text that somebody may print into a build server's log: no line in it is a command there."""
    return _COMMAND_ANYWHERE.sub(f"##{_BREAK}", _COMMAND_AT_START.sub(f"\\1\\2{_BREAK}", document(text)))


def line(text: str) -> str:
    """`text` as one line of a terminal or a build server's log, with its blanks: nothing in it is obeyed."""
    return printed(_IN_A_LINE.sub(" ", text))


def plain(text: str) -> str:
    """`text` as a part of such a line: every run of blanks is one space."""
    return line(" ".join(text.split()))


def markdown(text: str) -> str:
    """`text` on one line, as text: no markup, link, image, mention or cell boundary in it has an effect."""
    said = " ".join(document(text).split())
    said = said if len(said) <= LONGEST_MARKDOWN else said[: LONGEST_MARKDOWN - 1] + "…"
    said = said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    said = _COMMAND_AT_START.sub(f"\\2{_BREAK}", _LINKED.sub(f"\\1{_BREAK}", said))
    said = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", said)
    # At the start of a line these would be lists, rules and headings.
    return re.sub(r"^(?=[-+=])|^\d+(?=[.)](?: |$))", lambda match: match[0] + "\\", said)


def cell(text: str) -> str:
    """`text` as a cell of a CSV table; one that a spreadsheet would run as a formula begins with an apostrophe."""
    said = printed(text)
    said = said if len(said) <= LONGEST_CELL else said[: LONGEST_CELL - 1] + "…"
    return f"'{said}" if _FORMULA.match(said) else said


def command_value(text: str) -> str:
    """`text` as the value of a GitHub workflow command, which ends with its line."""
    said = printed(re.sub("[\u2028\u2029]", " ", text))
    return said.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """`text` as a property of a GitHub workflow command."""
    return command_value(text).replace(":", "%3A").replace(",", "%2C")


def shell(value: str) -> str:
    """`value` as one word of a POSIX shell; one with signs that cannot be seen is written with their codes."""
    if value.isprintable() and not _DIRECTION.search(value):
        return shlex.quote(value)
    return "$'" + "".join(map(_coded, value)) + "'"


def _coded(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable() and not _DIRECTION.match(char):
        return char
    if "\udc80" <= char <= "\udcff":  # a byte of a path that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return f"\\x{ord(char):02x}" if ord(char) < 0x80 else f"\\U{ord(char):08x}"


def shell_join(values: Iterable[str]) -> str:
    """A command as a shell reads it back, word for word."""
    return " ".join(map(shell, values))


def path_part(text: str, otherwise: str) -> str:
    """`text` as the name of a file or folder: letters, digits, ".", "_" and "-", and neither hidden nor an option.

    Args:
        otherwise: the name where nothing of the text is left.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:LONGEST_PATH_PART].strip("-.") or otherwise
