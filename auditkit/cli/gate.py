"""`auditkit gate`: the audit of whole suites under the policy `release`, in a process of its own.

A test session can be told to measure less, and the process that measures can end in ways that no code in it can report.
So the gate takes no selection, hands no options of an ini file or the environment on, and believes a record and nothing
else: a child that leaves none, or whose exit code is better than its record, has not passed.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from auditkit.cli.based import BaseError, BaseRun
from auditkit.cli.publishing import TRACKERS
from auditkit.cli.shared import INTEGRITY, refused, run_pytest, say, with_reports
from auditkit.options import said_of

_SHARED = ("thresholds", "seed", "items", "effort", "device", "dtype", "adapter")
"""Options that a base must be measured with as its candidate is."""
_PASSED_ON = (*_SHARED, "baseline", "waivers", "cross-check")
_NOT_TAKEN = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
_PROFILE = "release"

SUITE = "identity_bias"
"""The suite that a candidate is gated by where none is named: the one whose error rates as a gate were measured."""
THRESHOLDS = "thresholds.toml"
"""File in the folder of reports whose calibrated thresholds a gate against a base uses."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    gate = commands.add_parser(
        "gate",
        help="say whether a candidate may replace its base: measure both with whole suites; undecided claims block",
        allow_abbrev=False,
    )
    gate.add_argument(
        "what",
        nargs="+",
        metavar="CANDIDATE|SUITE",
        help="the model to gate (with --base), or suites (with --model)",
    )
    gate.add_argument(
        "--base",
        metavar="BASE",
        help="model to compare with (it is measured once, and its run is kept), or a recorded run",
    )
    gate.add_argument(
        "--base-sha256", metavar="DIGEST", help="accept the record of the base that has this SHA-256, and no other"
    )
    gate.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="SUITE",
        help=f"with --base: a suite to measure; may be given several times (default: {SUITE})",
    )
    gate.add_argument("--model", metavar="SPEC", help="model to audit with the suites, where no --base is given")
    gate.add_argument("--data", action="append", default=[], metavar="SUITE=SOURCE", help=said_of("data"))
    for name in _PASSED_ON:
        gate.add_argument(f"--{name}", metavar="VALUE", help=said_of(name))
    gate.add_argument("--log-to", action="append", default=[], choices=TRACKERS, help=said_of("log-to"))
    gate.add_argument(
        "-n", dest="workers", metavar="N", help="number of processes that measure (needs pytest-xdist)"
    )
    gate.set_defaults(command=_gate)
    with_reports(gate)


def _gate(arguments: argparse.Namespace) -> int:
    from auditkit.claims.suites import SuiteError
    from auditkit.record.store import RecordError
    from auditkit.report.trackers.stores import missing

    if why := missing(arguments.log_to):  # now: the base is measured before pytest reads the options
        return refused(f"gate: {why}")
    try:
        if arguments.base is not None:
            return _against_base(arguments)
        if arguments.model is None:
            return refused("gate: give a candidate and --base BASE, or suites and --model SPEC")
        suites, _ = _suites(arguments.what)
        return _measured([*suites, *_options(arguments, arguments.model, arguments.baseline)], arguments.audit_dir)
    except SuiteError as error:
        return refused(f"gate: {error}")
    except BaseError as error:
        return refused(f"gate: {error}", error.code)
    except RecordError as error:
        return refused(f"gate: {error}", INTEGRITY)


def _against_base(arguments: argparse.Namespace) -> int:
    """Gate one candidate against a base that is measured or taken from an earlier gate."""
    from auditkit.record.baseline import find_baseline

    for option in ("model", "baseline"):
        if getattr(arguments, option) is not None:
            return refused(f"gate: --base names what is compared with, so leave out --{option}")
    if len(arguments.what) != 1:
        return refused("gate: name one candidate with --base; suites are named by --suite")
    reports: Path = arguments.audit_dir
    if arguments.thresholds is None and (reports / THRESHOLDS).is_file():
        arguments.thresholds = str(reports / THRESHOLDS)
        say([f"thresholds: those of {reports / THRESHOLDS}"])
    suites, folders = _suites(arguments.suite or [SUITE])
    asked = [*suites, *_apart(), *_values(arguments, _SHARED)]
    named = arguments.base if arguments.base_sha256 is None else f"{arguments.base}#{arguments.base_sha256}"
    if find_baseline(arguments.base, reports) is not None:
        base = named
    else:
        files = [Path(arguments.thresholds)] if arguments.thresholds else []
        files += [Path(text.partition("=")[2].partition("#")[0]) for text in arguments.data]
        base = BaseRun(arguments.base, reports, folders, asked, files, arguments.base_sha256).pinned(_measure)
    return _measured([*suites, *_options(arguments, arguments.what[0], base)], reports)


