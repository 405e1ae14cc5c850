"""What the commands share: exit codes, naming a run, and printing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

USAGE_ERROR = 4
INTEGRITY = 11
RUN = (
    "run folder, its audit.json, or the name of a baseline; #SHA256 behind it accepts a record of that digest only"
)


def with_reports(command: argparse.ArgumentParser) -> None:
    """Give a command the option that says where recorded runs lie."""
    command.add_argument(
        "--audit-dir", type=Path, default=Path("reports"), metavar="DIR", help="folder of run folders"
    )


def folder_of(text: str, reports: Path) -> Path:
    """The run folder that `text` names: the folder, its audit.json, or the name of a baseline.

    Raises:
        RecordError: there is none.
    """
    from auditkit.record.baseline import find_baseline, split_pin
    from auditkit.record.store import AUDIT_JSON, RecordError

    name, pin = split_pin(text)
    path = Path(name)
    folder = path.parent if path.name == AUDIT_JSON else path
    a_word = path.name == name and path.name != AUDIT_JSON
    named = find_baseline(text, reports) if a_word or pin is not None else None
    if named is None and (folder / AUDIT_JSON).exists():
        named = folder.resolve()
    if named is None:
        raise RecordError(
            f"no recorded run {text}: it is no folder with an {AUDIT_JSON}, and no name of a baseline"
        )
    return named


def note_if_old(run: Path | str) -> None:
    """Say on standard error where `run` is the link `latest` and a later run has written no record."""
    from auditkit.record.begun import unfinished

    old = unfinished(Path(run))
    if old:
        print(f"auditkit: note: {old}", file=sys.stderr)


def coloured() -> bool:
    """Whether the terminal shows colours and the user wants them."""
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(lines: Iterable[str]) -> None:
    """Print lines whose texts were escaped; a terminal that cannot show a sign gets another in its place."""
    encoding = sys.stdout.encoding or "utf-8"
    for text in lines:
        print(text.encode(encoding, "replace").decode(encoding))


def say_plainly(text: str) -> None:
    """Print one line that names what comes from elsewhere: a path, a model, an error."""
    from auditkit.record.escaping import line

    say([line(text)])


def refused(message: str, code: int = USAGE_ERROR) -> int:
    """Say in one line on standard error why a command did nothing; return its exit code."""
    from auditkit.record.escaping import plain

    encoding = sys.stderr.encoding or "utf-8"
    print(f"auditkit: {plain(message)}".encode(encoding, "replace").decode(encoding), file=sys.stderr)
    return code


def unusable(error: Exception) -> int:
    """Say why a record cannot be used; the exit code is 11 where it was read and does not hold, and else 4."""
    from auditkit.record.store import NotVerified

    return refused(str(error), INTEGRITY if isinstance(error, NotVerified) else USAGE_ERROR)


def run_pytest(args: Sequence[str], *, apart: bool, without: Collection[str] = ()) -> int:
    """Run pytest in a process of its own; its exit code, as a shell says it. SIGINT and SIGTERM are passed on.

    Args:
        apart: modules in the current folder are not imported; set for suites that do not lie there.
        without: environment variables that the process does not get.
    """
    import os
    import signal
    import subprocess

    environment = {name: value for name, value in os.environ.items() if name not in without}
    command = [sys.executable, *(["-P"] if apart else []), "-m", "pytest", *args]
    child = subprocess.Popen(command, env=environment)
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
