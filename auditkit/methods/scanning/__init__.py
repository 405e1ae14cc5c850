"""Subset scanning: which rows and units together have more small p-values than chance explains."""
