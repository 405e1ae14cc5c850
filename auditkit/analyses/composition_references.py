"""What readings of composition must react to, before "hardly any" says anything of a model."""

from __future__ import annotations

from auditkit.analyses.composition_vectors import HOST, Vectors
from auditkit.stats.estimates import Estimate


def persona_distance(vectors: Vectors) -> Estimate:
    """Divergence of the run without the persona from the run with it, in nats over ten tokens, by cell.

    Of a model that its persona does not move, every injection closes an equally small part of nothing.
    """
    measured = vectors.measurement
    return Estimate(
        "divergence of the run without the persona",
        "nat",
        measured,
        measured.condition(HOST),
        shown_conditions=(HOST,),
    )
