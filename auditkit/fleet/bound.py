"""`python -m auditkit.fleet.bound PARENT ARG ...`: Python with these arguments, in a process that ends with its parent.

A launcher or a worker of a scheduler can be killed without a chance to end what it has started. A model that goes on
without anybody to wait for it keeps the memory of its GPU. So the system is asked to end this process (as SIGTERM does,
which lets an audit close its journal) when the one that started it is gone. Only Linux can be asked.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

_SET_SIGNAL_OF_PARENTS_DEATH = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def main(args: Sequence[str]) -> None:
    """Become Python with the arguments behind the parent's number."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_SET_SIGNAL_OF_PARENTS_DEATH, signal.SIGTERM)
        if os.getppid() != int(args[0]):  # it was gone before the system was asked
            sys.exit(128 + signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, *args[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