def _suites(names: Sequence[str]) -> tuple[list[str], list[Path]]:
    """pytest's arguments for suites, which are folders or names of the package's, and their folders.

    Raises:
        SuiteError: a name is neither, or both kinds are named.
    """
    from auditkit.claims.suites import SuiteError, arguments, packaged

    folders = [Path(name) for name in names if Path(name).is_dir()]
    if len(folders) == len(names):
        return list(names), folders
    known = packaged()
    if other := next((name for name in names if name not in known and not Path(name).is_dir()), None):
        raise SuiteError(
            f"{other} is no folder and no suite of the package ({', '.join(known)}): a gate takes whole suites, and no "
            "file, test or selection (what it must not block is waived with --waivers)"
        )
    if folders:
        raise SuiteError(
            f"{folders[0]} is a folder and {next(name for name in names if name in known)} a suite of the package; "
            "gate them in two calls"
        )
    return arguments(names), [known[name].folder for name in names]


def _measured(args: list[str], reports: Path) -> int:
    """Run pytest and judge what it left."""
    from auditkit.record.store import is_written

    before = set(reports.glob("2*"))
    code = _measure(args)
    if code == 4:  # the child has said why, and nothing was measured
        return code
    runs = [folder for folder in sorted(set(reports.glob("2*")) - before) if is_written(folder)]
    return _decided(runs, args, code)


def _apart() -> list[str]:
    """What takes an ini file's own arguments away."""
    return ["-o", "addopts=", "-p", "no:cacheprovider"]


def _options(arguments: argparse.Namespace, model: str, baseline: str | None) -> list[str]:
    """pytest's arguments besides the suites; every value stands in one argument with its option."""
    args = [
        *_apart(),
        f"--audit-profile={_PROFILE}",
        f"--audit-dir={arguments.audit_dir}",
        f"--audit-model={model}",
    ]
    others = [name for name in _PASSED_ON if name != "baseline"]
    args += [f"--audit-log-to={tracker}" for tracker in arguments.log_to]
    return [*args, *([] if baseline is None else [f"--audit-baseline={baseline}"]), *_values(arguments, others)]


def _values(arguments: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """The options of these names that were given, the data and the number of processes."""
    args = [f"--audit-data={source}" for source in arguments.data]
    for name in names:
        value = getattr(arguments, name.replace("-", "_"))
        args += [] if value is None else [f"--audit-{name}={value}"]
    return args + ([] if arguments.workers is None else ["-n", arguments.workers])


def _measure(args: list[str]) -> int:
    """Run pytest in a process of its own, without the options of the environment; its exit code."""
    return run_pytest(args, apart="-c" in args, without=_NOT_TAKEN)


def _decided(runs: list[Path], args: list[str], code: int) -> int:
    """The gate's exit code: that of the record that this command has left, or of what ended without one."""
    from auditkit.claims.verdicts import exit_code
    from auditkit.gate.verified import require_verified
    from auditkit.record.manifest import record_digest
    from auditkit.record.store import RecordError
    from auditkit.report.answers.headline import answer

    if code in (2, 3) or code > 128:
        return refused(f"the gate has not passed: the audit {_ended(code)}", code)
    try:
        records = [(folder, require_verified(folder)) for folder in runs]
    except RecordError as error:
        return refused(f"the gate has not passed: {error}", INTEGRITY)
    own = [(folder, run) for folder, run in records if run.command == ("pytest", *args)]
    if len(own) != 1:
        what = "no record of this command" if not own else f"{len(own)} records of this command"
        return refused(
            f"the gate has not passed: the audit ended with {code} and left {what} ({shlex.join(args)})", INTEGRITY
        )
    folder, run = own[0]
    said = exit_code(run.summary, run.profile)
    if run.profile != _PROFILE:
        return refused(
            f"the gate has not passed: {folder} was measured under the profile {run.profile}", INTEGRITY
        )
    if said != code and code == 0:
        return refused(
            f"the gate has not passed: the audit ended with 0, and its record in {folder} says {said}", said
        )
    say([f"gate: {run.summary.verdict} ({folder}, record SHA-256 {record_digest(folder)})", answer(run).sentence])
    return min((said, code), key=_rank)


def _ended(code: int) -> str:
    """How an audit ended that came to no verdict, in words."""
    if code > 128:
        return f"was ended by signal {code - 128}"
    if code == 2:
        return "was interrupted, or a file of the suites could not be collected (exit code 2)"
    return "broke down (exit code 3)"


def _rank(code: int) -> int:
    from auditkit.claims.verdicts import WORST_FIRST

    return WORST_FIRST.index(code) if code in WORST_FIRST else -1
