"""What a probe that raised has found out: that the model cannot do it, or nothing.

Families may do anything with what they are given in another way than their own code gives it, and the errors that this
ends in mean "no". Anything else (a warning that was turned into an error, memory that ran out, a file that is gone)
says nothing about the model. It is told as such, and not taken for a missing capability without a word.
"""

from __future__ import annotations

import torch

from auditkit.adapters.errors import first_line
from auditkit.adapters.protocol import Support

FAMILY_ERRORS = (
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a family's code runs into when it is called in another way than it expects."""


def failed(what: str, error: Exception) -> Support:
    """The answer of a probe of `what` that raised."""
    said = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, FAMILY_ERRORS) and not isinstance(error, torch.OutOfMemoryError):
        return Support(False, f"{what} fails: {said}")
    return Support(False, f"{what} could not be tested: {said}", unexpected=True)
