"""GGUF files as people have them: alone in a folder, beside a projector for images, or cut into parts.

Reads names and the first bytes only, so that what cannot be read is refused before torch is loaded.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from auditkit.adapters.errors import ModelError

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
"""In the name of a file that holds a projector for images, or statistics for a quantizer."""

_HEADER = 32 << 20
"""Bytes at the start of a file in which its keys stand: a vocabulary of 256,000 tokens fills a quarter of it."""


def is_gguf(name: str) -> bool:
    """Whether a file has the name of a GGUF file, in letters of either case."""
    return name.lower().endswith(".gguf")


def models_in(folder: Path) -> list[Path]:
    """The GGUF files of a folder that may hold a model, sorted by name; the parts of one model count once.

    A part stands for its model by the first part that is there.
    """
    files = sorted(file for file in folder.glob("*") if is_gguf(file.name) and file.is_file())
    found: dict[str, Path] = {}
    for file in files:
        if _NO_MODEL.search(file.name):
            continue
        part = _PART.fullmatch(file.name)
        found.setdefault(part["stem"] if part else file.name, file)
    return list(found.values())


def stands_for(folder: Path) -> bool:
    """Whether a folder holds GGUF files and no weights that transformers reads."""
    return not any(folder.glob("*.safetensors")) and bool(models_in(folder))


def file_of(path: Path) -> Path:
    """The file to read: `path` itself, or the one model among the GGUF files of a folder.

    Raises:
        ModelError: a part of a model, a file that holds no model, or several models in a folder.
    """
    if path.is_dir():
        models = models_in(path)
        if len(models) > 1:
            names = ", ".join(file.name for file in models)
            raise ModelError(
                f"directory {str(path)!r} holds {len(models)} GGUF models ({names}): give the path of one of them"
            )
        path = models[0]
    if _NO_MODEL.search(path.name):
        raise ModelError(
            f"{path.name} holds a projector for images or statistics for a quantizer (mmproj, imatrix), and no "
            "language model: give the GGUF file that lies beside it"
        )
    part = _PART.fullmatch(path.name)
    if part and int(part["count"]) > 1:
        raise ModelError(_merging(path, part))
    count = _parts_counted(path)
    if count > 1 and not part:
        raise ModelError(
            f"{path.name} is one of {count} parts of a GGUF model, by its key split.count, and auditkit reads whole "
            f"files: give the parts their names back (NAME-00001-of-{count:05}.gguf) and merge them with "
            "'llama-gguf-split --merge'"
        )
    return path


def _merging(path: Path, part: re.Match[str]) -> str:
    """What to do with a part of a model."""
    count, stem = int(part["count"]), part["stem"]
    names = [f"{stem}-{number:05}-of-{count:05}{path.name[-5:]}" for number in range(1, count + 1)]
    absent = [name for name in names if not path.with_name(name).is_file()]
    first, whole = (shlex.quote(str(path.with_name(name))) for name in (names[0], f"{stem}.gguf"))
    fetch = f"fetch {', '.join(absent)} as well, then " if absent else ""
    return (
        f"{path.name} is part {int(part['number'])} of {count} of a GGUF model, and auditkit reads whole files: "
        f"{fetch}merge the parts with 'llama-gguf-split --merge {first} {whole}' and give the merged file"
    )


def _parts_counted(path: Path) -> int:
    """How many parts the file itself says that its model has; 1 where it says nothing."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEADER)
    except OSError:
        return 1
    start = head.find(b"split.count")
    kind = head[start + 11 : start + 15]
    return int.from_bytes(head[start + 15 : start + 17], "little") if start > 0 and kind == b"\2\0\0\0" else 1
