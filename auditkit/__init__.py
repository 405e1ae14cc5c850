"""auditkit: interpretability findings about language models, as tests with verdicts.

A finding is written as a short pytest test, measured on a model, decided with an interval and reported. See
`docs/` for how to write a suite. Names load on first use, so importing the package costs nothing in a test run
that does not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
DISTRIBUTION = "interp-auditkit"

_HOMES = {
    "open_model": "auditkit.adapters",
    **dict.fromkeys(
        (
            "embeddings",
            "block_input",
            "middle",
            "residual",
            "attention",
            "mlp",
            "head",
            "z",
            "q",
            "k",
            "v",
            "pattern",
        ),
        "auditkit.engine.sites",
    ),
    "control": "auditkit.claims.verdicts",
    **dict.fromkeys(("beside", "figure", "note", "present"), "auditkit.claims.evidence"),
    "sensitivity": "auditkit.stats.sensitivity",
    "any_effect": "auditkit.claims.outcomes",
    **dict.fromkeys(("Choice", "alternatives"), "auditkit.stats.alternatives"),
    "NotApplicable": "auditkit.claims.outcomes",
    "NotAsked": "auditkit.claims.outcomes",
    "Unsupported": "auditkit.claims.outcomes",
    "Inconclusive": "auditkit.claims.outcomes",
    "read_run": "auditkit.record.store",
    "verdicts": "auditkit.report.verdicts",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'auditkit' has no attribute {name!r}") from None
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
