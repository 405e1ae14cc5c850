"""`auditkit new-suite NAME`: a folder with a small suite that runs, to be changed into one's own."""

from __future__ import annotations

import argparse
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from auditkit.cli.shared import refused, say_plainly

_TEMPLATES = "scaffold"
_SUFFIX = ".tmpl"
_CLAIMS = "test_claims.py"
"""The template of the file that gets the name of the suite."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    new = commands.add_parser(
        "new-suite",
        help="write a runnable suite: a claim with its control, threshold, figure, and a test of its items",
    )
    new.add_argument("name", metavar="NAME", help="of the folder and the suite: lower-case letters, digits and _")
    new.add_argument(
        "--into", type=Path, default=Path(), metavar="DIR", help="folder to write it into (default: here)"
    )
    new.set_defaults(command=_new_suite)


def _new_suite(arguments: argparse.Namespace) -> int:
    from auditkit.claims.suites import packaged

    name, folder = str(arguments.name), arguments.into / str(arguments.name)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name.startswith("test_"):
        return refused(
            f"new-suite: '{name}' is no name for a suite: use lower-case letters, digits and _, a letter first, and "
            "neither a word of Python nor test_ in front, as in my_finding"
        )
    if name in packaged():
        return refused(
            f"new-suite: {name} is a suite of the package; its claims would have the same names as yours"
        )
    try:
        folder.mkdir(parents=True)
        for template in sorted(files("auditkit.cli").joinpath(_TEMPLATES).iterdir(), key=lambda one: one.name):
            file = template.name.removesuffix(_SUFFIX)
            text = Template(template.read_text("utf-8")).substitute(name=name)
            (folder / (f"test_{name}.py" if file == _CLAIMS else file)).write_text(text, encoding="utf-8")
    except FileExistsError:
        return refused(f"new-suite: {folder} is there already; choose another name, or another folder with --into")
    except OSError as error:
        return refused(f"new-suite: cannot write to {folder}: {error.strerror or error}")
    say_plainly(f"{folder}: a suite that runs; change its question, items, measurement and claim into your own")
    say_plainly(f"test its items:  pytest {folder}/test_items.py")
    say_plainly(f"measure it:      auditkit audit {_called(folder)} --model smollm2-135m-instruct")
    return 0


def _called(folder: Path) -> Path | str:
    return folder if folder.is_absolute() or ".." in folder.parts else f"./{folder}"
