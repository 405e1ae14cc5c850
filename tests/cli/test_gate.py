"""`auditkit gate`: whole suites, in a process of its own, and no pass without a record that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from following import coming_to

from auditkit.claims.verdicts import summarize
from auditkit.cli import gate, main
from auditkit.record.manifest import write_manifest
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import point_latest, read_run, write_run

pytestmark = pytest.mark.unit

CONFTEST = Path(__file__).parents[1] / "pytest_plugin" / "conftest.py"


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite").mkdir()
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports"


Child = Callable[..., list[list[str]]]


@pytest.fixture
def child(reports: Path, a_run: Run, monkeypatch: pytest.MonkeyPatch) -> Child:
    """Stands for the process that measures: it leaves a record, or none, and ends with a code."""

    def ending(
        code: int, verdict: Verdict | None, profile: str = "release", command: str | None = None
    ) -> list[list[str]]:
        seen: list[list[str]] = []

        def measure(args: list[str]) -> int:
            seen.append(args)
            if verdict is not None:
                claims = tuple(coming_to(claim, verdict) for claim in a_run.claims)
                called = ("pytest", *args) if command is None else ("pytest", command)
                run = msgspec.structs.replace(
                    a_run, claims=claims, summary=summarize(claims), profile=profile, command=called
                )
                folder = reports / "20260101T000000Z-m"
                folder.mkdir()
                write_run(folder, run, [])
                write_manifest(folder)
            return code

        monkeypatch.setattr(gate, "_measure", measure)
        return seen

    return ending


@pytest.mark.parametrize(
    ("code", "verdict", "ends", "said"),
    [
        (0, Verdict.PASS, 0, ""),
        (1, Verdict.FAIL, 1, ""),
        (10, Verdict.INCONCLUSIVE, 10, ""),
        (11, Verdict.ERROR, 11, ""),
        (1, Verdict.PASS, 1, ""),
        (0, Verdict.FAIL, 1, "ended with 0, and its record in reports/20260101T000000Z-m says 1"),
        (0, Verdict.INCONCLUSIVE, 10, "says 10"),
        (0, None, 11, "the audit ended with 0 and left no record of this command"),
        (5, None, 11, "the audit ended with 5 and left no record"),
        (4, None, 4, ""),
        (2, None, 2, "the gate has not passed: the audit was interrupted, or a file of the suites"),
        (3, None, 3, "the gate has not passed: the audit broke down"),
        (137, None, 137, "the gate has not passed: the audit was ended by signal 9"),
        (137, Verdict.PASS, 137, "ended by signal 9"),
    ],
)
def test_the_gate_ends_with_the_worse_of_the_record_and_the_process(
    child: Child, capsys: pytest.CaptureFixture[str], code: int, verdict: Verdict | None, ends: int, said: str
) -> None:
    child(code, verdict)
    assert main(["gate", "suite", "--model", "m"]) == ends
    printed = capsys.readouterr()
    assert said in printed.err
    assert ("gate: PASS" in printed.out) == (verdict is Verdict.PASS and code < 2)


@pytest.mark.parametrize(("profile", "command"), [("pr", None), ("release", "another")])
def test_a_record_of_another_command_or_profile_is_no_pass(
    child: Child, profile: str, command: str | None
) -> None:
    child(0, Verdict.PASS, profile, command)
    assert main(["gate", "suite", "--model", "m"]) == 11


def test_an_older_record_is_no_pass(child: Child, reports: Path) -> None:
    seen = child(0, Verdict.PASS)
    assert main(["gate", "suite", "--model", "m"]) == 0
    point_latest(reports / "20260101T000000Z-m")
    again = child(0, None)
    assert main(["gate", "suite", "--model", "m"]) == 11
    assert seen == again


@pytest.mark.parametrize(
    "args",
    [["suite/test_one.py"], ["suite::test_one"], ["suite", "-k", "one"], ["suite", "-m", "x"], ["nowhere"],
     ["suite", "--deselect", "x"], ["suite", "--ignore=x"], ["suite", "--lf"], ["suite", "-x"], ["suite", "--resume"],
     ["suite", "--profile", "pr"], ["suite", "--shard", "1/2"]],
)  # fmt: skip
def test_the_gate_accepts_no_selection(child: Child, args: list[str]) -> None:
    seen = child(0, Verdict.PASS)
    try:
        code = main(["gate", *args, "--model", "m"])
    except SystemExit as refused:
        code = refused.code
    assert code in (2, 4)
    assert seen == []


def test_every_value_stands_in_one_argument_with_its_option(child: Child) -> None:
    seen = child(0, Verdict.PASS)
    main(["gate", "suite", "--model", "../m", "--baseline", "released", "--data", "a=b", "--seed", "3", "-n", "2"])
    (args,) = seen
    assert args[0] == "suite"
    assert {"--audit-model=../m", "--audit-baseline=released", "--audit-data=a=b", "--audit-seed=3"} <= set(args)
    assert args[args.index("-o") + 1] == "addopts="
    assert args[-2:] == ["-n", "2"]


def test_a_process_that_ends_itself_with_zero_does_not_pass_and_options_from_outside_select_nothing(
    reports: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import tests.pytest_plugin.conftest as planted

    suite = reports.parent / "suite"
    (suite / "conftest.py").write_text(planted.CONFTEST)
    (suite / "test_finding.py").write_text(planted.SUITE)
    (reports.parent / "world.json").write_text('{"shift": 0.0}')
    (reports.parent / "pytest.ini").write_text("[pytest]\naddopts = --collect-only -k nothing\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--deselect suite/test_finding.py")
    assert main(["gate", "suite", "--model", str(tiny_llama)]) == 0
    assert "gate: PASS" in capfd.readouterr().out
    assert len(read_run(reports / "latest").claims) == 3
    ends = '"""A finding."""\nimport os\n\ndef test_end(model):\n    """Ends."""\n    os._exit(0)\n'
    (suite / "test_ends.py").write_text(ends)
    code = main(["gate", "suite", "--model", str(tiny_llama)])
    printed = capfd.readouterr()
    assert code == 11, f"the child process said: {printed.out}"
    assert "the audit ended with 0 and left no record of this command" in printed.err
    assert main(["github", "reports/latest"]) == 11
