"""What an audit asks and as whom: completion items, persona words and prompts.

`items` reads factual completion items, selects them evenly over topics and keeps those whose answers are
single tokens. `personas` reads persona words and builds pairs that differ in one token span. `statements` reads
what a persona would or would not agree with. `prompts` holds a chat as data. `strategies` generates items and
personas for property tests. Tokenizers are passed in as callables, so nothing here imports a model.
"""
