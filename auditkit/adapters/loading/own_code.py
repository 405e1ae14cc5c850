"""Models that bring their own code: which files it is, at which commit, and its digest.

The code runs only where `--audit-trust-remote-code` is given, from the commit that was fetched; the digest is of what
could run: every Python file of the folder, in sub-folders too, since `auto_map` may name a module there. A checkpoint
may take its code from another repository (`auto_map` of the form "owner/name--module.Class"), which is fetched first,
and its commit is passed on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading.instead import listed

TRUST = "--audit-trust-remote-code"
CODE_FILES = "*.py"
MOST_FILES = 1_000
"""Python files of a model's folder. The largest published checkpoints bring a few dozen; a folder with more holds a
project or an environment as well."""
LARGEST_CODE = 16
"""Most MiB of these files together."""
_CONFIGS = ("config.json", "tokenizer_config.json")
_BUILT_IN = ("eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm")
"""Implementations of attention and of experts that are part of transformers."""


@dataclass(frozen=True)
class OwnCode:
    """The code that a checkpoint brings.

    Attributes:
        files: names of the modules that its configs name.
        others: repositories from which it takes code.
    """

    files: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Ran:
    """The code that ran.

    Attributes:
        sha256: digest of its files; empty where none ran.
        options: for transformers' `from_pretrained`: the commit of code that lies in another repository.
    """

    sha256: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def named_by(folder: Path) -> OwnCode:
    """The code that the configs of a folder name in `auto_map`."""
    files: set[str] = set()
    others: set[str] = set()
    for name in _CONFIGS:
        for reference in _references(_json(folder / name).get("auto_map")):
            repository, dashes, inside = reference.rpartition("--")
            if dashes:
                others.add(repository)
            else:
                files.add(f"{inside.rpartition('.')[0]}.py")
    return OwnCode(tuple(sorted(files)), tuple(sorted(others)))


def allowed(folder: Path, source: str, trusted: bool, fetch: Callable[[str], Path]) -> Ran:
    """The code that a checkpoint may run, fetched and digested.

    Args:
        source: the checkpoint, in words.
        trusted: the user allows code of the checkpoint to run.
        fetch: hub id -> folder of that repository's code, at one commit.

    Raises:
        ModelError: the model cannot run without code that is not allowed, that is not there, that lies in several
            repositories, or that is more than is read.
    """
    code = named_by(folder)
    if not trusted:
        if _needs_code(folder):
            where = f"{listed(code.files)}" if code.files else f"in {listed(code.others)}"
            raise ModelError(
                f"{source} is of type {_json(folder / 'config.json').get('model_type')!r}, which runs only with the "
                f"model's own code ({where}): read that code, and give {TRUST} to run it"
            )
        return Ran()
    absent = [name for name in code.files if not (folder / name).is_file()]
    if absent:
        raise ModelError(
            f"the configs of {source} name the code {listed(absent)}, which is not there; fetch it again"
        )
    if len(code.others) > 1:
        raise ModelError(
            f"{source} takes its code from several repositories ({listed(code.others)}): copy the code into the "
            "folder, and name it in auto_map without a repository"
        )
    folders = [fetch(name) for name in code.others]
    if not folders and not code.files:
        return Ran()
    revision = commit_of(folders[0]) if folders else ""
    return Ran(_digest([folder, *folders], source), {"code_revision": revision} if revision else {})


def without_kernels(config: Any, source: str, trusted: bool) -> None:
    """Let a config ask for code of transformers only, where the user does not allow other code to run.

    A kernel of the hub ("owner/name") is compiled code of a repository and is refused. Where a config names another
    implementation, such as flash attention, which transformers may fetch as a kernel, transformers chooses its own.

    Raises:
        ModelError: naming the kernel.
    """
    if trusted:
        return
    for part in (config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))):
        for name in ("_attn_implementation", "_experts_implementation"):
            asked = getattr(part, name, None)
            if asked is None or asked in _BUILT_IN:
                continue
            if "/" in str(asked):
                raise ModelError(
                    f"the config of {source} asks for the kernel {str(asked)[:100]!r} of the hub, which is code of "
                    f"another repository: take {name[1:]} out of config.json, or give {TRUST} to run it"
                )
            setattr(part, name, None)


def commit_of(folder: Path) -> str:
    """The commit of a snapshot in the hub's cache, by the folder's name; empty for any other folder."""
    found = folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name)
    return folder.name if found else ""


def _needs_code(folder: Path) -> bool:
    """Whether transformers has no model of its own for the type that the config names."""
    from transformers import CONFIG_MAPPING

    config = _json(folder / "config.json")
    return bool(_references(config.get("auto_map"))) and config.get("model_type") not in CONFIG_MAPPING


def _references(auto_map: Any) -> list[str]:
    """The classes that an `auto_map` names; a tokenizer's are a pair, of which either may be missing."""
    values = auto_map.values() if isinstance(auto_map, dict) else ()
    pairs = [value if isinstance(value, list | tuple) else [value] for value in values]
    return [each for pair in pairs for each in pair if isinstance(each, str)]


def _digest(folders: list[Path], source: str) -> str:
    """SHA-256 over the paths and contents of all Python files, in the folders' order.

    Raises:
        ModelError: they are too many or too large.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for name, file in sorted(_python_files(folder, source).items()):
            digest.update(
                f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode(errors="surrogateescape")
            )
    return digest.hexdigest()


def _python_files(folder: Path, source: str) -> dict[str, Path]:
    """Path inside the folder -> file, for all Python files; linked folders are followed, each once.

    Raises:
        ModelError: they are too many or too large.
    """
    found: dict[str, Path] = {}
    seen: set[str] = set()
    size = 0
    for place, inside, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        inside.sort()
        for file in (Path(place, name) for name in names if name.endswith(".py")):
            if file.is_file():  # no pipe, and no link to nowhere
                found[file.relative_to(folder).as_posix()] = file
                size += file.stat().st_size
        if len(found) > MOST_FILES or size > LARGEST_CODE * 1024**2:
            raise ModelError(
                f"the folder of {source} holds more than {MOST_FILES:,} Python files or {LARGEST_CODE} MiB of them, "
                f"and each can run with {TRUST}: keep only the model's own code there"
            )
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):  # transformers says it when it reads the file
        return {}
    return found if isinstance(found, dict) else {}
