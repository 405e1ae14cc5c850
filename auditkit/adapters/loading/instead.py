"""What a path or a repository holds in place of a transformers checkpoint, and the next step, in one line each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading.ggufs import is_gguf

_SAVE = "load it with transformers where its origin is trusted, and save it again with save_pretrained"
_PARTS = 5

_KINDS: tuple[tuple[str, str], ...] = (
    (
        r"model_index\.json",
        "it is a diffusers pipeline, which makes images: auditkit measures causal language models",
    ),
    (
        r"consolidated(\.\d+)?\.(pth|safetensors)",
        "it is in the layout of its author's own code: fetch or convert the transformers layout of the same model, "
        "which has a config.json and model.safetensors",
    ),
    (
        r"(?!training_args|optimizer|scheduler|rng_state|scaler).*\.(bin|pt|pth|ckpt)",
        f"its weights are pickled, and pickled weights can run code: {_SAVE}, which writes safetensors",
    ),
    (r"tf_model\.h5|.*\.keras", f"its weights are for TensorFlow: {_SAVE}, in a release that reads them"),
    (r"flax_model.*\.msgpack", f"its weights are for Flax: {_SAVE}, in a release that reads them"),
    (
        r".*\.onnx|.*\.tflite|.*\.engine|.*\.mlmodelc?",
        "its weights are an export for another runtime: give the checkpoint that it was exported from",
    ),
    (r".*\.npz", "its weights are NumPy arrays, as MLX wrote them: give the checkpoint that they were made from"),
)
"""Names of files, and what a folder is that holds them in place of safetensors; the first that fits is said."""


def without_weights(names: Sequence[str], source: str) -> str:
    """What to do with a checkpoint of which no file is safetensors.

    Args:
        names: of its files, without folders.
    """
    for pattern, words in _KINDS:
        found = sorted(name for name in names if re.fullmatch(pattern, name, re.IGNORECASE))
        if found:
            return f"{source} holds {listed(found)} and no .safetensors weights: {words}"
    return (
        f"{source} holds no .safetensors weights, and auditkit loads safetensors or GGUF only: "
        "fetch the weights, or give the folder that save_pretrained wrote"
    )


def on_the_hub(names: Iterable[str], hub_id: str) -> str:
    """What to do with a repository of a hub of which no file is safetensors."""
    names = list(names)
    ggufs = sorted(name for name in names if is_gguf(name))
    if ggufs:
        return (
            f"hub {hub_id} holds GGUF files ({listed(ggufs)}) and no .safetensors weights: fetch one with "
            f"'hf download {hub_id} {ggufs[0]} --local-dir .' and give its path, or give the model that they were made "
            "from"
        )
    return without_weights([name for name in names if "/" not in name], f"hub {hub_id}")


def no_checkpoint(folder: Path, spec: str) -> str:
    """What to do with a folder without config.json."""
    source = f"directory {spec!r}"
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        return f"cannot read {source}: {error.strerror or error}"
    names = [entry.name for entry in entries]
    if not names:
        return f"{source} is empty; give the folder that save_pretrained wrote"
    if "snapshots" in names and folder.name.startswith("models--"):
        hub_id = folder.name.removeprefix("models--").replace("--", "/")
        revisions = sorted(entry.name for entry in (folder / "snapshots").iterdir())
        return (
            f"{source} is the hub's cache of {hub_id}: give --model {hub_id}, or one of its snapshots "
            f"({listed([f'{spec}/snapshots/{name}' for name in revisions])})"
        )
    if any(name.endswith(".safetensors") for name in names):
        return (
            f"{source} holds weights and no config.json: copy config.json and the tokenizer's files from the model "
            "that it was made from"
        )
    inner = [f"{spec}/{entry.name}" for entry in entries if (entry / "config.json").is_file()]
    if inner:
        which = "does: give it" if len(inner) == 1 else "do: give one of them"
        return f"{source} holds no config.json, but {listed(inner)} {which}"
    kinds = without_weights(names, source)
    if "holds no" not in kinds:
        return kinds
    return (
        f"{source} holds no config.json, so it is not a transformers model; give the folder that save_pretrained "
        "wrote"
    )


def no_model(path: Path, spec: str) -> str:
    """What to do with a file that is not GGUF."""
    if path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".7z")):
        return f"{spec!r} is an archive: unpack it, and give the folder that holds config.json"
    if (path.parent / "config.json").is_file():
        return f"{spec!r} is one file of a model: give its folder, {str(path.parent)!r}"
    return f"{spec!r} is a file that auditkit does not read: give a folder that holds config.json, or a .gguf file"


def address(spec: str) -> str:
    """The hub id that a web address of a model names; empty for anything else."""
    found = re.fullmatch(r"(?:https?://)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)(?:[/:?#].*)?", spec)
    return found[1] if found else ""


def refuse_pointers(folder: Path, source: str) -> None:
    """Refuse a folder that git cloned without its large files: what lies there are pointers to them.

    Raises:
        ModelError: naming the first pointer and the command that fetches the files.
    """
    for file in sorted(folder.glob("*")):
        if (
            file.is_file()
            and file.stat().st_size < 1024
            and file.read_bytes().startswith(b"version https://git-lfs")
        ):
            raise ModelError(
                f"{file.name} of {source} is a pointer of Git LFS, not the file itself: run 'git lfs pull' in the "
                "folder"
            )


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _PARTS} more" if len(names) > _PARTS else ""
    return ", ".join(names[:_PARTS]) + more
