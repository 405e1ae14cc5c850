"""An NDIF server on this machine: it takes the jobs that nnsight sends and runs them with nnsight's own code.

It speaks the four addresses that a client without a socket uses. `instead` puts another behaviour in place of its own.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import nnsight
import torch
import zstandard
from nnsight.intervention.serialization import CustomCloudUnpickler

KEY = "a-key"
REPOSITORY = "owner/tiny"


class Unpickler(CustomCloudUnpickler):
    """A server has none of the client's packages."""

    def find_class(self, module: str, name: str) -> Any:
        assert not module.startswith(("auditkit", "tests")), f"a job needs {module}.{name} on the server"
        return super().find_class(module, name)


class Ndif(ThreadingHTTPServer):
    """The server.

    Attributes:
        instead: path without its last part ("/status", "/request", "/response", "/result") -> what answers it.
        jobs: how many were run.
    """

    daemon_threads = True

    def __init__(self, module: Any, tokenizer: Any, revision: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = nnsight.LanguageModel(module, tokenizer=tokenizer)
        self.revision = revision
        self.instead: dict[str, Callable[[_Handler], None]] = {}
        self.results: dict[str, bytes | Exception] = {}
        self.jobs = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def model_key(self) -> str:
        named = json.dumps({"repo_id": REPOSITORY, "revision": self.revision})
        return f"nnsight.modeling.language.LanguageModel:{named}"

    @property
    def status(self) -> dict[str, Any]:
        entry = {"model_key": self.model_key, "repo_id": REPOSITORY, "revision": self.revision}
        return {"deployments": {"one": {**entry, "application_state": "RUNNING", "deployment_level": "HOT"}}}

    def run(self, number: str, job: bytes) -> None:
        """Run a job and keep its result, or what it raised."""
        try:
            with self.lock, torch.no_grad():
                packed = zstandard.ZstdDecompressor().decompress(job)
                request = Unpickler(io.BytesIO(packed), self.model._remoteable_persistent_objects()).load()
                saved = request.tracer.execute(request.interventions)
                self.jobs += 1
            self.results[number] = packed_result(saved)
        except Exception as error:
            self.results[number] = error


def packed_result(saved: Any) -> bytes:
    """A result as a server stores it."""
    file = io.BytesIO()
    torch.save(saved, file)
    return zstandard.ZstdCompressor(level=1).compress(file.getvalue())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Ndif

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        where, _, number = self.path[1:].partition("/")
        if instead := self.server.instead.get(f"/{where}"):
            instead(self)
        elif where == "result":
            self.send(self.server.results.pop(number))
        elif self.headers["ndif-api-key"] != KEY:
            self.json({"detail": "Invalid API key."}, 401)
        elif where == "status":
            self.json(self.server.status)
        elif where == "env":
            self.json({"python_version": "3.12", "packages": {"torch": "9.9.9", "other": "1"}})
        elif where == "request":
            self._take()
        else:
            self._tell(number)

    def _take(self) -> None:
        assert self.headers["nnsight-model-key"] == self.server.model_key
        number = f"job-{time.monotonic_ns()}"
        threading.Thread(target=self.server.run, args=(number, self.body), daemon=True).start()
        self.state(number, "RECEIVED")

    def _tell(self, number: str) -> None:
        result = self.server.results.get(number)
        if result is None:
            self.state(number, "RUNNING")
        elif isinstance(result, Exception):
            self.state(number, "ERROR", description=f"Traceback:\n  a line\n{type(result).__name__}: {result}")
        else:
            self.state(number, "COMPLETED", data=[f"{self.server.address}/result/{number}", len(result)])

    def state(self, number: str, status: str, **more: Any) -> None:
        self.json({"id": number, "status": status, **more})

    def json(self, said: Any, code: int = 200) -> None:
        self.send(json.dumps(said).encode(), code)

    def send(self, content: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


Handler = _Handler


def dropped(handler: _Handler) -> None:
    """In place of an answer, the connection ends."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(module: Any, tokenizer: Any, revision: str | None = None) -> Iterator[Ndif]:
    """A server while the context lasts."""
    server = Ndif(module, tokenizer, revision)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
