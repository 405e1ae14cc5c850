"""Undecided claims are looked at again with more items, at looks that are declared before anything is measured.

A claim is a test function, and its measurements are fixtures that ask `audit.sized` for their number of items. At a
further look those fixtures are made again, with more items, and the test runs again; all other fixtures, such as the
model, are those of the first look. The fixtures of a look serve all claims that get that far.

Each look spends a share of the error that is declared with it (`auditkit.record.plan.LOOKS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

import pytest
from _pytest.fixtures import FixtureDef, FuncFixtureInfo  # pytest has no public way to fill fixtures again

from auditkit.claims.evidence import Evidence, clear
from auditkit.pytest_plugin.claims import verdict_of
from auditkit.pytest_plugin.options import SETTINGS_FIXTURE
from auditkit.record.needed import at_threshold
from auditkit.record.plan import LOOKS
from auditkit.record.schema import Verdict
from auditkit.stats.intervals import spending


class LaterFixtures:
    """The fixtures of one further look."""

    def __init__(self) -> None:
        self._made: dict[FixtureDef[Any], FixtureDef[Any]] = {}

    @contextmanager
    def of(self, item: pytest.Function) -> Iterator[dict[str, Any]]:
        """The arguments of the test at this look, while the block runs."""
        first, arguments, request = item._fixtureinfo, item.funcargs, item._request
        known: dict[str, Sequence[FixtureDef[Any]]] = {
            name: [self._later(one, first) for one in some] for name, some in first.name2fixturedefs.items()
        }
        item._fixtureinfo = replace(first, name2fixturedefs=known)
        try:
            item._initrequest()
            item._request._fillfixtures()
            yield {name: item.funcargs[name] for name in first.argnames}
        finally:
            item._fixtureinfo, item.funcargs, item._request = first, arguments, request

    def _later(self, fixture: FixtureDef[Any], info: FuncFixtureInfo) -> FixtureDef[Any]:
        """The fixture as this look has it: a copy with a value of its own, if it depends on the number of items, or if
        it is made for each run of a test."""
        if fixture.scope != "function" and not depends_on_items(fixture.argname, info, frozenset()):
            return fixture
        if fixture not in self._made:
            later = self._made[fixture] = copy(fixture)
            later.cached_result = None
            vars(later)["_finalizers"] = []
        return self._made[fixture]


def depends_on_items(name: str, info: FuncFixtureInfo, above: frozenset[str]) -> bool:
    """Whether a fixture of a test asks for the number of items, itself or through others.

    Args:
        above: the fixtures through which this one was reached, which need not be looked at again.
    """
    if name == SETTINGS_FIXTURE:
        return True
    asked = {argument for one in info.name2fixturedefs.get(name, ()) for argument in one.argnames}
    return any(depends_on_items(other, info, above | {name}) for other in asked - above - {name})


def looked_at_again(item: pytest.Item) -> bool:
    """Whether more items can change what this claim measures."""
    info = getattr(item, "_fixtureinfo", None)
    return info is not None and any(depends_on_items(name, info, frozenset()) for name in info.name2fixturedefs)


def is_open(evidence: Evidence, error: Exception | None) -> bool:
    """Whether more items could decide a claim: it is undecided, or has not shown the behaviour that it is about.

    A claim that sits at its threshold is not open: what is left does not count.
    """
    verdict, _, lack = verdict_of(evidence, error)
    if verdict is Verdict.NOT_APPLICABLE:
        return lack == "behaviour"
    undecided = [one.effect for one in evidence.decisions if one.verdict is Verdict.INCONCLUSIVE]
    return verdict is Verdict.INCONCLUSIVE and not (undecided and all(map(at_threshold, undecided)))


class FurtherLooks:
    """Takes the looks after the first at claims that are still open."""

    def __init__(self) -> None:
        self.look = 0
        """The look under way, from 0; what the fixtures are made with."""
        self._fixtures = [LaterFixtures() for _ in LOOKS[1:]]

    def take(self, item: pytest.Function, evidence: Evidence, error: Exception | None) -> Exception | None:
        """Look again until the claim is decided or the last look is taken; its evidence is then that of the last one.

        Args:
            error: what ended the test at the first look.

        Returns:
            What ended it at the last look that was taken.
        """
        try:
            while self.look + 1 < len(LOOKS) and is_open(evidence, error):
                self.look += 1
                clear(evidence)
                with spending(LOOKS[self.look].spends):
                    error = self._ended(item)
            evidence.notes.append(self._told())
        finally:
            self.look = 0
        return error

    def _ended(self, item: pytest.Function) -> Exception | None:
        test: Callable[..., object] = item.obj
        try:
            with self._fixtures[self.look - 1].of(item) as arguments:
                test(**arguments)
        except Exception as error:
            return error
        return None

    def _told(self) -> str:
        sizes = " and ".join(f"{look.share:g}" for look in LOOKS)
        shares = " and ".join(f"{100 * look.spends:g} %" for look in LOOKS)
        return (
            f"{len(LOOKS)} looks were declared, with {sizes} times the suite's own items, which spend {shares} of the "
            f"error; this is look {self.look + 1}"
        )
