"""Weights and tokenizers as people have them: GGUF files, other formats, damaged folders, checkpoints with images."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tiny_gguf import write_gguf
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from auditkit.adapters.loading.quiet import quiet
from tests.adapters.conftest import SENTENCES, USUAL, WORDS, tokenizer_with
from tests.adapters.layouts.layout import READ, Layout

Step = Callable[[Path], object]
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 4096\n"
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14, "num_channels": 3,
}  # fmt: skip
ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
QWEN_VISION = {
    "depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14,
}  # fmt: skip
QWEN_IDS = {"image_token_id": 290, "video_token_id": 291, "vision_start_token_id": 292, "vision_end_token_id": 293}
SIGLIP, CLIP = {"model_type": "siglip_vision_model", **VISION}, {"model_type": "clip_vision_model", **VISION}

SEEING: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {"text_config": USUAL | ROPE, "vision_config": QWEN_VISION, **QWEN_IDS},
    "qwen3_vl": {
        "text_config": USUAL | ROPE,
        "vision_config": {**QWEN_VISION, "deepstack_visual_indexes": [0]},
        **QWEN_IDS,
    },
    "mistral3": {
        "text_config": {"model_type": "mistral", **USUAL},
        "vision_config": {"model_type": "pixtral", **VISION},
        "image_token_index": 290,
    },
    "llava": {
        "text_config": {"model_type": "llama", **USUAL},
        "vision_config": {**CLIP, "projection_dim": 16},
        "image_token_index": 290,
    },
    "gemma3": {
        "text_config": {**USUAL, "sliding_window": 4},
        "vision_config": SIGLIP,
        "image_token_index": 290,
        "mm_tokens_per_image": 4,
    },
    "internvl": {
        "text_config": {"model_type": "qwen2", **USUAL},
        "vision_config": {**VISION, "image_size": [28, 28], "patch_size": [14, 14]},
        "image_token_id": 290,
    },
    "smolvlm": {
        "text_config": {"model_type": "llama", **USUAL},
        "vision_config": VISION,
        "image_token_id": 290,
    },
    "paligemma": {
        "text_config": {"model_type": "gemma", **USUAL},
        "vision_config": {**SIGLIP, "projection_dim": 32},
        "image_token_index": 290,
        "projection_dim": 32,
        "hidden_size": 32,
    },
}
"""transformers' model_type -> a tiny config of a checkpoint that takes images as well."""


