"""An NDIF server: four addresses over HTTP, and nothing that it says is executed.

`/status` lists models, `/request` takes a job, `/response/ID` says how far it is, and a finished job names the address
of its result. nnsight's own client also unpickles events from a socket, and runs functions that the server sends; both
are left out here. A result is read by torch's restricted reader, which refuses everything but tensors and plain
containers of them.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import time
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

import torch
import zstandard

from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.ndif.http import Http, Reply, ServerError

SECONDS = 600.0
"""How long a job may take, with its wait for the model, where the user does not say otherwise."""

TIMEOUT = "AUDITKIT_NDIF_TIMEOUT"
HOST, KEY = "NDIF_HOST", "NDIF_API_KEY"

_FIRST_WAIT, _LONGEST_WAIT = 0.02, 2.0
"""Seconds between two questions for a job's state; the wait doubles."""
_LARGEST_JSON = 16 * 1024**2
_UNDER_WAY = ("RECEIVED", "QUEUED", "DISPATCHED", "RUNNING", "LOG")


@dataclass(frozen=True)
class Server:
    """Where an NDIF server is, and how it is asked.

    Attributes:
        address: without a slash at the end.
        key: the user's API key.
        seconds: how long a job may take.
    """

    address: str
    key: str = field(repr=False)
    seconds: float = SECONDS

    @property
    def name(self) -> str:
        """The host, and the port where one is given."""
        return urlsplit(self.address).netloc

    def asked(self, path: str) -> Any:
        """What the server answers to a question, as JSON.

        Raises:
            ServerError: nothing that can be used.
        """
        return self._json(self._answer(path), path)

    def result(self, job: bytes, headers: Mapping[str, str], most: int) -> dict[str, Any]:
        """Send a job, wait for its end, and fetch what it saved.

        Args:
            job: as nnsight serializes it, compressed.
            most: bytes that the result may have.

        Raises:
            ServerError: the job failed, took too long, or left something else than a dictionary.
            torch.OutOfMemoryError: the job did not fit into the server's memory.
        """
        said = self._submitted(job, headers)
        number, ends, wait = quote(said["id"], safe=""), time.monotonic() + self.seconds, _FIRST_WAIT
        while (state := said["status"]) != "COMPLETED":
            if state == "ERROR":
                self._raise_failed(str(said.get("description") or "no reason given"))
            if state not in _UNDER_WAY:
                raise ServerError(
                    f"{self.name} answered a job with the state {str(state)[:40]!r}; auditkit runs nothing that a "
                    "server sends"
                )
            if time.monotonic() >= ends:
                raise ServerError(
                    f"{self.name} did not finish a job in {self.seconds:g} s (state {state}); try again later, or "
                    f"allow more seconds with {TIMEOUT}"
                )
            time.sleep(min(wait, max(0.0, ends - time.monotonic())))
            wait = min(2 * wait, _LONGEST_WAIT)
            said = self._asked_of(number) or said
        return self._read(self._fetched(said.get("data"), most), most)

    def _asked_of(self, number: str) -> dict[str, Any] | None:
        """The state of a job; None where the server has not written it down yet."""
        path = f"/response/{number}"
        answer = self._answer(path)
        return None if answer.code == 404 else self._state(self._json(answer, path))

    def _submitted(self, job: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        sent = {**headers, "ndif-api-key": self.key, "Content-Type": "application/octet-stream"}
        answer = self._http.answer("POST", f"{self.address}/request", _LARGEST_JSON, content=job, headers=sent)
        return self._state(self._json(answer, "/request"))

    def _answer(self, path: str) -> Reply:
        headers = {"ndif-api-key": self.key}
        return self._http.answer("GET", f"{self.address}{path}", _LARGEST_JSON, headers=headers)

    def _state(self, said: Any) -> dict[str, Any]:
        if not isinstance(said, dict) or not isinstance(said.get("id"), str) or "status" not in said:
            raise ServerError(f"{self.name} gave no state of a job; is {self.address} an NDIF server ({HOST})?")
        return said

    def _raise_failed(self, description: str) -> None:
        lines = [line.strip() for line in description.splitlines() if line.strip()]
        last = first_line(RuntimeError(lines[-1] if lines else "no reason given"))
        if "OutOfMemoryError" in description:
            raise torch.OutOfMemoryError(f"{self.name}: {last}")  # the engine then takes smaller batches
        raise ServerError(f"a job failed on {self.name}: {last}")

    def _fetched(self, data: Any, most: int) -> bytes:
        """The bytes of a result, from the address that the server names, without the API key."""
        url = data[0] if isinstance(data, list) and data else data
        if not isinstance(url, str):
            raise ServerError(f"{self.name} named no address for the result of a job")
        if not url.startswith(("https://", f"{self.address}/")):
            raise ServerError(f"{self.name} names an address for a result that is neither its own nor encrypted")
        answer = self._http.answer("GET", url, most)
        self._require_found(answer, "the address of a result")
        return answer.content

    def _read(self, packed: bytes, most: int) -> dict[str, Any]:
        try:
            with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)) as reader:
                plain = reader.read(most + 1)
        except zstandard.ZstdError as error:
            raise ServerError(f"{self.name} sent a result that cannot be unpacked ({first_line(error)})") from None
        if len(plain) > most or _unpacked(plain) > most:
            raise ServerError(f"{self.name} sent more than {most:,} bytes, beyond anything asked for")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of versions of the format that a file may have
                found = torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)
        except Exception:  # torch names many kinds; all mean that this is no file of tensors
            raise ServerError(
                f"{self.name} sent a result that holds more than tensors, or is damaged; it was not opened, since "
                "a pickle can run code"
            ) from None
        if not isinstance(found, dict):
            raise ServerError(f"{self.name} sent a result that is no dictionary")
        return found

    @cached_property
    def _http(self) -> Http:
        return Http(self.name, HOST, self.seconds)

    def _require_found(self, answer: Reply, what: str) -> None:
        if answer.code in (401, 403) and what.startswith("/"):
            raise ServerError(f"{self.name} refuses the API key; give one that it knows in {KEY}")
        if answer.code != 200:
            raise ServerError(f"{self.name} answered {answer.code} to {what}{answer.detail}")

    def _json(self, answer: Reply, path: str) -> Any:
        self._require_found(answer, path)
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError):
            raise ServerError(
                f"{self.name} answered {path} with something else than JSON; is {self.address} an NDIF server "
                f"({HOST})?"
            ) from None


