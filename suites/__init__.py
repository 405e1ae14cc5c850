"""The findings that come with auditkit, a folder each; installed as the package `auditkit_suites`."""
