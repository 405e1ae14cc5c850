"""Measurements of persona words: answers, patched layers, and heads."""
