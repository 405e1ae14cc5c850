"""The suite one_direction: its question in conftest.py, measurement and claim beside it."""
