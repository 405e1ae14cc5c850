"""Thoughts that a chat template opens, and how an answer gets out of them.

Models that reason write a thought between two marks before they answer. A generation prompt may hold the first mark
already (DeepSeek-R1, QwQ, Magistral); an answer that starts behind it would be part of the thought. So a thought that
is open where the answer starts is closed, empty, as the templates themselves write an empty one. gpt-oss writes
thoughts and answers in channels: its answer is put into the final one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from auditkit.adapters.errors import ModelError

THINKING = "enable_thinking"
"""The variable by which templates (Qwen3, SmolLM3, GLM-4.5, ...) let thoughts be switched off."""

SAID = "its generation prompt opens a thought, which is closed before the answer"

_OPENING = re.compile(
    r"<(?P<tag>[\w:]*(?:think|thought|reason)[\w:]*)>"
    r"|\[(?P<square>\w*(?:THINK|THOUGHT|REASON)\w*)\]"
    r"|<\|(?P<start>start|begin_of)_(?P<name>thinking|thought|reasoning)\|>",
    re.IGNORECASE,
)
_CHANNELS = re.compile(r"<\|start\|>assistant\s*$")
_FINAL = "<|channel|>final<|message|>"

_ENDLESS = float("inf")

_OWN = frozenset(
    ("messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize", "padding",
     "continue_final_message", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs",
     "return_assistant_tokens_mask", "self", "bos_token", "eos_token", "strftime_now", "raise_exception")
)  # fmt: skip
"""What transformers or auditkit gives the template, and a user cannot."""


def arguments(template: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Variable -> value that a template is given: what the user asked for, and no thinking where the template lets it.

    Raises:
        ModelError: a variable that the template does not read, with those that resemble it.
    """
    words = set(re.findall(r"[A-Za-z_]\w*", " ".join(_code(template or ""))))
    for name in asked:
        if name in words:
            continue
        near = difflib.get_close_matches(name, sorted(words), n=1)
        why = "the model has no chat template" if template is None else f"the chat template reads no {name!r}"
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ModelError(f"--template-arg {name}={json.dumps(asked[name])} would change nothing: {why}{hint}")
    off = {THINKING: False} if THINKING in words and THINKING not in asked else {}
    return {**off, **asked}


def read_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Variable -> value from NAME=VALUE; a value is JSON where it reads as JSON, `True` and `False` too, else a text.

    Raises:
        ValueError: no NAME=VALUE, a name given twice, or one that a user cannot give.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--template-arg {text}: write NAME=VALUE, as in --template-arg enable_thinking=true")
        if name in _OWN:
            raise ValueError(f"--template-arg {text}: {name} is given by the run itself")
        if name in found:
            raise ValueError(f"--template-arg: {name} is given two values")
        found[name] = _value(value)
    return found


def closing(text: str, user: str) -> str:
    """What gets an answer out of the thought that a prompt opens; empty where it opens none.

    Args:
        text: the prompt up to where the answer starts.
        user: the user's text, in which marks mean nothing.
    """
    tail = text.rpartition(user)[2] if user else text
    if _CHANNELS.search(tail):
        return _FINAL
    marks = list(_OPENING.finditer(tail))
    if not marks:
        return ""
    end = _end(marks[-1])
    behind = tail[marks[-1].end() :]
    if end.lower() in behind.lower():
        return ""
    blank = "\n" if behind == "\n" else "\n\n"  # as the templates write an empty thought
    return f"{blank}{end}\n\n"


def _end(mark: re.Match[str]) -> str:
    """The mark that closes what this one opens, in its letters."""
    if mark["tag"]:
        return f"</{mark['tag']}>"
    if mark["square"]:
        return f"[/{mark['square']}]"
    word = mark["start"]
    closes = {"start": "end", "begin_of": "end_of"}[word.lower()]
    return f"<|{closes.upper() if word.isupper() else closes}_{mark['name']}|>"


def _code(template: str) -> list[str]:
    """The parts of a template that are code and not text."""
    return re.findall(r"\{[{%](.*?)[%}]\}", template, re.DOTALL)


def _value(text: str) -> Any:
    try:
        value = json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text
    return value if value == value and value not in (_ENDLESS, -_ENDLESS) else text  # NaN and Infinity are no JSON
