"""A checkpoint's tokenizer and chat template, from whichever files the folder has.

transformers converts a sentencepiece model with the packages sentencepiece and protobuf; where one of them is missing
or the file is damaged, it asks for tiktoken instead. It leaves `chat_template.json` to processors, and it makes a
tokenizer of a handful of special tokens where it finds none of the files that it looks for. Each is told apart here.
"""

from __future__ import annotations

import base64
import binascii
import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.loading.instead import listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFINITION = "tokenizer.json"
LEGACY_TEMPLATE = "chat_template.json"
_VOCABULARIES = ("*.model", "*.tiktoken", "tekken.json", "vocab.*", "merges.txt", "tokenizer.json", "*.vocab")
_SAMPLE = "What is the capital of France? 1 + 2 = 3, and abc."


def read_tokenizer(folder: Path, source: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, with the chat template that lies beside it.

    Args:
        source: what the folder is, in words.
        options: for `AutoTokenizer.from_pretrained`.

    Raises:
        ModelError: a package is missing, a file is damaged, or it knows no words; one line with the next step.
    """
    from transformers import AutoTokenizer

    if not (folder / DEFINITION).is_file():
        _refuse_sentencepiece(folder, source)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:  # whatever missing or damaged files run into
        files = listed(vocabularies(folder))
        raise ModelError(f"cannot read the tokenizer of {source} ({files}): {first_line(error)}") from error
    _refuse_wordless(tokenizer, folder, source)
    if not tokenizer.chat_template:
        tokenizer.chat_template = legacy_template(folder, source)
    named = tokenizer.chat_template
    if isinstance(named, dict) and "default" not in named:
        if len(named) > 1:
            raise ModelError(
                f"the tokenizer of {source} has the chat templates {listed(sorted(named))}, and none is the default: "
                "name the one to use 'default' in tokenizer_config.json, or write it to chat_template.jinja"
            )
        tokenizer.chat_template = next(iter(named.values()))
    return tokenizer


def vocabularies(folder: Path) -> list[str]:
    """Names of the files of a folder that may define a tokenizer, sorted."""
    return sorted({file.name for pattern in _VOCABULARIES for file in folder.glob(pattern) if file.is_file()})


def legacy_template(folder: Path, source: str) -> str | None:
    """The chat template in `chat_template.json`, where processors of images kept it; None where there is no such file.

    Raises:
        ModelError: the file holds no template.
    """
    file = folder / LEGACY_TEMPLATE
    if not file.is_file():
        return None
    try:
        held = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {LEGACY_TEMPLATE} of {source}: {first_line(error)}") from error
    template = held.get("chat_template") if isinstance(held, dict) else None
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str):
        raise ModelError(
            f"{LEGACY_TEMPLATE} of {source} holds no text under chat_template: put the template there, or into "
            "chat_template.jinja"
        )
    return template


def _refuse_sentencepiece(folder: Path, source: str) -> None:
    """Refuse a tokenizer that transformers would misname: a sentencepiece model without its packages, or damaged.

    Raises:
        ModelError: naming the package to install, or the file that is damaged.
    """
    file = folder / "tokenizer.model"
    if not file.is_file():
        return
    head = file.read_bytes()[:4096]
    if _is_tiktoken(head):
        if find_spec("tiktoken") is None:
            raise ModelError(
                f"the tokenizer of {source} is a tiktoken file (tokenizer.model), which transformers converts with the "
                f"package tiktoken: run 'pip install tiktoken', or give a folder with {DEFINITION}"
            )
        return
    if _installed("sentencepiece"):
        from sentencepiece import SentencePieceProcessor

        try:
            SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError) as error:
            raise ModelError(
                f"tokenizer.model of {source} is damaged, or neither a sentencepiece model nor a tiktoken file: fetch "
                "it again"
            ) from error
    absent = [name for name in ("sentencepiece", "google.protobuf") if not _installed(name)]
    if absent:
        packages = " ".join(name.removeprefix("google.") for name in absent)
        raise ModelError(
            f"the tokenizer of {source} is a sentencepiece model (tokenizer.model), which transformers reads with the "
            f"packages sentencepiece and protobuf: run 'pip install {packages}', or give a folder with {DEFINITION}"
        )


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _is_tiktoken(head: bytes) -> bool:
    """Whether a file begins as tiktoken's do: lines of a token in base64 and its rank."""
    token, space, rank = head.partition(b"\n")[0].rstrip().partition(b" ")
    try:
        return bool(space) and rank.isdigit() and bool(base64.b64decode(token, validate=True))
    except binascii.Error:
        return False


def _refuse_wordless(tokenizer: PreTrainedTokenizerBase, folder: Path, source: str) -> None:
    """Refuse a tokenizer that was made of special tokens alone: every text would be the same to it.

    Raises:
        ModelError: no token of a plain text is more than a special token.
    """
    if set(tokenizer(_SAMPLE)["input_ids"]) - {*tokenizer.all_special_ids}:
        return
    files = vocabularies(folder)
    there = f"holds {listed(files)}" if files else "holds no file of a tokenizer"
    raise ModelError(
        f"{source} {there}, of which transformers made a {type(tokenizer).__name__} with {len(tokenizer)} special "
        f"tokens and no words: save the tokenizer again with save_pretrained, which writes {DEFINITION}"
    )
