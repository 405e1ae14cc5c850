"""What a claim declares before it is measured: its marks, and the control without which a causal claim is not readable.

A claim is causal when it names a site of the network: sites are named where something is edited. A mark says so where
that cannot be seen (`@pytest.mark.causal`, for edits made in a fixture or a helper), or says that the claim only reads
(`@pytest.mark.causal(edits=False)`). Its control is a `with control(...)` block, or a comparison with another measured
value, such as the same edit elsewhere; `@pytest.mark.causal(control="...")` names one that stands in a fixture or
helper. All of this is read off the test's source, so that a claim that cannot be read costs nothing.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from types import CodeType, ModuleType
from typing import Any

import pytest

_MARKS = {"claim": ("id", "family"), "causal": ("edits", "control")}
_SITES = "auditkit.engine.sites"


def check_declarations(items: Sequence[pytest.Item]) -> None:
    """Refuse marks with arguments that mean nothing, and causal claims without a control.

    Raises:
        pytest.UsageError: naming the test and what to write instead.
    """
    for item in items:
        for name, allowed in _MARKS.items():
            for mark in item.iter_markers(name):
                _check_mark(item, mark, allowed)
        if is_causal(item) and not has_control(item):
            raise pytest.UsageError(
                f"{item.nodeid} is a causal claim without a control: add a `with control(...)` block or compare with "
                "the same edit elsewhere; or say what it is with @pytest.mark.causal (control='...' where the control "
                "stands in a fixture or helper, edits=False where nothing is edited)"
            )


def is_causal(item: pytest.Item) -> bool:
    """Whether the claim rests on edits inside the model: the nearest mark says so, else that it names a site."""
    mark = item.get_closest_marker("causal")
    if mark is not None:
        return bool(mark.kwargs.get("edits", True))
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return any(map(_is_site, parameters.values())) or _names_a_site(getattr(item, "obj", None), set())


def has_control(item: pytest.Item) -> bool:
    """Whether a control is declared, by the mark or in the test's body."""
    return promised_control(item) is not None or any(map(_controls, _body(item)))


def promised_control(item: pytest.Item) -> str | None:
    """The control that the mark says a fixture or helper measures."""
    mark = item.get_closest_marker("causal")
    return str(mark.kwargs["control"]) if mark is not None and mark.kwargs.get("control") else None


def _check_mark(item: pytest.Item, mark: pytest.Mark, allowed: tuple[str, ...]) -> None:
    if mark.args:
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.{mark.name} takes {', '.join(f'{name}=...' for name in allowed)} by name, "
            f"not {mark.args[0]!r}"
        )
    for argument in mark.kwargs:
        if argument not in allowed:
            near = difflib.get_close_matches(argument, allowed, n=1, cutoff=0.0)[0]
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.{mark.name} has no argument '{argument}'; did you mean '{near}'?"
            )


def _is_site(value: object) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_is_site, value))
    return type(value).__module__ == _SITES


def _names_a_site(function: Any, seen: set[int]) -> bool:
    """Whether a function speaks of a site by a global name, itself or through helpers of its own module."""
    code, known = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if code is None or id(code) in seen:
        return False
    seen.add(id(code))
    names = _names(code)
    for value in (known[name] for name in names if name in known):
        if isinstance(value, ModuleType) and value.__name__.startswith("auditkit"):
            found = any(_is_site(getattr(value, name, None)) for name in names)
        elif inspect.isfunction(value) and value.__module__ == function.__module__:
            found = _names_a_site(value, seen)
        else:
            found = _is_site(value)
        if found:
            return True
    return False


def _names(code: CodeType) -> set[str]:
    """Names that a function uses, comprehensions and inner functions included."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _body(item: pytest.Item) -> Iterator[ast.AST]:
    function: Any = getattr(item, "obj", None)
    try:
        source = textwrap.dedent(inspect.getsource(function))
        yield from ast.walk(ast.parse(source))
    except (OSError, TypeError, SyntaxError):  # no source to be read: a mark must say it
        return


def _controls(node: ast.AST) -> bool:
    match node:
        case ast.With(items=items):
            return any(_calls(item.context_expr, "control") for item in items)
        case ast.Assert(test=ast.Compare(left=left, comparators=[right])):
            return _measured(left) and _measured(right)
    return False


def _measured(node: ast.AST) -> bool:
    """Whether an expression can be an estimate; a number or `threshold(...)` is none."""
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return not isinstance(node, ast.Constant) and not _calls(node, "threshold")


def _calls(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return (isinstance(called, ast.Name) and called.id == name) or (
        isinstance(called, ast.Attribute) and called.attr == name
    )
