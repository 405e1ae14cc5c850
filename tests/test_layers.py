"""The house rules: who may import whom, how large a room may grow, and that every finding has its rooms.

docs/architecture.md draws the rooms; the table below is the rule.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import auditkit

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parent
REPOSITORY = ROOT.parent

# Room -> rooms that its modules may import besides their own. A module belongs to the room with the longest name that
# it begins with. Whatever stands in no row is not allowed.
ALLOWED: dict[str, tuple[str, ...]] = {
    "pytest_plugin": (
        *("report", "methods", "engine", "gate", "adapters", "stats", "claims", "options", "record", "data"),
    ),
    "cli": ("fleet", "findings", "report", "gate", "adapters", "claims", "options", "record", "data"),
    "fleet": ("report", "gate", "claims", "record"),
    "training": ("report", "claims", "record"),
    "findings": (
        "methods",
        "engine",
        "adapters",
        "gate",
        "stats",
        "claims",
        "notebook",
        "record",
        "data",
        "testing",
    ),
    "methods": ("engine", "adapters", "stats", "claims", "notebook", "record", "data"),
    "testing": ("engine", "adapters", "data"),
    "report": ("claims", "notebook", "report.figures", "record"),
    "gate": ("stats", "claims", "record"),
    "engine": ("adapters", "stats", "claims", "notebook", "record"),
    "adapters": ("claims", "record", "data"),
    "stats": ("claims", "notebook", "record"),
    "stats.simulations": ("gate", "stats", "notebook", "record"),
    "claims": ("notebook", "record"),
    "notebook": ("report.figures", "record"),
    "report.figures": ("record",),
    "options": (),
    "record": (),
    "data": (),
}

# What a room must not know, besides other rooms.
FOREIGN: dict[str, set[str]] = {
    "cli": {"torch", "transformers", "pytest"},
    "fleet": {"torch", "transformers", "pytest"},
    "training": {"pytest"},
    "findings": {"pytest"},
    "methods": {"pytest"},
    "testing": {"pytest"},
    "report": {"torch", "transformers", "pytest"},
    "gate": {"torch", "transformers", "pytest"},
    "engine": {"pytest"},
    "adapters": {"pytest"},
    "stats": {"torch", "transformers", "pytest"},
    "claims": {"torch", "transformers", "pytest", "scipy"},
    "record": {"torch", "transformers", "pytest", "scipy"},
    "data": {"torch", "transformers", "pytest", "pandas", "numpy"},
}

MOST_FILES, MOST_LINES, MOST_OF_A_FUNCTION, MOST_IMPORTS = 20, 400, 50, 15

# Module -> why it imports more of the package than others may.
IMPORTS_MORE = {
    "auditkit.adapters.loading.load": "opens a model: bounds, code, config, weights, tokenizer, adapter and identity",
    "auditkit.findings.identity_bias.measurements.decisions": "asks, pairs and compares groups, by phrase and by name",
    "auditkit.findings.identity_bias.measurements.mechanism": "attention, swaps, probes, patching",
    "auditkit.findings.identity_bias.measurements.pronoun_parts": "screens components, exchanges them and compares",
    "auditkit.findings.identity_bias.references.answers": "one reference for every kind of bias claim",
    "auditkit.findings.induction.measurements.ablation": "turns the heads of a search into guarded edits of tails",
    "auditkit.findings.induction.measurements.paths": "turns the heads of two searches into edits, guarded and read",
    "auditkit.findings.persona_composition.measurements.behaviour": "generates with edits and counts what is said",
    "auditkit.findings.persona_composition.measurements.patches": "patches cells, and ranks and compares",
    "auditkit.findings.persona_composition.measurements.vectors": "injects vectors and compares divergences",
    "auditkit.findings.persona_localization.measurements.scans": "joins scans, probes, text baselines and detectors",
    "auditkit.findings.persona_localization.measurements.steering": "turns the units of a scan into edits of a run",
    "auditkit.findings.persona_patching.measurements.answers": "asks under personas, pairs and groups the answers",
    "auditkit.findings.persona_patching.measurements.head_edits": "screens heads, edits them and patches them",
    "auditkit.findings.refusal.measurements.direction": "reads states, sweeps places, chooses and damages",
    "auditkit.findings.refusal.measurements.mediation": "removes and adds directions and nulls, and compares",
    "auditkit.findings.role_conditioning.measurements.ablation": "turns the heads of a search into edits of a run",
    "auditkit.findings.role_conditioning.measurements.did": "compares two runs head by head, from records too",
    "auditkit.pytest_plugin.measuring": "where claims run: everything that gathers, judges and records meets here",
    "auditkit.pytest_plugin.run": "writes the whole record",
    "auditkit.pytest_plugin.session": "plans, opens, collects and ends a session",
}

# What a finding may hold, a module or a folder each; who has read one finding finds the same rooms in the next.
INNER = {
    "prompts": "what is asked",
    "measurements": "what is measured, one subject per module where it is a folder",
    "references": "what a measurement must react to before 'no difference' says anything",
    "figures": "what only figures need",
    "strategies": "Hypothesis strategies of the finding's own data",
    "data": "TOML and CSV",
}
NEEDED = {"prompts", "measurements"}

FINDINGS = sorted(
    path.name for path in (REPOSITORY / "suites").iterdir() if path.is_dir() and path.name[0] not in "._"
)


@cache
def _modules() -> dict[str, Path]:
    """Name -> file of every module of the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _imports(module: str) -> frozenset[str]:
    """Every module named in an import statement, at any depth of the file, also under TYPE_CHECKING."""
    path, found = _modules()[module], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the module in full"
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = inner & _modules().keys()
            found |= submodules
            if len(submodules) < len(inner):
                found.add(node.module)
    return frozenset(found - {module})


