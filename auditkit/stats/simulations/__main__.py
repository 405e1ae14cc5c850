"""python -m auditkit.stats.simulations PAGE [NAME ...]: write the simulated tables of a page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from auditkit.stats.simulations import write

EXIT_USAGE = 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m auditkit.stats.simulations", description=__doc__)
    parser.add_argument("page", type=Path, help="Markdown page whose blocks are written, e.g. docs/statistics.md")
    parser.add_argument("names", nargs="*", metavar="NAME", help="write only these blocks (default: all)")
    given = parser.parse_args()
    try:
        write(given.page, given.names)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
