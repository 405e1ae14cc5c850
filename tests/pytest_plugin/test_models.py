"""Several `--model` in one session: every claim on each, a run per model, and the worst of their exit codes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from auditkit.claims.verdicts import exit_code
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

SUITE = '''"""A finding."""
import numpy as np
import pandas as pd
import pytest
from auditkit import NotApplicable
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

@pytest.fixture(scope="session")
def estimate(model):
    "About 1 ± 0.1 on the first model and 3 ± 0.1 on the second, which has another weight."
    with open("log.txt", "a") as stream:
        stream.write(f"{model.info.name}\\n")
    values = np.random.default_rng(0).normal(0, 0.4, 60)
    values += (3 if model.info.name == "bigger" else 1) - values.mean()
    index = pd.Index([f"item{i}" for i in range(60)], name="item")
    labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
    return Estimate("e", "logit", Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels), values)

def test_above(estimate, threshold):
    """Is above two."""
    assert estimate > threshold(2.0)

@pytest.mark.parametrize("limit", [0.5, -1.0])
def test_limits(estimate, limit):
    """Is above a limit."""
    assert estimate > limit
'''


class Audits:
    def __init__(self, pytester: pytest.Pytester, tiny: Path) -> None:
        self.pytester, self.path = pytester, pytester.path
        (pytester.mkdir("suite") / "test_finding.py").write_text(SUITE)
        shutil.copytree(tiny, self.path / "small")
        shutil.copytree(tiny, self.path / "bigger")

    def __call__(self, *args: str) -> pytest.RunResult:
        (self.path / "log.txt").write_text("")
        return self.pytester.runpytest_inprocess("suite", *args)

    def run(self, model: str) -> tuple[Run, Path]:
        folder = sorted((self.path / "reports").glob(f"2*-{model}*"))[-1]
        return read_run(folder), folder


@pytest.fixture
def audits(pytester: pytest.Pytester, tiny_llama: Path) -> Audits:
    return Audits(pytester, tiny_llama)


def without_times(folder: Path) -> dict[str, object]:
    record = json.loads((folder / "audit.json").read_text())
    for key in ("created", "command"):
        record.pop(key)
    for claim in record["claims"]:
        claim.pop("cost")
    return record


def test_each_model_has_the_run_that_it_would_have_alone(audits: Audits) -> None:
    alone = {}
    for model, code in {"small": 1, "bigger": 0}.items():
        assert audits("--model", model).ret == code
        alone[model] = without_times(audits.run(model)[1])
    shutil.rmtree(audits.path / "reports")
    result = audits("-v", "--model", "small", "--model", "bigger")
    assert result.ret == 1, "the worst of the two"
    assert {model: without_times(audits.run(model)[1]) for model in alone} == alone
    assert len(list((audits.path / "reports").glob("2*"))) == 2
    assert (audits.path / "log.txt").read_text() == "small\nbigger\n", "each opened once, one after the other"
    ids = [line.split()[0] for line in result.outlines if "%]" in line]
    assert ids == [f"suite/test_finding.py::{name}" for name in (
        "test_above[small]", "test_limits[0.5-small]", "test_limits[-1.0-small]",
        "test_above[bigger]", "test_limits[0.5-bigger]", "test_limits[-1.0-bigger]",
    )]  # fmt: skip
    result.stdout.fnmatch_lines(
        [
            "*audit of small*",
            "*audit of bigger*",
            "*claims by model*",
            "small           bigger          claim",
            "FAIL            PASS            suite/above",
            "PASS            PASS            suite/limits[[]0.5]",
            "PASS            PASS            suite/limits[[]-1.0]",
            "FAIL            PASS            verdict",
        ]
    )


def test_a_file_of_thresholds_speaks_of_each_model(audits: Audits) -> None:
    (audits.path / "limits.toml").write_text(
        '[default]\n"suite/above" = { threshold = 0.5 }\n[model.bigger]\n"suite/above" = { threshold = 4.0 }'
    )
    assert audits("--model", "small", "--model", "bigger", "--thresholds", "limits.toml").ret == 1
    assert [audits.run(model)[0].claims[0].effect.threshold for model in ("small", "bigger")] == [0.5, 4.0]
    assert [str(audits.run(model)[0].claims[0].verdict) for model in ("small", "bigger")] == ["PASS", "FAIL"]


def test_what_a_kill_left_of_one_model_is_continued_alone(audits: Audits) -> None:
    audits("--model", "small", "--model", "bigger")
    _, folder = audits.run("bigger")
    whole = without_times(folder)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:2]))
    (folder / "audit.json").unlink()
    result = audits("--model", "bigger", "--resume")
    result.stdout.fnmatch_lines(["resuming *: 1 of 3 claims are taken over"])
    assert without_times(folder) == whole


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--resume"], "ERROR: --resume continues one run: *"),
        (["--cross-check", "2"], "ERROR: --cross-check compares the adapters on one model*"),
        (["--model", "small"], "ERROR: --model small is given twice"),
        (["--model", "smoll"], "ERROR: unknown model 'smoll'*"),
    ],
)
def test_what_several_models_do_not_work_with_is_one_line(audits: Audits, args: list[str], line: str) -> None:
    result = audits("--model", "small", "--model", "bigger", *args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([line])
    assert not (audits.path / "reports").exists()


def test_a_second_model_that_cannot_be_opened_leaves_nothing_behind(audits: Audits) -> None:
    (audits.path / "bigger" / "model.safetensors").write_bytes(b"damaged")
    result = audits("--model", "small", "--model", "bigger")
    assert result.ret == 4
    assert len([line for line in result.errlines if line.startswith("ERROR: ")]) == 1
    assert not list((audits.path / "reports").glob("2*"))
    assert (audits.path / "log.txt").read_text() == ""


@pytest.mark.slow
def test_two_workers_take_a_model_each(audits: Audits) -> None:
    pytest.importorskip("xdist", reason="-n belongs to pytest-xdist")
    result = audits("--model", "small", "--model", "bigger", "-n", "3", "-v")
    assert result.ret == 1
    decided = {*re.findall(r"^\[(gw\d)\] .*\b(small|bigger)\]", result.stdout.str(), re.MULTILINE)}
    assert sorted(model for _, model in decided) == ["bigger", "small"], "all claims of a model by one worker"
    assert len({worker for worker, _ in decided}) == 2
    assert {*(audits.path / "log.txt").read_text().split()} == {"bigger", "small"}, (
        "whoever is done helps with either"
    )
    assert [len(audits.run(model)[0].claims) for model in ("small", "bigger")] == [3, 3]
    assert [str(audits.run(model)[0].summary.verdict) for model in ("small", "bigger")] == ["FAIL", "PASS"]
    assert audits.run("small")[0].environment.workers == 3, "one of which only helps"


@pytest.mark.parametrize(
    ("file", "was", "now"),
    [
        ("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 0.1'),
        ("chat_template.jinja", "<|assistant|>", "<|end|>"),
    ],
)
def test_a_model_that_changes_before_its_claims_run_is_an_error(
    audits: Audits, file: str, was: str, now: str
) -> None:
    """Models are opened one after the other; what the plan was made for must be what is measured."""
    changed = audits.path / "bigger" / file
    assert was in changed.read_text()
    (audits.path / "suite" / "conftest.py").write_text(
        "from pathlib import Path\n"
        "import pytest\n"
        '@pytest.fixture(scope="session", autouse=True)\n'
        "def swap(model):\n"
        f"    file = Path({str(changed)!r})\n"
        f"    file.write_text(file.read_text().replace({was!r}, {now!r}))\n"
    )
    assert audits("--model", "small", "--model", "bigger").ret == 1, (
        "the first model fails, and its code goes first"
    )
    assert audits.run("bigger")[0].summary.verdict is Verdict.ERROR
    said = "the model bigger has changed since the run began: its weights, config, tokenizer or template"
    assert all(said in claim.reason for claim in audits.run("bigger")[0].claims)
    assert all(said not in claim.reason for claim in audits.run("small")[0].claims)


@pytest.mark.parametrize(
    ("limits", "breaks", "args", "codes", "code"),
    [
        ({"small": 2.0}, "bigger", (), {"small": 1, "bigger": 11}, 1),
        ({"bigger": 4.0}, "small", (), {"small": 11, "bigger": 1}, 1),
        ({"small": 1.0}, "bigger", ("--profile", "release"), {"small": 10, "bigger": 11}, 11),
        ({"small": 2.0, "bigger": 3.0}, "", ("--profile", "release"), {"small": 1, "bigger": 10}, 1),
        ({}, "bigger", (), {"small": 0, "bigger": 11}, 11),
    ],
)
def test_the_worst_of_the_runs_is_the_code_of_the_session(
    audits: Audits,
    limits: dict[str, float],
    breaks: str,
    args: tuple[str, ...],
    codes: dict[str, int],
    code: int,
) -> None:
    """In the order of docs/contracts.md: 1, then 11, then 10, then 0, whichever model comes first."""
    file = audits.path / "suite" / "test_finding.py"
    body = f"    1 / 0 if model.info.name == {breaks!r} else None\n    assert estimate > threshold(0.5)\n"
    file.write_text(
        SUITE.partition("def test_above")[0]
        + f'def test_above(estimate, threshold, model):\n    """Is above a limit."""\n{body}'
    )
    (audits.path / "limits.toml").write_text(
        "".join(f'[model.{name}]\n"suite/above" = {{ threshold = {limit} }}\n' for name, limit in limits.items())
    )
    result = audits("--model", "small", "--model", "bigger", "--thresholds", "limits.toml", *args)
    runs = {model: audits.run(model)[0] for model in codes}
    assert {model: exit_code(run.summary, run.profile) for model, run in runs.items()} == codes
    assert result.ret == code
