"""The intervention engine: sites, edits, and runs that measure what an edit does.

A *site* names a place in the network (component, layers, positions). An *edit* changes the activation there. A
measurement runs prompts with edits in place and reads the answer logits, guarded so that a number which cannot
be trusted is an error and never a number.
"""
