"""What stands between a measurement and a wrong number."""

from __future__ import annotations

from auditkit.stats.verdicts import NotReadable


class GuardTripped(NotReadable):
    """A guard found that the measurement cannot be trusted; the message says which and by how much."""
