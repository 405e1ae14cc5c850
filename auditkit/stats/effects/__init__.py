"""Kinds of effects, one module each: means, rates, geometric means, exact and resampled values."""
