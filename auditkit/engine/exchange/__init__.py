"""How several processes divide one measurement: each runs some of its batches, and all have the rows of all."""
