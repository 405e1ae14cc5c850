"""Whether a model refuses harmful requests and answers harmless ones, and whether one direction decides it."""
