"""Compact mode: two indices per band of depth, cheap enough for every checkpoint (after
mduffster/self-referent-test)."""

import pytest

from auditkit import beside, sensitivity
from auditkit.findings.role_conditioning.measurements.conditioning import INDICES
from auditkit.findings.role_conditioning.references import focus

pytestmark = pytest.mark.causal(edits=False)


def test_bands_stay_within_limits(role, threshold):
    """In every quarter of the depth, two length-corrected indices are within 0.15 of zero. They say how much lower the
    entropy of attention is on questions about the model ("you") than on others. For the one (RFC) these are about no
    person, and for the other (RSI) about the user."""
    arm, limit = role.arm(), threshold(0.15, "suite default: 15 % of the neutral entropy")
    bands = [arm.index(name, layers, label=band) for name in INDICES for band, layers in arm.bands().items()]
    for band in bands:
        beside(band.name, band)
    focused = [focus(arm, layers, band) for band, layers in arm.bands().items()]
    with sensitivity("some tokens from others by attention", focused, by=limit):
        for band in bands:
            assert band.equals(0.0, within=limit)
