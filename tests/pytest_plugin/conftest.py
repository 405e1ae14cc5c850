"""Loaded once for all tests of the plugin.

pytester forgets what a run in this process imported. Every run would import it anew, which takes longer than all
of the runs together, and what registers itself with pyarrow cannot be imported a second time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas.core.arrays.arrow.extension_types  # noqa: F401
import pyarrow.parquet  # noqa: F401
import pytest

import auditkit.adapters.hf.adapter
import auditkit.pytest_plugin.session
import auditkit.stats.effects.mean  # noqa: F401
from auditkit.record.schema import Claim, Run
from auditkit.record.store import read_run

CONFTEST = '''
import json
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.data import order  # a method, whose code is part of the plan

def planted(model):
    """What the test planted for this model, or for every one."""
    world = json.loads(Path("world.json").read_text())
    return {**world, **world.get(model.info.name, {})}

@pytest.fixture
def estimate(model, audit):
    def make(name="effect", share=False):
        world = planted(model)
        noise = np.random.default_rng(audit.seed).normal(0, 0.4, 60)
        moved = np.random.default_rng(world.get("draw", 1)).normal(0, 0.05, 60) if world["shift"] else 0
        values = 1 + noise - noise.mean() + world["shift"] + moved
        index = pd.Index([f"item{i}" for i in range(60)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
        prompts = {item: {"clean": f"{world.get('prompt', 'ask')} {item}"} for item in index}
        total = 2 + 0.1 * np.cos(np.arange(60.0)) + world["shift"] if share else None
        table = pd.DataFrame({"p": values}, index=index)
        kept = slice(world.get("items", 60))
        if total is not None:
            total = total[kept]
        measurement = Measurement("m", "logit", table[kept], labels[kept], prompts)
        return Estimate(name, "logit", measurement, values[kept], total)
    return make
'''
ESTIMATE = """
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

@pytest.fixture
def estimate(model):
    "An estimate whose interval is about 1 ± 0.1."
    values = np.random.default_rng(0).normal(0, 0.4, 60)
    values += 1 - values.mean()
    index = pd.Index([f"item{i}" for i in range(60)], name="item")
    labels = pd.DataFrame({"topic": [f"t{i % 15}" for i in range(60)]}, index=index)
    return Estimate("e", "logit", Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels), values)
"""
SUITE = '''"""A finding."""

def test_once(estimate, threshold):
    """Is above a limit."""
    assert estimate() > threshold(0.5)

def test_share(estimate, threshold):
    """Is at least a fifth of another effect."""
    assert estimate("share", share=True) >= threshold(0.2)

def test_kept(estimate, baseline):
    """Is no worse than it was, by 0.3."""
    now = estimate("kept")
    assert now.no_worse_than(baseline(now), by=0.3, better="higher")
'''


class Audits:
    """Runs of one suite with what was planted for them."""

    def __init__(self, pytester: pytest.Pytester, model: Path) -> None:
        self.pytester, self.path, self.model = pytester, pytester.path, model
        self.suite = pytester.mkdir("suite")
        (self.suite / "conftest.py").write_text(CONFTEST)
        (self.suite / "test_finding.py").write_text(SUITE)
        self.plant(shift=0.0)

    def plant(self, **world: Any) -> None:
        (self.path / "world.json").write_text(json.dumps(world))

    def __call__(self, *args: str, model: Path | str | None = None) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("suite", "--model", str(model or self.model), *args)

    def copy(self, name: str) -> Path:
        shutil.copytree(self.model, self.path / name, dirs_exist_ok=True)
        return self.path / name

    @property
    def folder(self) -> Path:
        return (self.path / "reports" / "latest").resolve()

    @property
    def run(self) -> Run:
        return read_run(self.folder)

    def claim(self, name: str) -> Claim:
        return next(claim for claim in self.run.claims if claim.id == f"suite/{name}")

    def difference(self, shift: float) -> Any:
        """(60,) what each item has more than with nothing planted."""
        return shift + np.random.default_rng(1).normal(0, 0.05, 60)

    def folders(self) -> set[str]:
        return {path.name for path in (self.path / "reports").glob("2*")}


@pytest.fixture
def audits(pytester: pytest.Pytester, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Audits:
    """Runs of a suite whose numbers are planted, so that the change between two of them is known.

    They are no workers, whichever worker of xdist this test runs in.
    """
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return Audits(pytester, tiny_llama)


class Shelf:
    """Report folders of runs that many tests begin with: made by the first that asks, copied for the others."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, name: str, reports: Path, make: Callable[[], object]) -> None:
        """Put the folder of this name at `reports`; `make` makes it there where it is not on the shelf yet."""
        if (self.path / name).exists():
            shutil.copytree(self.path / name, reports, symlinks=True)
        else:
            make()
            shutil.copytree(reports, self.path / name, symlinks=True)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def recorded(audits: Audits, shelf: Shelf) -> Path:
    """A run without a baseline, to be one."""
    shelf.take("recorded", audits.path / "reports", audits)
    return audits.folder


@pytest.fixture
def estimating(pytester: pytest.Pytester) -> Callable[[str], None]:
    """Text of tests -> a folder `suite` with them, whose fixture `estimate` has an interval of about 1 ± 0.1."""

    def write(tests: str) -> None:
        suite = pytester.mkdir("suite")
        (suite / "conftest.py").write_text(ESTIMATE)
        (suite / "test_finding.py").write_text(tests)

    return write
