"""A measurement of which other processes did some batches is that of one process, to the last bit and in its cost."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measurements import NAMES, conditions, of, plain

from auditkit.engine import batching
from auditkit.engine.continuation import generation, likelihoods, shared_prefix
from auditkit.engine.exchange import turns
from auditkit.engine.exchange.folder import BatchFile, Exchange, Unwanted, exchanging
from auditkit.engine.guards import counting_edits
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.sites import mlp

pytestmark = pytest.mark.unit

ASKED = ("plan", "no GPU")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches of a few rows."""
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 24)
    monkeypatch.setattr(generation, "GENERATING", 48)
    monkeypatch.setattr(likelihoods, "TOKEN_BUDGET", 24)
    monkeypatch.setattr(shared_prefix, "WORTH", 4)


@pytest.fixture
def measure(tiny: Any, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`measure(name, exchange)`: a result, its cost, how many batches were run here, and how many there are."""
    handed = []
    write = BatchFile.write
    monkeypatch.setattr(BatchFile, "write", lambda file, rows: (handed.append(file.path), write(file, rows)))

    def measured(name: str, exchange: Exchange | None) -> tuple[Any, tuple[int, ...], int]:
        handed.clear()
        before = tiny.meter.token_layers, tiny.meter.runs
        with exchanging(exchange), counting_edits() as edits:
            result = plain(of(name)(tiny, pairs))
        cost = tiny.meter.token_layers - before[0], tiny.meter.runs - before[1], edits.runs
        return result, cost, len(handed)

    return measured


def exchange(folder: Path, model: str | None = "model") -> Exchange:
    return Exchange(folder, ASKED, lambda _: model)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_other_processes_make_the_measurement_of_one(name: str, measure: Any, tmp_path: Path) -> None:
    alone, cost, _ = measure(name, None)
    first, spent, batches = measure(name, exchange(tmp_path))
    assert (first, spent) == (alone, cost), "dividing with nobody changes nothing"
    assert batches > 1, "a measurement of one batch would show nothing"
    files = sorted(tmp_path.iterdir())
    assert len(files) == batches
    again, spent, run = measure(name, exchange(tmp_path))
    assert (again, spent, run) == (alone, cost, 0), "all was there, and counts as in one process"
    for kept in (files[::2], files[1::2]):
        for file in set(files).difference(kept):
            file.unlink(missing_ok=True)
        mixed, _, run = measure(name, exchange(tmp_path))
        assert mixed == alone
        assert run == batches - len(kept)


def test_what_is_of_another_model_plan_or_edit_is_measured_anew(
    measure: Any, tmp_path: Path, pairs: Any, tiny: Any
) -> None:
    _, _, batches = measure("restarted", exchange(tmp_path))
    assert measure("restarted", exchange(tmp_path, "another"))[2] == batches
    assert measure("restarted", Exchange(tmp_path, ("another plan", "no GPU"), lambda _: "model"))[2] == batches
    assert measure("patch", exchange(tmp_path))[2] > 1
    with exchanging(exchange(tmp_path)):
        other = restarted(tiny, pairs, {"mlps": [[mlp.layers(0, 2)]] * len(pairs)})
    assert plain(other) == plain(restarted(tiny, pairs, {"mlps": [[mlp.layers(0, 2)]] * len(pairs)}))


def test_a_model_without_a_digest_is_not_divided(measure: Any, tmp_path: Path) -> None:
    assert measure("restarted", exchange(tmp_path, None))[2] == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:40] + b"x" + b[41:], lambda b: b"", lambda b: b"{}"]
)
def test_a_file_that_does_not_hold_is_measured_again(measure: Any, tmp_path: Path, damage: Any) -> None:
    alone, _, _ = measure("losses", exchange(tmp_path))
    file = sorted(tmp_path.iterdir())[0]
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert measure("losses", exchange(tmp_path))[::2] == (alone, 1)
    assert file.read_bytes() == whole, "and written again"


def test_rows_of_another_shape_are_measured_again(measure: Any, tmp_path: Path) -> None:
    alone, _, _ = measure("losses", exchange(tmp_path))
    one, other = sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_size)[:: batches_apart(tmp_path)]
    one.write_bytes(other.read_bytes())
    assert measure("losses", exchange(tmp_path))[::2] == (alone, 1)


def batches_apart(folder: Path) -> int:
    sizes = [file.stat().st_size for file in folder.iterdir()]
    assert min(sizes) < max(sizes)
    return len(sizes) - 1


def test_without_room_or_rights_each_process_measures_all_of_it(
    measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, cost, _ = measure("restarted", None)
    shared = exchange(tmp_path)

    def full(path: Path, *_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(Path, "open", full)
        assert measure("restarted", shared)[:2] == (alone, cost)
    assert not list(tmp_path.iterdir())


def test_memory_that_ends_in_one_process_changes_no_row_of_another(
    measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batches are others from there on, so it finds fewer rows and runs them itself."""
    alone, _, _ = measure("token logits", exchange(tmp_path))
    fits, calls = batching._fits, itertools.count()
    monkeypatch.setattr(batching, "_fits", lambda work, rows: next(calls) > 0 and fits(work, rows))
    for file in sorted(tmp_path.iterdir())[:2]:
        file.unlink()
    got, _, _ = measure("token logits", exchange(tmp_path))
    np.testing.assert_allclose(got["base"], alone["base"], atol=2e-5)


def test_a_guard_that_trips_trips_in_every_process(
    tiny: Any, pairs: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from auditkit.engine.patching import restarted as restarting

    monkeypatch.setattr(restarting.PairRuns, "walk", broken(restarting.PairRuns.walk))
    for _ in range(2):
        with exchanging(exchange(tmp_path)):
            measured = restarted(tiny, pairs, conditions(pairs))
        assert "miss" in measured.whole, "whole runs take their place"


def broken(walk: Any) -> Any:
    def walked(self: Any, *args: Any) -> Any:
        answers, spent = walk(self, *args)
        return answers + 1.0, spent

    return walked


def test_a_claim_that_is_decided_is_measured_no_further(measure: Any, tmp_path: Path) -> None:
    shared = exchange(tmp_path)
    with shared.helping("model", "suite/claim"):
        assert measure("ends", shared)[2] > 1
        shared.decide("model", "suite/other")
        assert measure("token logits", shared)[2] > 1
        shared.decide("model", "suite/claim")
        with pytest.raises(Unwanted):
            measure("states", shared)
    assert measure("states", shared)[2] > 1, "its own claims are measured, whoever else decided them"


def test_a_batch_that_another_process_holds_for_ever_is_run_here(
    measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, cost, _ = measure("losses", exchange(tmp_path))
    files = sorted(tmp_path.iterdir())
    for file in files[:2]:
        file.write_bytes(b"")
    held = [BatchFile(file) for file in files[:2]]
    assert all(file.take() for file in held)
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    monkeypatch.setattr(turns, "LONGER", 0.0)
    assert measure("losses", exchange(tmp_path))[:2] == (alone, cost)
    for file in held:
        file.close()
