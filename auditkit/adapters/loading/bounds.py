"""Bounds on what a model's files may ask for, checked before the files are read in earnest.

A config of a million layers, an index that names a file elsewhere or a pickle, a token id of a milliard, a regular
expression that never ends: each would cost hours, gigabytes or an abort of native code before anything refuses it. The
limits lie far above every published model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auditkit.adapters.errors import ModelError, first_line

LONGEST_FILE = {"config.json": 16, "generation_config.json": 16, "tokenizer.json": 256}
"""File -> most MiB. The largest published tokenizer.json take about 35."""

LONGEST_JSON = 64
"""Most MiB of any other JSON file and of a template; indices of the largest checkpoints take about 10."""

LARGEST = {
    "num_hidden_layers": 2_000,
    "num_attention_heads": 4_096,
    "num_key_value_heads": 4_096,
    "hidden_size": 262_144,
    "intermediate_size": 4_194_304,
    "head_dim": 65_536,
    "vocab_size": 16_777_216,
    "num_experts": 65_536,
    "num_local_experts": 65_536,
}
"""Field of a config -> largest value; the smallest is 1 for all of them."""

TOKENIZER_SECONDS = 30
"""Of processor time, for reading a tokenizer and cutting one sentence; a large one takes about two."""

TOKENIZER_MEMORY = 3 * 1024**3
"""Bytes for the same."""

LARGEST_ID = 16_777_216
"""Largest token id of a tokenizer."""

_TRIAL = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[3]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, OSError, ValueError):
    pass
from tokenizers import Tokenizer
try:
    tokenizer = Tokenizer.from_file(sys.argv[1])
    tokenizer.encode("Hello, world! It is 12:30, and 7 herons fly.\\n\\tÄé 漢字 🙂 aaaaaaaaaaaaaaaaaaaaaaaa!")
except BaseException as error:
    print(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
"""


@contextmanager
def opening(source: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one line, aborts of native libraries too, which are no `Exception`.

    Raises:
        ModelError: naming the kind of error.
    """
    try:
        yield
    except (ModelError, Warning, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ModelError(f"cannot open {source} ({type(error).__name__}: {first_line(error, 200)})") from error


def require_sizes(folder: Path, source: str) -> None:
    """Refuse a folder with a config, tokenizer, template or index of absurd size, or a config of absurd numbers.

    Raises:
        ModelError: in one line.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".json", ".jinja", ".model", ".txt") or not file.is_file():
            continue
        most, size = LONGEST_FILE.get(file.name, LONGEST_JSON), file.stat().st_size
        if file.suffix in (".model", ".txt"):
            most = LONGEST_FILE["tokenizer.json"]
        if size > most * 1024**2:
            raise ModelError(f"{file.name} of {source} has {size / 1024**2:,.0f} MiB; at most {most} MiB are read")
    config = _json(folder / "config.json", source)
    if isinstance(config, dict):
        require_numbers(config, source)


def _json(file: Path, source: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot load {source}: {file.name} cannot be read ({first_line(error)})") from None


def require_numbers(config: Mapping[str, Any], source: str) -> None:
    """Refuse a config with a size that no model has, before anything of that size is built.

    Raises:
        ModelError: naming the first such field.
    """
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for part in parts:
        for name, largest in LARGEST.items():
            value = part.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not 1 <= value <= largest:
                raise ModelError(
                    f"the config of {source} says {name} {value:g}; possible are 1 to {largest:,}. Give the config "
                    "that belongs to the weights"
                )


def require_own_files(names: Iterable[str], index: Path) -> None:
    """Refuse an index that names anything but safetensors files beside it: a pickle, or a file of another folder.

    Raises:
        ModelError: naming the first such entry.
    """
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise ModelError(
                f"{index.name} of {index.parent.name} names {name[:100]!r}, which is no file beside it; weights are "
                "read from the model's own folder only"
            )
        if not name.endswith(".safetensors"):
            raise ModelError(
                f"{index.name} of {index.parent.name} names {name[:100]!r}; weights are read from safetensors only, "
                "since a pickle can run code"
            )


def require_tokenizer(folder: Path, source: str) -> None:
    """Refuse a tokenizer that cannot be read, or that takes absurd time or memory: it is tried in another process.

    Raises:
        ModelError: in one line.
    """
    _require_ids(folder, source)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    limits = [str(TOKENIZER_MEMORY), str(TOKENIZER_SECONDS)]
    apart = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    try:
        tried = subprocess.run(
            [sys.executable, "-P", "-c", _TRIAL, str(file), *limits],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **apart},
            timeout=4 * TOKENIZER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(_endless(source)) from None
    if tried.returncode:
        raise ModelError(_endless(source))
    if why := tried.stdout.strip():
        raise ModelError(
            f"cannot load {source}: tokenizer.json cannot be read ({first_line(RuntimeError(why), 200)})"
        )


def _endless(source: str) -> str:
    return (
        f"tokenizer.json of {source} takes more than {TOKENIZER_SECONDS} s or {TOKENIZER_MEMORY // 1024**3} GiB for "
        "one sentence, so it was not opened; give the tokenizer that belongs to the weights"
    )


def _require_ids(folder: Path, source: str) -> None:
    """Refuse a token id for which a list of so many tokens would be built, in whichever file it stands."""
    for name in ("tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer_config.json"):
        content = _json(folder / name, source)
        if content is None:
            continue
        if not isinstance(content, dict):
            raise ModelError(f"{name} of {source} is no JSON object")
        largest = max((value for value in _ids(name, content) if isinstance(value, int)), default=0)
        if largest > LARGEST_ID:
            raise ModelError(f"{name} of {source} has the token id {largest:,}; at most {LARGEST_ID:,} are read")


def _ids(name: str, content: Mapping[str, Any]) -> Iterator[Any]:
    """What may be a token id in a tokenizer's file."""
    if name in ("vocab.json", "added_tokens.json"):
        yield from content.values()
        return
    model, added, decoder = (content.get(part) for part in ("model", "added_tokens", "added_tokens_decoder"))
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    yield from vocabulary.values() if isinstance(vocabulary, dict) else ()
    yield from (token.get("id") for token in added if isinstance(token, dict)) if isinstance(added, list) else ()
    yield from (int(key[:20]) for key in decoder if key[:20].isdecimal()) if isinstance(decoder, dict) else ()
