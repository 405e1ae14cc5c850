"""What can go wrong when a model is opened; each message is one line that says what to do."""

from __future__ import annotations

from auditkit.record.escaping import plain


class ModelError(Exception):
    """The model cannot be opened as asked: unknown name, no weights, unreadable file, no network."""


class IntegrityError(ModelError):
    """The bytes are not those that were promised: a digest does not match, or numbers are not what they were."""


def first_line(error: BaseException, length: int = 240) -> str:
    """The first line of an error's message that says something, for a message of ours; its type where none does.

    A line that ends in a colon says it with the line that follows.
    """
    lines = [line for line in (" ".join(line.split()) for line in str(error).splitlines()) if line]
    if not lines:
        return type(error).__name__
    return plain(" ".join(lines[: 2 if lines[0].endswith(":") else 1])[:length])
