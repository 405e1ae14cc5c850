"""What a first user waits for: set-up, opening, the default audit, its memory, and the plugin's start-up cost.

    python benchmarks/first_light.py                opening and start-up (about a minute)
    python benchmarks/first_light.py --audit        and the default audit, second time (minutes)
    python benchmarks/first_light.py --clone        and `make audit` in a fresh clone with an empty cache

Prints a table and, with --write, stores it in benchmarks/results/first_light.md with machine and versions.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import MODEL, ROOT, report, table

OPEN = f"""
import time
started = time.perf_counter()
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
imported = time.perf_counter()
from auditkit import open_model
adapter = open_model({MODEL!r})
print(imported - started, time.perf_counter() - imported, adapter.info.parity_max_abs)
"""


def opening() -> list[tuple[str, str, str]]:
    """Seconds to open the cached default model in a fresh process, without and with importing torch."""
    subprocess.run([sys.executable, "-c", OPEN], check=True, capture_output=True)  # fills the cache
    runs = [
        [float(number) for number in subprocess.check_output([sys.executable, "-c", OPEN], text=True).split()]
        for _ in range(5)
    ]
    imports, seconds, parity = (statistics.median(column) for column in zip(*runs, strict=True))
    return [
        ("opening the cached model, second time", f"{seconds:.2f} s", "at most 1.5 s"),
        ("importing torch and the model's code in transformers before it", f"{imports:.2f} s", ""),
        ("batched against plain logits, largest difference", f"{parity:.1e}", ""),
    ]


def start_up() -> list[tuple[str, str, str]]:
    """What the plugin adds to a pytest run without claims: paired medians of whole runs, and its import alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

        def run(*extra: str) -> float:
            started = time.perf_counter()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *extra]
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
            return time.perf_counter() - started

        run("-p", "auditkit.pytest_plugin.entry")
        differences = [run("-p", "auditkit.pytest_plugin.entry") - run() for _ in range(15)]
    return [
        ("plugin in an unrelated pytest run", f"{1000 * statistics.median(differences):.0f} ms", "under 30 ms")
    ]


def audit() -> list[tuple[str, str, str]]:
    """The default audit with model and environment in place: seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, "-m", "pytest", "suites/", "--model", MODEL, "--audit-dir", folder]
        code = subprocess.run(command, cwd=ROOT, capture_output=True).returncode
        seconds = time.perf_counter() - started
    # Maximum over all children so far; the audit is by far the largest of them.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    return [
        (f"default audit, second time (exit code {code})", f"{seconds:.0f} s", "under 240 s"),
        ("peak memory of it", f"{peak:.2f} GiB", "under 3 GiB"),
    ]


def fresh_clone() -> list[tuple[str, str, str]]:
    """`make audit` from nothing: clone, environment, model, audit."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "AUDITKIT_CACHE": str(Path(folder, "cache"))}
        environment.pop("VIRTUAL_ENV", None)
        started = time.perf_counter()
        done = subprocess.run(["make", "audit"], cwd=clone, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        last = (done.stdout.strip().splitlines() or [""])[-1]
        reached = done.returncode == 0 and Path(last).is_file()
        shutil.rmtree(clone, ignore_errors=True)
    return [(f"make audit in a fresh clone (report there: {reached})", f"{seconds:.0f} s", "under 600 s")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audit", action="store_true")
    parser.add_argument("--clone", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = opening() + start_up()
    rows += audit() if arguments.audit else []
    rows += fresh_clone() if arguments.clone else []
    text = table(("what", "measured", "wanted"), rows)
    report("first_light", "First light", text, ("torch", "transformers", "pytest"), arguments.write)


if __name__ == "__main__":
    main()
