"""A model with a planted circuit, opened once."""

from tests.planted.fixtures import circuit

__all__ = ["circuit"]
