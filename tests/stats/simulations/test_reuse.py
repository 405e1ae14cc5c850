"""What the table of reused words shows: an interval over pairs holds only where no word is in two of them."""

from __future__ import annotations

import pytest

from auditkit.stats.simulations.reuse import WORDS, _simulated, reused_words

pytestmark = pytest.mark.unit


def test_coverage_holds_without_reuse_and_falls_with_it() -> None:
    for pairs in (12, WORDS):
        assert 0.94 < _simulated(pairs)[0] < 0.96
    coverage = [_simulated(pairs)[0] for pairs in (50, 100, 250)]
    assert coverage == sorted(coverage, reverse=True)
    assert coverage[0] < 0.90


def test_the_table_caps_pairs_at_the_words() -> None:
    *_, last = reused_words().splitlines()
    assert last.split("|")[4].strip() == str(WORDS)
