"""What a run answers, in words: one sentence for the whole run, and one row for each suite."""
