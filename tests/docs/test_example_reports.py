"""Committed example reports have the claims that the suites have, and make their statements."""

from __future__ import annotations

import ast
import csv
import functools
import html
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from docpages import ROOT

pytestmark = pytest.mark.unit

REPORTS = {path.parent.name: path for path in sorted((ROOT / "reports" / "examples").glob("*/claims.csv"))}


@functools.cache
def functions() -> tuple[tuple[Path, str, str], ...]:
    """File, claim without its parameters, and statement of every claim of the suites."""
    return tuple(
        (
            path,
            f"{path.parent.name}/{node.name.removeprefix('test_')}",
            " ".join((ast.get_docstring(node) or "").split()),
        )
        for path in (ROOT / "suites").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def stated() -> dict[str, str]:
    """Claim without its parameters -> its statement."""
    return {claim: statement for _, claim, statement in functions()}


def written() -> dict[str, Path]:
    """Claim without its parameters, if it needs no data of a user -> the file that holds it."""
    return {claim: path for path, claim, _ in functions() if path.name != "test_own.py"}


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


def asked() -> dict[str, tuple[str, ...]]:
    """Report -> how pytest is told which claims it asks."""
    found: dict[str, tuple[str, ...]] = runpy.run_path(str(ROOT / "examples" / "reports.py"))["ASKED"]
    return found


def claims_of(report: str) -> set[str]:
    """Claims of a report, with their parameters."""
    [table] = (ROOT / "reports" / "examples" / report).glob("c*.csv")
    with table.open(encoding="utf-8") as stream:
        return {row.get("id") or row["claim"] for row in csv.DictReader(stream)}


def test_there_are_reports() -> None:
    assert {*REPORTS, "checkpoints"} == set(asked())


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_has_every_claim_of_the_suites_that_it_asks(report: str) -> None:
    """But for parameters, which only pytest knows."""
    asks = [ROOT / path for path in asked()[report]]
    wanted = {claim for claim, path in written().items() if any(path.is_relative_to(one) for one in asks)}
    assert wanted
    assert wanted == {claim.partition("[")[0] for claim in claims_of(report)}


@pytest.mark.slow
@pytest.mark.parametrize("report", asked())
def test_a_report_has_every_claim_that_pytest_collects_for_it(report: str) -> None:
    """With parameters, and as `-k` selects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *asked()[report]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = re.findall(r"^suites/(\w+)/test_\w+\.py::test_(.+)$", done.stdout, re.M)
    assert found
    assert {f"{suite}/{claim}" for suite, claim in found} == claims_of(report)


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
