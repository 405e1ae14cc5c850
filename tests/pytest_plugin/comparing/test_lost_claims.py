"""Ways to lose a claim that the baseline has values for: each blocks a release, under the claim's name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from days import in_days

from auditkit.claims.verdicts import blocks, exit_code, summarize
from auditkit.cli import main
from auditkit.record.schema import Verdict
from auditkit.record.store import read_run
from auditkit.report.files.markdown import text

pytestmark = pytest.mark.unit

FILE = '''"""A finding."""
import pytest
from auditkit import NotApplicable, NotAsked, Unsupported

def test_NAME(estimate):
    """Is above a limit."""
    assert estimate("NAME") > 0.5
'''


@dataclass(frozen=True)
class Way:
    """A way to lose the claim `suite/NAME`, whose test is the only one of its file."""

    name: str
    edit: Callable[[str], str] = str
    """The file's text in the baseline -> in the candidate's run; empty: the file is deleted."""
    options: tuple[str, ...] = ()
    ini: str = ""
    environment: str = ""
    """Options in PYTEST_ADDOPTS."""
    conftest: str = ""
    folder: str = "suite"
    verdict: Verdict = Verdict.INCONCLUSIVE
    said: str = "this run did not measure it: no such claim was collected"
    more: dict[str, str] = field(default_factory=dict)
    """Further files of the candidate's run: path -> text."""

    @property
    def claim(self) -> str:
        return f"{self.folder}/{self.name}"


def body(line: str) -> Callable[[str], str]:
    """Put a line in front of the comparison."""
    return lambda text: text.replace("    assert", f"    {line}\n    assert")


def mark(line: str) -> Callable[[str], str]:
    """Put a line in front of the test."""
    return lambda text: text.replace("def test_", f"{line}\ndef test_")


def top(line: str) -> Callable[[str], str]:
    """Put a line in front of the file's imports."""
    return lambda text: text.replace("import pytest\n", f"import pytest\n{line}\n", 1)


def parametrized(values: str) -> Callable[[str], str]:
    """Give the test a parameter."""
    line = f'@pytest.mark.parametrize("p", {values})\ndef '
    return lambda text: text.replace("(estimate)", "(estimate, p)").replace("def ", line, 1)


def indented(text: str) -> str:
    """Put the test into a class whose name pytest does not collect."""
    above, test = text.split("def ", 1)
    lines = f"def {test}".replace("(estimate)", "(self, estimate)").splitlines()
    return above + "class Checks:\n" + "".join(f"    {line}\n" for line in lines)


DESELECTED = "this run did not measure it: not selected"
UNREAD = "the candidate has none"

