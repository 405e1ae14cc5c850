"""Which units two personas share, against chance (Cintas et al. 2025, arXiv:2505.24539, Q2, recounted)."""

import pytest

from auditkit import note, present

pytestmark = pytest.mark.causal(edits=False)


LIBERAL, LGBTQ = "politically-liberal", "anti-LGBTQ-rights"
DUTY, VIRTUE = "subscribes-to-deontology", "subscribes-to-virtue-ethics"


def test_opposed_outlooks_share_fewer_units(units, specificity, threshold):
    """One set of units is selected for liberal statements, and one for anti-LGBTQ-rights statements. They overlap less
    than random sets of their sizes do, by at least 3 standard deviations (W2.f)."""
    present(units.overlaps())
    note(*units.closest())
    note(*specificity.overlaps())
    note(*units.rank(LIBERAL, LGBTQ))
    note(units.rotation(LIBERAL, LGBTQ, sign=-1))
    assert units.shared(LIBERAL, LGBTQ) <= threshold(-3.0, "protocol W2.f; the published logs give -6.4")


def test_related_outlooks_share_more_units(units, threshold):
    """One set of units is selected for deontology, and one for virtue ethics. They overlap more than random sets of
    their sizes do, by at least 3 standard deviations (W2.f)."""
    note(*units.rank(DUTY, VIRTUE))
    note(units.rotation(DUTY, VIRTUE, sign=1))
    assert units.shared(DUTY, VIRTUE) >= threshold(3.0, "protocol W2.f; the published logs give 12")
