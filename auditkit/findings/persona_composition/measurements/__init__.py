"""Measurements of the states of persona and task, one question per module."""
