"""What of the suites that a run touches it leaves out: claims that were not selected, files that were not read, and
claims of other shards.

`--shard I/N` is one part of the claims, so that several machines measure one plan; `auditkit merge` joins the runs.
Every shard plans all claims, so that all have one plan and each can say what it leaves to the others. As with several
processes on one machine, a suite stays whole: its claims share what its fixtures have measured.

Every session loads this: nothing heavy.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from auditkit.pytest_plugin.options import refusal

if TYPE_CHECKING:
    from auditkit.record.schema import Untested

DESELECTED = "not selected: the command line, or a plugin such as --lf, left it out"


class Seen:
    """What the collected files hold, selected or not.

    Attributes:
        items: node id -> test.
        classes: node ids of classes that were met and not read.
        files: files that were read.
        whole: collecting came to its end.
    """

    def __init__(self) -> None:
        self.items: dict[str, pytest.Item] = {}
        self.classes: set[str] = set()
        self.files: set[Path] = set()
        self.whole = False


seen_key: pytest.StashKey[Seen] = pytest.StashKey()


def not_selected(
    config: pytest.Config, items: Sequence[pytest.Item], deselected: Sequence[pytest.Item], seen: Seen
) -> list[Untested]:
    """An entry for each claim that was left out, and one for each class or file of tests that was not read.

    A file is one of the same suites that the command line does not name, that `--lf` skips as a whole, or that its
    suite leaves out of this run. Other suites are not part of what was asked.
    """
    left = [(item.nodeid, DESELECTED) for item in deselected] + [
        (name, DESELECTED) for name in sorted(seen.classes)
    ]
    left += [
        (_relative(path, config.rootpath), f"the file was not read: {_why_not_read(path, config)}")
        for folder in sorted({item.path.parent for item in items})
        for path in _test_files(folder, config.getini("python_files"))
        if path not in seen.files
    ]
    from auditkit.record.schema import Untested

    return [Untested(what=what, reason=reason) for what, reason in left]


def _why_not_read(path: Path, config: pytest.Config) -> str:
    if vars(config.option).get("lf"):
        return "skipped by --lf"
    named = [(config.invocation_params.dir / str(arg).partition("::")[0]).resolve() for arg in config.args]
    if any(path.resolve().is_relative_to(one) for one in named):
        return "its suite, or an option such as --ignore, leaves it out of this run"
    return "not among the paths of the command line"


def _test_files(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Files of a folder that pytest reads when it is given the folder."""
    for path in sorted(folder.glob("*.py")):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns):
            yield path


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def elsewhere(claims: Sequence[pytest.Item], which: int, number: int) -> set[pytest.Item]:
    """The claims that the other shards measure. Suites go, the largest first, to the shard with the fewest claims.

    Args:
        which: this shard, counted from 1.
        number: how many shards there are.

    Raises:
        pytest.UsageError: there are fewer suites than shards.
    """
    suites = Counter(item.path.parent for item in claims)
    if number > len(suites):
        raise refusal(
            f"--shard {which}/{number}: a suite stays in one shard, and {len(suites)} suites have claims; use at most "
            f"{len(suites)} shards"
        )
    loads = [0] * number
    place = {}
    for suite, size in sorted(suites.items(), key=lambda entry: (-entry[1], str(entry[0]))):
        place[suite] = loads.index(min(loads))
        loads[place[suite]] += size
    return {item for item in claims if place[item.path.parent] != which - 1}
