"""What is measured: scores of heads, their search, ablation, the path into their keys, and attention sinks."""
