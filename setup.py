"""Which packages a distribution holds; everything else stands in pyproject.toml.

The suites lie in the folder `suites` and install as the package `auditkit_suites`, since a project may well have a
folder `suites` of its own. A new suite needs no entry here.
"""

from setuptools import find_namespace_packages, find_packages, setup

SUITES = "auditkit_suites"

setup(
    packages=[
        *find_packages(include=["auditkit", "auditkit.*", "interp_auditkit"]),
        SUITES,
        *(f"{SUITES}.{name}" for name in find_namespace_packages("suites", exclude=["*__pycache__*"])),
    ],
    package_dir={SUITES: "suites"},
)
