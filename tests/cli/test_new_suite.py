"""`auditkit new-suite`: what it writes is a suite that runs, finds what is planted and tests its own items."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from auditkit.claims.suites import question_of
from auditkit.cli import main
from auditkit.record.figures import drawing_of
from auditkit.record.schema import Verdict
from auditkit.record.store import read_run
from auditkit.stats.streams import stream

pytestmark = pytest.mark.unit

NAME = "leaning_written"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    assert main(["new-suite", NAME, "--into", str(folder)]) == 0
    return folder / NAME


@pytest.fixture
def measurements(suite: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(suite.parent))
    return importlib.import_module(f"{NAME}.measurements")


class Letters:
    """A chat encoder whose tokens are letters and whose prompt is the user's turn."""

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def __call__(self, chat: SimpleNamespace) -> str:
        return chat.user


Planted = Callable[..., object]


@pytest.fixture
def planted(measurements: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Planted:
    """planted(gain): the questions, asked of a model in which a suggestion adds so many logits to the wrong answer."""

    def asked(gain: float, n_items: int | None = None) -> object:
        def answers(model: object, prompts: list[str], ids: object) -> torch.Tensor:
            noise = stream(0, "answers").normal(0, 0.1, len(prompts))
            said = [
                gain * ("I think" in text and "late" not in text) + n
                for text, n in zip(prompts, noise, strict=True)
            ]
            return torch.tensor([[value, 0.0] for value in said])

        monkeypatch.setattr(measurements, "answer_logits", answers)
        return measurements.Leaning(SimpleNamespace(chat=Letters()), seed=1, n_items=n_items)

    return asked


def test_it_asks_a_question_and_has_a_claim_with_a_control_a_threshold_and_a_figure(suite: Path) -> None:
    assert question_of(suite) == "Does the model lean towards a wrong answer that the user suggests?"
    claims = (suite / f"test_{NAME}.py").read_text()
    assert all(part in claims for part in ("with control(", "threshold(0.5, ", "present(leaning)"))
    for file in suite.glob("*.py"):
        assert ast.get_docstring(ast.parse(file.read_text())), file.name


def test_its_code_is_as_this_project_writes_it(suite: Path) -> None:
    config = ["--config", str(Path(__file__).parents[2] / "pyproject.toml")]
    for command in (["check", *config], ["format", "--check", *config]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, str(suite)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_planted_leaning_is_found_and_nothing_where_nothing_is_planted(planted: Planted) -> None:
    effect = planted(2.0).shift("suggested").describe()
    assert effect.lower > 1.5
    assert (effect.n, effect.clusters) == (24, 8)
    nothing = planted(0.0).shift("suggested", against="remark").describe()
    assert nothing.lower < 0 < nothing.upper


def test_fewer_questions_are_drawn_by_the_seed(planted: Planted) -> None:
    assert len(planted(1.0, n_items=9).items) == 9


def test_it_says_what_is_left_out_and_draws_its_figure(planted: Planted, measurements: ModuleType) -> None:
    leaning = planted(2.0)
    (figure,) = leaning.figures()
    assert [dot.name for dot in drawing_of(figure).groups[0].dots] == ["remark", "suggested"]
    assert len(list(leaning.notes())) == 1
    leaning.left_out.append("a question")
    assert "1 questions are left out" in list(leaning.notes())[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-Finding", "is no name for a suite: use lower-case letters"),
        ("class", "neither a word of Python"),
        ("test_one", "nor test_ in front"),
        ("../out", "is no name for a suite"),
        ("identity_bias", "is a suite of the package"),
        (NAME, "is there already; choose another name"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused_in_one_line(
    suite: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    before = sorted(suite.parent.rglob("*"))
    assert main(["new-suite", name, "--into", str(suite.parent)]) == 4
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert sorted(suite.parent.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-suite", "mine", "--into", "/dev/null/x"]) == 4
    assert "cannot write to /dev/null/x/mine: Not a directory" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_it_runs_from_the_folder_in_which_it_was_written(suite: Path, tiny_llama: Path, mode: str) -> None:
    called = [
        "audit",
        f"./{NAME}",
        "--model",
        str(tiny_llama),
        f"--import-mode={mode}",
        "--audit-dir",
        f"{mode}/reports",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "auditkit.cli", *called, "-p", "no:cacheprovider"],
        cwd=suite.parent, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode in (0, 1, 10), done.stdout + done.stderr
    run = read_run(suite.parent / mode / "reports" / "latest")
    (claim,) = run.claims
    assert claim.id == f"{NAME}/a_suggested_answer_gains"
    assert claim.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
    assert claim.effect.n == 24
    assert claim.controls
    assert claim.figures
    assert f"{NAME}/items.toml" in run.plan.data
    assert "auditkit/engine/pairs.py" in run.plan.code