def _own(module: str) -> set[str]:
    return {name for name in _imports(module) if name in _modules() and name != "auditkit"}


def _room(module: str) -> str:
    inner = module.removeprefix("auditkit.")
    rooms = [room for room in ALLOWED if inner == room or inner.startswith(f"{room}.")]
    return max(rooms, key=len, default="")


@pytest.mark.parametrize("module", [name for name in _modules() if name != "auditkit"])
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    room = _room(module)
    assert room, f"{module} lies in no room of the table; put it into one, or add a row"
    for name in _own(module):
        other = _room(name)
        assert other == room or other in ALLOWED[room], (
            f"{module} must not import {name}: {room} may not use {other}"
        )
    foreign = {name.split(".")[0] for name in _imports(module)} & FOREIGN.get(room.split(".")[0], set())
    assert not foreign, f"{module} must not import {', '.join(foreign)}"


def test_findings_do_not_import_each_other() -> None:
    """What two findings share is a method, or lies in `findings/asking`."""
    for module in _modules():
        if module.startswith("auditkit.findings."):
            mine = module.split(".")[2]
            others = {name for name in _own(module) if name.startswith("auditkit.findings.")}
            others = {name for name in others if name.split(".")[2:3] not in ([mine], ["asking"], [])}
            assert not others, f"{module} imports another finding: {', '.join(others)}"


def test_no_two_modules_import_each_other() -> None:
    """No circle of imports, whether they run or serve the type checker only."""
    state: dict[str, int] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        if state.get(module) == 2:
            return
        assert state.get(module) != 1, f"circle: {' -> '.join(trail[trail.index(module) :])} -> {module}"
        state[module] = 1
        for name in sorted(_own(module)):
            visit(name, (*trail, module))
        state[module] = 2

    for module in _modules():
        visit(module, ())


def test_pytests_options_are_read_in_one_place() -> None:
    """Everything but `options.py` reads `RunOptions`, which cannot change during a session."""
    for module, path in _modules().items():
        if _room(module) == "pytest_plugin" and module != "auditkit.pytest_plugin.options":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", "")
                assert not str(name).startswith("audit_"), f"{module} reads {name}; read RunOptions"


def test_no_public_class_name_is_defined_twice() -> None:
    """A name that has two meanings sends the reader to the wrong room."""
    seen: dict[str, str] = {}
    for module, path in _modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert node.name not in seen, f"{node.name} is defined in {seen[node.name]} and {module}"
                seen[node.name] = module


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_has_its_rooms(finding: str) -> None:
    """A suite, its measurements, its tests and its page have one name."""
    assert (ROOT / "findings" / finding / "__init__.py").is_file()
    assert (REPOSITORY / "suites" / finding / "__init__.py").is_file(), "pytest --pyargs finds packages only"
    assert any((REPOSITORY / "tests" / "findings" / finding).glob("test_*.py"))
    assert (REPOSITORY / "docs" / "findings" / f"{finding}.md").is_file()


