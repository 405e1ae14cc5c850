"""Claims about one finding; conftest.py says what they ask."""
