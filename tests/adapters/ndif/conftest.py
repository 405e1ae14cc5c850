"""A server on this machine that runs tiny models, and the environment that leads to it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ndif import KEY, REPOSITORY, Ndif, serving

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.ndif.adapter import NdifAdapter
from auditkit.adapters.ndif.opening import load
from auditkit.adapters.ndif.server import Server


@pytest.fixture(scope="session")
def serve(open_family: Callable[[str], HFAdapter]) -> Iterator[Callable[[str], Ndif]]:
    """Family -> a server that runs a copy of its module, one for the session."""
    contexts: dict[str, Any] = {}
    running: dict[str, Ndif] = {}

    def once(family: str) -> Ndif:
        if family not in running:
            plain = open_family(family)
            contexts[family] = serving(copy.deepcopy(plain.module), plain.tokenizer)
            running[family] = contexts[family].__enter__()
        return running[family]

    yield once
    for context in contexts.values():
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def configs(
    open_family: Callable[[str], HFAdapter], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Family -> what the hub has of its model besides weights."""

    def written(family: str) -> Path:
        folder, plain = tmp_path_factory.mktemp(family), open_family(family)
        plain.module.config.save_pretrained(folder)
        plain.tokenizer.save_pretrained(folder)
        return folder

    return written


@pytest.fixture(scope="session")
def open_remote(serve: Callable[[str], Ndif], configs: Callable[[str], Path]) -> Callable[[str], NdifAdapter]:
    """Family -> the adapter on its server, opened once."""
    opened: dict[str, NdifAdapter] = {}

    def once(family: str) -> NdifAdapter:
        if family not in opened:
            with pytest.MonkeyPatch.context() as patch:
                leading_to(patch, serve(family), configs(family))
                opened[family] = NdifAdapter(load(REPOSITORY))
        return opened[family]

    return once


def leading_to(patch: pytest.MonkeyPatch, server: Ndif, folder: Path) -> None:
    """Let a user's environment name the server, and the hub have the folder."""
    patch.setenv("NDIF_HOST", server.address)
    patch.setenv("NDIF_API_KEY", KEY)
    patch.setattr("auditkit.adapters.ndif.opening.fetched", lambda *asked: folder)


@pytest.fixture
def remote(open_remote: Callable[[str], NdifAdapter]) -> NdifAdapter:
    return open_remote("llama")


@pytest.fixture
def server(serve: Callable[[str], Ndif]) -> Iterator[Ndif]:
    """The server of the adapter `remote`; what a test lets it do instead ends with the test."""
    server = serve("llama")
    yield server
    server.instead.clear()
    server.revision = None


@pytest.fixture(scope="session")
def client(serve: Callable[[str], Ndif]) -> Server:
    """One for all tests: an HTTP client reads every certificate of the machine when it is made."""
    return Server(serve("llama").address, KEY, seconds=60.0)


@pytest.fixture
def led(server: Ndif, configs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Ndif:
    """The server, to which the environment leads."""
    leading_to(monkeypatch, server, configs("llama"))
    return server