WAYS = (
    Way("deleted", lambda _: ""),
    Way("renamed", lambda text: text.replace("test_renamed", "test_another_name")),
    Way("no_longer_a_test", lambda text: text.replace("def test_", "def check_")),
    Way("another_id", mark('@pytest.mark.claim(id="suite/of_another_name")')),
    Way("without_the_model", lambda text: text.replace("(estimate)", "()").replace("assert est", "assert 1 or est")),
    Way("another_parameter", parametrized('["one", "two"]')),
    Way("no_parameters", parametrized("[]")),
    Way("commented_out", lambda text: text.replace("\ndef ", "\n#def ").replace("\n    ", "\n#    ")),
    Way("not_collected", lambda text: f"{text}\ntest_not_collected.__test__ = False\n"),
    Way("module_without_tests", lambda text: f"__test__ = False\n{text}\ndel test_module_without_tests\n"),
    Way("in_a_class_that_is_none", indented),
    Way("shadowed", lambda text: f'{text}\ntest_shadowed = None\n'),
    Way("file_skipped", top('pytest.skip("not today", allow_module_level=True)')),
    Way("import_or_skip", top('pytest.importorskip("a_package_that_nobody_has")')),
    Way("left_out_by_k", options=("-k", "not left_out_by_k"), said=DESELECTED),
    Way("left_out_by_mark", mark("@pytest.mark.tedious"), options=("-m", "not tedious"), said=DESELECTED),
    Way("deselected", options=("--deselect", "suite/test_deselected.py"), said=DESELECTED),
    Way("ignored", options=("--ignore", "suite/test_ignored.py")),
    Way("ignored_by_glob", options=("--ignore-glob", "*by_glob.py")),
    Way("left_out_by_ini", ini="--deselect suite/test_left_out_by_ini.py", said=DESELECTED),
    Way("left_out_by_environment", environment="--deselect suite/test_left_out_by_environment.py", said=DESELECTED),
    Way("ignored_by_conftest", conftest='collect_ignore = ["test_ignored_by_conftest.py"]'),
    Way("globbed_by_conftest", conftest='collect_ignore_glob = ["*_globbed_by_*.py"]'),
    Way("hook_of_files", conftest='''
def pytest_ignore_collect(collection_path):
    return True if collection_path.name == "test_hook_of_files.py" else None
'''),
    Way("hook_of_items", said=DESELECTED, conftest='''
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if item.name != "test_hook_of_items"]
'''),
    Way("fixture_overridden", folder="nested", more={"nested/conftest.py": '''
import pytest
from suite_conftest import *

@pytest.fixture
def estimate():
    return lambda name: 1.0
'''}),
    Way("model_overridden", folder="other", more={"other/conftest.py": '''
import pytest
from suite_conftest import *

@pytest.fixture
def model():
    class Model: info = type("Info", (), {"name": "another"})
    return Model()

@pytest.fixture
def audit():
    return type("Settings", (), {"seed": 0})
'''}),
    Way("skip_mark", mark('@pytest.mark.skip(reason="flaky")'), said=UNREAD),
    Way("skip_if", mark('@pytest.mark.skipif(True, reason="no accelerator")'), said=UNREAD),
    Way("skip_in_body", body('pytest.skip("not today")'), said=UNREAD),
    Way("incapable", body('raise Unsupported("attention cannot be read")'), said=UNREAD),
    Way("not_asked", body('raise NotAsked("this run does not ask it")'), said=UNREAD),
    Way("not_applicable", body('raise NotApplicable("at chance")'), said=UNREAD),
    Way("expected_to_fail", mark('@pytest.mark.xfail(run=False, reason="later")'), verdict=Verdict.ERROR, said=""),
    Way("compares_nothing", lambda text: text.replace("assert ", "").replace(" > 0.5", ""), said="",
        verdict=Verdict.ERROR),
    Way("returns_early", body("return"), verdict=Verdict.ERROR, said=""),
    Way("broken", body('raise RuntimeError("out of memory")'), verdict=Verdict.ERROR, said=""),
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lost")


@pytest.fixture
def lost(audits: Any, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of one run that loses every claim of the table at once, and keeps one; made once."""
    found = shared / "run"
    if found.exists():
        return found
    lay_out(audits)
    assert audits("nested", "other", "--audit-dir", str(shared / "reports")).ret == 0
    for way in WAYS:
        lose(audits.path, way)
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(way.environment for way in WAYS))
    options = [option for way in WAYS for option in way.options]
    audits.pytester.makeini(f"[pytest]\nmarkers = tedious\naddopts = {' '.join(way.ini for way in WAYS)}\n")
    baseline = ("--baseline", str(shared / "reports" / "latest"), "--profile", "release")
    result = audits("nested", "other", *baseline, *options)
    shutil.copytree(audits.folder, found)
    (found / "said.txt").write_text(result.stdout.str() + f"\nexit code {int(result.ret)}")
    return found


def lay_out(audits: Any) -> None:
    """One file per claim, and one of a claim that stays."""
    (audits.suite / "test_finding.py").write_text(FILE.replace("NAME", "that_stays"))
    code = (audits.suite / "conftest.py").read_text()
    audits.pytester.makepyfile(suite_conftest=code.replace("import json", "import json", 1))
    audits.pytester.syspathinsert()
    for way in WAYS:
        folder = audits.path / way.folder
        if not folder.exists():
            folder.mkdir()
            (folder / "conftest.py").write_text(code)
        (folder / f"test_{way.name}.py").write_text(FILE.replace("NAME", way.name))


def lose(root: Path, way: Way) -> None:
    file = root / way.folder / f"test_{way.name}.py"
    text = way.edit(file.read_text())
    file.write_text(text) if text else file.unlink()
    conftest = root / way.folder / "conftest.py"
    conftest.write_text(conftest.read_text() + f"\n{way.conftest}\n")
    for name, more in way.more.items():
        (root / name).write_text(more)


def test_the_table_has_at_least_twenty_five_ways() -> None:
    assert len({way.claim for way in WAYS}) == len(WAYS) >= 25


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_lost_claim_blocks_a_release_by_its_name(lost: Path, way: Way) -> None:
    run = read_run(lost)
    claim = next(claim for claim in run.claims if claim.id == way.claim)
    kept = next(claim for claim in run.claims if claim.id == "suite/that_stays")
    assert (kept.verdict, claim.verdict) == (Verdict.PASS, way.verdict)
    assert way.said in claim.reason
    assert blocks(claim, "release")
    assert exit_code(summarize([kept, claim]), "release") in (10, 11)
    comment, said = (lost / "comment.md").read_text(), (lost / "said.txt").read_text()
    assert text(way.claim if claim.lack == "not measured" else claim.reason) in comment
    assert way.claim in said
    cases = {case.get("name"): case for case in ET.parse(lost / "junit.xml").iter("testcase")}
    case = cases[way.claim] if way.claim in cases else cases[way.name]
    assert case.find("failure") is not None or case.find("error") is not None


def test_the_run_as_a_whole_ends_with_the_code_of_its_worst_claim(lost: Path) -> None:
    assert (lost / "said.txt").read_text().endswith("exit code 11")


def test_diff_says_the_same_of_a_lost_claim_as_the_gate(
    lost: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shared)
    assert main(["diff", str(shared / "reports" / "latest"), str(lost)]) == 10
    said = capsys.readouterr().out
    gone = [way.claim for way in WAYS if way.said.startswith("this run did not measure")]
    assert [claim for claim in gone if claim not in said] == []


def test_a_lost_claim_is_waived_by_its_name_and_the_waiver_is_shown_first(audits: Any, recorded: Path) -> None:
    """Of a claim that is not even collected: the baseline has its name."""
    audits.plant(shift=-0.1)  # a candidate that is the baseline itself would leave another claim undecided
    gate = ("--baseline", str(recorded), "--profile", "release", "-o", "python_functions=test_once test_kept")
    result = audits(*gate)
    assert result.ret == 10
    result.stdout.fnmatch_lines(["INCONCLUSIVE  suite/share", " * the baseline has values for this claim*"])
    day = in_days(30)
    waiver = f'claim = "suite/share"\nowner = "Jo"\nreason = "moved to another suite"\nexpires = {day}\n'
    (audits.path / "waivers.toml").write_text(f"[[waiver]]\n{waiver}")
    result = audits(*gate, "--waivers", "waivers.toml")
    assert result.ret == 0
    assert [(w.claim, w.state) for w in audits.run.waivers] == [("suite/share", "applied")]
    said = "looser than the baseline: suite/share: a waiver that the baseline did not have, by Jo until"
    result.stdout.fnmatch_lines([f"*{said} {day}"])
    assert said in (audits.folder / "comment.md").read_text()
    assert f"{said} {day}" in (audits.folder / "audit.html").read_text()
    claim = audits.claim("share")
    assert (claim.lack, claim.change.verdict, audits.run.baseline.absent) == (
        "not measured",
        Verdict.PASS,
        {"suite/share": Verdict.PASS},
    )


def test_a_looser_threshold_from_a_file_is_shown_first(audits: Any, recorded: Path) -> None:
    (audits.path / "limits.toml").write_text('[default]\n"suite/once" = { threshold = 0.4 }\n')
    result = audits("--baseline", str(recorded), "--thresholds", "limits.toml")
    result.stdout.fnmatch_lines(
        ["*looser than the baseline: suite/once: 'effect' > 0.4 (limits.toml [[]default]), *> 0.5"]
    )
    assert "looser than the baseline: suite/once" in (audits.folder / "comment.md").read_text()
