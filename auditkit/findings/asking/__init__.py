"""Factual questions under a persona: what persona patching and identity bias share."""
