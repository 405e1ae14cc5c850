"""Statements that a persona would or would not make."""
