"""Another package named `auditkit`: the command and pytest say which one Python found and what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import interp_auditkit

pytestmark = pytest.mark.unit

OURS = str(Path(interp_auditkit.__file__).parents[1])


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder in front of this project's that holds a package of the same name, as the unrelated distribution has."""
    package, about = tmp_path / "site" / "auditkit", tmp_path / "site" / "auditkit-1.1.3.dist-info"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it must not be imported to find out')\n")
    (package / "cli.py").write_text("")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: auditkit\nVersion: 1.1.3\n")
    (about / "RECORD").write_text(
        "auditkit/__init__.py,,\nauditkit/cli.py,,\nauditkit-1.1.3.dist-info/METADATA,,\n"
    )
    return package


def run(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """A process with these folders in front of this project's, and without what is installed in an editable way."""
    begin = f"import sys; sys.path[:0] = {[*map(str, paths), OURS]!r}; "
    return subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=60)


COMMAND = "import interp_auditkit; sys.argv = ['auditkit', 'suites']; sys.exit(interp_auditkit.main())"


def test_the_right_package_runs() -> None:
    done = run(COMMAND)
    assert done.returncode == 0
    assert "identity_bias" in done.stdout


def test_another_distribution_is_named_with_the_way_out(other: Path) -> None:
    done = run(COMMAND, other.parent)
    assert done.returncode == 4
    assert done.stderr == (
        f"auditkit: Python imports auditkit from {other / '__init__.py'}, which belongs to the unrelated distribution "
        "auditkit 1.1.3 and not to interp-auditkit; run: pip uninstall auditkit && pip install --force-reinstall "
        "--no-deps interp-auditkit\n"
    )


def test_a_folder_of_the_same_name_is_told_from_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "auditkit").mkdir()
    (tmp_path / "auditkit" / "__init__.py").touch()
    done = run(COMMAND, tmp_path)
    assert done.returncode == 4
    assert "which hides the package of interp-auditkit; rename that file or folder" in done.stderr


@pytest.mark.parametrize("named", [True, False])
def test_pytest_goes_on_without_the_plugin_and_says_so(other: Path, tmp_path: Path, named: bool) -> None:
    """Tests of a project that has such a package still run; a run that names a model is refused with the reason."""
    (tmp_path / "test_theirs.py").write_text("def test_theirs():\n    pass\n")
    args = [str(tmp_path / "test_theirs.py"), "-p", "no:cacheprovider", *(["--model", "m"] if named else [])]
    code = (
        f"import os; os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'; sys.argv = {['pytest', *args]!r}; "
        f"import pytest; sys.exit(pytest.main({['-p', 'interp_auditkit.plugin', *args]!r}))"
    )
    done = run(code, other.parent)
    assert done.returncode == (4 if named else 0), done.stdout + done.stderr
    assert "auditkit: not loaded: Python imports auditkit from " in (done.stderr if named else done.stdout)
