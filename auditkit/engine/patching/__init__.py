"""Activation patching: the plain method, paths, restarted runs, sweeps over sites, and screening."""
