"""What a conformance check comes to, and how one is made of a function that compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Literal

from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.engine.crosscheck import allowed_difference


@dataclass(frozen=True)
class CheckResult:
    """What a check came to.

    Attributes:
        check: its name.
        outcome: "refused" where the adapter says that this model cannot do what is asked.
        difference: the largest difference seen, in the units of what was compared; None where nothing was.
        reason: of a refusal or a failure.
    """

    check: str
    outcome: Literal["green", "refused", "failed"]
    difference: float | None
    reason: str


Check = Callable[[Adapter, Sequence[Prompt]], CheckResult]

CHECKS: dict[str, Check] = {}
"""Name -> check, in the order of the table in docs/conformance.md."""


class Refused(Exception):
    """The model lacks what the check asks for."""


class Failed(Exception):
    """The adapter does not do what it must."""


Inner = Callable[[Adapter, Sequence[Prompt]], "Largest"]


def named(name: str) -> Callable[[Inner], Check]:
    """Make a check of a function that gives differences, refuses or fails; whatever it raises is a failure."""

    def make(inner: Inner) -> Check:
        @wraps(inner)
        def check(adapter: Adapter, prompts: Sequence[Prompt]) -> CheckResult:
            try:
                found = inner(adapter, prompts)
            except Refused as refused:
                return CheckResult(name, "refused", None, str(refused))
            except Exception as error:  # an adapter may raise anything
                said = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
                return CheckResult(name, "failed", None, said)
            if found.excess is not None:
                return CheckResult(name, "failed", found.difference, found.excess)
            return CheckResult(name, "green", found.difference, "")

        CHECKS[name] = check
        return check

    return make


class Largest:
    """The largest difference so far, and the first that rounding does not explain."""

    def __init__(self, adapter: Adapter) -> None:
        self.info = adapter.info
        self.difference: float | None = None
        self.excess: str | None = None

    def compare(self, what: str, got: Tensor, expected: Tensor) -> None:
        if got.shape != expected.shape:
            raise Failed(f"{what} has shape {tuple(got.shape)} instead of {tuple(expected.shape)}")
        difference = float((got.float() - expected.float()).abs().max())
        allowed = allowed_difference(float(expected.abs().max()), self.info.dtype, self.info.parity_max_abs)
        if not difference <= allowed and self.excess is None:
            self.excess = f"{what} differs by {difference:.2g}, rounding explains {allowed:.2g}"
        self.difference = max(difference, self.difference or 0.0)
