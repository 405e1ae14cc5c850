"""Whether a checkpoint is a causal language model, and the one that its weights hold.

transformers opens nearly everything as a language model: it makes up a head that is missing, drops tensors that it has
no place for, cuts layers that the config does not count, and lets an encoder that looks both ways predict the next
token. Each of these answers with plausible numbers, of another model than the one that was named; here they are
refused. `common.ModuleAdapter` tests on a forward pass what a config cannot tell: that later tokens change no earlier
logits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.adapters.errors import IntegrityError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_CONFIG = "adapter_config.json"
EXTRA = "interp-auditkit[peft]"

_OTHER_TASK = re.compile(
    r"Classification|QuestionAnswering|MultipleChoice|NextSentencePrediction|MaskedLM|Reward|ValueHead"
)
"""In the name of a class whose head does not predict the next token."""

_OTHER_SENSE = re.compile(
    r"(?:^|[._])(?:vision|visual|image|img|video|audio|speech|voice|talker|vocoder|code2wav|token2wav|multi_?modal"
    r"|mm|resampler|perceiver|projector|connector|aligner|mtp|mtp_layers|nextn)(?:[._\d]|$)"
)
"""In the name of a tensor that text alone never reaches: other senses, and heads that draft several tokens at once."""

_BUFFERS = re.compile(
    r"(?:inv_freq|masked_bias|causal_mask|position_ids|cos_cached|sin_cached|rope_freqs\.weight|_float_tensor|version"
    r"|_extra_state)$"
)
"""Ends of names of tensors that are no parameters: earlier releases of transformers and other libraries wrote them."""


def own_weights(folder: Path) -> list[Path]:
    """Files that may be a model's weights: an adapter's are not."""
    return [file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_model")]


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no weights of a whole model."""
    return (folder / ADAPTER_CONFIG).is_file() and not own_weights(folder)


def require_peft(source: str) -> None:
    """Refuse an adapter where peft is not installed.

    Raises:
        ModelError: naming the extra.
    """
    if find_spec("peft") is None:
        raise ModelError(
            f"{source} holds a PEFT adapter ({ADAPTER_CONFIG}), which is opened with the package peft: run "
            f"'pip install \"{EXTRA}\"'"
        )


def refuse_adapter(folder: Path, source: str) -> None:
    """Refuse an adapter beside full weights, which transformers applies where peft is installed and ignores elsewhere.

    Whether the full weights have the adapter in them cannot be told from the files.

    Raises:
        ModelError: there is an adapter; the line says how to make one model of it.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    raise ModelError(
        f"{source} holds an adapter ({ADAPTER_CONFIG}) beside full weights: if they contain it already, move "
        f"{ADAPTER_CONFIG} and adapter_model.safetensors out of the folder; if not, merge it first (peft's "
        "merge_and_unload) and give the folder of the result"
    )


def other_senses(config: Any) -> bool:
    """Whether a checkpoint takes images or sound beside text."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and config.get_text_config() is not config


def parameters_of(module: PreTrainedModel, text_alone: bool) -> int:
    """How many parameters a model has.

    Args:
        text_alone: without those of towers and projections for images and sound.
    """
    named = module.named_parameters()
    return sum(value.numel() for name, value in named if not (text_alone and _OTHER_SENSE.search(name)))


def loader_for(config: Any) -> Any:
    """The class of transformers that opens a checkpoint: with towers where its text model has no class of its own."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or not other_senses(config):
        return AutoModelForCausalLM
    return AutoModelForImageTextToText


def refuse_config(config: Any, source: str) -> None:
    """Refuse a config that says that the checkpoint is no causal language model, before weights are read.

    Raises:
        ModelError: a head for another task, an encoder with a decoder, or a type without a causal head.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    names = [str(name) for name in getattr(config, "architectures", None) or ()]
    if names and all(_OTHER_TASK.search(name) for name in names):
        raise ModelError(
            f"{source} holds a {names[0][:80]}, whose head does not predict the next token; auditkit measures causal "
            "language models, whose config names a ...ForCausalLM"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{source} holds an encoder with a decoder ({config.model_type}); auditkit measures causal language "
            "models, which read prompt and answer as one text"
        )
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or ())
    if not own_code and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not other_senses(config):
        raise ModelError(
            f"{source} is of type {config.model_type!r}, for which transformers has no causal language model; "
            "auditkit measures no others"
        )


