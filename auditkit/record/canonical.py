"""A record as its file gives it back.

A run in memory may hold a whole number where the schema has a fraction (0 for 0.0), or text that no file can
hold. Every output starts from the form that `audit.json` has after reading, so a report written at the end of
a run and one made again from the file are the same bytes.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from auditkit.record.schema import Struct

S = TypeVar("S", bound=Struct)


def canonical(record: S) -> S:
    """`record` as it would be read from its file; half surrogate pairs become U+FFFD."""
    try:
        document = msgspec.json.encode(record)
    except UnicodeEncodeError:
        document = msgspec.json.encode(without_surrogates(msgspec.to_builtins(record)))
    return msgspec.json.decode(document, type=type(record))


def without_surrogates(value: Any) -> Any:
    """Builtin `value` with every half surrogate pair in its text replaced by U+FFFD."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_surrogates(item) for item in value]
    return value
