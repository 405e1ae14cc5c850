"""Induction heads and attention sinks: Olsson et al. 2022, arXiv:2209.11895; Xiao et al. 2023, arXiv:2309.17453."""
