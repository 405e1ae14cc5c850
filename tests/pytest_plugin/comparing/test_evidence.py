"""The folder of evidence of a run that measured: `auditkit verify` derives it again, and an edit of it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.cli import main

pytestmark = pytest.mark.unit


def test_evidence_verifies_and_an_edited_page_does_not(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "evidence"
    assert main(["report", str(recorded), "--evidence", str(folder)]) == 0
    assert f"check it with: auditkit verify {folder}" in capsys.readouterr().out
    assert main(["verify", str(folder)]) == 0
    assert "verified: " in capsys.readouterr().out
    with (folder / "limits.md").open("a") as page:
        page.write("Everything is fine.\n")
    assert main(["verify", str(folder)]) == 11
    assert "limits.md has changed since the run wrote it" in capsys.readouterr().out
    assert main(["report", str(folder / "limits.md"), "--evidence", str(folder)]) == 11
    assert main(["report", str(recorded), "--evidence", str(recorded)]) == 4
    assert "is no evidence of this run: it holds comment.md; name a new folder" in capsys.readouterr().err
