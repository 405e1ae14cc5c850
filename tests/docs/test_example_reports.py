"""Committed example reports make the statements that the suites make."""

from __future__ import annotations

import ast
import csv
import html
from pathlib import Path

import pytest
from docpages import ROOT

pytestmark = pytest.mark.unit

REPORTS = {path.parent.name: path for path in sorted((ROOT / "reports" / "examples").glob("*/claims.csv"))}


def stated() -> dict[str, str]:
    """Claim without its parameters -> its statement."""
    return {
        f"{path.parent.name}/{node.name.removeprefix('test_')}": " ".join((ast.get_docstring(node) or "").split())
        for path in (ROOT / "suites").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


def other_statements(table: Path) -> list[str]:
    """Claims of a report that no suite makes in these words."""
    said = stated()
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    return [row["id"] for row in rows if not same(row, said.get(row["id"].partition("[")[0]))]


def same(row: dict[str, str], statement: str | None) -> bool:
    """Whether the row has the statement; a claim of several names its parameter behind it."""
    _, bracket, parameters = row["id"].partition("[")
    return statement is not None and row["statement"].lstrip("'") in (
        statement,
        f"{statement} {bracket}{parameters}",
    )


def test_there_are_reports() -> None:
    assert {"audit", "blocked", "comparison", "induction", "role-conditioning"} == set(REPORTS)


def answered(report: str) -> str:
    """The sentence with which a report answers."""
    return next(
        line for line in (REPORTS[report].parent / "summary.md").read_text("utf-8").splitlines() if "**" in line
    )


def test_one_gate_passes_and_one_blocks_for_what_got_worse() -> None:
    assert answered("comparison").startswith("**Ready: ")
    assert answered("blocked").startswith("**Not ready: ")
    assert "got worse than the base" in answered("blocked")


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_makes_the_statements_of_the_suites(report: str) -> None:
    assert other_statements(REPORTS[report]) == []


def test_the_page_of_several_runs_makes_the_statements_of_the_suites() -> None:
    folder = ROOT / "reports" / "examples" / "checkpoints"
    with (folder / "compare.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["run"] for row in rows}) == 10
    said, page = stated(), html.unescape((folder / "compare.html").read_text(encoding="utf-8"))
    measured = {row["claim"] for row in rows if row["estimate"]}
    assert len(measured) >= 5
    assert [claim for claim in measured if said.get(claim.partition("[")[0], "not a claim") not in page] == []


def test_the_page_of_a_default_run_is_small_enough() -> None:
    page = (ROOT / "reports" / "examples" / "audit" / "audit.html").read_bytes()
    assert len(page) <= 1_500_000


def test_a_row_is_compared_with_the_statement_of_its_claim() -> None:
    claim, statement = next(iter(stated().items()))
    assert same({"id": claim, "statement": statement}, statement)
    assert same({"id": f"{claim}[a]", "statement": f"{statement} [a]"}, statement)
    assert not same({"id": claim, "statement": f"{statement} Or not."}, statement)
    assert not same({"id": claim, "statement": statement}, None)
