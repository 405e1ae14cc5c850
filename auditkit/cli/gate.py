"""`auditkit gate`: the audit of whole suites under the policy `release`, in a process of its own.

A test session can be told to measure less, and the process that measures can end in ways that no code in it can report.
So the gate takes no selection, hands no options of an ini file or the environment on, and believes a record and nothing
else: a child that leaves none, or whose exit code is better than its record, has not passed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from auditkit.cli.shared import INTEGRITY, refused, with_reports

_PASSED_ON = (
    "baseline",
    "thresholds",
    "waivers",
    "seed",
    "items",
    "effort",
    "device",
    "dtype",
    "adapter",
    "cross-check",
)
_NOT_TAKEN = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
_PROFILE = "release"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    gate = commands.add_parser(
        "gate", help="audit a model for a release: whole suites, in a process of its own", allow_abbrev=False
    )
    gate.add_argument(
        "suites", type=Path, nargs="+", metavar="SUITE", help="folder of a suite, for example suites/X"
    )
    gate.add_argument("--model", required=True, metavar="SPEC", help="model to audit, as for pytest")
    gate.add_argument("--data", action="append", default=[], metavar="SUITE=SOURCE", help="as for pytest")
    for name in _PASSED_ON:
        gate.add_argument(f"--{name}", metavar="VALUE", help="as for pytest")
    gate.add_argument("-n", dest="workers", metavar="N", help="processes that measure (pytest-xdist)")
    gate.set_defaults(command=_gate)
    with_reports(gate)


def _gate(arguments: argparse.Namespace) -> int:
    from auditkit.record.store import is_written

    reports: Path = arguments.audit_dir
    for suite in arguments.suites:
        if not suite.is_dir():
            return refused(
                f"{suite} is no folder: a gate takes whole suites, and no file, test or selection (what it must not "
                "block is waived with --waivers)"
            )
    args = _arguments(arguments)
    before = set(reports.glob("2*"))
    code = _measure(args)
    if code == 4:  # the child has said why, and nothing was measured
        return code
    runs = [folder for folder in sorted(set(reports.glob("2*")) - before) if is_written(folder)]
    return _decided(runs, args, code)


def _arguments(arguments: argparse.Namespace) -> list[str]:
    """pytest's arguments: an ini file's own are taken away, and every value stands in one argument with its option."""
    args = [*map(str, arguments.suites), "-o", "addopts=", "-p", "no:cacheprovider", f"--audit-profile={_PROFILE}"]
    args += [f"--audit-dir={arguments.audit_dir}", f"--audit-model={arguments.model}"]
    args += [f"--audit-data={source}" for source in arguments.data]
    for name in _PASSED_ON:
        value = getattr(arguments, name.replace("-", "_"))
        args += [] if value is None else [f"--audit-{name}={value}"]
    return args + ([] if arguments.workers is None else ["-n", arguments.workers])


def _measure(args: list[str]) -> int:
    """Run pytest in a process of its own; its exit code, as a shell says it. SIGINT and SIGTERM are passed on."""
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_TAKEN}
    child = subprocess.Popen([sys.executable, "-m", "pytest", *args], env=environment)
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        while True:
            try:
                code = child.wait()
                break
            except KeyboardInterrupt:  # the terminal sends it to both
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code


def _decided(runs: list[Path], args: list[str], code: int) -> int:
    """The gate's exit code: that of the record that this command has left, or of what ended without one."""
    from auditkit.claims.verdicts import exit_code
    from auditkit.gate.verified import require_verified
    from auditkit.record.manifest import record_digest
    from auditkit.record.store import RecordError

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
    print(f"gate: {run.summary.verdict} ({folder}, record SHA-256 {record_digest(folder)})")
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
