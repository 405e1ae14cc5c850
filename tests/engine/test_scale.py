"""The simulation of a fleet: its arithmetic, and the page that shows it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

import auditkit
from auditkit.claims.suites import packaged
from auditkit.engine.costs import SIZES
from auditkit.engine.scale import DISK, HOST, PARTS, START, Workload, best, makespan, parts_tokens, shares, written

pytestmark = pytest.mark.unit

PAGE = Path(auditkit.__file__).parents[1] / "docs" / "scale.md"


def test_the_page_has_the_numbers_of_the_simulation() -> None:
    text = PAGE.read_text("utf-8")
    assert text == written(text), "python -m auditkit.engine.scale writes it"


def test_all_suites_are_shared_out() -> None:
    assert PARTS.keys() == packaged().keys()
    assert sum(parts_tokens()) == pytest.approx(sum(suite.tokens or 0 for suite in packaged().values()))
    assert sum(shares(5)) == pytest.approx(1)


def test_the_last_job_ends_no_sooner_than_any_order_allows() -> None:
    jobs = [7.0, 5.0, 4.0, 3.0, 3.0, 2.0]
    slots = 3
    least = min(
        max(sum(job for job, place in zip(jobs, places, strict=True) if place == slot) for slot in range(slots))
        for places in itertools.product(range(slots), repeat=len(jobs))
    )
    assert least <= makespan(jobs, slots) <= 4 / 3 * least, "Graham's bound for the longest first"
    assert makespan(jobs, 1) == sum(jobs)
    assert makespan(jobs, 6) == max(jobs)


def test_one_model_in_one_job_takes_what_the_formula_says() -> None:
    """7B: token-layers and FLOP by hand."""
    size = SIZES[0]
    tokens = sum(suite.tokens or 0 for suite in packaged().values())
    weights = 28 * (3584 * (2 * 128 * (28 + 4) + 3 * 18944)) + 2 * 3584 * 152064
    flops = tokens * 28 * (2 * 3584 * (2 * 128 * 32 + 3 * 18944) + 4 * 28 * 128 * 56)
    assert Workload(1, size, 1, 1).jobs() == [pytest.approx(START + 2 * weights / DISK + HOST + flops / 400e12)]


def test_more_gpus_never_take_longer_and_a_model_that_does_not_fit_has_no_fleet() -> None:
    hours = [fleet.hours() for gpus in (1, 8, 64) if (fleet := best(100, SIZES[0], gpus)) is not None]
    assert hours == sorted(hours, reverse=True)
    assert best(1, SIZES[1], 1) is None
    whole = best(1, SIZES[1], 64)
    assert whole is not None
    assert whole.shards <= len(parts_tokens())


@pytest.mark.slow
def test_the_parts_are_those_that_shards_share_out() -> None:
    """Of the suites as pytest collects them."""
    code = (
        "import collections, json, pytest\n"
        "from auditkit.pytest_plugin.selection import groups\n"
        "class Keep:\n"
        "    def pytest_collection_modifyitems(self, items):\n"
        "        found = collections.defaultdict(list)\n"
        "        for item in items:\n"
        "            found[item.path.parent.name].append(item)\n"
        "        print('PARTS', json.dumps({n: sorted(map(len, groups(s)))[::-1] for n, s in found.items()}))\n"
        "pytest.main(['suites', '--collect-only', '-q', '-p', 'no:cacheprovider'], plugins=[Keep()])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PAGE.parents[1], capture_output=True, text=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("PARTS ")]
    assert {name: tuple(sizes) for name, sizes in json.loads(line[6:]).items()} == PARTS
