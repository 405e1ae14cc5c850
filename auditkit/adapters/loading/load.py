"""From a model spec to a module, a tokenizer and a record of where they came from.

Weights come from safetensors or GGUF only, and no code from a model's repository runs unless it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.loading import bounds, instead, own_code, peft_adapters, training
from auditkit.adapters.loading.catalogue import classify
from auditkit.adapters.loading.causal import (
    is_adapter,
    loader_for,
    other_senses,
    own_weights,
    refuse_adapter,
    refuse_config,
    refuse_unlike,
    require_peft,
)
from auditkit.adapters.loading.digests import combined_sha256, require_unchanged, stamps
from auditkit.adapters.loading.files import files_read, origin_of
from auditkit.adapters.loading.identity import identity_of, tokenizer_sha256
from auditkit.adapters.loading.locating import fetched, locate, tokenizer_folder
from auditkit.adapters.loading.quiet import quiet
from auditkit.adapters.loading.tokenizer_files import read_tokenizer
from auditkit.record.naming import told_apart
from auditkit.record.schema import FineTune

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Loaded:
    """A model in memory, not yet an adapter.

    Attributes:
        spec: what the user wrote.
        name: short name for titles and folders.
        source: where the weights came from, in words.
        weights_sha256: of a PEFT adapter and its base together, where there is one.
        identity: what decides the model's numbers besides the digests (`auditkit.adapters.loading.identity`).
        folder: where the weight files lie that were read and digested; None where no files hold the weights as they
            are in memory (a merged adapter).
        revision: commit of the hub's repository; empty for what came from elsewhere.
        code_sha256: of the checkpoint's own code that ran; empty where none did.
        text_of: the class of a checkpoint that takes images or sound as well, of which the text model is measured.
        template_arguments: variable of the chat template -> value, as the user gave them.
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
    revision: str = ""
    code_sha256: str = ""
    text_of: str = ""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    fine_tune: FineTune | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


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
    template_arguments: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
) -> Loaded:
    """Load a model in evaluation mode.

    Args:
        spec: alias, local directory, `.gguf` file (or a folder that holds one), or hub id; a directory or hub id may
            hold a PEFT adapter.
        device: "auto" (cuda where there is one, else cpu; over all GPUs where one is too small), "cpu", "cuda",
            "cuda:1", ..., or "spread" (over all GPUs).
        dtype: "auto" (float32 on cpu, the checkpoint's own elsewhere), "float32", "bfloat16", "float16".
        template_arguments: variable of the chat template -> value.
        tokenizer: directory, alias or hub id whose tokenizer is used in place of the model's own.

    Raises:
        ModelError: it cannot be opened; IntegrityError where the bytes are not those promised.
    """
    classify(spec)
    from auditkit.adapters.loading import devices

    devices.check(device, dtype)
    asked = _Asked(device, dtype, trust_remote_code, tokenizer)
    with bounds.opening(spec):
        folder, source = locate(spec, trust_remote_code)
        read = _read_adapter(folder, source, asked) if is_adapter(folder) else _read(folder, source, asked)
    return replace(
        read,
        spec=spec,
        name=told_apart([spec])[0],
        revision=own_code.commit_of(folder),
        template_arguments=template_arguments or {},
    )


def _read_adapter(folder: Path, source: str, asked: _Asked) -> Loaded:
    """The base of a PEFT adapter with the adapter merged into it."""
    require_peft(source)
    bounds.require_sizes(folder, source)
    config = peft_adapters.read_config(folder, source)
    peft_adapters.require_weights(folder, source)
    named = peft_adapters.base_of(config, folder, source)
    try:
        place, origin = locate(named, asked.trust_remote_code, config.get("revision"))
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
        folder=None,
    )


