"""What the benchmarks share: the machine they ran on, timing, and the tables that they print and store."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m-instruct"

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Wall-clock seconds and the result."""
    started = time.perf_counter()
    value = work()
    return time.perf_counter() - started, value


def matmul_rate() -> float:
    """GFLOP/s of a plain 2048 x 2048 float32 matrix product, the median of ten."""
    return _rate(lambda a, b: a @ b)


def linear_rate() -> float:
    """The same of a linear layer, by the library that the engine takes."""
    import torch

    from auditkit.adapters.hf.products import multiplying

    with torch.no_grad(), multiplying():
        return _rate(torch.nn.functional.linear)


def _rate(product: Callable[[Any, Any], object]) -> float:
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    product(a, b)
    return 2 * 2048**3 / statistics.median(timed(lambda: product(a, b))[0] for _ in range(10)) / 1e9


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(*packages: str) -> str:
    """Processor, cores, threads, and versions of Python and `packages`; one that is missing is said to be."""
    import torch

    def version(package: str) -> str:
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            return f"no {package}"

    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return ", ".join([platform.machine(), cores, f"Python {platform.python_version()}", *map(version, packages)])


def report(name: str, title: str, text: str, packages: Sequence[str], write: bool) -> None:
    """Print a result and where it was measured; with `write`, store both in benchmarks/results/NAME.md."""
    given = [
        "FOLDER" if Path(text).is_absolute() else text for text in sys.argv[1:]
    ]  # where on a machine tells nobody
    command = shlex.join(["python", f"benchmarks/{name}.py", *given])
    footer = f"Measured on {machine(*packages)}, with `{command}`."
    print(f"{text}\n\n{footer}")
    if write:
        target = ROOT / "benchmarks" / "results" / f"{name}.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"# {title}\n\n{text}\n\n{footer}\n")
