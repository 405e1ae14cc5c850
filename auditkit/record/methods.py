"""Which code the claims of a suite run through, as digests: so that a change of method is a change of the plan.

The modules are found by reading import statements, those inside functions included, and nothing is imported. Modules
that define what a number means (findings, methods, loaders of data, and modules of the project itself) are followed
from the suite's files and digested as syntax trees without comments, layout and docstrings. Engine, adapters,
statistics and the rules of verdicts serve every claim alike, so all of their modules count; they are digested line by
line without comments and blank lines, which costs a tenth of the time.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PACKAGE = "auditkit"
_METHODS = ("findings", "methods", "testing", "data")
_RUNTIME = ("engine", "adapters", "stats", "claims", "gate")
_SERVICES = {"worst_case": "auditkit.methods.worst_case"}
"""Method of the fixture `audit` -> module that answers it, though no suite imports it."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Code:
    """What the suites of a run rest on.

    Attributes:
        digests: module, by its path -> SHA-256 of its code.
        methods: suite -> those of its modules that define what its numbers mean.
    """

    digests: dict[str, str]
    methods: dict[str, tuple[str, ...]]


def code_of(suites: Mapping[Path, Path], package: Path) -> Code:
    """The code behind the claims of some suites.

    Args:
        suites: folder of each -> its root: the conftest.py of every folder from the suite up to there counts as the
            suite's, and modules that lie in one of these folders are the project's own.
        package: folder of auditkit.
    """
    digests: dict[str, str] = {}
    methods: dict[str, set[str]] = {}
    collecting = gc.isenabled()
    gc.disable()  # thousands of tree nodes and no cycle: collections would double the time
    try:
        for suite, root in sorted(suites.items()):
            for name, path in _reached(suite, root, package).items():
                digests[name] = _read(path).digest
                methods.setdefault(suite.name, set()).add(name)
    finally:
        if collecting:
            gc.enable()
    for room in _RUNTIME:
        for path in sorted((package / room).rglob("*.py")):
            digests[path.relative_to(package.parent).as_posix()] = _lines_digest(path)
    return Code(dict(sorted(digests.items())), {suite: tuple(sorted(names)) for suite, names in methods.items()})


def _reached(suite: Path, root: Path, package: Path) -> dict[str, Path]:
    """Name -> file of each module that defines numbers and that a suite imports, directly or through one another.

    The suite's own files and the conftest.py of every folder above it are not among them: they are part of the claims'
    digests. A module is named by its path from where it is imported, so that its name is the same on every machine.
    """
    above = [parent for parent in suite.parents if parent == root or root in parent.parents]
    conftests = [path for folder in above if (path := folder / "conftest.py").is_file()]
    own = [*sorted(suite.glob("*.py")), *conftests]
    found: dict[str, Path] = {}
    waiting, seen = list(own), set(sys.stdlib_module_names)
    while waiting:
        modules = _read(waiting.pop()).imports - seen
        seen |= modules
        for module in modules:
            for name, path in _files(module, [root, *above], package):
                if name not in found and path not in own:
                    found[name] = path
                    waiting.append(path)
    return found


def _files(module: str, folders: Iterable[Path], package: Path) -> Iterator[tuple[str, Path]]:
    """Names and files that importing a module runs, its packages' included; none of other installed packages."""
    parts = module.split(".")
    if parts[0] == PACKAGE:
        first, folders = 2, [package.parent]
        if len(parts) < 2 or parts[1] not in _METHODS:
            return
    else:
        first = 1
    for folder in folders:
        for end in range(first, len(parts) + 1):
            base = "/".join(parts[:end])
            for name in (f"{base}.py", f"{base}/__init__.py"):
                if (folder / name).is_file():
                    yield name, folder / name


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: frozenset[str]
    """Every module that may be meant by an import; "a.b" for `from a import b` too, since b can be a module."""


def _read(path: Path) -> _Module:
    return _parsed(path.read_bytes())


@lru_cache(maxsize=1024)
def _parsed(raw: bytes) -> _Module:
    try:
        tree = ast.parse(raw)
        imports = {name for node in _statements(tree) for name in _imported(node)}
        imports |= {module for name, module in _SERVICES.items() if f".{name}(".encode() in raw}
        text = ast.dump(tree, annotate_fields=False)
        return _Module(hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(), frozenset(imports))
    except (SyntaxError, ValueError, RecursionError):  # what is no Python counts as it is
        return _Module(hashlib.sha256(raw).hexdigest(), frozenset())


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below a node, its docstring taken out; expressions hold no import and cost most of the time."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        below = getattr(node, field, None)
        if not isinstance(below, list):  # the body of a lambda or of a conditional expression
            continue
        if field == "body" and isinstance(node, _DOCUMENTED) and _is_text(below[0] if below else None):
            del below[0]
        for statement in below:
            yield statement
            yield from _statements(statement)


def _is_text(node: ast.AST | None) -> bool:
    return (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


def _imported(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=str(module), names=names, level=0):
            yield module
            yield from (f"{module}.{alias.name}" for alias in names)


def _lines_digest(path: Path) -> str:
    lines = (line.rstrip() for line in path.read_bytes().split(b"\n"))
    kept = (line for line in lines if line and not line.lstrip().startswith(b"#"))
    return hashlib.sha256(b"\n".join(kept)).hexdigest()
