"""Which code the claims of a suite run through, as digests: so that a change of method is a change of the plan.

The modules are found by reading import statements, those inside functions included, and nothing is imported. Modules
that define what a number means (analyses, loaders of data, and modules of the project itself) are followed from the
suite's files and digested as syntax trees without comments, layout and docstrings. Engine, adapters and statistics
serve every claim alike, so all of their modules count; they are digested line by line without comments and blank
lines, which costs a tenth of the time.
"""

from __future__ import annotations

import ast
import gc
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PACKAGE = "auditkit"
_METHODS = ("analyses", "data")
_RUNTIME = ("engine", "adapters", "stats")
_SERVICES = {"worst_case": "auditkit.analyses.worst_case"}
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


def code_of(suites: Iterable[Path], root: Path, package: Path) -> Code:
    """The code behind the claims of some suites.

    Args:
        suites: their folders.
        root: of the run; the conftest.py of every folder from a suite up to it counts as the suite's, and so does
            every module below it that a suite imports by its full name.
        package: folder of auditkit.
    """
    digests: dict[str, str] = {}
    methods: dict[str, set[str]] = {}
    collecting = gc.isenabled()
    gc.disable()  # thousands of tree nodes and no cycle: collections would double the time
    try:
        for suite in sorted(set(suites)):
            for path in _reached(_own(suite, root), root, package):
                name = _name(path, root, package)
                digests[name] = _read(path).digest
                methods.setdefault(suite.name, set()).add(name)
    finally:
        if collecting:
            gc.enable()
    for room in _RUNTIME:
        for path in sorted((package / room).rglob("*.py")):
            digests[_name(path, root, package)] = _lines_digest(path)
    return Code(dict(sorted(digests.items())), {suite: tuple(sorted(names)) for suite, names in methods.items()})


def _own(suite: Path, root: Path) -> list[Path]:
    """The suite's files and the conftest.py of every folder above it: they are part of the claims' own digests."""
    above = [parent / "conftest.py" for parent in suite.parents if parent == root or root in parent.parents]
    return [*sorted(suite.glob("*.py")), *(path for path in above if path.is_file())]


def _reached(own: Iterable[Path], root: Path, package: Path) -> set[Path]:
    """Modules that define numbers and that these files import, directly or through one another; without themselves."""
    start = set(own)
    seen, waiting = set(start), list(start)
    while waiting:
        for module in _read(waiting.pop()).imports:
            path = _found(module, root, package)
            if path is not None and path not in seen:
                seen.add(path)
                waiting.append(path)
    return seen - start


def _found(module: str, root: Path, package: Path) -> Path | None:
    """The file of a module that defines numbers; None for all others, installed packages among them."""
    parts = module.split(".")
    if parts[0] == PACKAGE and (len(parts) < 2 or parts[1] not in _METHODS):
        return None
    base = (package.parent if parts[0] == PACKAGE else root).joinpath(*parts)
    found = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((path for path in found if path.is_file()), None)


def _name(path: Path, root: Path, package: Path) -> str:
    """ "auditkit/analyses/patching.py", wherever auditkit is installed; a path from the root for the project's own."""
    return path.relative_to(package.parent if package in path.parents else root).as_posix()


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
