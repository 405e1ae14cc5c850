"""The runtime of a claim: the evidence it gathers, how it can end, and the verdict that its comparisons make."""
