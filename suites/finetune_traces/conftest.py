"""Can what a model was fine-tuned on be read from its activations on unrelated text?

The measurements that the claims of this suite share.

Needs: a baseline and a list of words.
"""

from __future__ import annotations

import pytest

from auditkit.findings.finetune_traces.measurements.traces import TEXTS, Traces
from auditkit.findings.finetune_traces.prompts import read_words


def pytest_audit_read_data(suite, source):
    """The words of `--data finetune_traces=SOURCE`, read before a model is opened."""
    return read_words(source) if suite == "finetune_traces" else None


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims at the standard effort; `benchmarks/default_audit.py` measures them."""
    return 1_000 if suite == "finetune_traces" else None


@pytest.fixture(scope="package")
def traces(model, audit):
    """What the stream reads on unrelated texts, of the words that `--data` names."""
    return Traces(model, seed=audit.seed, words=audit.given("finetune_traces"), n_items=audit.sized(TEXTS))
