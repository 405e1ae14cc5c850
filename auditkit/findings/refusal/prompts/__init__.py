"""Harmful requests with their harmless twins, and what refusals and answers begin with."""
