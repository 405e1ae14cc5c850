"""What is measured of persona words: answers, patched layers, and heads."""
