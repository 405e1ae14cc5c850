"""`python -m auditkit.cli`: the same as the `auditkit` command."""

import sys

from auditkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
