"""Where in the network persona words act (Poonia & Jain 2025, arXiv:2507.20936)."""
