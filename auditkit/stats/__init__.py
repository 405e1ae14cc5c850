"""Estimates, intervals and verdict rules. Knows neither torch nor pytest.

A `Measurement` is a tidy table of paired, clustered values. An `Estimate` is what is computed from it: a mean
difference or a ratio of means, with an interval that respects the clusters. Comparing an estimate with a number
decides by the whole interval: pass, fail, or raise `Inconclusive`.
"""
