"""What can go wrong when a model is opened; each message is one line that says what to do."""

from __future__ import annotations

import re

from auditkit.record.escaping import plain


class ModelError(Exception):
    """The model cannot be opened as asked: unknown name, no weights, unreadable file, no network."""


class IntegrityError(ModelError):
    """The bytes are not those that were promised: a digest does not match, or numbers are not what they were."""


_WHOLE = 600
"""Characters of a sentence that is passed on whole, whatever length is asked for."""

_GOES_ON = re.compile(r"[:,]$|\s(?:and|or|of|to|in|on|the|a|an|with|for|from|by|is|are|that)$")
"""The end of a line whose sentence goes on in the next."""

_WRAPPED = 50
"""Characters of a line that an author may have wrapped: the next one, in lower case, goes on."""


def first_line(error: BaseException, length: int = 240) -> str:
    """What an error says first, in whole sentences on one line, for a message of ours; its type where it says nothing.

    Sentences are taken from the first paragraph while they fit, at least one of them; a line that ends in a colon says
    it with the lines that follow. A sentence beyond `_WHOLE` characters ends at a word, with an ellipsis.
    """
    lines = [" ".join(line.split()) for line in str(error).strip().splitlines()]
    if "" in lines and not lines[lines.index("") - 1].endswith(":"):
        lines = lines[: lines.index("")]
    lines = [line for line in lines if line]
    if not lines:
        return type(error).__name__
    text = _unbroken(lines)
    said = ""
    for sentence in re.split(r"(?<=[.!?;])\s+(?=[^a-z\s])", text):
        longer = f"{said} {sentence}".strip()
        if said and len(longer) > length:
            break
        said = longer
    if len(said) <= _WHOLE:
        return plain(said)
    return plain(f"{said[:_WHOLE].rpartition(' ')[0] or said[:_WHOLE]} ...")


def _unbroken(lines: list[str]) -> str:
    """The lines that say one thing: up to one that ends a sentence, or is followed by a line that begins another."""
    text = lines[0]
    for line in lines[1:]:
        wrapped = len(text) > _WRAPPED and line[0].islower()
        if not (wrapped or _GOES_ON.search(text) or text.endswith((".", "!", "?"))):
            break
        text = f"{text} {line}"
    return text
