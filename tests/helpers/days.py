"""Days of expiry for waivers, which may end within a year from today."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta


def in_days(number: int) -> date:
    """The day so many days from today, by the clock that runs go by."""
    return datetime.now(UTC).date() + timedelta(days=number)
