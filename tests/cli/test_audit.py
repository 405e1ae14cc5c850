"""`auditkit audit` and `auditkit suites`: the suites of the package by name, from any folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import auditkit
from auditkit.claims.suites import again, arguments, as_written, home, installed, packaged
from auditkit.cli import audit, main
from auditkit.options import OPTIONS

pytestmark = pytest.mark.unit

SUITES = Path(auditkit.__file__).parents[1] / "suites"


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], bool]]:
    """What pytest is run with, from a folder outside the repository."""
    seen: list[tuple[list[str], bool]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit, "run_pytest", lambda args, *, apart: seen.append((args, apart)) or 10)
    return seen


def test_suites_says_what_each_folder_asks_needs_and_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suites"]) == 0
    said = capsys.readouterr().out
    assert set(packaged()) == {path.parent.name for path in SUITES.glob("*/conftest.py")}
    for suite in packaged().values():
        assert f"{suite.name}: {suite.claims} claims" in said
        assert suite.question, suite.name
        assert f"  {suite.question}\n  needs: {suite.needs}\n" in said
    assert re.search(r"^identity_bias: \d+ claims, \d+ of them compare with a base, about \d+m$", said, re.M)


def test_a_suite_runs_by_its_name_with_every_option_as_it_stands(called: list[tuple[list[str], bool]]) -> None:
    options = ["--model", "m", "--items", "6", "-k", "not role_conditioning", "-n", "2", "--data=a=b"]
    assert main(["audit", "role_conditioning", *options]) == 10
    (args, apart), *_ = called
    assert apart, "no module of the current folder stands in the way"
    assert args[-len(options) :] == options
    assert args[-len(options) - 1] == str(SUITES / "role_conditioning")
    assert main(["audit", "--model", "m", "-x", "role_conditioning"]) == 10
    assert called[-1][0][-4:] == [str(SUITES / "role_conditioning"), "--model", "m", "-x"]


def test_all_suites_run_where_none_is_named(called: list[tuple[list[str], bool]]) -> None:
    main(["audit", "--model", "role_conditioning"])
    args = called[0][0]
    assert args[-3:] == [str(SUITES), "--model", "role_conditioning"], "the value of an option is no suite"


def test_a_suite_of_ones_own_is_run_as_pytest_runs_it(called: list[tuple[list[str], bool]]) -> None:
    Path("mine").mkdir()
    Path("identity_bias").mkdir()
    main(["audit", "mine", "--model", "m"])
    main(["audit", "./identity_bias", "--model", "m"])
    main(["audit", "identity_bias", "--model", "m"])
    assert [args[0] for args, _ in called] == ["mine", "./identity_bias", "-c"]
    assert [apart for _, apart in called] == [False, False, True]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["identity_bais"], "there is no suite 'identity_bais'. Did you mean identity_bias? The suites are "),
        (["zzz"], "there is no suite 'zzz'. The suites are finetune_traces, identity_bias, "),
        (["./zzz"], "there is no folder or file ./zzz"),
        (["mine", "identity_bias"], "mine is a folder of your own and the others are suites of the package"),
    ],
)
def test_what_is_no_suite_is_refused_in_one_line(
    called: list[tuple[list[str], bool]], capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    Path("mine").mkdir()
    assert main(["audit", *args, "--model", "m"]) == 4
    printed = capsys.readouterr().err
    assert printed.startswith(f"auditkit: audit: {said}")
    assert printed.count("\n") == 1
    assert called == []


def test_help_names_options_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "Exit codes: 0 " in printed
    assert [name for name in OPTIONS if f"  --{name}" not in printed] == []


@pytest.mark.parametrize("command", ["gate", "fleet"])
def test_an_option_that_is_handed_on_is_explained_where_it_is_offered(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert " ".join(str(OPTIONS["effort"]["help"]).split()) in printed
    assert "as for" not in printed


def test_a_command_is_written_as_a_person_calls_it(tmp_path: Path) -> None:
    args = arguments(["role_conditioning", "identity_bias/test_alone.py::test_one"], tmp_path)
    assert as_written([*args, "--model", "m"]) == [
        *("auditkit", "audit", "role_conditioning", "identity_bias/test_alone.py::test_one", "--model", "m")
    ]
    assert as_written(arguments([], tmp_path)) == ["auditkit", "audit"]
    for own in (["suites", "--model", "m"], ["-c", os.devnull, "suites", "--model", "m", "-x", "-q"]):
        assert as_written(own) == ["pytest", *own]


def test_a_claim_is_measured_again_from_where_it_was(tmp_path: Path) -> None:
    test, node = SUITES / "identity_bias" / "test_alone.py", "suites/identity_bias/test_alone.py::test_one[a::b]"
    assert again(test, node, SUITES.parent) == ["pytest", node]
    assert again(test, node, tmp_path) == ["auditkit", "audit", "identity_bias/test_alone.py::test_one[a::b]"]
    own = tmp_path / "suite" / "test_own.py"
    assert again(own, "suite/test_own.py::test_one", tmp_path) == ["pytest", "suite/test_own.py::test_one"]


def test_installed_suites_are_found_before_a_folder_of_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project's own `suites` may lie beside the packages, and is not taken for the package's."""
    assert home() == SUITES
    assert not installed(SUITES / "identity_bias")
    monkeypatch.setattr(auditkit, "__file__", str(tmp_path / "auditkit" / "__init__.py"))
    assert home() is None
    assert packaged() == {}
    assert main(["suites"]) == main(["audit", "--model", "m"]) == 4
    for name in ("suites", "auditkit_suites"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conftest.py").touch()
    assert home() == tmp_path / "auditkit_suites"
    assert installed(tmp_path / "auditkit_suites" / "identity_bias")
    assert not installed(tmp_path / "suites" / "identity_bias")
