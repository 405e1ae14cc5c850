"""What is measured of attention by who is asked about, one question per module."""
