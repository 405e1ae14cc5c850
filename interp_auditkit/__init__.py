"""Where the command `auditkit` and the pytest plugin begin: they make sure that Python finds this project's package.

The package index has an unrelated distribution named `auditkit`. It may install a package of that name over or before
this one, and so may a folder `auditkit` of the user's own. This module has the name of the distribution, so that it can
tell; it imports nothing of the package before it knows.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGE, DISTRIBUTION = "auditkit", "interp-auditkit"
MARK = f'DISTRIBUTION = "{DISTRIBUTION}"'
"""Line of the package's own `__init__.py`."""

USAGE_ERROR = 4


def mistaken() -> str:
    """Which other package Python finds under this name and what to do, in one line; empty where it finds its own."""
    try:
        spec = find_spec(PACKAGE)
    except (ImportError, ValueError):
        spec = None
    origin = spec.origin if spec is not None else None
    try:
        if origin is not None and MARK in Path(origin).read_text(encoding="utf-8", errors="replace"):
            return ""
    except OSError:
        pass
    again = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
    if spec is None:
        return f"the package {PACKAGE} of {DISTRIBUTION} is missing; run: {again}"
    folders = list(spec.submodule_search_locations or ())
    where = origin or (folders[0] if folders else PACKAGE)
    other = _distribution()
    if other:
        return (
            f"Python imports {PACKAGE} from {where}, which belongs to the unrelated distribution {other} and not to "
            f"{DISTRIBUTION}; run: pip uninstall {other.split()[0]} && {again}"
        )
    if _inside(where):
        return f"Python imports {PACKAGE} from {where}, which is damaged or of another origin; run: {again}"
    return (
        f"Python imports {PACKAGE} from {where}, which hides the package of {DISTRIBUTION}; rename that file or "
        "folder, or start from another one"
    )


def _distribution() -> str:
    """Name and version of another installed distribution that brings the package; empty where there is none."""
    from importlib.metadata import distributions

    for one in distributions():
        name = str(one.metadata["Name"] or "")
        if name.lower().replace("_", "-") != DISTRIBUTION and any(
            file.parts[:1] == (PACKAGE,) for file in one.files or ()
        ):
            return f"{name} {one.version}"
    return ""


def _inside(where: str) -> bool:
    """Whether a file lies beside this module, so that the package that it stands in was installed with it."""
    return Path(where).is_relative_to(Path(__file__).parents[1])


def main() -> int:
    """The command `auditkit`; exit code 4 with one line where another package has its name."""
    if said := mistaken():
        print(f"auditkit: {said}", file=sys.stderr)
        return USAGE_ERROR
    from auditkit.cli import main as command

    return command()
