"""Sensitivity references of the bias claims: differences that the model must show before "no difference" counts."""
