"""Refusal by first tokens and by text, the direction that carries it, and what a fine-tune changed of it."""
