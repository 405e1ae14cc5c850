"""In which layers and units does the model tell the views of one persona from those of another?

The measurements that the claims of this suite share.

Needs: activations of the residual stream and edits of it.
"""

from __future__ import annotations

import pytest

from auditkit.findings.persona_localization.measurements.indices import LayerIndices
from auditkit.findings.persona_localization.measurements.layers import LayerSeparability
from auditkit.findings.persona_localization.measurements.material import ITEMS, PersonaActivations, persona_items
from auditkit.findings.persona_localization.measurements.scans import PersonaScans
from auditkit.findings.persona_localization.measurements.specificity import Specificity
from auditkit.findings.persona_localization.measurements.steering import PersonaSteering
from auditkit.findings.persona_localization.measurements.units import PersonaUnits
from auditkit.findings.persona_localization.prompts.statements import read_statements


def pytest_audit_read_data(suite, source):
    """The statements of `--data persona_localization=SOURCE`, read before a model is opened."""
    return read_statements(source) if suite == "persona_localization" else None


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort, up to 23,000 of them to cache the activations of statements;
    `benchmarks/default_audit.py` measures them."""
    return {"quick": 15_000, "standard": 34_000, "thorough": 34_000} if suite == "persona_localization" else None


@pytest.fixture(scope="package")
def activations(model, audit):
    """What the model makes of persona statements: the project's own, or those of the files that `--data` names.

    `--items` is the number of statements of each kind per persona.
    """
    source, given = audit.data.get("persona_localization"), audit.given("persona_localization")
    personas = persona_items(source, read=given, n_items=audit.sized(ITEMS), seed=audit.seed)
    return PersonaActivations(model, personas, seed=audit.seed)


@pytest.fixture(scope="package")
def layers(activations):
    """How well each layer tells statements for a persona from those against it."""
    return LayerSeparability(activations)


@pytest.fixture(scope="package")
def indices(activations):
    """The published indices of separability, by layer."""
    return LayerIndices(activations)


@pytest.fixture(scope="package")
def scans(activations):
    """Subset scans of the published layer: units found on one half of the statements, judged on the other."""
    return PersonaScans(activations)


@pytest.fixture(scope="package")
def units(activations):
    """The units of each persona at the published layer."""
    return PersonaUnits(activations)


@pytest.fixture(scope="package")
def specificity(activations, layers, scans, units):
    """The same measurements, asked for the topic of a statement."""
    return Specificity(activations, layers, scans, units)


@pytest.fixture(scope="package")
def steering(activations):
    """What the units and directions of a persona do to agreement with its statements."""
    return PersonaSteering(activations)
