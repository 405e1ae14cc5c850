"""Entropy of attention and what is no measurement of it (mduffster/self-referent-test, 2025, recomputed)."""

from auditkit import control
from auditkit.analyses.role_checks import entropy_error, excess, magnitude_error, one_hot_entropy, show_magnitudes


def test_even_attention_has_the_entropy_of_its_keys(role, threshold):
    """Attention that is spread evenly over q + 1 keys has the entropy ln(q + 1), within 1e-6 nat, and attention to a
    single key has none."""
    with control("no row of this model's attention sums to more than 1"):
        assert excess(role) <= 1e-5
    assert entropy_error(role) <= threshold(1e-6, "protocol W4.a")
    assert one_hot_entropy(role) <= threshold(1e-5, "protocol W4.a")


def test_mean_attention_says_nothing(role, threshold):
    """The mean of attention over all queries and keys is 1 / T for every head, so no head can be picked by it."""
    show_magnitudes(role)
    assert magnitude_error(role.arm()) <= threshold(1e-6, "protocol W4.b")
