"""The record of a run: its schema, the journal that survives a kill, and the files on disk.

Everything a user sees is computed from these types. Nothing heavy is imported here, so that reports can be
written, compared and merged on a machine without torch.
"""
