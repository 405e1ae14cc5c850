"""Does the model attend in another way when a question is about the model itself?

The measurements that the claims of this suite share.

Needs: attention probabilities and edits of attention heads; a base model for claims of change.
"""

from __future__ import annotations

import pytest

from auditkit.findings.role_conditioning.figures import RoleFigures
from auditkit.findings.role_conditioning.measurements.ablation import RoleAblation
from auditkit.findings.role_conditioning.measurements.conditioning import RoleConditioning
from auditkit.findings.role_conditioning.measurements.heads import RoleHeads
from auditkit.findings.role_conditioning.prompts.sets import DEFAULT_SETS, role_lists


def pytest_audit_read_data(suite, source):
    """The lists of `--data role_conditioning=SOURCE`, read before a model is opened."""
    return role_lists(source) if suite == "role_conditioning" else None


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort; `benchmarks/default_audit.py` measures them."""
    return {"quick": 1_300, "standard": 15_000, "thorough": 20_000} if suite == "role_conditioning" else None


@pytest.fixture(scope="package")
def role(model, audit):
    """Attention on questions about different roles: the project's own sets, or the lists that `--data` names."""
    lists = audit.given("role_conditioning")
    n_items = audit.sized(DEFAULT_SETS if lists is None else None)
    return RoleConditioning(model, seed=audit.seed, lists=lists, n_items=n_items)


@pytest.fixture(scope="package")
def plots(role):
    """Figures of attention by role."""
    return RoleFigures(role)


@pytest.fixture(scope="package")
def heads(role):
    """Heads that tell questions about the model from neutral ones; searched once, used by every claim."""
    return RoleHeads(role)


@pytest.fixture(scope="package")
def ablation(heads):
    """Ablations of those heads; measured once, used by every claim."""
    return RoleAblation(heads)
