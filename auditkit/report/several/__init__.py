"""Several recorded runs on one page: models beside each other, or the checkpoints of a training in their order."""
