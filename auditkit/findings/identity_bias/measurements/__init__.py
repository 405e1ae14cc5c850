"""What decisions, answers and activations are measured for each identity, one subject per module."""
