"""Prompts by the subject of the question (the model, the user, another person, no person), matched in length."""
