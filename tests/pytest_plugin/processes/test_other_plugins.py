"""The plugin beside plugins that report, choose or order tests in their own way; those that are installed, at once."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit

PLUGINS = {
    "allure_pytest": ("--alluredir=allure",),
    "pytest_html": ("--html=page.html", "--self-contained-html"),
    "pytest_cov": ("--cov=suite", "--cov-report=xml:coverage.xml"),
    "pytest_split": ("--splits=1", "--group=1"),
    "pytest_randomly": ("--randomly-seed=1",),
}


def test_reports_of_other_plugins_are_written_and_change_nothing(audits: Any) -> None:
    installed = [name for name in PLUGINS if importlib.util.find_spec(name)]
    if not installed:
        pytest.skip(f"none of {', '.join(PLUGINS)} is installed")
    file = audits.suite / "test_finding.py"
    file.write_text(file.read_text().replace("> threshold(0.5)", "> threshold(5)"))
    options = [option for name in installed for option in PLUGINS[name]]
    result = audits.pytester.runpytest_subprocess("suite", "--model", str(audits.model), *options)
    assert result.ret == 1
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    verdicts = [audits.claim(name).verdict for name in ("once", "share", "kept")]
    assert verdicts == [Verdict.FAIL, Verdict.PASS, Verdict.NOT_APPLICABLE]
    written = {
        "allure_pytest": lambda: len(list((audits.path / "allure").glob("*-result.json"))) == 3,
        "pytest_html": lambda: "test_once" in (audits.path / "page.html").read_text(),
        "pytest_cov": lambda: "test_finding.py" in (audits.path / "coverage.xml").read_text(),
        "pytest_split": lambda: "[pytest-split] Running group 1/1" in result.stdout.str(),
        "pytest_randomly": lambda: "Using --randomly-seed=1" in result.stdout.str(),
    }
    assert [name for name in installed if not written[name]()] == []
