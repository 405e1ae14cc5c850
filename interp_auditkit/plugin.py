"""What pytest loads: the package's plugin, or one line where another package has taken its name."""

import sys

from interp_auditkit import mistaken

if said := mistaken():
    said = f"auditkit: not loaded: {said}"
    if any(word.startswith(("--model", "--audit-")) for word in sys.argv):  # pytest will refuse the option
        print(said, file=sys.stderr)

    def pytest_report_header() -> str:
        """Say it in every run; a project that has a package of this name need not care."""
        return said

else:
    from auditkit.pytest_plugin.entry import *  # noqa: F403  # hooks and fixtures
