"""The GitHub Action: its steps in a shell, and the snippets for other build servers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from docpages import ROOT, blocks

pytestmark = pytest.mark.unit

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}
STUB = '#!/usr/bin/env bash\necho "$@" >> "$LOG"\nif [ "$1" = gate ]; then exit "$CODE"; fi\n'


@pytest.mark.parametrize(
    ("inputs", "code", "calls"),
    [
        (
            {"BASE_SHA256": "", "OPTIONS": "", "SUITES": "identity_bias"}, 0,
            ["gate ./my fine-tune --base b --audit-dir out --suite identity_bias", "github out/latest"],
        ),
        (
            {"BASE_SHA256": "abc", "OPTIONS": "--items 24", "SUITES": "one two"}, 10,
            ["gate ./my fine-tune --base b --audit-dir out --suite one --suite two --base-sha256 abc --items 24",
             "github out/latest"],
        ),
        (
            {"BASE_SHA256": "", "OPTIONS": "", "SUITES": "one"}, 4,
            ["gate ./my fine-tune --base b --audit-dir out --suite one"],
        ),
    ],
)  # fmt: skip
def test_the_gate_step_hands_on_its_inputs_and_ends_with_the_gates_code(
    tmp_path: Path, inputs: dict[str, str], code: int, calls: list[str]
) -> None:
    log, output, stub = tmp_path / "log", tmp_path / "output", tmp_path / "auditkit"
    stub.write_text(STUB)
    stub.chmod(0o755)
    given = {"CANDIDATE": "./my fine-tune", "BASE": "b", "REPORTS": "out", "LOG": str(log), "CODE": str(code)}
    environment = os.environ | given | inputs | {"GITHUB_OUTPUT": str(output), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    step = STEPS["gate"]
    assert set(given | inputs) - {"LOG", "CODE"} <= step["env"].keys()
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step["run"]], env=environment, cwd=tmp_path)
    assert done.returncode == code
    assert log.read_text().splitlines() == calls
    assert output.read_text() == f"exit-code={code}\n"


def test_no_input_is_put_into_a_script() -> None:
    """A value that stands in the text of a script is run by the shell; one in its environment is not."""
    assert STEPS.keys() == {"install", "gate"}
    for step in STEPS.values():
        assert "${{" not in step["run"]
        subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


def test_the_workflow_names_inputs_that_the_action_has() -> None:
    workflow = yaml.safe_load((ROOT / "examples" / "ci-gate.yml").read_text(encoding="utf-8"))
    (used,) = [step for step in workflow["jobs"]["gate"]["steps"] if "/auditkit@" in step.get("uses", "")]
    required = {name for name, about in ACTION["inputs"].items() if about.get("required")}
    assert required <= used["with"].keys() <= ACTION["inputs"].keys()


def test_snippets_for_build_servers_are_yaml_and_name_one_junit_file() -> None:
    page = (ROOT / "docs" / "ci-gate.md").read_text(encoding="utf-8")
    snippets = [yaml.safe_load(text) for kind, text, _ in blocks(page) if kind == "yaml"]
    (gitlab,) = [one["gate"] for one in snippets if isinstance(one, dict)]
    assert gitlab["artifacts"]["reports"]["junit"] == "reports/2*/junit.xml"
    assert gitlab["allow_failure"]["exit_codes"] == [10]
    (jenkins,) = [text for kind, text, _ in blocks(page) if kind == "groovy"]
    assert "junit 'reports/2*/junit.xml'" in jenkins
