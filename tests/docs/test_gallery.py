"""The gallery names every finding, and says of a recorded run what its report says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from scripts import loaded

from auditkit.claims.suites import Suite, packaged
from auditkit.record.schema import Run
from auditkit.report.answers.scorecard import scorecard

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
gallery = loaded(ROOT / "tools" / "gallery.py")


def test_the_page_has_every_suite_with_its_question_and_what_it_needs() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text()
    head = gallery.write(list(packaged().values()), [])
    assert page.startswith(head), "run python tools/gallery.py with the runs that the page names"
    for suite in packaged().values():
        assert f"| [{suite.name}](findings/{suite.name}.md) | {suite.question} | {suite.needs} |" in page


def test_a_run_is_named_with_seed_and_date_and_says_what_its_report_says(a_run: Run) -> None:
    suite = Suite("suite", Path(), "Does it?", "", 4_000, 2, 0)
    other = Suite("other", Path(), "Is it?", "logits", None, 1, 0)
    page = gallery.write([suite, other], [a_run])
    assert "| [suite](findings/suite.md) | Does it? | — | 12s |" in page
    assert "| [other](findings/other.md) | Is it? | logits | — |" in page
    assert f"| suite | {a_run.model.name}, seed {a_run.seed}, {a_run.created[:10]} |" in page
    answer = re.sub(r" \([^)]*\)", "", scorecard(a_run)[0].answer)
    assert answer.startswith("Of 2 ")
    assert f"| suite | {answer} |" in page
    assert "| other |  |" in page


def test_runs_of_one_model_seed_and_day_share_a_column(a_run: Run) -> None:
    suite = Suite("suite", Path(), "Does it?", "", 4_000, 2, 0)
    assert gallery.write([suite], [a_run, a_run]) == gallery.write([suite], [a_run])


def test_elsewhere_it_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gallery.py"])
    with pytest.raises(SystemExit, match="top folder of the repository"):
        gallery.main()
