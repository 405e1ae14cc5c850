"""Sensitivity references of composition: differences that must be measurable before a small effect counts."""

from __future__ import annotations

from auditkit.findings.persona_composition.measurements.patches import LEAST
from auditkit.findings.persona_composition.measurements.vectors import HOST, Vectors
from auditkit.stats.effects.geometric import Geometric, geometric_mean


def persona_distance(vectors: Vectors) -> Geometric:
    """Divergence of the run without the persona from the run with it, in nats over ten tokens: geometric mean of cells.

    Of a model that its persona does not move, every injection closes an equally small part of nothing.
    """
    name = "divergence of the run without the persona"
    return geometric_mean(vectors.measurement, HOST, name=name, resolution=LEAST)
