"""What a server does wrong ends in one line, and nothing that it sends is executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from ndif import KEY, Handler, Ndif, dropped, packed_result

from auditkit.adapters.errors import ModelError
from auditkit.adapters.ndif.adapter import NdifAdapter
from auditkit.adapters.ndif.http import ServerError
from auditkit.adapters.ndif.server import Server, from_environment
from auditkit.testing.conformance import example_prompts

pytestmark = pytest.mark.unit

MOST = 10_000


def finished(server: Ndif, content: bytes, url: str | None = None, status: str = "COMPLETED") -> None:
    """Let every job end at once, with this result."""
    address = url or f"{server.address}/result/job"
    server.instead["/request"] = lambda handler: handler.state("job", status, data=address)
    server.instead["/result"] = lambda handler: handler.send(content)


def swelling() -> bytes:
    """A small archive that is large when it is unpacked."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(100 * MOST))
    return zstandard.compress(file.getvalue())


class Hostile:
    """A pickle that makes a file where it is opened."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("pack", [packed_result, lambda saved: zstandard.compress(pickle.dumps(saved))])
def test_a_hostile_result_is_not_executed(
    pack: Callable[[Any], bytes], server: Ndif, client: Server, tmp_path: Path
) -> None:
    made, works = tmp_path / "made", tmp_path / "works"
    pickle.loads(pickle.dumps(Hostile(works)))
    assert works.exists()
    content = pack({"found": Hostile(made)})
    finished(server, content)
    with pytest.raises(
        ServerError, match="holds more than tensors, or is damaged; it was not opened, since a pickle"
    ):
        client.result(b"", {}, MOST)
    assert not made.exists()


def test_a_result_of_tensors_is_read(server: Ndif, client: Server) -> None:
    finished(server, packed_result({"found": {"a": torch.arange(3.0)}}))
    assert torch.equal(client.result(b"", {}, MOST)["found"]["a"], torch.arange(3.0))


def test_a_job_waits_through_every_state(server: Ndif, client: Server) -> None:
    states = ["QUEUED", "LOG", "DISPATCHED", "RUNNING"]
    finished(server, packed_result({}), status="RECEIVED")

    def tell(handler: Handler) -> None:
        if len(states) == 2:
            states.pop()
            handler.json({"detail": "not yet written"}, 404)
            return
        status = states.pop() if states else "COMPLETED"
        handler.state("job", status, data=[f"{server.address}/result/job", 1] if not states else None)

    server.instead["/response"] = tell
    assert client.result(b"", {}, MOST) == {}
    assert not states


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (lambda s: finished(s, b"no zstd"), "sent a result that cannot be unpacked"),
        (lambda s: finished(s, bytes(MOST + 1)), "sent more than 10,000 bytes, beyond anything asked for"),
        (lambda s: finished(s, zstandard.compress(bytes(10**7))), "sent more than 10,000 bytes"),
        (lambda s: finished(s, swelling()), "sent more than 10,000 bytes"),
        (lambda s: finished(s, packed_result([1])), "sent a result that is no dictionary"),
        (lambda s: finished(s, b"", "http://127.0.0.1:1/x"), "a result that is neither its own nor encrypted"),
        (lambda s: finished(s, b"", "file:///etc/passwd"), "a result that is neither its own nor encrypted"),
        (lambda s: finished(s, b"", status="STREAM"), "'STREAM'; auditkit runs nothing that a server sends"),
        (lambda s: s.instead.update({"/request": lambda h: h.json([])}), "gave no state of a job"),
        (lambda s: s.instead.update({"/request": lambda h: h.send(b"<html>")}), "something else than JSON"),
        (lambda s: s.instead.update({"/request": lambda h: h.json({"detail": "too old"}, 400)}), r"400 .*\(too old\)"),
        (lambda s: s.instead.update({"/request": dropped}), "does not answer .*; check the network and NDIF_HOST"),
        (lambda s: s.instead.update({"/response": dropped}) or finished(s, b"", status="QUEUED"), "does not answer"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(
    behave: Callable[[Ndif], None], said: str, server: Ndif, client: Server
) -> None:
    behave(server)
    with pytest.raises(ServerError, match=said) as raised:
        client.result(b"", {}, MOST)
    assert "\n" not in str(raised.value)


def test_a_job_that_fails_gives_the_last_line_of_its_traceback(remote: NdifAdapter, server: Ndif) -> None:
    server.instead["/response"] = lambda handler: handler.state(
        "job", "ERROR", description="Traceback\n a\nKeyError: b"
    )
    with pytest.raises(ServerError, match=r"a job failed on 127\.0\.0\.1:\d+: KeyError: b$"):
        remote.run(remote.batch(example_prompts(remote)))


def test_memory_that_runs_out_there_is_memory_that_runs_out(remote: NdifAdapter, server: Ndif) -> None:
    text = "Traceback\ntorch.OutOfMemoryError: CUDA out of memory."
    server.instead["/response"] = lambda handler: handler.state("job", "ERROR", description=text)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        remote.run(remote.batch(example_prompts(remote)))


def test_a_job_that_takes_too_long(server: Ndif) -> None:
    finished(server, b"", status="RECEIVED")
    server.instead["/response"] = lambda handler: handler.state("job", "QUEUED")
    with pytest.raises(
        ServerError, match=r"did not finish a job in 0\.1 s \(state QUEUED\); .*AUDITKIT_NDIF_TIMEOUT"
    ):
        Server(server.address, KEY, seconds=0.1).result(b"", {}, MOST)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"found": {}}, "sent a result of other names than were asked for"),
        ({"found": {"logits": torch.ones(1)}}, r"sent \(1,\) where numbers of shape \(3, 1, 300\) were asked for"),
        ({"found": {"logits": 1}}, "sent int where numbers of shape"),
    ],
)
def test_a_result_of_another_form_than_asked_for(
    found: dict[str, Any], said: str, remote: NdifAdapter, server: Ndif
) -> None:
    finished(server, packed_result(found))
    with pytest.raises(ServerError, match=said):
        remote.run(remote.batch(example_prompts(remote)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"NDIF_API_KEY": ""}, "an NDIF server asks for an API key: set NDIF_API_KEY"),
        ({"NDIF_API_KEY": "a\nb"}, "holds characters that no API key has"),
        ({"NDIF_HOST": "http://ndif.example"}, "the address in NDIF_HOST is not encrypted; give https://HOST"),
        ({"NDIF_HOST": "https://me:secret@ndif.example"}, "is no address; give https://HOST"),
        ({"NDIF_HOST": "ndif.example"}, "is no address; give https://HOST"),
        ({"AUDITKIT_NDIF_TIMEOUT": "soon"}, "'soon': give a number of seconds"),
    ],
)
def test_an_environment_that_leads_nowhere(
    changes: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"NDIF_API_KEY": KEY, "NDIF_HOST": "https://ndif.example/"} | changes).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=said):
        from_environment("https://api.ndif.us", None)


def test_the_environment_goes_before_nnsights_own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NDIF_API_KEY", "NDIF_HOST", "AUDITKIT_NDIF_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    assert from_environment("https://api.ndif.us", "k") == Server("https://api.ndif.us", "k", 600.0)
    monkeypatch.setenv("NDIF_HOST", "https://mine.example/")
    monkeypatch.setenv("AUDITKIT_NDIF_TIMEOUT", "30")
    assert from_environment("https://api.ndif.us", "k") == Server("https://mine.example", "k", 30.0)


def test_the_key_is_not_sent_to_the_address_of_a_result(server: Ndif, client: Server) -> None:
    seen: list[str | None] = []
    finished(server, packed_result({}))

    def give(handler: Handler) -> None:
        seen.append(handler.headers["ndif-api-key"])
        handler.send(packed_result({}))

    server.instead["/result"] = give
    client.result(json.dumps({}).encode(), {}, MOST)
    assert seen == [None]
