"""Which models an NDIF server runs, by its own word: the repository and the revision that it names, and no digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from auditkit.adapters.errors import ModelError
from auditkit.adapters.ndif.server import Server
from auditkit.record.escaping import plain

_CLASS = "nnsight.modeling.language.LanguageModel"
"""The wrapper whose names of modules this adapter uses."""

_SHOWN = 8
"""Models of a server that a message names."""


@dataclass(frozen=True)
class Deployed:
    """A model as a server names it.

    Attributes:
        key: what a job calls it.
        revision: empty where the server names none.
        state: "RUNNING" where it takes jobs.
    """

    key: str
    repository: str
    revision: str
    state: str

    @property
    def words(self) -> str:
        """Repository and revision, worded as the server's word."""
        return f"repository {self.repository} at {self.revision or 'no stated revision'}"


def find(server: Server, repository: str) -> Deployed:
    """The running model of a repository.

    Raises:
        ModelError: the server has none, or several revisions of it.
    """
    there = list(_listed(server.asked("/status")))
    same = [one for one in there if one.repository == repository]
    running = [one for one in same if one.state == "RUNNING"]
    if not same:
        names = sorted({one.repository for one in there if one.state == "RUNNING"})
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise ModelError(
            f"{server.name} has no model {repository}; it runs {', '.join(names[:_SHOWN]) or 'none'}{more}"
        )
    if not running:
        raise ModelError(f"{server.name} does not run {repository} now (state {same[0].state}); try again later")
    if len(running) > 1:
        raise ModelError(
            f"{server.name} runs several revisions of {repository}, so it is not known which one would answer: "
            f"{', '.join(one.revision or 'one without a name' for one in running)}"
        )
    return running[0]


def packages(server: Server) -> dict[str, str]:
    """Versions on the server of the packages that decide numbers, where it states them; "PACKAGE" -> version."""
    try:
        said = server.asked("/env")
    except ModelError:
        return {}
    versions = said.get("packages") if isinstance(said, dict) else None
    if not isinstance(versions, dict):
        return {}
    return {
        name: plain(str(versions[name]))[:40] for name in ("torch", "transformers", "nnsight") if name in versions
    }


def _listed(said: Any) -> Iterator[Deployed]:
    """Language models among what `/status` lists; an entry of another form is none."""
    entries = said.get("deployments") if isinstance(said, dict) else None
    for entry in entries.values() if isinstance(entries, dict) else ():
        key = entry.get("model_key") if isinstance(entry, dict) else None
        kind, _, named = str(key).partition(":")
        try:
            model = json.loads(named)
        except (ValueError, RecursionError):
            continue
        sendable = str(key).isascii() and str(key).isprintable()
        if kind == _CLASS and sendable and isinstance(model, dict) and isinstance(model.get("repo_id"), str):
            state = plain(str(entry.get("application_state", "NOT DEPLOYED")))[:40]
            yield Deployed(
                str(key), plain(model["repo_id"])[:200], plain(str(model.get("revision") or ""))[:100], state
            )
