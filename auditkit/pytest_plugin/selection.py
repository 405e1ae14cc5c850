"""What of the suites that a run touches it leaves out: claims that were not selected, files that were not read, and
claims of other shards.

`--shard I/N` is one part of the claims, so that several machines measure one plan; `auditkit merge` joins the runs.
Every shard plans all claims, so that all have one plan and each can say what it leaves to the others. Claims that share
measurements stay in one process, which is a shard or a worker of `-n`: another one would measure them again.

Every session loads this: nothing heavy.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


def elsewhere(
    claims: Sequence[pytest.Item], which: int, number: int, tokens: Mapping[str, float | None]
) -> set[pytest.Item]:
    """The claims that the other shards measure. Parts go, the largest first, to the shard with the least to run.

    Args:
        which: this shard, counted from 1.
        number: how many shards there are.
        tokens: suite -> tokens that its claims run; where one does not say, claims count instead.

    Raises:
        pytest.UsageError: there are fewer parts than shards.
    """
    found = parts(claims, number, tokens)
    if number > len(found):
        raise refusal(
            f"--shard {which}/{number}: claims that share measurements stay in one shard, and the suites consist of "
            f"{len(found)} such parts; use at most {len(found)} shards"
        )
    loads, own = [0.0] * number, set[pytest.Item]()
    for part in found:
        place = min(range(number), key=lambda one: (loads[one], one))
        loads[place] += part.load or 1e-9  # a suite that runs nothing still goes to a shard that has nothing
        own |= set(part.claims) if place == which - 1 else set()
    return set(claims) - own


@dataclass(frozen=True)
class ClaimPart:
    """Claims that one process measures.

    Attributes:
        load: tokens that they run, or how many they are.
    """

    claims: list[pytest.Item]
    load: float


def parts(
    claims: Sequence[pytest.Item],
    number: int,
    tokens: Mapping[str, float | None],
    model: Callable[[pytest.Item], str] = lambda item: "",
) -> list[ClaimPart]:
    """What one shard or worker measures together, the largest first: whole suites. One that is more than a process's
    share is divided, and so are others, the largest first, as long as there would be fewer parts than processes.

    Args:
        number: of processes.
        tokens: as for `elsewhere`.
        model: the model of a claim, where the claims of each model stay apart.
    """
    sizes = Counter(item.path.parent for item in claims)
    said = {suite: tokens.get(suite.name) for suite in sizes}
    known = None not in said.values()
    weight = {suite: (said[suite] or 0) / size if known else 1.0 for suite, size in sizes.items()}

    def part_of(items: Sequence[pytest.Item]) -> ClaimPart:
        return ClaimPart(list(items), sum(weight[item.path.parent] for item in items))

    suites: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in claims:
        suites.setdefault((item.path.parent, model(item)), []).append(item)
    whole = [part_of(suite) for suite in suites.values()]
    ordered = sorted(whole, key=lambda suite: (-suite.load, str(suite.claims[0].path.parent)))
    share = sum(suite.load for suite in ordered) / number
    most = share * (1 + 1e-9)  # sums in another order differ in the last bits
    found: list[ClaimPart] = []
    for place, suite in enumerate(ordered):
        too_few = len(found) + len(ordered) - place < number
        found += map(part_of, groups(suite.claims)) if suite.load > most or too_few else [suite]
    return sorted(found, key=lambda part: (-part.load, part.claims[0].nodeid))


def groups(suite: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    """The claims of a suite, divided where they share no measurement; each claim is in one group.

    A measurement is a fixture of the suite that lives longer than a test. Two claims belong together where both use
    one, directly or through other fixtures. One that every claim builds on (the questions, say) joins only those that
    name it: what it costs is paid in every shard.
    """
    used = [_measurements(item) for item in suite]
    everywhere = set.intersection(*(through for _, through in used))
    found: list[tuple[set[int], list[pytest.Item]]] = []
    for item, (named, through) in zip(suite, used, strict=True):
        links, members = named | (through - everywhere), [item]
        apart = []
        for other_links, others in found:
            if other_links & links:
                links, members = links | other_links, others + members
            else:
                apart.append((other_links, others))
        found = [*apart, (links, members)]
    order = {item: place for place, item in enumerate(suite)}
    divided = [sorted(members, key=order.__getitem__) for _, members in found]
    return sorted(divided, key=lambda members: order[members[0]])


def _measurements(item: pytest.Item) -> tuple[set[int], set[int]]:
    """The measurements of its suite that a test names, and those that it uses through others too."""
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return set(), set()
    wide = {
        name: id(definitions[-1])
        for name, definitions in info.name2fixturedefs.items()
        if definitions
        and definitions[-1].scope != "function"
        and _is_within(definitions[-1].func, item.path.parent)
    }
    return {wide[name] for name in info.argnames if name in wide}, set(wide.values())


def _is_within(function: object, folder: Path) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and Path(code.co_filename).resolve().is_relative_to(folder.resolve())
