"""What is measured of statements in activations, one question per module."""
