"""Sensitivity references: what a measurement of attention must detect before "no difference between roles" counts."""

from __future__ import annotations

from collections.abc import Sequence

from auditkit.findings.role_conditioning.measurements.conditioning import MeasuredFormat
from auditkit.findings.role_conditioning.measurements.entropy import REPAIRED, UNITS
from auditkit.findings.role_conditioning.prompts.sets import NEUTRAL
from auditkit.stats.effects.mean import Estimate


def focus(arm: MeasuredFormat, layers: Sequence[int] | None = None, label: str = "") -> Estimate:
    """How far attention on neutral questions is from even spread: 1 minus the repaired entropy, 0 to 1.

    A model that spreads its attention evenly over whatever it reads has the same focus on every role.

    Args:
        layers: all where None.
        label: which layers, in words.
    """
    values = 1 - arm.of(NEUTRAL, REPAIRED, layers)
    what = f"focus on neutral questions, {label or arm._words(layers)}, {arm.matched.format}"
    table = arm.measurement(what, UNITS[REPAIRED], {"focus": values})
    return Estimate(what, UNITS[REPAIRED], table, values, shown_conditions=("focus",))
