"""What a reader of data files reports: files that cannot be used, and entries that were left out."""

from __future__ import annotations

from dataclasses import dataclass


class DataError(ValueError):
    """A data file cannot be used. The message is one line that names the file and the place in it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An entry that was left out, and why.

    `item_id` is the id of the item or the word of the persona; `reason` is one line.
    """

    item_id: str
    reason: str
