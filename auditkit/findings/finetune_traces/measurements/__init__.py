"""What the change since the base reads on unrelated texts, and what adding it once more does."""
