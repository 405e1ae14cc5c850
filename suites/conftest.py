"""The suites keep auditkit's fixtures under their short names, whatever a conftest above them calls so."""

import pytest


@pytest.fixture(scope="session")
def model(audit_model):
    """The audited model."""
    return audit_model


@pytest.fixture(scope="session")
def audit(audit_settings):
    """Settings of the run: seed, items, data."""
    return audit_settings


@pytest.fixture
def threshold(audit_threshold):
    """The number a claim is compared with, and where it comes from."""
    return audit_threshold


@pytest.fixture
def baseline(audit_baseline):
    """The same estimate on the baseline."""
    return audit_baseline
