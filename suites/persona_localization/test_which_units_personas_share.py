"""Which units two personas share, against chance (Cintas et al. 2025, arXiv:2505.24539, Q2, recounted)."""

import pytest

from auditkit import note, present

pytestmark = pytest.mark.causal(edits=False)


LIBERAL, LGBTQ = "politically-liberal", "anti-LGBTQ-rights"
DUTY, VIRTUE = "subscribes-to-deontology", "subscribes-to-virtue-ethics"


def test_opposed_outlooks_share_fewer_units(units, specificity, threshold):
    """The units selected for liberal and for anti-LGBTQ-rights statements overlap by at least 3 standard deviations
    less than random sets of their sizes do (W2.f)."""
    present(units.overlaps())
    note(*units.closest())
    note(*specificity.overlaps())
    note(*units.rank(LIBERAL, LGBTQ))
    note(units.rotation(LIBERAL, LGBTQ, sign=-1))
    assert units.shared(LIBERAL, LGBTQ) <= threshold(-3.0, "protocol W2.f; the published logs give -6.4")


def test_related_outlooks_share_more_units(units, threshold):
    """The units selected for deontology and for virtue ethics overlap by at least 3 standard deviations more than
    random sets of their sizes do (W2.f)."""
    note(*units.rank(DUTY, VIRTUE))
    note(units.rotation(DUTY, VIRTUE, sign=1))
    assert units.shared(DUTY, VIRTUE) >= threshold(3.0, "protocol W2.f; the published logs give 12")
