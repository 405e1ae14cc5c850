"""A folder of evidence for an auditor: record, digests, claims with controls, methods, limits, and where they apply."""