@pytest.mark.parametrize("finding", [*FINDINGS, "politeness"])
def test_findings_have_one_set_of_inner_names(finding: str) -> None:
    top = REPOSITORY / "examples" / "own_finding" / "auditkit" if finding == "politeness" else ROOT
    inner = {path.stem for path in (top / "findings" / finding).iterdir()} - {"__init__", "__pycache__"}
    assert NEEDED <= inner <= INNER.keys(), f"{finding}: allowed are {', '.join(INNER)}; found {sorted(inner)}"


def test_what_a_finding_measures_once_it_shares() -> None:
    """A `cached_property` made of a shared measurement would swallow its notes under every claim but the first."""
    files = (ROOT / "findings").rglob("*.py")
    assert not [str(file) for file in files if "cached_property" in file.read_text()]


def test_a_claim_against_a_baseline_asks_the_baseline_for_its_reference() -> None:
    """Without it, a reference that the candidate just misses reads as a behaviour that it lost: FAIL, not undecided."""
    alone = {"test_private_words_cannot_be_read"}  # its reference is about reading one text with another before it
    found, forgot = 0, []
    for path in sorted((REPOSITORY / "suites").rglob("test_*.py")):
        tests = [each for each in ast.parse(path.read_text()).body if isinstance(each, ast.FunctionDef)]
        for test in tests:
            if "baseline" in {argument.arg for argument in test.args.args} and test.name not in alone:
                calls = [node for node in ast.walk(test) if isinstance(node, ast.Call)]
                asked = [call for call in calls if ast.unparse(call.func) == "sensitivity"]
                found += len(asked)
                forgot += [test.name for call in asked if "baseline" not in {word.arg for word in call.keywords}]
    assert not forgot
    assert found > 15


def test_every_package_of_findings_has_a_suite() -> None:
    folders = {path.parent.name for path in (ROOT / "findings").glob("*/__init__.py")}
    assert folders - {"asking"} == set(FINDINGS)


@pytest.mark.parametrize("top", ["auditkit", "suites", "tests", "tools", "examples", "benchmarks"])
def test_no_folder_holds_more_than_a_reader_can_take_in(top: str) -> None:
    for folder in (REPOSITORY / top, *(REPOSITORY / top).rglob("*")):
        if folder.is_dir() and not {"node_modules", "__pycache__"} & set(folder.parts):
            files = [path.name for path in folder.iterdir() if path.is_file()]
            assert len(files) <= MOST_FILES, f"{folder} holds {len(files)} files; give them rooms"


@pytest.mark.parametrize("module", _modules())
def test_modules_and_functions_stay_readable(module: str) -> None:
    path = _modules()[module]
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES, f"{path} has outgrown one subject; split it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert _lines(node) <= MOST_OF_A_FUNCTION, f"{path}: {node.name} has outgrown a screen; split it"
    count = len(_own(module))
    assert (count > MOST_IMPORTS) == (module in IMPORTS_MORE), (
        f"{module} imports {count} modules of the package; at most {MOST_IMPORTS}, or a reason in IMPORTS_MORE"
    )


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("auditkit", {"torch", "transformers", "numpy", "pandas", "scipy", "pytest", "msgspec"}),
        (
            "auditkit.pytest_plugin.entry",
            {"torch", "transformers", "numpy", "pandas", "scipy", "jinja2", "msgspec"},
        ),
        ("auditkit.adapters.loading.catalogue", {"torch", "transformers", "numpy"}),
        ("auditkit.record.store", {"torch", "transformers", "numpy", "pandas", "pyarrow"}),
        ("auditkit.report", {"torch", "transformers", "pytest"}),
        ("auditkit.stats.effects.mean", {"torch", "transformers", "pytest"}),
    ],
)
def test_importing_stays_light(module: str, heavy: set[str]) -> None:
    """What a module really loads, with everything it imports: measured in a fresh interpreter."""
    code = f"import sys, {module}; print(' '.join(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded)
