"""`auditkit gate`: whole suites, in a process of its own, and no pass without a record that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from following import coming_to

from auditkit.claims.verdicts import summarize
from auditkit.cli import gate, main
from auditkit.record.manifest import record_digest, write_manifest
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import point_latest, read_run, write_run
from auditkit.report.trackers import stores

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


@pytest.fixture
def measured(reports: Path, a_run: Run, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands for the process that measures bases and candidates, each with a record of its own; its calls."""
    seen: list[list[str]] = []

    def measure(args: list[str]) -> int:
        seen.append(args)
        (into,) = [Path(arg.partition("=")[2]) for arg in args if arg.startswith("--audit-dir=")]
        run = msgspec.structs.replace(
            a_run, claims=tuple(coming_to(claim, Verdict.PASS) for claim in a_run.claims), command=("pytest", *args),
            profile="release", seed=len(seen),
        )  # fmt: skip
        folder = into / f"2026010{len(seen)}T000000Z-m"
        folder.mkdir(parents=True)
        write_run(folder, msgspec.structs.replace(run, summary=summarize(run.claims)), [])
        write_manifest(folder)
        point_latest(folder)
        return 0

    monkeypatch.setattr(gate, "_measure", measure)
    return seen


def baseline_of(args: list[str]) -> str:
    (value,) = [arg.partition("=")[2] for arg in args if arg.startswith("--audit-baseline=")]
    return value


def test_a_base_is_measured_once_for_each_question(
    measured: list[list[str]], reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = reports.parent / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"weights")
    (base / "config.json").write_text("{}")
    asked = ["gate", "./candidate", "--base", str(base)]

    def gated(*more: str) -> list[list[str]]:
        """The calls that a gate made."""
        before = len(measured)
        assert main([*asked, *more]) == 0
        return measured[before:]

    first, candidate = gated("--items", "12")
    assert [f"--audit-model={base}", "--audit-as-baseline"] == [first[-3], first[-1]]
    assert {"--audit-model=./candidate", "--audit-profile=release", "--audit-items=12"} <= set(candidate)
    assert any(arg.endswith("/suites/identity_bias") for arg in candidate)
    folder, _, digest = baseline_of(candidate).partition("#")
    assert record_digest(Path(folder)) == digest, "the record that was measured and no other"
    printed = capsys.readouterr().out.splitlines()
    assert f"the base is recorded; to accept this record and no other: --base-sha256 {digest}" in printed
    assert printed[-1].endswith("."), "the answer, in one sentence"
    assert printed[-2].startswith("gate: PASS (")
    assert [baseline_of(args) for args in gated("--items", "12")] == [f"{folder}#{digest}"], "measured once"
    assert len(gated()) == 2, "not the base of a quick look"
    assert len(gated("--seed", "7")) == 2
    assert len(gated("--suite", "role_conditioning")) == 2
    assert baseline_of(gated("--items", "12", "--base-sha256", "ab" * 32)[-1]) == f"{folder}#{'ab' * 32}"
    (reports / "pinned" / Path(folder).parent.name).unlink()
    assert len(gated("--items", "12")) == 2, "measured again where nobody knows the digest"
    (base / "model.safetensors").write_bytes(b"other weights")
    assert len(gated("--items", "12")) == 2, "the folder holds another model by now"


def test_a_recorded_run_is_taken_as_the_base_as_it_stands(measured: list[list[str]], reports: Path) -> None:
    main(["gate", "./candidate", "--base", "./base"])
    recorded = str(next(reports.glob("base-*/latest")))
    before = len(measured)
    assert main(["gate", "./candidate", "--base", recorded]) == 0
    assert [baseline_of(args) for args in measured[before:]] == [recorded]


def test_calibrated_thresholds_of_the_reports_are_used_and_named(
    measured: list[list[str]], reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (reports / "thresholds.toml").write_text("[default]\n")
    main(["gate", "./candidate", "--base", "./base"])
    assert all("--audit-thresholds=reports/thresholds.toml" in args for args in measured)
    assert "thresholds: those of reports/thresholds.toml\n" in capsys.readouterr().out
    (reports / "thresholds.toml").write_text("[family.llama]\n")
    main(["gate", "./candidate", "--base", "./base"])
    assert len(measured) == 4, "other thresholds are another question"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["./candidate"], 4, "give a candidate and --base BASE, or suites and --model SPEC"),
        (["./candidate", "./second", "--base", "b"], 4, "name one candidate with --base"),
        (["./candidate", "--base", "b", "--model", "m"], 4, "leave out --model"),
        (["./candidate", "--base", "b", "--baseline", "r"], 4, "leave out --baseline"),
        (
            ["./candidate", "--base", "b", "--suite", "nowhere"],
            4,
            "nowhere is no folder and no suite of the package",
        ),
        (["suite", "identity_bias", "--model", "m"], 4, "gate them in two calls"),
    ],
)
def test_a_gate_that_cannot_be_carried_out_is_refused_in_one_line(
    measured: list[list[str]], capsys: pytest.CaptureFixture[str], args: list[str], code: int, said: str
) -> None:
    assert main(["gate", *args]) == code
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert measured == []


def test_a_base_that_cannot_be_measured_ends_the_gate_with_its_code(
    reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in (4, 11):
        monkeypatch.setattr(gate, "_measure", lambda args, code=code: code)
        assert main(["gate", "./candidate", "--base", "./base"]) == code
        assert f"the base ./base could not be measured (exit code {code})" in capsys.readouterr().err


@pytest.mark.slow
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


def test_the_candidates_run_is_logged_and_a_tracker_that_is_missing_is_said_before_the_base_is_measured(
    measured: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["gate", "./candidate", "--base", "./base", "--log-to", "mlflow", "--log-to", "wandb"]
    monkeypatch.setattr(stores, "missing", lambda trackers: f"{trackers[0]} is not installed")
    assert main(asked) == 4
    assert capsys.readouterr().err == "auditkit: gate: mlflow is not installed\n"
    assert measured == []
    monkeypatch.setattr(stores, "missing", lambda trackers: None)
    main(asked)
    base, candidate = measured
    assert not [arg for arg in base if "log-to" in arg]
    assert [arg for arg in candidate if "log-to" in arg] == ["--audit-log-to=mlflow", "--audit-log-to=wandb"]
