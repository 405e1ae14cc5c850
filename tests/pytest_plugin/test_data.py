"""`--data SUITE=SOURCE`: the suite gets it, the plan knows its content, and what cannot be used is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.data.sources import source_sha256
from auditkit.pytest_plugin import session
from auditkit.record.journal import read_journal
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

SUITES = Path(__file__).parents[2] / "suites"
SUITE = '''"""A finding."""
from auditkit.data.sources import read_questions
from auditkit.claims.outcomes import NotApplicable

def test_reads(model, audit):
    """Tells what it was given."""
    source = audit.data.get("suite")
    raise NotApplicable("its own" if source is None else f"{len(read_questions(source).kept)} questions")
'''
ROW = "Which of these is a bird?,heron,otter,pike,newt,A\n"


@pytest.fixture
def audit(pytester: pytest.Pytester, tiny_llama: Path):
    """Run the suite and return (result of pytest, record)."""
    (pytester.mkdir("suite") / "test_finding.py").write_text(SUITE)
    (pytester.path / "birds_test.csv").write_text(ROW)

    def run(*args: str):
        result = pytester.runpytest_inprocess("suite", "--model", str(tiny_llama), *args)
        latest = pytester.path / "reports" / "latest"
        return result, read_run(latest) if latest.exists() else None

    return run


def test_the_suite_gets_it_and_the_record_says_so(audit, pytester: pytest.Pytester) -> None:
    _, run = audit("--data", "suite=birds_test.csv")
    (claim,) = run.claims
    assert claim.reason == "1 questions"
    assert "--data suite=birds_test.csv" in claim.rerun
    assert run.plan.data["suite/--data"] == source_sha256(str(pytester.path / "birds_test.csv"))
    header, _ = read_journal(pytester.path / "reports" / "latest" / "journal.jsonl")
    assert header.settings["--data"].startswith("suite=birds_test.csv (")


def test_without_it_the_suite_has_its_own(audit) -> None:
    _, run = audit()
    assert run.claims[0].reason == "its own"
    assert "suite/--data" not in run.plan.data


def test_other_content_is_another_plan(audit, pytester: pytest.Pytester) -> None:
    digests = set()
    for name, text in (("one.csv", ROW), ("two.csv", ROW.replace("heron", "wren")), ("three.csv", ROW * 2)):
        (pytester.path / name).write_text(text)
        digests.add(audit("--data", f"suite={name}")[1].plan_sha256)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("birds_test.csv", "--data birds_test.csv: write SUITE=SOURCE, as in --data persona_patching=./mmlu"),
        ("suite=", "--data suite=: write SUITE=SOURCE"),
        ("siute=birds_test.csv", "--data siute=birds_test.csv: no suite 'siute' was collected, only suite"),
        (
            "suite=./nowhere",
            "--data suite: './nowhere' is no file, no folder, and no hub data set of the form owner/name",
        ),
    ],
)
def test_what_cannot_be_used_is_a_usage_error_in_one_line(audit, value: str, said: str) -> None:
    result, run = audit("--data", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert run is None
    assert said in result.stderr.str() + result.stdout.str()


READS = """
from auditkit.data.sources import read_questions

def pytest_audit_read_data(suite, source):
    if suite == "suite":
        read_questions(source)
"""


@pytest.mark.parametrize("extra", [(), ("-n", "1")])
def test_data_that_its_suite_cannot_read_is_refused_before_a_model_is_opened(
    audit, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setattr(session, "open_model", lambda *_: pytest.fail("opened"))
    (pytester.path / "suite" / "conftest.py").write_text(READS)
    (pytester.path / "stars.jsonl").write_text('{"text": "x", "stars": 5}\n')
    result, run = audit("--data", "suite=stars.jsonl", *extra)
    assert (result.ret, run) == (pytest.ExitCode.USAGE_ERROR, None)
    (line,) = [line for line in result.stderr.lines if line.startswith("ERROR")]
    assert line.startswith("ERROR: --data suite: stars.jsonl: none of its rows is a question with four options")


READS_ONCE = """
read = []

def pytest_audit_read_data(suite, source, seed):
    if suite != "suite":
        return None
    read.append(source)
    return f"{seed}, {len(read)}"
"""
ASKS_TWICE = '''"""A finding."""
from auditkit.claims.outcomes import NotApplicable

def test_reads(model, audit):
    """Tells what it was given."""
    audit.given("suite")
    raise NotApplicable(audit.given("suite") or "nothing")
'''


def test_a_source_is_read_once_and_the_suite_gets_what_was_read(audit, pytester: pytest.Pytester) -> None:
    (pytester.path / "suite" / "conftest.py").write_text(READS_ONCE)
    (pytester.path / "suite" / "test_finding.py").write_text(ASKS_TWICE)
    _, run = audit("--data", "suite=birds_test.csv", "--seed", "7")
    assert run.claims[0].reason == "7, 1"
    assert audit()[1].claims[0].reason == "nothing"


@pytest.mark.parametrize("suite", sorted(path.parent.name for path in SUITES.glob("*/conftest.py")))
def test_every_suite_refuses_a_table_of_something_else_before_a_model_is_opened(
    suite: str, pytester: pytest.Pytester, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "open_model", lambda *_: pytest.fail("opened"))
    stars = pytester.path / "stars.jsonl"
    stars.write_text('{"text": "x", "stars": 5}\n')
    args = ("--model", str(tiny_llama), "--data", f"{suite}={stars}", "-p", "no:cacheprovider")
    result = pytester.runpytest_inprocess(SUITES / suite, *args, "--audit-dir", str(pytester.path / "reports"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.stderr.lines if line.startswith("ERROR")]
    assert line.startswith(f"ERROR: --data {suite}: ")
    assert "stars.jsonl" in line


def test_two_sources_for_one_suite_are_refused(audit) -> None:
    result, _ = audit("--data", "suite=birds_test.csv", "--data", "suite=other.csv")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--data: suite is given two sources*"])