def refuse_unlike(report: Mapping[str, Any], module: PreTrainedModel, source: str) -> None:
    """Refuse weights that are not those of the module: what is missing would be random, what is left over is unused.

    Tied weights are not missing. Left over may be: buffers, what text never reaches (towers for images and sound,
    heads that draft several tokens), scales of a quantized format, and what the family itself declares unused.

    Args:
        report: keys "missing_keys", "unexpected_keys" and "mismatched_keys", as transformers gives them.

    Raises:
        ModelError: layers that the config does not count, a missing head, or tensors without a place in the module.
        IntegrityError: naming the first other tensor that is missing or of another shape.
    """
    missing = {str(key) for key in report.get("missing_keys") or ()}
    missing |= {str(key[0]) for key in report.get("mismatched_keys") or ()}
    unexpected = [str(key) for key in report.get("unexpected_keys") or ()]
    config = module.config.get_text_config()
    depth = int(getattr(config, "num_hidden_layers", 0) or 0)
    lists = _block_lists(module, depth)
    drafting = int(getattr(config, "num_nextn_predict_layers", 0) or 0)
    beyond = {key: layer for key in unexpected if (layer := _layer(key, lists)) is not None and layer >= depth}
    if any(layer >= depth + drafting for layer in beyond.values()):
        raise ModelError(
            f"the weights of {source} hold {max(beyond.values()) + 1} layers, but its config uses {depth} "
            "(num_hidden_layers): give the config that belongs to the weights"
        )
    absent = _absent_layers(module, missing, lists)
    if absent:
        raise ModelError(
            f"the weights of {source} hold nothing for layer {min(absent)}, but its config uses {depth} "
            "(num_hidden_layers): give the config that belongs to the weights"
        )
    head = sorted(missing & _head_names(module))
    left = sorted(key for key in unexpected if key not in beyond and not _explained(key, module, config))
    if head:
        instead = f" and hold {left[0]} instead" if left else ""
        raise ModelError(
            f"the weights of {source} lack the language model head ({head[0]}){instead}: it would be random numbers, "
            "so nothing was opened"
        )
    refuse_incomplete(report, source)
    if left:
        raise ModelError(
            f"the weights of {source} hold {len(left)} tensors that {type(module).__name__} has no place for "
            f"({left[0]}, ...): it would be another model than the one that was saved, so nothing was opened"
        )


def refuse_incomplete(report: Mapping[str, Any], source: str) -> None:
    """Refuse weights that do not fill the model: transformers would make the rest up at random.

    Raises:
        IntegrityError: naming the first tensor that is missing or of another shape.
    """
    missing = sorted(str(key) for key in report.get("missing_keys") or ())
    missing += sorted(str(key[0]) for key in report.get("mismatched_keys") or ())
    if missing:
        raise IntegrityError(
            f"the weights of {source} lack {len(missing)} of the model's tensors ({missing[0]}, ...); they would be "
            "random numbers, so nothing was opened"
        )


def _block_lists(module: PreTrainedModel, depth: int) -> set[str]:
    """Last names of the module lists that hold the blocks: "layers", "h", ..."""
    from torch import nn

    return {
        name.rpartition(".")[2]
        for name, part in module.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) == depth
    }


def _layer(key: str, lists: Iterable[str]) -> int | None:
    """The block that a tensor belongs to, by its name; None for a tensor outside the blocks."""
    if _OTHER_SENSE.search(key):
        return None
    parts = key.split(".")
    found = (int(after) for name, after in pairwise(parts) if name in lists and after.isdigit())
    return next(found, None)


def _absent_layers(module: PreTrainedModel, missing: set[str], lists: set[str]) -> list[int]:
    """Blocks of which every parameter is missing."""
    if not missing:
        return []
    whole: dict[tuple[str, int], set[str]] = {}
    for key in module.state_dict():
        layer = _layer(key, lists)
        if layer is not None:
            whole.setdefault((key.partition(f".{layer}.")[0], layer), set()).add(key)
    return [layer for (_, layer), keys in whole.items() if keys <= missing]


def _head_names(module: PreTrainedModel) -> set[str]:
    """Names of the parameters of the output embeddings."""
    head = module.get_output_embeddings()
    mine = {id(parameter) for parameter in head.parameters()} if head is not None else set()
    return {name for name, value in module.named_parameters(remove_duplicate=False) if id(value) in mine}


def _explained(key: str, module: PreTrainedModel, config: Any) -> bool:
    """Whether a tensor without a place takes nothing away from the text model."""
    if _BUFFERS.search(key) or _OTHER_SENSE.search(key):
        return True
    quantized = getattr(config, "quantization_config", None) or getattr(module.config, "quantization_config", None)
    if quantized and key.rpartition(".")[2] not in ("weight", "bias"):
        return True
    return any(key == name or key.endswith(f".{name}") for name, _ in module.named_buffers())
