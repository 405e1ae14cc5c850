"""What is measured of the states of persona and task, one question per module."""
