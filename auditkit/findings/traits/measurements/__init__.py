"""Trait scores from fixed answers, the direction of a trait, steering along it, and what a fine-tune changed."""