def _read(folder: Path, source: str, asked: _Asked) -> Loaded:
    """What a folder with whole weights holds, loaded; `load` adds what it was asked for."""
    from auditkit.adapters.loading import devices

    code = _allowed(folder, source, asked.trust_remote_code)
    options: dict[str, Any] = {"trust_remote_code": asked.trust_remote_code, **code.options}
    origin = origin_of(folder).get("sha256", "")
    bounds.require_sizes(folder, source)
    try:
        with quiet():
            config = read_config(folder, source, options)
            files = _files(folder, config, source)
            before = stamps(files)
            tokenizer, place_of_tokenizer, words = tokenizer_for(folder, source, asked.tokenizer, options)
            size = sum(file.stat().st_size for file in files)
            place, wanted = devices.chosen(asked.device, asked.dtype, config, size)
            module: PreTrainedModel
            module, report = loader_for(config).from_pretrained(
                folder,
                config=config,
                dtype=wanted,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                device_map="auto" if place is None else None,
                **options,
            )
    except (ModelError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a wrong config or damaged file runs into
        raise ModelError(f"cannot load {source}: {first_line(error)}") from error
    refuse_unlike(report, module, source)
    module = _placed(module, place, source)
    read_sha256 = combined_sha256(files)
    require_unchanged(before, source)
    return Loaded(
        spec="",
        name="",
        source=f"{source}{words}",
        module=module.eval().requires_grad_(False),
        tokenizer=tokenizer,
        weights_sha256=origin or read_sha256,
        tokenizer_sha256=tokenizer_sha256(tokenizer, place_of_tokenizer),
        trust_remote_code=asked.trust_remote_code,
        code_sha256=code.sha256,
        text_of=type(module).__name__ if other_senses(config) else "",
        identity=identity_of(module, tokenizer, read_sha256 if origin else ""),
        folder=folder,
    )


def read_config(folder: Path, source: str, options: dict[str, Any]) -> Any:
    """A model's config, once it is one of a causal language model that asks for no code that may not run."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, **options)
    refuse_config(config, source)
    own_code.without_kernels(config, source, options["trust_remote_code"])
    return config


def tokenizer_for(
    folder: Path, source: str, asked: str | None, options: dict[str, Any]
) -> tuple[PreTrainedTokenizerBase, Path, str]:
    """A model's tokenizer, the folder that it was read from, and words for that where it is not the model's own.

    Raises:
        ModelError: there is none, it cannot be read, or it asks for the absurd.
    """
    place, words = tokenizer_folder(folder, source, asked)
    if place != folder:
        bounds.require_sizes(place, f"{source}{words}")
    bounds.require_tokenizer(place, f"{source}{words}")
    return read_tokenizer(place, source, **options), place, words


def _allowed(folder: Path, source: str, trusted: bool) -> own_code.Ran:
    """The checkpoint's own code, where it may run.

    Raises:
        ModelError: the folder does not hold weights that may be opened, or code that may not run.
    """
    refuse_adapter(folder, source)
    instead.refuse_pointers(folder, source)
    if not own_weights(folder):
        names = [file.name for file in folder.iterdir()]
        raise ModelError(training.refusal(folder, source) or instead.without_weights(names, source))
    return own_code.allowed(folder, source, trusted, lambda name: fetched(name, [own_code.CODE_FILES]))


def _placed(module: PreTrainedModel, place: torch.device | None, source: str) -> PreTrainedModel:
    from auditkit.adapters.loading import devices

    if place is None:  # a spread model is where it belongs
        devices.require_on_gpus(module, source)
        return module
    try:
        moved: PreTrainedModel = module.to(place)  # type: ignore[arg-type]  # transformers hides the signature
    except Exception as error:  # no such device, or not enough memory on it
        raise ModelError(f"cannot put {source} on {place}: {first_line(error)}") from error
    return moved


def _files(folder: Path, config: object, source: str) -> list[Path]:
    files = files_read(folder, config)
    if not files:
        there = sorted(file.name for file in own_weights(folder))
        raise ModelError(
            f"{source} holds {there[0]}, but neither model.safetensors nor model.safetensors.index.json, which are "
            "what transformers reads; give the folder that save_pretrained wrote"
        )
    return files
