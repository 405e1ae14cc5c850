"""What a claim declares before it is measured: its marks, and the control without which no causal claim is readable.

A claim is causal when it rests on edits inside the model, and its author says so with `@pytest.mark.causal`. Its
control is a `with control(...)` block, or a comparison with another measured value, such as the same edit elsewhere;
`@pytest.mark.causal(control="...")` names one that stands in a fixture or helper. `@pytest.mark.causal(edits=False)`
says that a claim rests on no edit. Controls are read off the test's source, so that a claim without one costs nothing.

A mark that was forgotten cannot pass in silence. An unmarked claim during which the engine ran edits is not readable
(`forgotten`). What one claim measured another one shares without running edits itself, so in a suite with one such
mark every claim needs one.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from auditkit.pytest_plugin.claims import NO_XFAIL, suite_of
from auditkit.pytest_plugin.options import asks_for_reruns, refusal
from auditkit.record.escaping import plain
from auditkit.record.plan import EFFORTS

_MARKS = {"claim": ("id", "family"), "causal": ("edits", "control")}
_UNMARKED = (
    "the model was run with edits while this claim was measured, and the claim does not say whether it rests on them: "
    "add @pytest.mark.causal and a control, or @pytest.mark.causal(edits=False), to the test"
)


def check_declarations(items: Sequence[pytest.Item], deselected: Sequence[pytest.Item] = ()) -> None:
    """Refuse marks with arguments that mean nothing, causal claims without a control, and claims without the mark
    `causal` in a suite that has it.

    Args:
        items: the claims to measure.
        deselected: further claims of their suites.

    Raises:
        pytest.UsageError: naming the test and what to write instead.
    """
    marked = {item.path.parent: item for item in (*deselected, *items) if item.get_closest_marker("causal")}
    for item in items:
        for name, allowed in _MARKS.items():
            for mark in item.iter_markers(name):
                _check_mark(item, mark, allowed)
        if is_causal(item) and not has_control(item):
            raise refusal(
                f"{item.nodeid} is a causal claim without a control: add a `with control(...)` block or compare with "
                "the same edit elsewhere; or say what it is with @pytest.mark.causal (control='...' where the control "
                "stands in a fixture or helper, edits=False where nothing is edited)"
            )
        other = marked.get(item.path.parent)
        if other is not None and item.get_closest_marker("causal") is None:
            raise refusal(
                f"{item.nodeid} does not say whether it rests on edits, as {other.nodeid} does: add "
                "@pytest.mark.causal and a control, or @pytest.mark.causal(edits=False), to the test or as the "
                "module's pytestmark"
            )


def is_causal(item: pytest.Item) -> bool:
    """Whether the claim rests on edits inside the model, as its nearest mark says."""
    mark = item.get_closest_marker("causal")
    return mark is not None and bool(mark.kwargs.get("edits", True))


def forgotten(item: pytest.Item, edited: int) -> str | None:
    """Why the claim cannot be read, if nobody has said of it whether it rests on edits; else None.

    `edits=False` of a whole module is no answer for a claim that runs edits: it was not said of this claim.

    Args:
        edited: runs with edits while the claim was measured.
    """
    said = is_causal(item) or any(mark.name == "causal" for mark in item.own_markers)
    return None if said or not edited else _UNMARKED


def has_control(item: pytest.Item) -> bool:
    """Whether a control is declared, by the mark or in the test's body."""
    return promised_control(item) is not None or any(map(_controls, _body(item)))


def promised_control(item: pytest.Item) -> str | None:
    """The control that the mark says a fixture or helper measures."""
    mark = item.get_closest_marker("causal")
    return str(mark.kwargs["control"]) if mark is not None and mark.kwargs.get("control") else None


def _check_mark(item: pytest.Item, mark: pytest.Mark, allowed: tuple[str, ...]) -> None:
    if mark.args:
        raise refusal(
            f"{item.nodeid}: @pytest.mark.{mark.name} takes {', '.join(f'{name}=...' for name in allowed)} by name, "
            f"not {mark.args[0]!r}"
        )
    for argument in mark.kwargs:
        if argument not in allowed:
            near = difflib.get_close_matches(argument, allowed, n=1, cutoff=0.0)[0]
            raise refusal(
                f"{item.nodeid}: @pytest.mark.{mark.name} has no argument '{argument}'; did you mean '{near}'?"
            )


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


def remarks(config: pytest.Config, items: Iterable[pytest.Item]) -> Iterator[str]:
    """What pytest's own marks and options do not do to claims, where they are used."""
    items = list(items)
    if asks_for_reruns(config) or any(item.get_closest_marker("flaky") for item in items):
        yield "claims are not run again (--reruns): the first verdict of a claim stands"
    expected = sum(item.get_closest_marker("xfail") is not None for item in items)
    if expected:
        yield f"xfail marks {expected} of the claims and changes no verdict: {NO_XFAIL}"


def declared_tokens(config: pytest.Config, suites: Collection[str]) -> dict[str, float | None]:
    """Suite -> tokens that it runs at `--effort standard`, by its own word; None where it does not say."""
    said = declared_efforts(config, suites)
    return {suite: None if of is None else of["standard"] for suite, of in said.items()}


def declared_efforts(config: pytest.Config, suites: Collection[str]) -> dict[str, dict[str, float] | None]:
    """Suite -> effort -> tokens that it runs, by its own word; None where it does not say."""
    return {suite: _by_effort(config.hook.pytest_audit_tokens(suite=suite)) for suite in sorted(suites)}


def _by_effort(said: int | Mapping[str, int] | None) -> dict[str, float] | None:
    by_name = said if isinstance(said, Mapping) else {} if said is None else {"standard": said}
    if "standard" not in by_name:
        return None
    return {effort: by_name.get(effort, by_name["standard"] * share) for effort, share in EFFORTS.items()}


def required_efforts(config: pytest.Config, suites: Collection[str]) -> dict[str, dict[str, float]]:
    """Suite -> effort -> tokens, where no suite may keep silent.

    Raises:
        ValueError: one does, in one line.
    """
    said = declared_efforts(config, suites)
    if missing := next((suite for suite, of in said.items() if of is None), None):
        raise ValueError(
            f"--budget: {missing} does not say how many tokens it runs (hook pytest_audit_tokens of its conftest); "
            "give --effort or --items"
        )
    return {suite: of for suite, of in said.items() if of is not None}


def token_layers(tokens: Mapping[str, Mapping[str, float]], layers: int) -> dict[str, dict[str, float]]:
    """Suite -> effort -> token-layers on a model with so many layers."""
    return {suite: {effort: number * layers for effort, number in of.items()} for suite, of in tokens.items()}


def without_baseline(items: Iterable[pytest.Item]) -> Iterator[str]:
    """Which suites have claims that compare with a baseline, in a run that has none; nothing for one suite that asks
    something without it, since its report says so."""
    compares: dict[str, list[bool]] = {}
    for item in items:
        arguments = inspect.signature(getattr(item, "function", without_baseline)).parameters
        compares.setdefault(suite_of(item), []).append("baseline" in arguments)
    wholly = [suite for suite, claims in compares.items() if all(claims)]
    partly = [f"{suite} ({sum(some)} of {len(some)})" for suite, some in compares.items() if any(some) > all(some)]
    if wholly or (partly and len(compares) > 1):
        parts = [f"all claims of {', '.join(wholly)}"] if wholly else []
        parts += [f"some of {', '.join(partly)}"] if partly else []
        yield plain(f"without --baseline these are not asked: {', and '.join(parts)}")
