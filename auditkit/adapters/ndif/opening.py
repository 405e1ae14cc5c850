"""What is opened here of a model whose weights are on an NDIF server: config, tokenizer, and a module without weights.

All of that comes from the hub, at the revision that the server names. The weights have no digest: a server states none,
so what the record says of them is the server's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.loading import bounds, own_code
from auditkit.adapters.loading.catalogue import CATALOGUE, classify
from auditkit.adapters.loading.causal import loader_for, other_senses
from auditkit.adapters.loading.identity import identity_of, tokenizer_sha256
from auditkit.adapters.loading.load import Loaded, read_config, tokenizer_for
from auditkit.adapters.loading.locating import TOKENIZER_FILES, fetched
from auditkit.adapters.loading.quiet import quiet
from auditkit.adapters.ndif.deployed import Deployed, find, packages
from auditkit.adapters.ndif.server import Server, from_environment
from auditkit.record.identity import SERVED
from auditkit.record.naming import told_apart

_PLAIN = {"trust_remote_code": False}


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Loaded):
    """A module without weights, and where the model that it stands for runs."""

    server: Server
    key: str


def load(
    spec: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    template_arguments: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
) -> Elsewhere:
    """Find a model on the server that the environment names, and open here what a client needs of it.

    Args:
        spec: alias or hub id.
        device, dtype, trust_remote_code: the server's own matter, so only the defaults are taken.
        template_arguments, tokenizer: as in `auditkit.adapters.loading.load.load`.

    Raises:
        ModelError: the server does not run it, or it cannot be opened so.
    """
    for name, given in (("--device", device), ("--dtype", dtype)):
        if given != "auto":
            raise ModelError(f"{name} {given}: the server decides it where --adapter ndif is given; leave it out")
    if trust_remote_code:
        raise ModelError(f"{own_code.TRUST}: a model with its own code is not opened with --adapter ndif")
    repository = _repository(spec)
    from nnsight import CONFIG

    server = from_environment(CONFIG.API.HOST, CONFIG.API.APIKEY)
    with bounds.opening(spec):
        found = find(server, repository)
        source = f"NDIF server {server.name}, which names {found.words} and no digest of its weights"
        at = None if found.revision in ("", "main") else found.revision
        folder = fetched(repository, TOKENIZER_FILES, at)
        return _opened(spec, folder, source, found, server, template_arguments or {}, tokenizer)


def _repository(spec: str) -> str:
    kind = classify(spec)
    if kind == "hub":
        return spec
    if kind == "alias":
        return CATALOGUE[spec].hub_id
    raise ModelError(
        f"{spec!r} is on this machine, and --adapter ndif measures models of the hub that a server runs: give a hub "
        "id, or leave out --adapter"
    )


def _opened(
    spec: str,
    folder: Path,
    source: str,
    found: Deployed,
    server: Server,
    template_arguments: Mapping[str, Any],
    asked: str | None,
) -> Elsewhere:
    bounds.require_sizes(folder, source)
    own_code.allowed(folder, source, False, lambda name: folder)
    try:
        with quiet():
            config = read_config(folder, source, _PLAIN)
            tokenizer, place, words = tokenizer_for(folder, source, asked, _PLAIN)
            module = _without_weights(config, folder)
    except (ModelError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a wrong config runs into
        raise ModelError(f"cannot open {source}: {first_line(error)}") from error
    said = {"host": server.name, "repository": found.repository, "revision": found.revision or "none stated"}
    commit = own_code.commit_of(folder)
    return Elsewhere(
        spec=spec,
        name=told_apart([spec])[0],
        source=f"{source}{words}",
        module=module,
        tokenizer=tokenizer,
        weights_sha256="",
        tokenizer_sha256=tokenizer_sha256(tokenizer, place),
        text_of=type(module).__name__ if other_senses(config) else "",
        template_arguments=template_arguments,
        identity={
            **identity_of(module, tokenizer, ""),
            **{f"{SERVED}/{name}": value for name, value in (said | packages(server)).items()},
            **({"hub/commit of config and tokenizer": commit} if commit else {}),
        },
        server=server,
        key=found.key,
    )


def _without_weights(config: Any, folder: Path) -> Any:
    """The model's module with every tensor on torch's meta device."""
    from transformers import GenerationConfig

    with torch.device("meta"):
        module = loader_for(config).from_config(config, **_PLAIN)
    if (folder / "generation_config.json").is_file():
        module.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return module.eval().requires_grad_(False)
