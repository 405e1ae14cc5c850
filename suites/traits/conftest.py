"""Does one direction carry a trait of the answers, and did a fine-tune move the model along it?

The measurements that the claims of this suite share.

Needs: log likelihoods of given answers and edits of the residual stream; a base model for claims of change.
"""

from __future__ import annotations

import pytest

from auditkit.data.errors import DataError
from auditkit.findings.traits.measurements.open_answers import OpenAnswers
from auditkit.findings.traits.measurements.scores import DEFAULT_QUESTIONS
from auditkit.findings.traits.measurements.traits import TraitsOfModel
from auditkit.findings.traits.prompts import Traits, own_traits, read_traits
from auditkit.pytest_plugin.options import options_of, refusal

_asked = pytest.StashKey[Traits]()


def _asked_of(config):
    """The traits of `--data traits=SOURCE`, or the project's own, read once in the session."""
    if _asked not in config.stash:
        source = options_of(config).data.get("traits")
        try:
            config.stash[_asked] = own_traits() if source is None else read_traits(source)
        except DataError as error:
            raise refusal(f"--data traits: {error}") from None
    return config.stash[_asked]


def pytest_generate_tests(metafunc):
    """One claim for each trait, or for each of which more is worse."""
    if "trait" in metafunc.fixturenames:
        metafunc.parametrize("trait", _asked_of(metafunc.config).names)
    if "harmful_trait" in metafunc.fixturenames:
        metafunc.parametrize("harmful_trait", _asked_of(metafunc.config).harmful)


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort; `benchmarks/default_audit.py` measures them."""
    return {"quick": 29_500, "standard": 50_000, "thorough": 80_000} if suite == "traits" else None


@pytest.fixture(scope="package")
def traits(request, model, audit):
    """Scores, directions and steering of every trait; each is measured once."""
    own = audit.data.get("traits") is None
    n_items = audit.sized(DEFAULT_QUESTIONS if own else None)
    return TraitsOfModel(model, _asked_of(request.config), seed=audit.seed, n_items=n_items)


@pytest.fixture(scope="package")
def open_answers(model):
    """Fixed answers to open questions."""
    return OpenAnswers(model)
