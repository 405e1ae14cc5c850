"""Which process runs a batch: one of them, each once; and another one where that process was killed or is slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.adapters.protocol import Meter
from auditkit.engine.batching import in_units
from auditkit.engine.exchange import turns
from auditkit.engine.exchange.folder import BatchFile, BatchRows, Exchange, Unwanted, exchanging
from auditkit.engine.exchange.turns import Divided, Turns
from auditkit.record.locks import QUEUED

pytestmark = pytest.mark.unit


def exchange(folder: Path) -> Exchange:
    return Exchange(folder, ("plan",), lambda adapter: "model")


def model() -> Any:
    return SimpleNamespace(meter=Meter())


def measure(folder: Path, units: list[list[int]], ran: list[int], seconds: float) -> tuple[torch.Tensor, Meter]:
    """The square of every row, by a model that counts a token-layer for each."""
    adapter, out = model(), torch.zeros(sum(map(len, units)))

    def work(rows: list[int]) -> None:
        ran.append(rows[0])
        time.sleep(seconds)
        adapter.meter.token_layers += len(rows)
        for row in rows:
            out[row] = row**2

    with exchanging(exchange(folder)):
        in_units(work, units, "squares", Divided(adapter, ("squares", units), {"out": out}))
    return out, adapter.meter


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=9), processes=st.integers(1, 4))
@settings(max_examples=20)
def test_each_batch_is_run_once_and_all_have_all_rows(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], processes: int
) -> None:
    folder = tmp_path_factory.mktemp("exchange")
    rows = iter(range(sum(sizes)))
    units = [[next(rows) for _ in range(size)] for size in sizes]
    ran: list[int] = []
    found: list[tuple[torch.Tensor, Meter]] = []
    together = [
        threading.Thread(target=lambda: found.append(measure(folder, units, ran, 0.002))) for _ in range(processes)
    ]
    for one in together:
        one.start()
    for one in together:
        one.join()
    assert sorted(ran) == [unit[0] for unit in units]
    assert len(found) == processes
    for out, meter in found:
        assert out.tolist() == [row**2 for row in range(sum(sizes))]
        assert meter.token_layers == sum(sizes), "each counts what one process would have run"


def test_what_a_killed_process_had_begun_is_run_by_another(tmp_path: Path) -> None:
    units = [[0], [1], [2]]
    divided = Divided(model(), ("squares", units), {"out": torch.zeros(3)})
    name = exchange(tmp_path).measurement(divided.adapter, divided.of)
    assert name is not None
    file = exchange(tmp_path).batch(name, [1])
    code = (
        "import sys, time; from pathlib import Path; from auditkit.engine.exchange.folder import BatchFile; "
        "file = BatchFile(Path(sys.argv[1])); print(file.take(), flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(file.path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "True"
    threading.Timer(1.0, lambda: os.kill(child.pid, signal.SIGKILL)).start()
    ran: list[int] = []
    began = time.monotonic()
    out, _ = measure(tmp_path, units, ran, 0.0)
    assert time.monotonic() - began > 0.5, "it was waited for"
    assert ran == [0, 2, 1]
    assert out.tolist() == [0, 1, 4]
    child.wait()


def test_batches_begun_before_come_first(tmp_path: Path) -> None:
    divided = Divided(model(), ("it",), {"out": torch.zeros(4)}, begun={(2,)})
    with exchanging(exchange(tmp_path)):
        taking = Turns(divided)
        with taking.next([[0], [1], [2], [3]]) as turn:
            assert turn.rows == [2]


def test_rows_that_come_while_a_batch_is_waited_for_are_taken(tmp_path: Path) -> None:
    out = torch.zeros(1)
    divided = Divided(model(), ("it",), {"out": out})
    shared = exchange(tmp_path)
    name = shared.measurement(divided.adapter, divided.of)
    assert name is not None
    other = shared.batch(name, [0])
    assert other.take()

    def hand_over() -> None:
        rows = torch.tensor([5.0]).view(torch.uint8).numpy().tobytes()
        other.write(BatchRows(values={"out": rows}, token_layers=7, runs=1, edited=0))
        other.close()

    threading.Timer(0.3, hand_over).start()
    with exchanging(shared), Turns(divided).next([[0]]) as turn:
        assert turn.there
    assert out.tolist() == [5.0]
    assert divided.adapter.meter == shared.received == Meter(token_layers=7, runs=1)


def test_more_rows_than_are_worth_carrying_are_measured_by_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MOST", 8)
    ran: list[int] = []
    for _ in range(2):
        out, _ = measure(tmp_path, [[0], [1, 2]], ran, 0.0)
        assert out.tolist() == [0, 1, 4]
    assert Counter(ran) == {0: 2, 1: 2}
    assert not list(tmp_path.iterdir())


def test_what_has_no_digest_is_measured_by_each(tmp_path: Path) -> None:
    """A suite of one's own may hand over what no digest is known of; its claims are the same, alone and divided."""
    out, ran = torch.zeros(2), list[int]()
    divided = Divided(model(), ("it", object()), {"out": out})
    for _ in range(2):
        with exchanging(exchange(tmp_path)):
            in_units(ran.extend, [[0], [1]], "it", divided)
    assert ran == [0, 1, 0, 1]
    assert not list(tmp_path.iterdir())


def test_a_file_without_its_digest_holds_no_rows(tmp_path: Path) -> None:
    file = BatchFile(tmp_path / "batch")
    assert file.read() is None
    assert file.take()
    assert file.read() is None, "taken, and not run"
    file.write(BatchRows(values={}, token_layers=1, runs=1, edited=0))
    file.close()
    assert file.read() == BatchRows(values={}, token_layers=1, runs=1, edited=0)
    whole = file.path.read_bytes()
    for size in range(len(whole)):
        file.path.write_bytes(whole[:size])
        assert file.read() is None


def test_claims_are_wanted_of_processes_that_run(tmp_path: Path) -> None:
    owner, other = exchange(tmp_path), exchange(tmp_path)
    claims = [("model", "suite/one"), ("model", "suite/two"), ("another", "suite/one")]
    assert other.wanted(claims) == [False] * 3
    owner.join(claims[:2])
    assert other.wanted(claims) == [True, True, False]
    (tmp_path / QUEUED).touch()
    assert other.wanted(claims) == [False] * 3, "whoever is done is to make room"
    (tmp_path / QUEUED).unlink()
    owner.decide(*claims[0])
    assert other.wanted(claims) == [False, True, False]
    assert owner._own is not None
    owner._own.close()  # as the system does when its process ends
    assert other.wanted(claims) == [False] * 3


def test_a_helper_waits_for_nobody(tmp_path: Path) -> None:
    shared = exchange(tmp_path)
    divided = Divided(model(), ("it",), {"out": torch.zeros(2)})
    name = shared.measurement(divided.adapter, divided.of)
    assert name is not None
    other = shared.batch(name, [0])
    assert other.take()
    exchange(tmp_path).join([("model", "suite/claim")])
    with exchanging(shared), shared.helping("model", "suite/claim"):
        taking = Turns(divided)
        with taking.next([[0], [1]]) as turn:
            assert turn.rows == [1], "what is free is run"
            turn.done()
        assert not shared.gave_way
        with pytest.raises(Unwanted, match="is under way in other processes"):
            taking.next([[0]])
    assert shared.gave_way
    assert shared.handed == 1
    other.close()
