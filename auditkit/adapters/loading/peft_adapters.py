"""PEFT adapters: opened by the `peft` library and merged into their base, so that every capability works on the result.

A merged module is an ordinary transformers module. Its logits are those of the base with the adapter in place, within
rounding: tied embeddings that an adapter changes at one end only are untied before it is merged, and rows that
fine-tuning has added to the embeddings are added to the base.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.adapters.errors import IntegrityError, ModelError, first_line
from auditkit.adapters.loading.causal import ADAPTER_CONFIG
from auditkit.adapters.loading.digests import sha256_of
from auditkit.adapters.loading.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
_PLACES = ("base_model_name_or_path", "revision", "inference_mode", "peft_version")
"""Entries of a config that say where things lay and change no number."""


def read_config(folder: Path, source: str) -> dict[str, Any]:
    """The config of an adapter as its file states it.

    Raises:
        ModelError: it cannot be read, or is no adapter for a causal language model.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{ADAPTER_CONFIG} of {source} cannot be read ({type(error).__name__}: {first_line(error, 80)}); "
            "give the folder that peft's save_pretrained wrote"
        ) from None
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"{source} holds a {kind} adapter for the task {task}; auditkit measures causal language models, whose "
            "adapters are for CAUSAL_LM"
        )
    return dict(config)


def base_of(config: dict[str, Any], folder: Path, source: str) -> str:
    """What the adapter's config names as its base, as a user would write it after `--model`.

    A relative path is looked for from the working folder, then from the adapter's.

    Raises:
        ModelError: it names none, or a path that is not there.
    """
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ModelError(
            f"{source} holds an adapter that names no base: write the base's hub id or path into {ADAPTER_CONFIG} as "
            "base_model_name_or_path"
        )
    places = [place for place in (Path(named).expanduser(), folder / named) if place.exists()]
    places.sort(key=lambda place: not (place.is_file() or (place / "config.json").is_file()))
    if places and places[0].resolve() == folder.resolve():
        raise ModelError(
            f"{source} holds an adapter that names its own folder as its base: write the base's hub id or path into "
            f"{ADAPTER_CONFIG} as base_model_name_or_path"
        )
    if places:
        return str(places[0].resolve())
    if named.startswith((".", "/", "~")) or named.count("/") > 1 or "\\" in named:
        raise ModelError(
            f"{source} holds an adapter of the base {named[:200]!r}, which is not there: put the base there, or write "
            f"its hub id or path into {ADAPTER_CONFIG} as base_model_name_or_path"
        )
    return named


def adapter_sha256(folder: Path) -> str:
    """SHA-256 of an adapter: its weights, and its config without what says where things lay."""
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in _PLACES}
    text = json.dumps(kept, sort_keys=True)
    return hashlib.sha256(f"{sha256_of(folder / WEIGHTS)} {text}".encode()).hexdigest()


def merged_sha256(base: str, adapter: str) -> str:
    """SHA-256 of a base with an adapter merged into it, from the two digests."""
    return hashlib.sha256(f"{base} {adapter}".encode()).hexdigest()


def require_weights(folder: Path, source: str) -> None:
    """Refuse an adapter whose weights are not safetensors.

    Raises:
        ModelError: they are pickled, or not there.
    """
    if (folder / WEIGHTS).is_file():
        return
    if (folder / "adapter_model.bin").is_file():
        raise ModelError(
            f"{source} holds adapter_model.bin and no {WEIGHTS}: its weights are pickled, and pickled weights can run "
            "code: load it with peft where its origin is trusted, and save it again with save_pretrained"
        )
    raise ModelError(f"{source} holds {ADAPTER_CONFIG} and no {WEIGHTS}: fetch the adapter's weights as well")


