"""Models on an NDIF server, through nnsight: the weights stay there, and what is read comes back over HTTP."""
