"""The plan: what a run is going to ask, fixed before the first forward pass, and how two plans differ.

Two numbers may be subtracted only if they answer the same question. Whether they do is decided from the plans, which
are digests of everything that goes into an answer apart from the model: the claim's code and what its suite shares,
the methods that it calls (`auditkit.record.methods`), data, thresholds, seed, items, level, versions. Code is digested
without comments and layout, and without the other claims of its file, so that tidying a suite or adding a claim to it
does not cut a claim off from its past.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from auditkit.record.schema import Claim, Effect, ModelInfo, Plan
from auditkit.record.store import AUDIT_JSON, JOURNAL

OWN_DATA = "auditkit"
"""First part of the names of data files that belong to the project and not to a suite."""

_DATA = {".csv", ".tsv", ".json", ".jsonl", ".toml", ".txt", ".yaml", ".yml", ".parquet"}
_NO_DATA = ("conftest.py", AUDIT_JSON, JOURNAL, "pyvenv.cfg")
TEMPLATE_ARGUMENT = "template-arg "
"""First part of the names of settings that give the chat template a value."""

_NOT_ASKED_WITH = f"{OWN_DATA}/gate/"
"""Data files that no claim reads: they serve forecasts."""
_DRAWN = "seed"
"""The setting that decides which items are drawn."""
_ASKED = ("items", "effort", "alpha")
"""Settings that change what is asked. The others change how it is run; what came of them stands with the model."""
_BY_DEFAULT = {"effort": "standard"}
"""What a setting is that a plan does not name."""


def plan_digest(plan: Plan) -> str:
    """SHA-256 of a plan."""
    return hashlib.sha256(msgspec.json.encode(plan, order="sorted")).hexdigest()


def claim_digest(path: Path, qualified: str, statement: str, shared: str) -> str:
    """SHA-256 of what makes one claim what it is.

    Args:
        path: file of the test function.
        qualified: its name there, "Class.test_name" in a class.
        statement: the claim in words.
        shared: `shared_digest` of its suite.
    """
    return _digest("\x1f".join((statement, _code(path, qualified), shared)))


def shared_digest(folder: Path, root: Path) -> str:
    """SHA-256 of the code that all claims of a suite share: its modules that are no tests, and the conftest.py of
    every folder from there up to `root`."""
    modules = [
        p for p in sorted(folder.glob("*.py")) if not (p.stem.startswith("test_") or p.stem.endswith("_test"))
    ]
    above = [parent / "conftest.py" for parent in folder.parents if parent == root or root in parent.parents]
    found = [*modules, *(path for path in above if path.is_file())]
    return _digest("\x1f".join(f"{path.name} {_code(path, '')}" for path in found))


def data_digests(own: Path, suites: Iterable[Path], apart: Path | None = None) -> dict[str, str]:
    """Name -> SHA-256 of each data file, those in subfolders included: the project's in folder `own`, and those that
    lie in the suites' folders. A subfolder with claims of its own is another suite.

    Args:
        apart: folder of reports, which may lie within a suite's.
    """
    files = [(OWN_DATA, own, path) for path in _data_files(own, apart)]
    files += [(folder.name, folder, path) for folder in sorted(set(suites)) for path in _data_files(folder, apart)]
    return {
        f"{owner}/{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for owner, folder, path in files
    }


def _data_files(folder: Path, apart: Path | None) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            if path.suffix in _DATA:
                yield path
        elif path.is_dir() and path != apart and not path.is_symlink() and not _holds_no_data(path):
            yield from _data_files(path, apart)


def _holds_no_data(folder: Path) -> bool:
    """Whether a subfolder is a suite of its own, a run, a virtual environment, or hidden."""
    if folder.name.startswith((".", "__")) or any((folder / name).exists() for name in _NO_DATA):
        return True
    return any(next(folder.glob(pattern), None) is not None for pattern in ("test_*.py", "*_test.py"))


def differences(was: Plan, now: Plan) -> tuple[str, ...]:
    """How `now` differs from `was`, one line each; empty for equal plans."""
    said = []
    both = was.claims.keys() & now.claims.keys()
    for word, names in (
        ("added", now.claims.keys() - both),
        ("left out", was.claims.keys() - both),
        ("changed (statement or code)", {claim for claim in both if was.claims[claim] != now.claims[claim]}),
    ):
        if names:
            said.append(f"claims {word}: {_listed(names)}")
    for name in _differing(was.data, now.data):
        said.append(f"data file {name} {_how(name, was.data, now.data, 'content')}")
    said += _other_code(was, now)
    said += _values("threshold ", was.thresholds, now.thresholds)
    return (*said, *_values("", was.settings, now.settings), *_values("version of ", was.versions, now.versions))


def not_comparable(
    claim: str, suite: str, was: Plan, then: ModelInfo, now: Plan, present: ModelInfo, *, chats: bool = True
) -> str:
    """Why a claim's numbers of two runs must not be subtracted, as far as plans and models tell; empty if they may.

    Args:
        was, then: plan and model of the baseline.
        now, present: plan and model of this run.
        chats: the claim's prompts are made by the chat template; False for plain text, which no template touches.
    """
    reasons = [*asked_otherwise(claim, suite, was, now), *_other_settings(was, now, (_DRAWN,))]
    if chats:
        reasons += _other_prompts(was, then, now, present)
    for word, there, here in (("dtype", then.dtype, present.dtype), ("adapter", then.adapter, present.adapter)):
        if there != here:
            reasons.append(f"{word}: {there} there, {here} here")
    return "; ".join(reasons)


def asked_otherwise(claim: str, suite: str, was: Plan, now: Plan) -> Iterator[str]:
    """Why the verdicts of two runs on a claim are no answers to one question, whatever the model, the seed and the way
    it was run; nothing where they are."""
    if was.claims.get(claim) != now.claims.get(claim):
        yield "the claim's statement or code, or what its suite shares, has changed"
    methods = [name for name in _common(suite, was, now) if was.code.get(name) != now.code.get(name)]
    if methods:
        yield f"other code of the methods it calls: {_listed(methods)}"
    other = [name for name in _differing(was.data, now.data) if not name.startswith(_NOT_ASKED_WITH)]
    touching = [name for name in other if name.split("/")[0] in (OWN_DATA, suite)]
    if touching:
        yield f"other data: {_listed(touching)}"
    yield from _other_settings(was, now, _ASKED)
    if was.versions.get("auditkit") != now.versions.get("auditkit"):
        there, here = (plan.versions.get("auditkit") for plan in (was, now))
        yield f"measured by auditkit {there} there, {here} here"


def other_threshold(then: Claim, claim: Claim) -> str:
    """Which effect a claim compares with another number than in another run; empty for none."""
    was = {effect.name: effect for effect in then.compared}
    for effect in claim.compared:
        if effect.name not in was:
            continue
        there, here = _limit(was[effect.name]), _limit(effect)
        if there != here:
            return f"other threshold: '{effect.name}' {there} there, {here} here"
    return ""


def _limit(effect: Effect) -> str:
    if effect.threshold is None:
        return "not compared"
    counts = f", counts from {effect.counts_from!r}" if effect.counts_from else ""
    return f"{effect.relation} {effect.threshold!r}{counts}"


def _other_settings(was: Plan, now: Plan, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        there, here = (plan.settings.get(name, _BY_DEFAULT.get(name)) for plan in (was, now))
        if there != here:
            yield f"{name}: {there} there, {here} here"


def _other_prompts(was: Plan, then: ModelInfo, now: Plan, present: ModelInfo) -> Iterator[str]:
    """Why the same chats became other prompts."""
    given = [name for name in _differing(was.settings, now.settings) if name.startswith(TEMPLATE_ARGUMENT)]
    for name in given:
        there, here = (plan.settings.get(name, "not given") for plan in (was, now))
        yield f"--{name}: {there} there, {here} here"
    if then.rendered_sha256 == present.rendered_sha256:
        return
    digests = f"SHA-256 {then.rendered_sha256[:12]} there, {present.rendered_sha256[:12]} here"
    said = f"the prompts differ: the chat template makes other text of the same chats ({digests})"
    if then.template_date != present.template_date:
        dates = (date or "no date" for date in (then.template_date, present.template_date))
        said += "; the date it is shown: {} there, {} here".format(*dates)
    if not given and then.template_arguments != present.template_arguments:
        values = (
            ", ".join(f"{name}={value}" for name, value in model.template_arguments.items()) or "nothing"
            for model in (then, present)
        )
        said += "; what it is given: {} there, {} here".format(*values)
    yield said


def _other_code(was: Plan, now: Plan) -> list[str]:
    """One line for each module that defines numbers, and one for all that compute them."""
    methods = {name for plan in (was, now) for names in plan.methods.values() for name in names}
    changed = _differing(was.code, now.code)
    said = [f"method {name} {_how(name, was.code, now.code, 'code')}" for name in changed if name in methods]
    rest = [name for name in changed if name not in methods]
    return [*said, f"engine, adapters or statistics have other code: {_listed(rest)}"] if rest else said


def _common(suite: str, was: Plan, now: Plan) -> list[str]:
    """The methods that the suite reached in both runs. One that only one of them reached belongs to another claim: else
    the claim's own code, or that of a method between, would have changed as well."""
    return sorted({*was.methods.get(suite, ())} & {*now.methods.get(suite, ())})


