"""`auditkit audit` and `auditkit suites`: measure the suites of the package from any folder, and what they are.

`auditkit audit` starts pytest in a process of its own, with the paths of the suites in place of their names, and hands
on every option as it stands. The run is the one that `pytest suites/...` makes in the repository.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from auditkit.cli.shared import refused, run_pytest, say, with_reports
from auditkit.options import FLAGS, OPTIONS, said_of

AT = 20_000
"""Token-layers a second at which `auditkit suites` states times: of plain batches of the default model on two cores."""
LAYERS = 30
"""Of the default model."""
_FLAGS = {
    "-x",
    "-v",
    "-vv",
    "-q",
    "-qq",
    "-s",
    "-l",
    "--lf",
    "--ff",
    "--audit-as-baseline",
    "--audit-trust-remote-code",
}
"""Options without a value that people write often; a name may follow them."""

_USAGE = "auditkit audit [SUITE ...] [OPTION ...]"
_AUDIT = """\
Measure suites on a model and write the report to reports/. Without a name all suites are measured.

  SUITE     a suite of the package (auditkit suites lists them), a test in one as suite/test_file.py::test_name, or the
            path of a suite of your own, as in ./my_suite
  OPTION    one of those below, or any option of pytest, such as -k EXPRESSION, or -n N (processes; needs
            pytest-xdist); a value follows its option directly
"""
_CODES = """\
Exit codes: 0 something passed and nothing blocks, 1 a claim failed, 10 undecided, 11 the numbers cannot be trusted,
4 the command is wrong.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    commands.add_parser("audit", help="measure suites on a model, from any folder", usage=_USAGE, add_help=False)
    suites = commands.add_parser(
        "suites", help="list the suites: what each asks, what it needs of a model, and how long it takes"
    )
    suites.set_defaults(command=_suites)


def audit(args: Sequence[str]) -> int:
    """Run the command with its arguments, which argparse cannot take apart since most are pytest's."""
    from auditkit.claims.suites import SuiteError

    if "-h" in args or "--help" in args:
        print(_help(), end="")
        return 0
    names, rest = taken_apart(args)
    try:
        given, apart = chosen(names, Path.cwd())
    except SuiteError as error:
        return refused(f"audit: {error}")
    return run_pytest([*given, *rest], apart=apart)


def _help() -> str:
    """What `auditkit audit --help` prints. The command line itself is pytest's to take apart."""
    parser = argparse.ArgumentParser(
        usage=_USAGE,
        description=_AUDIT,
        epilog=_CODES,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, spec in OPTIONS.items():
        parser.add_argument(f"--{name}", **{**spec, "help": said_of(name)})
    for name in FLAGS:
        parser.add_argument(f"--audit-{name}", action="store_true", help=said_of(name))
    with_reports(parser)
    return parser.format_help()


def chosen(names: Sequence[str], cwd: Path | None = None) -> tuple[list[str], bool]:
    """pytest's arguments for suites of the package or folders of the user's own, and whether they are the package's.

    Args:
        cwd: where pytest keeps its cache, for suites of the package; None where it keeps none.

    Raises:
        SuiteError: a name is neither, or both kinds are named.
    """
    from auditkit.claims.suites import SuiteError, arguments

    paths = [name for name in names if _is_path(name)]
    if paths and len(paths) < len(names):
        raise SuiteError(
            f"{paths[0]} is a folder of your own and the others are suites of the package; they have different "
            "root folders, so measure them in two calls"
        )
    if missing := next((path for path in paths if not Path(path.split("::")[0]).exists()), None):
        raise SuiteError(f"there is no folder or file {missing}")
    return paths or arguments(names, cwd), not paths


def taken_apart(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of suites, and the options with their values: a word is a name unless it follows an option directly."""
    names: list[str] = []
    rest: list[str] = []
    for before, word in zip(["", *args], args, strict=False):
        option = before.startswith("-") and "=" not in before and before not in _FLAGS
        (rest if word.startswith("-") or option else names).append(word)
    return names, rest


def _is_path(name: str) -> bool:
    """Whether a word names a folder or file of the user's own, and no suite of the package."""
    from auditkit.claims.suites import packaged

    first = Path(name.split("::")[0])
    return (
        first.is_absolute()
        or first.parts[:1] == ("..",)
        or name.startswith("./")
        or (first.parts[:1] != () and first.parts[0] not in packaged() and first.exists())
    )


def _suites(_: argparse.Namespace) -> int:
    from auditkit.claims.suites import packaged

    if not packaged():
        return refused("no suites are installed with this auditkit; install its wheel again")
    say(_listed())
    return 0


def _listed() -> Iterator[str]:
    from auditkit.claims.suites import packaged
    from auditkit.gate.budget import REST, duration

    for suite in packaged().values():
        takes = "" if suite.tokens is None else f", about {duration(REST * suite.tokens * LAYERS / AT)}"
        against = f", {suite.compared} of them compare with a base" if suite.compared else ""
        yield f"{suite.name}: {suite.claims} claims{against}{takes}"
        yield f"  {suite.question}"
        if suite.needs:
            yield f"  needs: {suite.needs}"
    yield ""
    yield (
        f"Times are those of the default model ({LAYERS} layers) at --effort standard and {AT:,} token-layers (tokens "
        "times layers) a second, as two cores do; a run says what it will take on your machine."
    )
    yield "Measure one with: auditkit audit SUITE --model MODEL"
