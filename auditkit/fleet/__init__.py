"""One audit over many models and machines: jobs of the ordinary command, started by a scheduler that exists.

A scheduler starts commands and says how they ended. Models, claims and measurements never pass through it: a job
leaves a run folder, and what the fleet says is read from the records there.
"""
