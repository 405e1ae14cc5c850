"""What training leaves in a folder: checkpoints, shards of an optimizer's state, and the name of the base.

Nothing heavy is imported: a folder is told by the names in it, before torch is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

_CHECKPOINT = re.compile(r"(?:checkpoint|global_step|epoch|step|ckpt)[-_]?(\d+)")
_TOKENIZER = re.compile(
    r"(tokenizer\.(json|model)|vocab\.(json|txt)|spiece\.model|sentencepiece.*\.model|tekken\.json|.*\.tiktoken)"
)
"""Files from which transformers makes a tokenizer; `tokenizer_config.json` alone is none."""

_BESIDE = "copy config.json and the tokenizer's files beside them, and give that folder"
_HOLDS_MODEL = ("config.json", "adapter_config.json")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any(_TOKENIZER.fullmatch(name) for name in _names(folder))


def refusal(folder: Path, source: str) -> str:
    """What to do with a folder of a training run that holds no whole weights; empty for any other folder."""
    return _shards(folder, source) or _newest(folder, source)


def base_named(folder: Path) -> str:
    """The model that a fine-tuned one was made from, by its config (`_name_or_path`), else by its model card; "" where
    neither names another one."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        named = ""
    named = named if isinstance(named, str) and named else _card(folder)
    own = bool(named) and Path(named).expanduser().resolve() == folder.resolve()
    return "" if own else named


def _card(folder: Path) -> str:
    """`base_model` of the front matter of README.md, as a text or as a list of one."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    one = r"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?([^\s,]+)[ \t]*$(?!\n[ \t]*-)"
    found = re.search(one, front[1], re.MULTILINE) if front else None
    return found[1].strip("'\"") if found else ""


def _shards(folder: Path, source: str) -> str:
    """How to make whole weights of what DeepSpeed, FSDP or Megatron wrote."""
    names = _names(folder)
    if "zero_to_fp32.py" in names:
        return _zero(folder, source)
    if "zero_to_fp32.py" in _names(folder.parent) and _any(names, r".*(model|optim)_states\.pt"):
        return _zero(folder.parent, source)
    if _any(names, r"global_step\d+"):
        steps = sorted(name for name in names if re.fullmatch(r"global_step\d+", name))
        return (
            f"{source} holds the shards of a DeepSpeed checkpoint ({steps[-1]}) without zero_to_fp32.py: fetch that "
            "script from DeepSpeed (deepspeed.utils.zero_to_fp32), and write whole weights with 'python "
            f"zero_to_fp32.py {folder} {folder}/whole --safe_serialization'; {_BESIDE}"
        )
    inner = next((name for name in sorted(names) if _any(_names(folder / name), r"__\d+_\d+\.distcp")), None)
    if inner is not None or _any(names, r"__\d+_\d+\.distcp"):
        at, whole = (folder / inner, folder / "whole") if inner else (folder, folder.with_name("whole"))
        return (
            f"{source} holds the shards of an FSDP checkpoint (.distcp) and no .safetensors weights: write whole "
            f"weights with 'accelerate merge-weights {at} {whole}'; {_BESIDE}"
        )
    if "latest_checkpointed_iteration.txt" in names or _any(names, r"mp_rank_\d\d(_\d+)?"):
        return (
            f"{source} holds the shards of a Megatron checkpoint: convert it with the converter of the program that "
            "trained it, into the folder that save_pretrained writes, and give that folder"
        )
    return ""


def _zero(folder: Path, source: str) -> str:
    return (
        f"{source} holds the shards of DeepSpeed ZeRO (zero_to_fp32.py) and no .safetensors weights: write whole "
        f"weights with 'python {folder}/zero_to_fp32.py {folder} {folder}/whole --safe_serialization'; {_BESIDE}"
    )


def _newest(folder: Path, source: str) -> str:
    """The newest checkpoint of a training run's folder."""
    if any((folder / name).is_file() for name in _HOLDS_MODEL):
        return ""
    found = [
        (int(match[1]), name)
        for name in _names(folder)
        if (match := _CHECKPOINT.fullmatch(name)) and (folder / name).is_dir()
    ]
    if not found:
        return ""
    number = "a checkpoint" if len(found) == 1 else f"{len(found)} checkpoints"
    which = "give it" if len(found) == 1 else "give the newest, or another one"
    newest = folder / max(found)[1]
    return f"{source} holds {number} of a training run and no model of its own: {which}, --model {newest}"


def _any(names: Iterable[str], pattern: str) -> bool:
    return any(re.fullmatch(pattern, name) for name in names)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