def checkpoint(folder: Path, template: str | None = "system", parts: int = 1) -> Path:
    """A random Llama of three blocks as save_pretrained writes it, in `parts` files."""
    torch.manual_seed(0)
    with quiet():
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **USUAL)).eval()
        size = sum(p.numel() * p.element_size() for p in module.parameters())
        module.save_pretrained(folder, max_shard_size=size // parts + 4096)
        tokenizer_with(template).save_pretrained(folder)
    return folder


def seeing(model_type: str, folder: Path) -> Path:
    """A random checkpoint that takes images as well."""
    torch.manual_seed(0)
    with quiet():
        config = AutoConfig.for_model(model_type, **SEEING[model_type])
        module = AutoModelForImageTextToText.from_config(config).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        module.save_pretrained(folder)
        tokenizer_with().save_pretrained(folder)
    return folder


def changed(*steps: Step, template: str | None = "system") -> Callable[[Path], Path]:
    """A checkpoint after which each step has changed its folder."""

    def build(folder: Path) -> Path:
        checkpoint(folder, template)
        for step in steps:
            step(folder)
        return folder

    return build


def wrote(name: str, content: bytes | str = b"\0") -> Step:
    """A step that writes a file."""

    def step(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return step


def without(*patterns: str) -> Step:
    """A step that takes files away."""

    def step(folder: Path) -> None:
        for pattern in patterns:
            for file in folder.glob(pattern):
                file.unlink()

    return step


def files(*names: str, at: str = "") -> Callable[[Path], Path]:
    """A folder that holds these files and nothing else; what is given is the file `at`, where one is named."""

    def build(folder: Path) -> Path:
        for name in names:
            wrote(name)(folder)
        return folder / at if at else folder

    return build


def ggufs(*names: str, at: str = "", parts: int = 1, beside: tuple[str, ...] = ()) -> Callable[[Path], Path]:
    """GGUF files of one random model under these names; what is given is the file `at`, or the folder."""

    def build(folder: Path) -> Path:
        first = write_gguf(folder / names[0], tokenizer_with(), parts)
        for name in names[1:]:
            shutil.copy(first, folder / name)
        for name in beside:
            wrote(name)(folder)
        return folder / at if at else folder

    return build


def cut(name: str, share: float) -> Step:
    """A step that leaves the first bytes of a file."""

    def step(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return step


def sentencepiece_model() -> bytes:
    """A sentencepiece model of a few sentences, with pieces for all bytes."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=written, vocab_size=WORDS, model_type="bpe",
        byte_fallback=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return written.getvalue()


def pieces(folder: Path, name: str = "tokenizer.model") -> Path:
    """A checkpoint whose only tokenizer is a sentencepiece model, under this name."""
    changed(without("tokenizer*"), wrote(name, sentencepiece_model()))(folder)
    wrote("tokenizer_config.json", json.dumps({"tokenizer_class": "LlamaTokenizer"}))(folder)
    return folder


def retokenized(**values: Any) -> Step:
    """A step that changes tokenizer_config.json, and takes the file of the chat template away."""

    def step(folder: Path) -> None:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
        without("chat_template.jinja")(folder)

    return step


def reconfigured(**values: Any) -> Step:
    """A step that changes config.json."""

    def step(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return step


def renamed(old: str, new: str) -> Step:
    return lambda folder: (folder / old).rename(folder / new)


def hub_cache(folder: Path) -> Path:
    """A model in the layout of the hub's cache."""
    top = folder / "models--owner--tiny"
    checkpoint(top / "snapshots" / "0123abc")
    return top


def child(folder: Path, name: str = "final") -> Path:
    """A folder around a checkpoint."""
    checkpoint(folder / name)
    wrote("README.md", "#")(folder)
    return folder


def torn(folder: Path) -> Path:
    """A checkpoint in shards of which one is missing."""
    checkpoint(folder, parts=3)
    without("model-00002*")(folder)
    return folder


TIKTOKEN = b"".join(base64.b64encode(bytes([byte])) + f" {byte}\n".encode() for byte in range(256))
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
OPENING = TURNS + "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
SWITCHED = TURNS + "assistant: {% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
PARTS = "{% for m in messages %}{{ m.role }}: {% for p in m.content | selectattr('type', 'eq', 'text') %}{{ p.text }} {% endfor %}{% endfor %}"  # noqa: E501  # a template breaks nowhere
NAMED = [{"name": name, "template": TURNS} for name in ("rag", "tool_use")]

_SAVE = "load it with transformers where its origin is trusted, and save it again with save_pretrained"
_MERGE = "llama-gguf-split --merge"

LAYOUTS = [
    # -- GGUF ----------------------------------------------------------------------------------------------------
    Layout("a .gguf file", ggufs("tiny.gguf", at="tiny.gguf"), READ),
    Layout("a .GGUF file, in upper case", ggufs("TINY.GGUF", at="TINY.GGUF"), READ),
    Layout("a folder with one .gguf file", ggufs("tiny.gguf", beside=("README.md",)), READ),
    Layout(
        "a folder with one .gguf file and config.json",
        ggufs("tiny.gguf", beside=("config.json", "params")),
        READ,
    ),
    Layout(
        "a folder with a .gguf model and its projector for images",
        ggufs("tiny-Q8_0.gguf", beside=("mmproj-tiny-f16.gguf",)),
        READ,
    ),
    Layout(
        "a GGUF model in one part",
        ggufs("tiny-00001-of-00001.gguf", at="tiny-00001-of-00001.gguf"),
        READ,
    ),
    Layout(
        "a folder with two quantizations",
        files("tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"),
        "directory '{path}' holds 2 GGUF models (tiny-Q4_K_M.gguf, tiny-Q8_0.gguf): give the path of one of them",
    ),
    Layout(
        "the first part of a GGUF model in three",
        files(*(f"tiny-0000{i}-of-00003.gguf" for i in (1, 2, 3)), at="tiny-00001-of-00003.gguf"),
        "tiny-00001-of-00003.gguf is part 1 of 3 of a GGUF model, and auditkit reads whole files: merge the parts with "
        f"'{_MERGE} {{path}} {{folder}}/tiny.gguf' and give the merged file",
    ),
    Layout(
        "a folder with a GGUF model in two parts",
        files(*(f"tiny-0000{i}-of-00002.gguf" for i in (1, 2))),
        "tiny-00001-of-00002.gguf is part 1 of 2 of a GGUF model, and auditkit reads whole files: merge the parts with "
        f"'{_MERGE} {{path}}/tiny-00001-of-00002.gguf {{path}}/tiny.gguf' and give the merged file",
    ),
    Layout(
        "one part of a GGUF model alone",
        files("tiny-00002-of-00003.GGUF", at="tiny-00002-of-00003.GGUF"),
        "tiny-00002-of-00003.GGUF is part 2 of 3 of a GGUF model, and auditkit reads whole files: fetch "
        "tiny-00001-of-00003.GGUF, tiny-00003-of-00003.GGUF as well, then merge the parts with "
        f"'{_MERGE} {{folder}}/tiny-00001-of-00003.GGUF {{folder}}/tiny.gguf' and give the merged file",
    ),
    Layout(
        "a part of a GGUF model under another name",
        ggufs("model.gguf", at="model.gguf", parts=2),
        "model.gguf is one of 2 parts of a GGUF model, by its key split.count, and auditkit reads whole files: give "
        f"the parts their names back (NAME-00001-of-00002.gguf) and merge them with '{_MERGE}'",
    ),
    Layout(
        "a projector for images in GGUF",
        files("mmproj-model-f16.gguf", at="mmproj-model-f16.gguf"),
        "mmproj-model-f16.gguf holds a projector for images or statistics for a quantizer (mmproj, imatrix), and no "
        "language model: give the GGUF file that lies beside it",
    ),
    # -- folders of transformers, and what is taken for one ------------------------------------------------------
    Layout("a folder of save_pretrained", checkpoint, READ),
    Layout("weights in shards with their index", partial(checkpoint, parts=3), READ),
    Layout(
        "pickled weights",
        changed(renamed("model.safetensors", "pytorch_model.bin")),
        "directory {path} holds pytorch_model.bin and no .safetensors weights: its weights are pickled, and pickled "
        f"weights can run code: {_SAVE}, which writes safetensors",
    ),
    Layout(
        "weights for TensorFlow",
        changed(renamed("model.safetensors", "tf_model.h5")),
        "directory {path} holds tf_model.h5 and no .safetensors weights: its weights are for TensorFlow: "
        f"{_SAVE}, in a release that reads them",
    ),
    Layout(
        "weights for Flax",
        changed(renamed("model.safetensors", "flax_model.msgpack")),
        "directory {path} holds flax_model.msgpack and no .safetensors weights: its weights are for Flax: "
        f"{_SAVE}, in a release that reads them",
    ),
    Layout(
        "an export to ONNX",
        changed(renamed("model.safetensors", "model.onnx")),
        "directory {path} holds model.onnx and no .safetensors weights: its weights are an export for another runtime: "
        "give the checkpoint that it was exported from",
    ),
    Layout(
        "weights of MLX as NumPy arrays",
        changed(renamed("model.safetensors", "weights.npz")),
        "directory {path} holds weights.npz and no .safetensors weights: its weights are NumPy arrays, as MLX wrote "
        "them: give the checkpoint that they were made from",
    ),
    Layout(
        "the layout of Meta's own code",
        files("consolidated.00.pth", "params.json", "tokenizer.model"),
        "directory '{path}' holds consolidated.00.pth and no .safetensors weights: it is in the layout of its author's "
        "own code: fetch or convert the transformers layout of the same model, which has a config.json and "
        "model.safetensors",
    ),
    Layout(
        "a diffusers pipeline",
        files("model_index.json", "unet/config.json.txt"),
        "directory '{path}' holds model_index.json and no .safetensors weights: it is a diffusers pipeline, which "
        "makes images: auditkit measures causal language models",
    ),
    Layout(
        "config.json without weights",
        changed(without("*.safetensors")),
        "directory {path} holds no .safetensors weights, and auditkit loads safetensors or GGUF only: fetch the "
        "weights, or give the folder that save_pretrained wrote",
    ),
    Layout(
        "weights without config.json",
        changed(without("config.json")),
        "directory '{path}' holds weights and no config.json: copy config.json and the tokenizer's files from the "
        "model that it was made from",
    ),
    Layout(
        "a clone without its large files",
        changed(wrote("model.safetensors", LFS)),
        "model.safetensors of directory {path} is a pointer of Git LFS, not the file itself: run 'git lfs pull' in the "
        "folder",
    ),
    Layout(
        "a shard that is missing",
        torn,
        "model.safetensors.index.json of {name} lists model-00002-of-00003.safetensors, which is not there; fetch the "
        "weights again",
    ),
    Layout(
        "weights under another name",
        changed(renamed("model.safetensors", "model.fp16.safetensors")),
        "directory {path} holds model.fp16.safetensors, but neither model.safetensors nor "
        "model.safetensors.index.json, which are what transformers reads; give the folder that save_pretrained wrote",
    ),
    Layout(
        "the folder around a checkpoint",
        child,
        "directory '{path}' holds no config.json, but {path}/final does: give it",
    ),
    Layout(
        "a model in the hub's cache",
        hub_cache,
        "directory '{path}' is the hub's cache of owner/tiny: give --model owner/tiny, or one of its snapshots "
        "({path}/snapshots/0123abc)",
    ),
    Layout(
        "an empty folder",
        lambda folder: folder,
        "directory '{path}' is empty; give the folder that save_pretrained wrote",
    ),
    Layout(
        "the file model.safetensors",
        lambda folder: checkpoint(folder) / "model.safetensors",
        "'{path}' is one file of a model: give its folder, '{folder}'",
    ),
    Layout(
        "an archive",
        files("tiny.tar.gz", at="tiny.tar.gz"),
        "'{path}' is an archive: unpack it, and give the folder that holds config.json",
    ),
    Layout(
        "the address of a model on the hub",
        lambda folder: "https://huggingface.co/owner/tiny/tree/main",
        "'{path}' is an address: write the hub id alone, --model owner/tiny",
    ),
    # -- tokenizers ----------------------------------------------------------------------------------------------
    Layout("tokenizer.model of sentencepiece, without tokenizer.json", pieces, READ),
    Layout(
        "tokenizer.model of tiktoken, without tokenizer.json",
        changed(without("tokenizer*"), wrote("tokenizer.model", TIKTOKEN)),
        "the tokenizer of directory {path} is a tiktoken file (tokenizer.model), which transformers converts with the "
        "package tiktoken: run 'pip install tiktoken', or give a folder with tokenizer.json",
    ),
    Layout(
        "a damaged tokenizer.model",
        changed(without("tokenizer*"), wrote("tokenizer.model", b"\x0a\x0e\x0a\x05<unk>\x15")),
        "tokenizer.model of directory {path} is damaged, or neither a sentencepiece model nor a tiktoken file: fetch "
        "it again",
    ),
    Layout(
        "a sentencepiece model under another name",
        partial(pieces, name="spiece.model"),
        "directory {path} holds spiece.model, of which transformers made a LlamaTokenizer with 3 special tokens and no "
        "words: save the tokenizer again with save_pretrained, which writes tokenizer.json",
    ),
    Layout(
        "no tokenizer",
        changed(without("tokenizer*")),
        "directory {path} holds no tokenizer and names no base that could have it: give the model that it was made "
        "from with --tokenizer (a folder, a hub id or an alias)",
    ),
    # -- chat templates ------------------------------------------------------------------------------------------
    Layout("chat_template.jinja", checkpoint, READ),
    Layout("no chat template", partial(checkpoint, template=None), READ),
    Layout(
        "chat_template.json alone",
        changed(wrote("chat_template.json", json.dumps({"chat_template": TURNS})), template=None),
        READ,
    ),
    Layout(
        "a damaged chat_template.json",
        changed(wrote("chat_template.json", json.dumps({"template": TURNS})), template=None),
        "chat_template.json of directory {path} holds no text under chat_template: put the template there, or into "
        "chat_template.jinja",
    ),
    Layout(
        "several chat templates, one of them the default",
        changed(retokenized(chat_template=[{"name": "default", "template": TURNS}, *NAMED])),
        READ,
    ),
    Layout(
        "several chat templates and no default",
        changed(retokenized(chat_template=NAMED)),
        "the tokenizer of directory {path} has the chat templates rag, tool_use, and none is the default: name the one "
        "to use 'default' in tokenizer_config.json, or write it to chat_template.jinja",
    ),
    Layout("a generation prompt that opens a thought", changed(wrote("chat_template.jinja", OPENING)), READ),
    Layout("a chat template with enable_thinking", changed(wrote("chat_template.jinja", SWITCHED)), READ),
    Layout(
        "a chat template that reads turns as lists of parts", changed(wrote("chat_template.jinja", PARTS)), READ
    ),
    Layout(
        "a chat template that fails",
        changed(wrote("chat_template.jinja", "{{ raise_exception('never') }}")),
        "the chat template fails on the turns user (TemplateError: never)",
    ),
    # -- checkpoints that take images, or bring code -------------------------------------------------------------
    *(
        Layout(f"{name}, whose text model is measured", partial(seeing, model_type), READ)
        for name, model_type in (
            ("Qwen2.5-VL", "qwen2_5_vl"),
            ("Qwen3-VL", "qwen3_vl"),
            ("Mistral 3", "mistral3"),
            ("Llava", "llava"),
            ("Gemma 3 with its vision tower", "gemma3"),
            ("InternVL", "internvl"),
            ("SmolVLM", "smolvlm"),
        )
    ),
    Layout(
        "a model with its own code, without --audit-trust-remote-code",
        changed(
            reconfigured(model_type="tiny", auto_map={"AutoModelForCausalLM": "modeling_tiny.Tiny"}),
            wrote("modeling_tiny.py", ""),
        ),
        "directory {path} is of type 'tiny', which runs only with the model's own code (modeling_tiny.py): read that "
        "code, and give --audit-trust-remote-code to run it",
    ),
]
