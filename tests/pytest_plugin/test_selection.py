"""What is not run is untested, whoever left it out, and never an ERROR; the exit code is that of what ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditkit.pytest_plugin.selection import elsewhere, groups, parts
from auditkit.record.schema import Run
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

FIRST = '''"""A finding."""

def test_holds(estimate):
    """Holds."""
    assert estimate(1.0) > 0.5

def test_fails(estimate):
    """Fails."""
    assert estimate(1.0) > 2.0

class TestMore:
    def test_holds_too(self, estimate):
        """Holds, too."""
        assert estimate(1.0) > 0.5
'''
SECOND = '''"""Another finding."""

def test_second(estimate):
    """Holds in a file of its own."""
    assert estimate(1.0) > 0.5
'''
CONFTEST = """
import pytest
import numpy as np
import pandas as pd
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

@pytest.fixture
def estimate(model):
    def make(centre):
        values = np.random.default_rng(0).normal(0, 0.4, 60)
        values += centre - values.mean()
        index = pd.Index([f"item{i}" for i in range(60)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i % 15}" for i in range(60)]}, index=index)
        measurement = Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels)
        return Estimate("e", "logit", measurement, values)
    return make
"""
ALL = {"suite/holds", "suite/fails", "suite/holds_too", "suite/second"}


@pytest.fixture
def audit(pytester: pytest.Pytester, tiny_llama: Path) -> Callable[..., tuple[pytest.RunResult, Run]]:
    suite = pytester.mkdir("suite")
    for name, text in (("conftest", CONFTEST), ("test_first", FIRST), ("test_second", SECOND)):
        (suite / f"{name}.py").write_text(text)
    (suite / "test_plain.py").write_text("def test_plain():\n    pass\n")
    (suite / "test_empty.py").write_text("")
    pytester.makeini("[pytest]")

    def run(*args: str, paths: tuple[str, ...] = ("suite",)) -> tuple[pytest.RunResult, Run]:
        result = pytester.runpytest_inprocess(*paths, "--model", str(tiny_llama), *args)
        return result, read_run(pytester.path / "reports" / "latest")

    return run


def measured(run: Run) -> set[str]:
    return {claim.id for claim in run.claims}


def untested(run: Run) -> set[str]:
    """Claims and files of the suite that the record says were not tested."""
    return {entry.what for entry in run.untested if entry.what.startswith("suite/")}


NODES = {
    "suite/holds": "suite/test_first.py::test_holds",
    "suite/fails": "suite/test_first.py::test_fails",
    "suite/holds_too": "suite/test_first.py::TestMore::test_holds_too",
    "suite/second": "suite/test_second.py::test_second",
}


@pytest.mark.parametrize(
    ("args", "paths", "kept", "code"),
    [
        (["-k", "holds"], ["suite"], {"suite/holds", "suite/holds_too"}, 0),
        (["--deselect", "suite/test_first.py::test_fails"], ["suite"], ALL - {"suite/fails"}, 0),
        ([], ["suite/test_first.py::test_holds"], {"suite/holds"}, 0),
        ([], ["suite/test_first.py::TestMore"], {"suite/holds_too"}, 0),
    ],
)
def test_a_selection_on_the_command_line(
    audit: Any, args: list[str], paths: list[str], kept: set[str], code: int
) -> None:
    result, run = audit(*args, paths=tuple(paths))
    assert (result.ret, measured(run)) == (code, kept)
    left = {NODES[name] for name in ALL - kept}
    if paths != ["suite"]:  # files that the command line does not name are not read, so they stand there as files
        left = {node.removesuffix("::test_holds_too") for node in left if "test_first" in node}
        left |= {"suite/test_second.py", "suite/test_plain.py", "suite/test_empty.py"}
    assert untested(run) == left


def test_a_file_that_its_suite_leaves_out_was_among_the_paths(audit: Any, pytester: pytest.Pytester) -> None:
    ignoring = (
        "def pytest_ignore_collect(collection_path):\n    return collection_path.name == 'test_second.py' or None"
    )
    (pytester.path / "suite" / "conftest.py").write_text(f"{CONFTEST}\n\n{ignoring}\n")
    _, run = audit()
    (entry,) = [entry for entry in run.untested if entry.what == "suite/test_second.py"]
    assert (
        entry.reason
        == "the file was not read: its suite, or an option such as --ignore, leaves it out of this run"
    )


def test_the_last_failed_alone(audit: Any) -> None:
    """`--lf` leaves claims of a file out before anybody sees them, and does not read the other files."""
    result, run = audit()
    assert (result.ret, measured(run), untested(run)) == (1, ALL, set())
    result, run = audit("--lf")
    assert (result.ret, measured(run)) == (1, {"suite/fails"})
    assert untested(run) == {
        NODES["suite/holds"], NODES["suite/holds_too"],
        "suite/test_second.py", "suite/test_plain.py", "suite/test_empty.py",
    }  # fmt: skip
    assert run.summary.error == 0
    assert {entry.reason for entry in run.untested if entry.what == "suite/test_second.py"} == {
        "the file was not read: skipped by --lf"
    }


def test_the_last_failed_first(audit: Any) -> None:
    audit()
    result, run = audit("--ff")
    assert (result.ret, measured(run), untested(run)) == (1, ALL, set())
    assert run.claims[0].id == "suite/fails"


@pytest.mark.parametrize("told", ["config.hook.pytest_deselected(items=left)", "pass"])
@pytest.mark.parametrize("when", ["tryfirst=True", "trylast=True", "wrapper=True, tryfirst=True"])
def test_a_plugin_that_takes_its_part_of_the_tests(
    audit: Any, pytester: pytest.Pytester, told: str, when: str
) -> None:
    """As pytest-split and others do, early or late, and whether or not they say what they left out."""
    wait = "(yield)" if "wrapper" in when else "None"
    pytester.makeconftest(f"""
        import pytest

        @pytest.hookimpl({when})
        def pytest_collection_modifyitems(config, items):
            result = {wait}
            left = [item for item in items if "fails" not in item.name]
            items[:] = [item for item in items if "fails" in item.name]
            {told}
            return result
    """)
    result, run = audit()
    assert (result.ret, measured(run)) == (1, {"suite/fails"})
    assert untested(run) == {NODES[name] for name in ALL - {"suite/fails"}}


@pytest.mark.parametrize(
    "args", [["-x"], ["--maxfail", "1"], ["--stepwise"], pytest.param(["-x", "-n", "1"], marks=pytest.mark.slow)]
)
def test_a_run_that_ends_at_its_first_failure(audit: Any, args: list[str]) -> None:
    result, run = audit(*args)
    assert (result.ret, measured(run)) == (1, {"suite/holds", "suite/fails"})
    assert run.summary.error == 0
    assert {"suite/holds_too", "suite/second"} == untested(run)
    assert all(entry.reason.startswith("not reached: ") for entry in run.untested if entry.what == "suite/second")


def test_stepwise_goes_on_where_it_ended(audit: Any) -> None:
    audit("--stepwise")
    result, run = audit("--stepwise-skip")
    assert (result.ret, measured(run)) == (1, ALL - {"suite/holds"})
    assert untested(run) == {NODES["suite/holds"]}


def test_a_path_that_is_not_there_is_what_pytest_says_of_it(
    audit: Any, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the commands here are no workers
    audit("-k", "second")
    before = set((pytester.path / "reports").iterdir())
    result, _ = audit(paths=("suite", "nowhere"))
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: file or directory not found: nowhere"])
    result.stderr.no_fnmatch_line("*no claim to measure*")
    (mark,) = set((pytester.path / "reports").iterdir()) - before
    assert mark.name.startswith(".begun-"), "nothing but the mark of a command that has begun"


SHARING = """
import pytest