def merge(module: PreTrainedModel, folder: Path, config: dict[str, Any], source: str) -> PreTrainedModel:
    """The base with an adapter merged into it; `module` is used up.

    Raises:
        ModelError: peft cannot read the adapter, it has no form that can be merged, or it does not fit the base.
        IntegrityError: the merged weights are not finite.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            shapes = {str(key): tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{WEIGHTS} of {source} is damaged: {first_line(error)}; fetch it again") from None
    _fit_embeddings(module, shapes, source)
    _untie(module, shapes)
    with torch.random.fork_rng(devices=[]):  # peft fills some kinds of adapter at random before it reads them
        return _merged(module, folder, config, shapes, source)


def _asked(folder: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], source: str) -> Any:
    """The adapter's config as peft reads it.

    Raises:
        ModelError: peft cannot read it or merge its kind, or the weights lack what it promises.
    """
    from peft import PeftConfig

    try:
        with quiet():
            asked = PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # a type that this release does not know, a value of the wrong type
        raise ModelError(f"peft cannot read {ADAPTER_CONFIG} of {source}: {first_line(error)}") from None
    unknown = sorted(key for key, value in config.items() if value and not hasattr(asked, key))
    if unknown:
        raise ModelError(
            f"{source} holds an adapter whose config sets {', '.join(unknown)}, which this release of peft does not "
            "know: upgrade peft"
        )
    if asked.is_prompt_learning or asked.peft_type in ("ADAPTION_PROMPT", "XLORA"):
        raise ModelError(
            f"{source} holds a {config['peft_type']} adapter, which cannot be merged into weights; auditkit opens "
            "adapters that can be (LORA, DoRA, IA3, LOHA, LOKR, OFT, ...)"
        )
    absent = [one for one in config.get("modules_to_save") or () if not any(f".{one}." in key for key in shapes)]
    if absent:
        raise ModelError(
            f"{source} holds an adapter whose config says that it holds {absent[0]} whole (modules_to_save), and its "
            "weights do not: save it again"
        )
    asked.inference_mode = True
    return asked


def _merged(
    module: PreTrainedModel, folder: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], source: str
) -> PreTrainedModel:
    from peft import PeftModelForCausalLM

    asked = _asked(folder, config, shapes, source)
    # Other ways of beginning (PiSSA, LoftQ) compute the first weights from those of the base.
    empty = getattr(asked, "init_lora_weights", None) is True
    try:
        with quiet():
            wrapped = PeftModelForCausalLM(module, asked, low_cpu_mem_usage=empty)
            report = wrapped.load_adapter(str(folder), "default", low_cpu_mem_usage=empty)
    except Exception as error:  # shapes of another base, modules that it does not have
        raise ModelError(
            f"the adapter of {source} does not fit its base {config.get('base_model_name_or_path')!s}: "
            f"{first_line(error)}"
        ) from None
    astray = [*report.missing_keys, *report.unexpected_keys]
    if astray:
        raise ModelError(
            f"the adapter of {source} does not fit its base or its config: {len(astray)} tensors are missing or have "
            f"no place ({sorted(astray)[0]}, ...)"
        )
    try:
        with quiet():
            whole: PreTrainedModel = wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:  # what peft raises where merged weights are not finite
        raise IntegrityError(f"the adapter of {source} cannot be merged: {first_line(error)}") from None
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise ModelError(
            f"{source} holds a {config['peft_type']} adapter, which peft cannot merge into this base: "
            f"{first_line(error)}"
        ) from None
    ready: PreTrainedModel = whole.eval().requires_grad_(False)
    return ready


def _ends(module: PreTrainedModel) -> dict[str, Any]:
    """Name -> module of the input embeddings and of the language model head."""
    wanted = [module.get_input_embeddings(), module.get_output_embeddings()]
    return {name: part for name, part in module.named_modules() if any(part is one for one in wanted)}


def _tensors(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Rest of the key -> shape, of the adapter's tensors for one module of the base."""
    heads = tuple(f"{prefix}{name}." for prefix in ("base_model.model.", ""))
    return {
        key.removeprefix(head): shape for key, shape in shapes.items() for head in heads if key.startswith(head)
    }


_WHOLE = ("weight", "base_layer.weight", "original_module.weight", "modules_to_save.weight")
_ROWS = {"lora_embedding_A": 1, "lora_B.weight": 0}
"""Tensor of an adapter -> the axis that has one entry for each token."""


def _fit_embeddings(module: PreTrainedModel, shapes: dict[str, tuple[int, ...]], source: str) -> None:
    """Give the base as many rows of embeddings as the adapter was trained with.

    Raises:
        ModelError: the adapter does not hold the rows that the base lacks.
    """
    ends = _ends(module)
    rows = int(module.get_input_embeddings().weight.shape[0])  # type: ignore[index]  # transformers does not say that embeddings are a module
    asked: set[int] = set()
    whole: set[str] = set()
    for name in ends:
        for rest, shape in _tensors(name, shapes).items():
            if rest in _WHOLE:
                asked.add(shape[0])
                whole.add(name)
            elif rest in _ROWS and len(shape) == 2:
                asked.add(shape[_ROWS[rest]])
    other = asked - {rows}
    if not other:
        return
    tied = len({id(part.weight) for part in ends.values()}) == 1
    if len(asked) > 1 or not (whole if tied else set(ends) <= whole):
        raise ModelError(
            f"{source} holds an adapter that was trained with {max(other)} token embeddings, its base has {rows}, and "
            "the adapter does not hold the ones that differ: save it again with save_embedding_layers=True"
        )
    with quiet():
        module.resize_token_embeddings(other.pop(), mean_resizing=False)


def _untie(module: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give the head weights of its own where it shares those of the embeddings and the adapter has deltas for one end.

    Merged into shared weights, a delta for one end would change the other too.
    """
    import torch

    ends = _ends(module)
    if len(ends) < 2 or len({id(part.weight) for part in ends.values()}) > 1:
        return
    if any(rest not in _WHOLE for name in ends for rest in _tensors(name, shapes)):
        head: Any = module.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
