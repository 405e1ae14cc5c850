"""Questions over HTTP, with bounds on what an answer may be: its bytes, and the time that it may take."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from auditkit.adapters.errors import ModelError, first_line

_CONNECTING, _READING = 10.0, 60.0
_ATTEMPTS = 3
_PAUSE = 0.02
"""Seconds before a question is asked again; the pause doubles."""


class ServerError(ModelError):
    """The server cannot be reached, refuses, or answers what cannot be used; one line that says what to do."""


@dataclass(frozen=True)
class Reply:
    """What came back, whole."""

    code: int
    content: bytes

    @property
    def detail(self) -> str:
        """What an answer of refusal says, in brackets; empty where it says nothing."""
        try:
            said = json.loads(self.content).get("detail", "")
        except (ValueError, RecursionError, AttributeError):
            return ""
        return f" ({first_line(RuntimeError(str(said)))})" if said else ""


class Http:
    """A client for one server.

    Args:
        name: of the server, for messages.
        setting: the variable that names its address, likewise.
        seconds: that one answer may take.
    """

    def __init__(self, name: str, setting: str, seconds: float) -> None:
        self._name, self._setting, self._seconds = name, setting, seconds
        self._client = httpx.Client(timeout=httpx.Timeout(_CONNECTING, read=min(_READING, seconds)))

    def answer(self, method: str, url: str, most: int, **sent: Any) -> Reply:
        """The answer to a question, which is asked again where the connection breaks: none of them changes anything
        on a server, and a job that is run twice gives the same.

        Args:
            most: bytes that it may have.

        Raises:
            ServerError: no answer, one that is too long, or one that takes too long.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._asked(method, url, most, sent)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if attempt == _ATTEMPTS:
                    said = f"{type(error).__name__}: {first_line(error)}"
                    raise ServerError(
                        f"the NDIF server {self._name} does not answer ({said}); check the network and {self._setting}"
                    ) from None
            time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("at least one attempt")

    def _asked(self, method: str, url: str, most: int, sent: dict[str, Any]) -> Reply:
        rest = dict(sent)
        headers = {**rest.pop("headers", {}), "Accept-Encoding": "identity"}
        ends, got = time.monotonic() + self._seconds, bytearray()
        with self._client.stream(method, url, headers=headers, **rest) as answer:
            for part in answer.iter_raw():
                got += part
                if len(got) > most:
                    raise ServerError(f"{self._name} sent more than {most:,} bytes, beyond anything asked for")
                if time.monotonic() > ends:
                    raise ServerError(f"{self._name} did not send an answer whole in {self._seconds:g} s")
        return Reply(answer.status_code, bytes(got))
