"""Which units carry a persona, found by a subset scan (Cintas et al. 2025, arXiv:2505.24539, Q2)."""

import pytest

from auditkit import any_effect, beside, control, figure, note, present
from auditkit.findings.persona_localization.measurements.layers import WORDS
from auditkit.findings.persona_localization.measurements.scans import PROBE

pytestmark = pytest.mark.causal(edits=False)


def test_a_scan_finds_the_statements_of_a_persona(scans, specificity, threshold):
    """Units that a subset scan selects on one half of the statements detect the persona's statements in the other half
    with a precision of at least 0.75 and a recall of at least 0.65; each half is scanned for the other (W2.c)."""
    precise = threshold(0.75, "protocol W2.c, near the lowest of the published logs, 0.74")
    figure(scans.by_persona())
    note(scans.rotation(precise))
    present(specificity.detection())
    beside("chance to score as high on held-out statements", scans.significance())
    with control("the same scan between two halves of the negative statements finds nothing: p above 0.005"):
        assert scans.among_negatives() > 0.005
    assert scans.precision() >= precise
    assert scans.recall() >= threshold(0.65, "protocol W2.c; the published logs have 0.50 to 0.84")


def test_a_scan_tells_more_than_words(scans):
    """A subset scan tells held-out statements for a persona from those against it. Its AUC is higher than that of a
    probe on the bag of their words (W2.c, lexical comparison)."""
    beside("subset scan", scans.auc())
    beside("bag of words", scans.auc(WORDS))
    assert scans.auc() - scans.auc(WORDS) > any_effect(0.02)


def test_the_units_of_a_persona_are_stable(units, threshold):
    """Scans of two random halves of a persona's statements select two sets of units. Their Jaccard index is at least
    0.3, and at least three times that of random sets of the same sizes (W2.e)."""
    present(units.by_persona())
    beside("scans without a common statement", units.jaccard(disjoint=True))
    beside("scans without a common statement, times chance", units.alike(disjoint=True))
    assert units.jaccard() >= threshold(0.3, "protocol W2.e; the published runs have 0.35 to 0.53")
    assert units.alike() >= threshold(3.0, "protocol W2.e")


def test_a_scan_detects_no_worse_than_a_probe(scans, threshold):
    """A subset scan tells held-out statements for a persona from those against it. Its AUC is at most 0.02 below that
    of a projection on the difference of means (W2.g)."""
    figure(scans.beside_detectors())
    figure(scans.in_other_ways())
    beside("subset scan", scans.auc())
    beside("difference of means", scans.auc(PROBE))
    for other in scans.others():
        beside(other, scans.auc(other))
    assert scans.auc() - scans.auc(PROBE) >= threshold(-0.02, "protocol W2.g")
