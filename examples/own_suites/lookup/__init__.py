"""The suite lookup: its question in conftest.py, measurement and claim beside it."""