def from_environment(host: str, key: str | None) -> Server:
    """The server that the environment names.

    Args:
        host, key: what nnsight's own configuration says, for what the environment leaves out.

    Raises:
        ModelError: no key, an address that would show it to others, or a time that is none.
    """
    address = (os.environ.get(HOST) or host).rstrip("/")
    _require_private(address, f"the address in {HOST}")
    key = os.environ.get(KEY) or key
    if not key:
        raise ModelError(f"an NDIF server asks for an API key: set {KEY} (https://login.ndif.us gives one)")
    if not (key.isascii() and key.isprintable()):
        raise ModelError(f"{KEY} holds characters that no API key has")
    text = os.environ.get(TIMEOUT, str(SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ModelError(f"{TIMEOUT}={text[:40]!r}: give a number of seconds")
    return Server(address, key, seconds)


def _require_private(address: str, what: str) -> None:
    """Refuse an address over which keys, prompts or activations would go unencrypted.

    Raises:
        ServerError: neither https nor this machine.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        raise ServerError(f"{what} is no address") from None
    if not host or parts.scheme not in ("https", "http") or "@" in parts.netloc:
        raise ServerError(f"{what} is no address; give https://HOST")
    if parts.scheme == "http" and not _is_here(host):
        raise ServerError(f"{what} is not encrypted; give https://HOST")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unpacked(file: bytes) -> int:
    """Bytes of what a file of torch holds when it is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return len(file)