def _how(name: str, was: Mapping[str, str], now: Mapping[str, str], what: str) -> str:
    return "is new" if name not in was else "is gone" if name not in now else f"has other {what}"


def _values(kind: str, was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{kind}{name} was {was.get(name, 'not given')}, is {now.get(name, 'not given')}"
        for name in _differing(was, now)
    ]


def _differing(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]


def _listed(names: Iterable[str]) -> str:
    first = sorted(names)
    more = f" and {len(first) - 5} more" if len(first) > 5 else ""
    return ", ".join(first[:5]) + more


def _code(path: Path, qualified: str) -> str:
    """The module's code without other tests, comments and layout; the bytes of what is no Python."""
    raw = path.read_bytes()
    try:
        return _unparsed(raw, qualified)
    except (SyntaxError, ValueError, RecursionError):
        return hashlib.sha256(raw).hexdigest()


@lru_cache(maxsize=512)
def _unparsed(raw: bytes, qualified: str) -> str:
    tree = ast.parse(raw)
    _drop_other_tests(tree, qualified.split("."))
    return ast.unparse(tree)


def _drop_other_tests(body: ast.Module | ast.ClassDef, wanted: list[str]) -> None:
    kept: list[ast.stmt] = []
    for node in body.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            if wanted[0] == node.name and len(wanted) > 1:
                _drop_other_tests(node, wanted[1:])
                kept.append(node)
        elif (
            not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or not node.name.startswith("test")
            or wanted == [node.name]
        ):
            kept.append(node)
    body.body = kept or [ast.Pass()]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
