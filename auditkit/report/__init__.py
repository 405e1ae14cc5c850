"""The reports of a run: pages for people, and files for build servers, spreadsheets and model cards.

Each is a pure function of `auditkit.record.schema.Run`. Nothing is measured, decided or looked up here, so
the same run gives the same bytes on every machine, and a report can be made again from `audit.json` alone,
long after the model is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from auditkit.record.manifest import record_digest, write_manifest
from auditkit.record.schema import ItemRow, Run
from auditkit.record.store import RecordError, atomic_write, point_latest, write_run, writing
from auditkit.report.files.card import render_card
from auditkit.report.files.csv import render_csv
from auditkit.report.files.github import render_annotations
from auditkit.report.files.junit import render_junit
from auditkit.report.files.markdown import render_comment, render_markdown
from auditkit.report.page import render_html

__all__ = [
    "render_annotations",
    "render_card",
    "render_comment",
    "render_csv",
    "render_html",
    "render_junit",
    "render_markdown",
    "write_folder",
    "write_outputs",
]

AUDIT_HTML = "audit.html"
SUMMARY_MD = "summary.md"
JUNIT_XML = "junit.xml"


def write_outputs(folder: Path, run: Run) -> Path:
    """Write every output of `run` into `folder`, each file at once, and their manifest; return the page's path.

    The record must be there: the files that travel alone name its digest.
    """
    page, digest = folder / AUDIT_HTML, record_digest(folder)
    atomic_write(folder / JUNIT_XML, render_junit(run, digest))
    for name, text in {
        SUMMARY_MD: render_markdown(run),
        "comment.md": render_comment(run, digest),
        "model-card.md": render_card(run),
        "claims.csv": render_csv(run),
        AUDIT_HTML: render_html(run),
    }.items():
        atomic_write(folder / name, text.encode())
    write_manifest(folder)
    return page


def write_folder(folder: Path, run: Run, items: Iterable[ItemRow], *, cut_off: bool = False) -> tuple[Run, str]:
    """Write the whole of a run: record, outputs, and `latest`.

    Args:
        cut_off: the run was interrupted before its last claim; it stays marked as one to be continued, and `latest`
            stays where it is.

    Returns:
        The run as written, and why `latest` could not be moved; the run is whole without it.
    """
    with writing(folder, done=not cut_off):
        run = write_run(folder, run, items)
        write_outputs(folder, run)
        if cut_off:
            return run, ""
        try:
            point_latest(folder)
        except RecordError as error:
            return run, str(error)
    return run, ""
