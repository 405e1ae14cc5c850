"""Runs that go on after the prompt: generation, divergence, and prompts that share the cache of a prefix."""
