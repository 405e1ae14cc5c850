"""The reports of a run: one HTML page, one Markdown summary, one JUnit file.

Each is a pure function of `auditkit.record.schema.Run`. Nothing is measured, decided or looked up here, so
the same run gives the same bytes on every machine, and a report can be made again from `audit.json` alone,
long after the model is gone.
"""

from __future__ import annotations

from pathlib import Path

from auditkit.record.schema import Run
from auditkit.record.store import atomic_write
from auditkit.report.junit import render_junit
from auditkit.report.markdown import render_markdown
from auditkit.report.page import render_html

__all__ = ["render_html", "render_junit", "render_markdown", "write_outputs"]

AUDIT_HTML = "audit.html"
SUMMARY_MD = "summary.md"
JUNIT_XML = "junit.xml"


def write_outputs(folder: Path, run: Run) -> Path:
    """Write audit.html, summary.md and junit.xml into `folder`, each at once; return the page's path."""
    page = folder / AUDIT_HTML
    atomic_write(folder / JUNIT_XML, render_junit(run))
    atomic_write(folder / SUMMARY_MD, render_markdown(run).encode())
    atomic_write(page, render_html(run).encode())
    return page
