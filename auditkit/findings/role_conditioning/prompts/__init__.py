"""What is asked: prompts by who is asked about, matched in their number of tokens."""
