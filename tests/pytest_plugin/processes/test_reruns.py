"""A claim is not run until it is green: plugins that run failed tests again do not get to see claims."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from auditkit.record.journal import read_journal
from auditkit.record.schema import Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

# What pytest-rerunfailures does, without its options' many conditions.
AGAIN = """
from _pytest.runner import runtestprotocol

def pytest_addoption(parser):
    parser.addoption("--reruns", type=int, default=0)

def pytest_runtest_protocol(item, nextitem):
    for attempt in range(item.config.option.reruns + 1):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        again = attempt < item.config.option.reruns and any(report.failed for report in reports)
        for report in reports:
            if again and report.failed:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        if not again:
            break
    return True

def pytest_report_teststatus(report):
    if report.outcome == "rerun":
        return "rerun", "R", ("RERUN", {"yellow": True})
"""
SUITE = '''"""A finding."""
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

tries = []

def planted(center):
    values = np.random.default_rng(0).normal(0, 0.4, 60)
    index = pd.Index([f"item{i}" for i in range(60)], name="item")
    labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
    measurement = Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels)
    return Estimate("e", "logit", measurement, center + values)

def test_claim(model):
    """Holds when it is asked twice."""
    tries.append("claim")
    assert planted(len(tries)) > 1.5

def test_ordinary():
    tries.append("ordinary")
    assert tries.count("ordinary") == 2

def test_counts():
    assert tries == ["claim", "ordinary", "ordinary"]
'''


@pytest.mark.parametrize("plugin", ["simulated", *filter(find_spec, ["pytest_rerunfailures"])])
def test_the_first_verdict_stands(pytester: pytest.Pytester, tiny_llama: Path, plugin: str) -> None:
    if plugin == "simulated":
        pytester.makeconftest(AGAIN)
        options = ["-p", "no:rerunfailures"]
    else:
        options = []
    pytester.makepyfile(test_finding=SUITE)
    result = pytester.runpytest_inprocess("--model", str(tiny_llama), "--reruns", "3", *options)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*1 rerun*"])
    assert result.ret == 1
    result.stdout.fnmatch_lines(["claims are not run again (--reruns): the first verdict of a claim stands"])
    latest = pytester.path / "reports" / "latest"
    (claim,) = read_run(latest).claims
    assert claim.verdict is Verdict.FAIL
    assert len(read_journal(latest / "journal.jsonl")[1]) == 1
