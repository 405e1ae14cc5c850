"""Contrast directions: the difference between two kinds of prompts in the residual stream, and what it does there."""
