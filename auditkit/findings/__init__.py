"""Findings: one package for each suite, under the suite's name, that turns a published claim into measurements.

Findings know models, methods and statistics but not pytest, so a notebook can use them too. They never import each
other; what two of them share is a method (`auditkit.methods`) or lies in `asking`.
"""
