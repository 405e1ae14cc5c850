"""Measurements of statements in activations, one question per module."""
