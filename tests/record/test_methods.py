"""The code behind a suite's claims: which modules count as its methods, and what changes their digests."""

from __future__ import annotations

from pathlib import Path

import pytest

import auditkit
from auditkit.record.methods import Code, code_of

pytestmark = pytest.mark.unit

PACKAGE = Path(auditkit.__file__).parent


def write(path: Path, text: str = "x = 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package laid out as auditkit is."""
    package = tmp_path / "site" / "auditkit"
    for name in ("__init__", "methods/__init__", "data/__init__", "engine/__init__"):
        write(package / f"{name}.py", "")
    write(
        package / "methods" / "top.py",
        "from auditkit.methods.deep import go\nfrom auditkit.engine import walk\n",
    )
    write(package / "methods" / "deep.py", "def go():\n    from auditkit.data import words\n    return words\n")
    write(package / "methods" / "elsewhere.py")
    write(package / "methods" / "worst_case.py")
    write(package / "data" / "words.py")
    write(package / "engine" / "walk.py", "from auditkit.methods import elsewhere\n")
    write(package / "stats" / "means.py")
    write(package / "plugin" / "entry.py")
    return package


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write(tmp_path / "suites" / "finding" / "test_one.py", "def test_one(top):\n    pass\n")
    write(tmp_path / "suites" / "finding" / "conftest.py", "from auditkit.methods.top import go\n")
    return tmp_path / "suites" / "finding"


def code(suite: Path, tmp_path: Path, package: Path) -> Code:
    return code_of({suite: tmp_path}, package)


def test_methods_are_reached_through_imports_inside_functions_too(
    suite: Path, tmp_path: Path, package: Path
) -> None:
    found = code(suite, tmp_path, package)
    assert found.methods == {
        "finding": (
            "auditkit/data/__init__.py",
            "auditkit/data/words.py",
            "auditkit/methods/__init__.py",
            "auditkit/methods/deep.py",
            "auditkit/methods/top.py",
        )
    }
    assert set(found.digests) == {
        *found.methods["finding"],
        "auditkit/engine/__init__.py",
        "auditkit/engine/walk.py",
        "auditkit/stats/means.py",
    }


@pytest.mark.parametrize(
    "line",
    [
        "import auditkit.methods.elsewhere",
        "import auditkit.methods.elsewhere as other",
        "from auditkit.methods import elsewhere",
        "from auditkit.methods.elsewhere import x",
        "if True:\n    from auditkit.methods import (\n        top,\n        elsewhere,\n    )",
        "try:\n    import nothing\nexcept ImportError:\n    from auditkit.methods import elsewhere",
        "class Lazy:\n    def go(self):\n        match self:\n            case 1:\n"
        "                import auditkit.methods.elsewhere",
    ],
)
def test_every_form_of_import_counts(suite: Path, tmp_path: Path, package: Path, line: str) -> None:
    write(suite / "test_two.py", line + "\n")
    assert "auditkit/methods/elsewhere.py" in code(suite, tmp_path, package).methods["finding"]


def test_modules_of_the_project_and_services_of_the_plugin_are_methods(
    suite: Path, tmp_path: Path, package: Path
) -> None:
    write(tmp_path / "ours" / "__init__.py", "")
    write(tmp_path / "ours" / "steps.py", "from ours.more import one\n")
    write(tmp_path / "ours" / "more.py")
    write(
        suite / "test_two.py",
        "from ours import steps\nimport numpy\n\ndef test(audit):\n    audit.worst_case(1)\n",
    )
    found = set(code(suite, tmp_path, package).methods["finding"])
    assert {"ours/__init__.py", "ours/steps.py", "ours/more.py", "auditkit/methods/worst_case.py"} <= found
    assert not {name for name in found if "numpy" in name}


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (
            '"""Says what it does."""\ndef go():\n    """So."""\n    from auditkit.data import words\n    return words',
            True,
        ),
        ("def go():  # gone\n\n    from auditkit.data import (words)\n    return (\n        words\n    )", True),
        ("def go():\n    from auditkit.data import words\n    return words + 1", False),
        ("def go():\n    from auditkit.data import words\n    return words\ngo()", False),
        ('def go():\n    from auditkit.data import words\n    "a value"\n    return words', False),
        ("def broken(:", False),
    ],
)
def test_a_method_is_digested_without_comments_layout_and_docstrings(
    suite: Path, tmp_path: Path, package: Path, text: str, same: bool
) -> None:
    before = code(suite, tmp_path, package).digests["auditkit/methods/deep.py"]
    write(package / "methods" / "deep.py", text)
    assert (code(suite, tmp_path, package).digests["auditkit/methods/deep.py"] == before) is same


@pytest.mark.parametrize(
    ("text", "same"),
    [("from auditkit.methods import elsewhere\n# more\n\n", True), ("x = 2\n", False)],
)
def test_the_engine_is_digested_without_comments(
    suite: Path, tmp_path: Path, package: Path, text: str, same: bool
) -> None:
    before = code(suite, tmp_path, package).digests["auditkit/engine/walk.py"]
    write(package / "engine" / "walk.py", text)
    assert (code(suite, tmp_path, package).digests["auditkit/engine/walk.py"] == before) is same


def test_every_suite_of_the_project_reaches_the_methods_that_it_names() -> None:
    """What an import of the suite's conftest loads of findings and methods is among its methods."""
    root = PACKAGE.parent
    suites = sorted(path.parent for path in (root / "suites").glob("*/conftest.py"))
    found = code_of(dict.fromkeys(suites, root), PACKAGE)
    assert set(found.methods) == {suite.name for suite in suites}
    for names in found.methods.values():
        assert {name.split("/")[1] for name in names} <= {"findings", "methods", "testing", "data"}
    assert "auditkit/findings/identity_bias/measurements/decisions.py" in found.methods["identity_bias"]
    assert "auditkit/methods/worst_case.py" in found.methods["identity_bias"]
    assert "auditkit/methods/patching.py" in found.methods["persona_patching"], "reached through another module"
    assert "auditkit/data/personas.py" in found.methods["persona_patching"]
    assert "auditkit/findings/role_conditioning/measurements/entropy.py" not in found.methods["persona_patching"]
    assert {"auditkit/engine/patching/sweep.py", "auditkit/stats/effects/mean.py"} <= set(found.digests)
