"""Plans: what changes one, and what cuts a claim off from its past."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from auditkit.record.differences import (
    claim_digest,
    data_digests,
    differences,
    not_comparable,
    plan_digest,
    shared_digest,
)
from auditkit.record.schema import ModelInfo, Plan, Run

pytestmark = pytest.mark.unit

CODE = '''"""A finding."""
LIMIT = 0.5

def helper():
    return LIMIT

def test_one(estimate):
    """One."""
    assert estimate > helper()

def test_two(estimate):
    """Two."""
    assert estimate > 1

class TestMore:
    def test_one(self, estimate):
        """One more."""
        assert estimate > 2
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "test_a.py").write_text(CODE)
    return tmp_path / "suite" / "test_a.py"


def digest(file: Path, name: str = "test_one") -> str:
    return claim_digest(file, name, "One.", "shared")


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("assert estimate > 1", "assert estimate > 7", True),
        ("class TestMore", "class TestLess", True),
        ("    return LIMIT", "    return (  LIMIT )  # half", True),
        ("def test_two", "def test_three", True),
        ("LIMIT = 0.5", "LIMIT = 0.4", False),
        ("helper():\n    return LIMIT", "helper():\n    return 2 * LIMIT", False),
        ("assert estimate > helper()", "assert estimate >= helper()", False),
        ('"""One."""', '"""Another."""', False),
        ('"""A finding."""', '"""Somebody else 2021."""', False),
    ],
)
def test_a_claim_depends_on_its_own_code_and_what_it_can_call(file: Path, old: str, new: str, same: bool) -> None:
    before = digest(file)
    file.write_text(CODE.replace(old, new, 1))
    assert file.read_text() != CODE
    assert (digest(file) == before) is same


def test_claims_of_one_name_in_and_out_of_a_class_differ(file: Path) -> None:
    assert digest(file) != digest(file, "TestMore.test_one")
    before = digest(file, "TestMore.test_one")
    file.write_text(CODE.replace("> 2", "> 3"))
    assert digest(file, "TestMore.test_one") != before


def test_what_is_no_python_is_digested_as_it_is(file: Path) -> None:
    file.write_bytes(b"def broken(:\n\x00")
    before = digest(file)
    file.write_bytes(b"def broken(: \n\x00")
    assert digest(file) != before


def test_a_suite_shares_its_modules_and_every_conftest_above_it(file: Path, tmp_path: Path) -> None:
    def shared() -> str:
        return shared_digest(file.parent, tmp_path)

    seen = [shared()]
    for path in (file.parent / "helper.py", file.parent / "conftest.py", tmp_path / "conftest.py"):
        path.write_text("x = 1\n")
        seen.append(shared())
    assert len(set(seen)) == 4
    (tmp_path / "other.py").write_text("x = 1\n")
    (file.parent / "test_b.py").write_text("x = 1\n")
    assert shared() == seen[-1]


def test_data_are_named_after_their_suite(file: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "words.csv").write_text("a")
    (file.parent / "prompts.json").write_text("[]")
    (file.parent / "notes.md").write_text("not data")
    (tmp_path / "own" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "own" / "deep" / "er" / "more.toml").write_text("a = 1")
    (file.parent / "lists").mkdir()
    (file.parent / "lists" / "names.txt").write_text("Ann")
    found = data_digests(tmp_path / "own", [file.parent, file.parent])
    assert list(found) == [
        "auditkit/deep/er/more.toml", "auditkit/words.csv", "suite/lists/names.txt", "suite/prompts.json"
    ]  # fmt: skip
    assert all(len(value) == 64 for value in found.values())


@pytest.mark.parametrize("beside", ["inner/test_b.py", "inner/conftest.py", "run/audit.json", "env/pyvenv.cfg"])
def test_reports_environments_and_other_suites_below_a_suite_are_none_of_its_data(
    file: Path, tmp_path: Path, beside: str
) -> None:
    (tmp_path / "own").mkdir()
    for name in (
        beside,
        f"{Path(beside).parent}/x.json",
        ".hidden/x.json",
        "__pycache__/x.json",
        "reports/x.json",
    ):
        (file.parent / name).parent.mkdir(exist_ok=True)
        (file.parent / name).write_text("{}")
    assert data_digests(tmp_path / "own", [file.parent], file.parent / "reports") == {}


PLAN = Plan(
    claims={"suite/a": "1", "suite/b": "2"},
    thresholds={"[default] suite/a#1": "0.3 (x)"},
    data={"auditkit/words.csv": "3", "suite/p.csv": "4", "other/q.csv": "5"},
    code={"auditkit/methods/p.py": "6", "auditkit/methods/q.py": "7", "auditkit/engine/e.py": "8"},
    methods={"suite": ("auditkit/methods/p.py",), "other": ("auditkit/methods/q.py",)},
    settings={"seed": "0", "items": "None", "alpha": "0.05", "dtype": "auto"},
    versions={"auditkit": "1", "torch": "2"},
)


def changed(**fields: dict[str, Any]) -> Plan:
    return msgspec.structs.replace(PLAN, **{name: getattr(PLAN, name) | new for name, new in fields.items()})


@pytest.fixture(scope="session")
def model(a_run: Run) -> ModelInfo:
    return a_run.model


@pytest.mark.parametrize(
    ("now", "lines", "reason"),
    [
        (PLAN, [], ""),
        (changed(claims={"suite/a": "9"}), ["claims changed (statement or code): suite/a"], "statement or code"),
        (changed(claims={"suite/b": "9"}), ["claims changed (statement or code): suite/b"], ""),
        (changed(claims={"suite/c": "9"}), ["claims added: suite/c"], ""),
        (changed(thresholds={"[default] suite/a#1": "0.4 (x)"}),
         ["threshold [default] suite/a#1 was 0.3 (x), is 0.4 (x)"], ""),
        (changed(data={"auditkit/words.csv": "9"}),
         ["data file auditkit/words.csv has other content"], "other data: auditkit/words.csv"),
        (changed(data={"suite/new.csv": "9"}), ["data file suite/new.csv is new"], "other data: suite/new.csv"),
        (changed(data={"other/q.csv": "9"}), ["data file other/q.csv has other content"], ""),
        (changed(code={"auditkit/methods/p.py": "9"}), ["method auditkit/methods/p.py has other code"],
         "other code of the methods it calls: auditkit/methods/p.py"),
        (changed(code={"auditkit/methods/q.py": "9"}), ["method auditkit/methods/q.py has other code"], ""),
        (changed(code={"auditkit/methods/r.py": "9"},
                 methods={"suite": ("auditkit/methods/p.py", "auditkit/methods/r.py")}),
         ["method auditkit/methods/r.py is new"], ""),
        (changed(code={"auditkit/engine/e.py": "9", "auditkit/stats/s.py": "9"}),
         ["engine, adapters or statistics have other code: auditkit/engine/e.py, auditkit/stats/s.py"], ""),
        (changed(settings={"seed": "1"}), ["seed was 0, is 1"], "seed: 0 there, 1 here"),
        (changed(settings={"effort": "quick"}), ["effort was not given, is quick"],
         "effort: standard there, quick here"),
        (changed(data={"auditkit/gate/reference.json": "9"}),
         ["data file auditkit/gate/reference.json is new"], ""),
        (changed(settings={"dtype": "float32"}), ["dtype was auto, is float32"], ""),
        (changed(versions={"auditkit": "2"}),
         ["version of auditkit was 1, is 2"], "measured by auditkit 1 there, 2 here"),
        (changed(versions={"torch": "3"}), ["version of torch was 2, is 3"], ""),
    ],
)  # fmt: skip
def test_differences_are_said_and_those_that_change_the_question_forbid_subtracting(
    model: ModelInfo, now: Plan, lines: list[str], reason: str
) -> None:
    assert list(differences(PLAN, now)) == lines
    assert (plan_digest(now) == plan_digest(PLAN)) == (not lines)
    said = not_comparable("suite/a", "suite", PLAN, model, now, model)
    assert (reason in said) if reason else said == ""


def test_two_models_may_differ_in_everything_but_number_type_and_adapter(model: ModelInfo) -> None:
    other = msgspec.structs.replace(model, weights_sha256="x", family="gpt2", layers=9, device="cuda")
    assert not_comparable("suite/a", "suite", PLAN, model, PLAN, other) == ""
    other = msgspec.structs.replace(model, dtype="bfloat16", adapter="nnterp")
    said = not_comparable("suite/a", "suite", PLAN, model, PLAN, other)
    assert said == "dtype: float32 there, bfloat16 here; adapter: hf there, nnterp here"


def test_other_rendered_prompts_forbid_subtracting_what_was_asked_as_a_chat(model: ModelInfo) -> None:
    """Whatever the templates are: two that write the same text of a chat ask the same."""
    was = msgspec.structs.replace(
        model, rendered_sha256="a" * 64, chat_template_sha256="x", template_date="2024-07-26"
    )
    same = msgspec.structs.replace(was, chat_template_sha256="y")
    assert not_comparable("suite/a", "suite", PLAN, was, PLAN, same) == ""
    other = msgspec.structs.replace(was, rendered_sha256="b" * 64, template_date=None)
    assert not_comparable("suite/a", "suite", PLAN, was, PLAN, other) == (
        "the prompts differ: the chat template makes other text of the same chats (SHA-256 aaaaaaaaaaaa there, "
        "bbbbbbbbbbbb here); the date it is shown: 2024-07-26 there, no date here"
    )
    assert not_comparable("suite/a", "suite", PLAN, was, PLAN, other, chats=False) == ""


def test_many_claims_are_counted_and_not_listed() -> None:
    now = changed(claims={f"suite/n{i:02}": "1" for i in range(40)})
    assert differences(PLAN, now) == (
        "claims added: suite/n00, suite/n01, suite/n02, suite/n03, suite/n04 and 35 more",
    )
