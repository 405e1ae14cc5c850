"""Do a persona and a task add up inside the model, so that a stored vector can replace the persona's words?

The measurements that the claims of this suite share.

Needs: activations of the residual stream, edits of it, and generation of text.
"""

from __future__ import annotations

import pytest

from auditkit.findings.persona_composition.measurements.behaviour import TEXT_CELLS, Behaviour
from auditkit.findings.persona_composition.measurements.cells import CELLS, DEPTHS, Cells, Design
from auditkit.findings.persona_composition.measurements.geometry import Geometry
from auditkit.findings.persona_composition.measurements.patches import Patches
from auditkit.findings.persona_composition.measurements.vectors import Vectors
from auditkit.findings.persona_composition.prompts import packaged_grid, read_grid

DEEPEST = 0.55
"""Depth up to which claims look for the first layer at which a site matters; the third of the paper's five depths. The
paper's medians are below 0.10 nats there for some models only (Gemma, the prompt's last token: 0.371 nats)."""

FEW = 10
"""Cells below which only the depths up to there are measured: so few are asked for when it has to be quick."""


def pytest_audit_read_data(suite, source):
    """The grid of `--data persona_composition=SOURCE`, read before a model is opened."""
    return read_grid(source) if suite == "persona_composition" else None


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort; `benchmarks/default_audit.py` measures them."""
    return {"quick": 15_000, "standard": 57_000, "thorough": 93_000} if suite == "persona_composition" else None


@pytest.fixture(scope="package")
def grid(audit):
    """Personas and tasks: the project's own, or those that `--data persona_composition=FILE` names."""
    given = audit.given("persona_composition")
    return packaged_grid() if given is None else given


@pytest.fixture(scope="package")
def cells(model, grid, audit):
    """Answers and states: 20 cells of the project's own grid, all of a file's, or as many as `--items` says."""
    design = Design(model, grid, seed=audit.seed, n_cells=_asked_for(audit, CELLS))
    quick = audit.sized(CELLS) < FEW
    return Cells(design, depths=[depth for depth in DEPTHS if depth <= DEEPEST] if quick else DEPTHS)


@pytest.fixture(scope="package")
def geometry(cells):
    """Directions of persona and task."""
    return Geometry(cells)


@pytest.fixture(scope="package")
def patches(cells):
    """What stands in the place of a state, and what that does; run once, used by every claim."""
    return Patches(cells, deepest=DEEPEST)


@pytest.fixture(scope="package")
def vectors(cells):
    """What can be injected in the place of the persona's words."""
    return Vectors(cells, depth=DEEPEST)


@pytest.fixture(scope="package")
def behaviour(model, grid, audit):
    """What is said: in 72 cells of the project's own grid, in all of a file's, or in as many as `--items` says."""
    return Behaviour(Design(model, grid, seed=audit.seed, n_cells=_asked_for(audit, TEXT_CELLS)), depth=DEEPEST)


def _asked_for(audit, own):
    """How many cells: all of a file's (None) where `--items` says nothing, else `own` of the project's, as sized."""
    return audit.sized(None if "persona_composition" in audit.data else own)
