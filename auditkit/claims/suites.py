"""The suites that come with the package: where they lie, what each asks, what it needs, and how pytest is given them.

They lie in the folder `suites` of the repository, and are installed as the package `auditkit_suites`. Nothing is
imported to read about a suite, and every folder there that has a conftest.py and tests is one.
"""

from __future__ import annotations

import ast
import difflib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import auditkit

INSTALLED, IN_REPOSITORY = "auditkit_suites", "suites"
_CONFTEST = "conftest.py"
_TOKENS = "pytest_audit_tokens"
_APART = 4
"""How many of pytest's arguments keep a run apart; see `arguments`."""
_CACHE = "--override-ini=cache_dir="


class SuiteError(ValueError):
    """What was named is no suite, in one line."""


@dataclass(frozen=True)
class Suite:
    """What a suite says of itself.

    Attributes:
        question: what it asks, in one sentence.
        needs: what a model must offer for all of its claims, in words; empty where it does not say.
        tokens: that its claims run at `--effort standard`; None where it does not say.
        claims: number of its test functions that use the model.
        compared: how many of these compare the model with a base (`--baseline`).
    """

    name: str
    folder: Path
    question: str
    needs: str
    tokens: int | None
    claims: int
    compared: int


def home() -> Path | None:
    """The folder of the package's suites; None where they are not installed."""
    beside = Path(auditkit.__file__).parent.parent
    folders = (beside / name for name in (INSTALLED, IN_REPOSITORY))
    return next((folder for folder in folders if (folder / _CONFTEST).is_file()), None)


def root_of(suite: Path, root: Path) -> Path:
    """The folder up to which every conftest.py is part of a suite: the package's suites end at their own folder, so
    that they are the same in the repository, in an installation, and below a project's own conftest.py.

    Args:
        root: of the run, which holds for every other suite.
    """
    own = home()
    return own if own is not None and own in suite.parents else root


def packaged() -> dict[str, Suite]:
    """Name -> suite of the package, by name."""
    folder = home()
    found = sorted(path.parent for path in folder.glob(f"*/{_CONFTEST}")) if folder is not None else []
    return {one.name: _read(one) for one in found if any(_tests(one))}


def question_of(suite: Path) -> str:
    """What a suite asks, in plain words: the first sentence of its conftest's docstring, where that is a question."""
    asked = re.match(r"[^.?!]+\?", _docstring(suite))
    return asked[0] if asked else ""


def arguments(names: Sequence[str], cwd: Path | None = None) -> list[str]:
    """pytest's arguments for suites of the package: the paths, and what keeps a run of them apart from any project
    around it or around Python's own packages (its ini file, its root, a cache beside installed files).

    Args:
        names: of suites, or of files and tests in them as "suite/test_file.py::test_name"; none for all suites.
        cwd: where pytest keeps its cache, for --lf; None where it keeps none.

    Raises:
        SuiteError: there is no such suite.
    """
    folder = home()
    if folder is None:
        raise SuiteError(
            "the suites are not installed with this auditkit; install the wheel again (pip install --force-reinstall "
            "--no-deps interp-auditkit)"
        )
    known = packaged()
    for name in names:
        if _suite(name) not in known:
            raise SuiteError(unknown(name, known))
    apart = ["-c", os.devnull, f"--rootdir={folder.parent}", "--import-mode=importlib"]
    cache = [] if cwd is None else [f"{_CACHE}{cwd / '.pytest_cache'}"]
    return [*apart, *cache, *(str(folder / name) for name in names or [""])]


def as_written(args: Sequence[str]) -> list[str]:
    """The command that a person would write: `auditkit audit ...` where the arguments of pytest are `arguments`."""
    if list(args[:2]) != ["-c", os.devnull] or len(args) < _APART or not args[2].startswith("--rootdir="):
        return ["pytest", *args]
    root = Path(args[2].partition("=")[2])
    homes = [root / INSTALLED, root / IN_REPOSITORY]
    names, rest = [], []
    for part in args[_APART:]:
        own = next((one for one in homes if Path(part) == one or one in Path(part).parents), None)
        if own is None:
            rest += [] if part.startswith(_CACHE) else [part]
        elif Path(part) != own:
            names.append(Path(part).relative_to(own).as_posix())
    return ["auditkit", "audit", *names, *rest]


def installed(suite: Path) -> bool:
    """Whether the suite was installed with the package, so that no repository around it is its own."""
    folder = home()
    return folder is not None and folder.name == INSTALLED and folder in suite.parents


def again(test: Path, node: str, cwd: Path) -> list[str]:
    """The command that runs one test again: pytest with its node id if that leads to the file, else `auditkit audit`.

    Args:
        test: its file.
        node: its node id, which is relative to the root of the run.
        cwd: where the run started.
    """
    folder = home()
    if folder is None or folder not in test.parents or (cwd / node.split("::")[0]).exists():
        return ["pytest", node]
    return ["auditkit", "audit", "::".join([test.relative_to(folder).as_posix(), *node.split("::")[1:]])]


def unknown(name: str, known: Mapping[str, Suite]) -> str:
    """That there is no suite of a name, with the nearest one and all that there are, in one line."""
    near = difflib.get_close_matches(_suite(name), known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"there is no suite '{name}'.{hint} The suites are {', '.join(known)}; a suite of your own is named by the "
        "path of its folder, as in ./my_suite"
    )


def _suite(name: str) -> str:
    return name.split("/")[0]


@functools.cache
def _read(folder: Path) -> Suite:
    tests = list(_tests(folder))
    uses = [{argument.arg for argument in test.args.args} for test in tests]
    needs = re.search(r"Needs: ([^.]+)\.", _docstring(folder))
    return Suite(
        folder.name,
        folder,
        question_of(folder),
        needs[1] if needs else "",
        _tokens(folder),
        len(tests),
        sum("baseline" in one for one in uses),
    )


def _tests(folder: Path) -> Iterator[ast.FunctionDef]:
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.walk(_parsed(path)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node


def _tokens(folder: Path) -> int | None:
    """The number in the hook of a conftest that says how many tokens its suite runs; of several, that of `standard`."""
    for node in ast.walk(_parsed(folder / _CONFTEST)):
        if isinstance(node, ast.FunctionDef) and node.name == _TOKENS:
            tables = [part for part in ast.walk(node) if isinstance(part, ast.Dict)]
            said = [pair for table in tables for pair in zip(table.keys, table.values, strict=True)]
            at_standard = [
                value for key, value in said if isinstance(key, ast.Constant) and key.value == "standard"
            ]
            parts: Iterable[ast.AST] = at_standard or ast.walk(node)
            numbers = [part.value for part in parts if isinstance(part, ast.Constant)]
            return next((number for number in numbers if type(number) is int), None)
    return None


def _docstring(folder: Path) -> str:
    return " ".join((ast.get_docstring(_parsed(folder / _CONFTEST)) or "").split())


@functools.cache
def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):
        return ast.Module([], [])
