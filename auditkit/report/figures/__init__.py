"""Figures of a claim: one module per kind, drawn as SVG, with the same numbers as a table."""
