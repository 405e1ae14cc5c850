"""Loaders of public bias sets, one module per set; `gathering` is what they share."""
