"""Edits of a journal: what a line says, with the digests left as they were or made anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auditkit.record.journal import chained


def edited(path: Path, change: Callable[[list[Any]], object], *, chain: bool) -> None:
    """Change the objects of a journal, the header first.

    Args:
        path: what a kill left of its last line is dropped.
        change: takes the objects, without their digests, and changes the list in place.
        chain: make the digests anew; else every object keeps its own.
    """
    *whole, _ = path.read_bytes().split(b"\n")
    objects = [json.loads(line) for line in whole]
    digests = {id(entry): entry.pop("sha256") for entry in objects[1:]}
    change(objects)
    lines = [_line(objects[0])]
    for entry in objects[1:]:
        if chain:
            lines.append(chained(lines[-1], _line(entry)))
        else:
            lines.append(_line(entry | {"sha256": digests.get(id(entry), "")}))
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
