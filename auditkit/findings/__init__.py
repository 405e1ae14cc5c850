"""Findings, one package each, by the name of their suite. Each turns a published claim into measurements of a model.

Findings know models, methods and statistics but not pytest, so a notebook can use them too. They never import each
other; what two of them share is a method (`auditkit.methods`) or lies in `asking`.
"""
