"""Statements and activations of invented personas, in which what is to be found was put there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np

from auditkit.adapters.protocol import Adapter
from auditkit.findings.persona_localization.measurements.material import PersonaActivations, PersonaItems
from auditkit.methods.representations import Representations

LAYERS, UNITS = 6, 60
SUBJECTS = ("oats", "rain", "tea", "chess", "trains", "moss", "clay", "bread", "wool", "ink", "rope", "salt")


def invented(
    moved: dict[str, range], *, pairs: int = 60, by: float = 2.0, first: int = 3, seed: int = 0,
    words: bool = False, norm: float = 0.0,
) -> PersonaActivations:  # fmt: skip
    """Personas whose positive statements have some units moved from one layer on; all else is noise.

    Args:
        moved: persona -> the units that are moved.
        by: how far, in standard deviations of the noise.
        first: the first layer at which they are.
        words: give the label away in the words of the statements.
        norm: how much longer positive statements' activations are, as a share.
    """
    rng = np.random.default_rng(seed)
    people, values = [], []
    for number, (persona, units) in enumerate(moved.items()):
        made = rng.normal(size=(2 * pairs, LAYERS, UNITS)) + 3
        positive = np.arange(2 * pairs) % 2 == 0
        made[positive, first:, units.start : units.stop] += by
        made[positive] *= 1 + norm
        values.append(made)
        kinds = ("gladly", "never") if words else ("often", "often")
        texts = [
            f"{kinds[i % 2]} {SUBJECTS[rng.integers(12)]} {SUBJECTS[rng.integers(12)]} number {i} of {number}"
            for i in range(2 * pairs)
        ]
        ids = [f"{persona}-{i}" for i in range(2 * pairs)]
        groups = np.array([f"{persona}-{i - i % 2}" for i in range(2 * pairs)])
        people.append(PersonaItems(persona, f"topic {number}", tuple(ids), tuple(texts), positive, groups))
    adapter = cast(Adapter, SimpleNamespace(layers=LAYERS))
    activations = PersonaActivations(adapter, people, seed=seed)
    read = Representations(np.concatenate(values).astype(np.float32), tuple(range(LAYERS)), (), ())
    PersonaActivations._read.keep(activations, read)
    return activations