@pytest.fixture(scope="session")
def questions(model): ...
@pytest.fixture(scope="package")
def answers(questions): ...
@pytest.fixture(scope="package")
def heads(questions): ...
@pytest.fixture(scope="package")
def edits(heads): ...
@pytest.fixture
def beside(answers): ...
"""
SHARED = '''"""A finding."""
def test_answers(answers): ...
def test_edits(edits): ...
def test_more_answers(beside, threshold): ...
def test_asked(questions): ...
def test_heads(heads): ...
def test_asked_too(questions, threshold): ...
'''


def test_claims_that_share_a_measurement_are_one_part(pytester: pytest.Pytester) -> None:
    """All build on the questions, which joins only those that name them."""
    folder = pytester.mkdir("suite")
    (folder / "conftest.py").write_text(SHARING)
    (folder / "test_it.py").write_text(SHARED)
    items, _ = pytester.inline_genitems("suite")
    divided = [[item.name.removeprefix("test_") for item in part] for part in groups(items)]
    assert divided == [["answers", "more_answers"], ["edits", "heads"], ["asked", "asked_too"]]

    def own(which: int, number: int, tokens: int | None = None) -> set[str]:
        left = elsewhere(items, which, number, {"suite": tokens})
        return {item.name.removeprefix("test_") for item in items if item not in left}

    assert own(1, 1) == {item.name.removeprefix("test_") for item in items}
    for tokens in (None, 1000):
        found = [own(which, 3, tokens) for which in (1, 2, 3)]
        assert sorted(map(sorted, found)) == sorted(map(sorted, divided))
    assert own(1, 2) | own(2, 2) == own(1, 1)
    assert not own(1, 2) & own(2, 2)
    with pytest.raises(pytest.UsageError, match="consist of 3 such parts; use at most 3 shards"):
        own(1, 4)


def test_a_suite_stays_whole_while_it_is_no_more_than_a_shards_share(pytester: pytest.Pytester) -> None:
    for name in ("large", "small", "tiny"):
        folder = pytester.mkdir(name)
        (folder / "conftest.py").write_text(SHARING)
        (folder / f"test_{name}.py").write_text(SHARED)
    items, _ = pytester.inline_genitems("large", "small", "tiny")

    def suites(which: int, number: int, tokens: dict[str, int | None]) -> list[str]:
        left = elsewhere(items, which, number, tokens)
        return sorted({item.path.parent.name for item in items if item not in left})

    even: dict[str, int | None] = {"large": 200, "small": 100, "tiny": 100}
    assert [suites(which, 2, even) for which in (1, 2)] == [["large"], ["small", "tiny"]]
    uneven: dict[str, int | None] = {"large": 900, "small": 50, "tiny": 0}
    assert [suites(which, 2, uneven) for which in (1, 2)] == [["large"], ["large", "small", "tiny"]]

    def named(number: int, tokens: dict[str, int | None]) -> list[tuple[str, int, float]]:
        found = parts(items, number, tokens)
        return [(part.claims[0].path.parent.name, len(part.claims), round(part.load, 6)) for part in found]

    assert named(2, even) == [("large", 6, 200), ("small", 6, 100), ("tiny", 6, 100)]
    assert named(2, uneven) == [*[("large", 2, 300.0)] * 3, ("small", 6, 50.0), ("tiny", 6, 0.0)], (
        "the largest first"
    )
    apart = parts(items, 2, even, lambda item: item.name)
    assert [len(part.claims) for part in apart] == [1] * 18, "claims on different models share nothing"
