"""Tables and estimates from plain lists."""

from tests.planted.effects import estimate, table

__all__ = ["estimate", "table"]
