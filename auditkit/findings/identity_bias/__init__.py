"""Whether what a model decides, answers and attends to depends on who is asked about."""
