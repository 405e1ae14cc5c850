"""Rows of files made into items of one kind: what cannot be used is left out and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError, Dropped
from auditkit.data.tables import read_rows
from auditkit.findings.identity_bias.prompts.items import Items

Row = Mapping[str, Any]


def gathered(
    paths: Sequence[Path], made: Callable[[str, Row], Any], validity: str, columns: Sequence[str] = ()
) -> Items[Any]:
    """The items that `made` gives for each row, and what it drops with the reason.

    Args:
        made: name of the row ("Religion-17") and its fields -> an item, or why there is none.
        columns: those without which nothing in a file can be used.

    Raises:
        DataError: a file that cannot be read, lacks a column, or holds no usable row.
    """
    kept: list[Any] = []
    dropped: list[Dropped] = []
    for path in paths:
        before, lost = len(kept), len(dropped)
        table = read_rows(path)
        for column in columns:
            if table.names and column not in table.names:
                raise DataError(f"{path}, line 1, column {column}: missing column")
        for number, (_, row) in enumerate(table.rows, 1):
            name = f"{path.stem}-{number}"
            if isinstance(row, Mapping):
                item = made(name, row)
            else:
                item = Dropped(name, f"it has {len(row)} fields and the header {len(table.names)}")
            (dropped if isinstance(item, Dropped) else kept).append(item)
        if len(kept) == before:
            why = f" (first: {dropped[lost].reason})" if len(dropped) > lost else ""
            raise DataError(f"{path}: none of its entries can be used{why}")
    return Items(tuple(kept), tuple(dropped), validity)


def lacking(row: Row, fields: Sequence[str]) -> str:
    """In words, which of the fields are empty or missing; empty where all are there."""
    missing = [name for name in fields if row.get(name) is None or not str(row[name]).strip()]
    return f"lacks {', '.join(missing)}" if missing else ""
