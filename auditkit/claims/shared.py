"""Shared measurements: what several claims use is measured once, and says the same under each of them.

A search for heads or a batch of edited runs serves many claims and costs too much to be made for each. What it notes
and draws while it is made is recorded with it and replayed under every claim that uses it. So a claim that runs alone
shows the same notes and figures as in the whole suite, whichever claim asked first.

    class Heads:
        @shared_measurement
        def found(self) -> FoundHeads:
            note("each pair is asked one in three questions")
            return self._search()

    heads.found  # measures once, and notes that sentence under each claim that reads it
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, overload

from auditkit.claims.evidence import Evidence, gathering, replay

S = TypeVar("S")
T = TypeVar("T")


class SharedMeasurements:
    """Measurements by key: each is made once, and what it said is replayed at every use."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Any, Evidence]] = {}

    def get(self, key: Hashable, measure: Callable[[], T]) -> T:
        """What `measure` returned when this key was asked for first; its notes and figures go under the current claim.

        Raises:
            RuntimeError: the measurement compared an effect with a threshold, which only a claim may do.
            Exception: what `measure` raises. Nothing is kept then, and what was noted so far is under the claim.
        """
        if key not in self._made:
            self._made[key] = _recorded(key, measure)
        value: T
        value, recorded = self._made[key]
        replay(recorded)
        return value

    def keep(self, key: Hashable, value: object) -> None:
        """Hold a value that was measured elsewhere, as one that noted nothing."""
        self._made[key] = value, Evidence()


class shared_measurement(Generic[S, T]):
    """A cached property that says the same under every claim that reads it; see the module.

    Raises:
        RuntimeError, Exception: as `SharedMeasurements.get`.
    """

    def __init__(self, measure: Callable[[S], T]) -> None:
        self._measure, self._name = measure, measure.__name__
        self.__doc__ = measure.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> shared_measurement[S, T]: ...
    @overload
    def __get__(self, instance: S, owner: type) -> T: ...
    def __get__(self, instance: S | None, owner: type) -> T | shared_measurement[S, T]:
        if instance is None:
            return self
        return _measured_by(instance).get(self._name, lambda: self._measure(instance))

    def keep(self, instance: S, value: T) -> None:
        """Give an instance a value that another one has measured; it notes nothing."""
        _measured_by(instance).keep(self._name, value)


def _measured_by(instance: object) -> SharedMeasurements:
    kept: SharedMeasurements = vars(instance).setdefault("_shared_measurements", SharedMeasurements())
    return kept


def _recorded(key: Hashable, measure: Callable[[], T]) -> tuple[T, Evidence]:
    try:
        with gathering() as recorded:
            value = measure()
    except Exception:
        _refuse_judgement(key, recorded)
        replay(recorded)
        raise
    _refuse_judgement(key, recorded)
    return value, recorded


def _refuse_judgement(key: Hashable, recorded: Evidence) -> None:
    """A comparison made here would count for the claim that happened to ask first, and for no other."""
    judged = any(control.verdict is not None for control in recorded.controls)
    if recorded.decisions or recorded.alternatives or judged:
        raise RuntimeError(
            f"the shared measurement {key!r} compares an effect with a threshold: compare it in the claims that use it"
        )
