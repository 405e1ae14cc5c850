"""How well two groups of rows can be told apart: indices, probes and detectors, with their permutation tests."""
