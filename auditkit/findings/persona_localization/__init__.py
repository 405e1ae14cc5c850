"""At which layers, and in which units, personas separate (Cintas et al. 2025, arXiv:2505.24539)."""
