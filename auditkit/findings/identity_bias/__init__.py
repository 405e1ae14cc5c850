"""Whether a model's decisions, answers and attention depend on the identity of the person in the prompt."""
