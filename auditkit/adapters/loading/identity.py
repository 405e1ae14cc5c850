"""The parts of a model's identity that its files decide beyond weights and templates: configs and tokenizer settings.

They are read from the objects that were built, not from the files: what transformers fills in is part of the model, and
a file that was only formatted anew describes the same one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.adapters.loading.digests import remembered_sha256
from auditkit.adapters.loading.tokenizer_files import vocabularies
from auditkit.record.identity import CONVERTED

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NO_NUMBERS = {
    "_name_or_path",
    "transformers_version",
    "_from_model_config",
    "dtype",
    "torch_dtype",
    "id2label",
    "label2id",
}
"""Fields of a config that change no number: where files lay, what wrote them, names of classes. The number type is a
part of its own."""

_LONGEST = 80
"""Characters of a name or value that is kept as it is; a longer value is kept as its SHA-256."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""In the text of an object: where it lies in memory."""

_MOST = 500
"""Fields of a config that are kept one by one; of a larger config its SHA-256 is kept. Large ones have a hundred."""


def identity_of(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, converted_sha256: str
) -> dict[str, str]:
    """Part and field, as "config/rms_norm_eps" -> value as JSON; for `ModelInfo.identity`.

    Args:
        converted_sha256: of the weight files that were read, where they were made of the ones that the model names.
    """
    generation = getattr(module, "generation_config", None)
    tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    settings = {
        "class": type(tokenizer).__name__,
        "clean_up_tokenization_spaces": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        **tokens,
    }
    return {
        **({CONVERTED: converted_sha256} if converted_sha256 else {}),
        **fields_of(module.config.to_dict(), "config"),
        **fields_of(generation.to_dict() if generation is not None else {}, "generation config"),
        **fields_of(settings, "tokenizer"),
    }


def fields_of(config: Mapping[Any, Any], part: str) -> dict[str, str]:
    """Every field of a config that can change a number -> its value, in an order and form that no formatting changes.

    Args:
        part: what stands in front of the fields' names.
    """
    fields = dict(sorted(_flat(config, True)))
    if len(fields) > _MOST or any(len(name) > _LONGEST for name in fields):
        return {part: _text(fields)}
    return {f"{part}/{name}": value for name, value in fields.items()}


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    """Digest of what decides token ids: the fast tokenizer's definition, else its vocabulary and the files behind it.

    Args:
        folder: where the tokenizer was read.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return hashlib.sha256(backend.to_str().encode()).hexdigest()
    files = [(name, remembered_sha256(folder / name)) for name in vocabularies(folder)]
    text = repr((sorted(tokenizer.get_vocab().items()), files))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _flat(config: Mapping[Any, Any], whole: bool) -> Iterator[tuple[str, str]]:
    """Dotted name -> value of each field; `whole`: the config of a model or of its text part, not of one field."""
    for key, value in config.items():
        name = json.dumps(str(key))[1:-1].replace(".", "\\.")
        if value is None or (
            whole and name in _NO_NUMBERS
        ):  # a field that says nothing is as one that is not there
            continue
        if isinstance(value, Mapping) and value:
            inner = whole and name.endswith("_config") and name != "quantization_config"
            yield from ((f"{name}.{inside}", text) for inside, text in _flat(value, inner))
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True, default=lambda one: _ADDRESS.sub("", str(one)))
    return text if len(text) <= _LONGEST else f"SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"


def _plain(value: Any) -> Any:
    """A value as JSON would hold it; 10000.0 is 10000."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(one) for one in value), key=str)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
