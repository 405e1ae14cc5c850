"""Chat templates are programs of strangers: they run in a process of their own, with bounds.

Jinja's sandbox refuses attributes and calls that reach for Python, and bounds neither time nor memory: `{{'a' *
10**9}}` takes gigabytes and two nested loops never end. So one child process renders all templates of this process.
It may have `MEMORY` bytes beyond its start; a template has `SECONDS` for one chat and `TOGETHER` for all, and writes
at most `LONGEST` characters. A template that takes more is refused from then on without running again, and a process
that is not done is replaced.

The child renders by the same function of transformers that a tokenizer calls, with the tokenizer's own special tokens.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 4
"""For one chat. A template takes milliseconds; a machine under load takes many times as long."""

USUAL = 0.1
"""Seconds of processor time that any chat may take."""

TOGETHER = 4
"""Seconds of processor time that all chats of a template may take beyond the usual."""

MEMORY = 256 * 1024**2
"""Bytes beyond what the renderer has at its start, which are about 60 MB resident."""

LONGEST = 1_000_000
"""Characters that a template may write: many times what a model reads."""

_STARTING = 120
"""Seconds for the renderer to start, which imports transformers without torch."""


class TemplateFailure(Exception):
    """A template failed, or took more than it may have. The message names the kind of error in front."""


def applied(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    turns: Sequence[Mapping[str, Any]],
    opened: bool,
    **arguments: Any,
) -> str:
    """What a tokenizer's `apply_chat_template` writes for these turns with this template.

    A tokenizer whose class renders by code of its own renders in this process: its class is transformers' code, or was
    trusted.

    Args:
        opened: with the start of the assistant's answer.
        arguments: further variables of the template, as JSON can hold them.

    Raises:
        TemplateFailure: the template fails, or takes more time or memory or writes more than it may.
    """
    from transformers import PreTrainedTokenizerBase

    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        return str(
            tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=opened,
                **arguments,
            )
        )
    variables = {**{name: str(token) for name, token in tokenizer.special_tokens_map.items()}, **arguments}
    return _RENDERER.render(template, [dict(turn) for turn in turns], opened, variables)


def begin() -> None:
    """Start the process that renders templates and return at once; it imports while the caller does something else."""
    _RENDERER.begin()


class _Renderer:
    """The child process, started when the first template is rendered (or by `begin`) and replaced when it is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._ready = False
        """The process has said that it can render."""
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._refused: dict[str, str] = {}
        """Template, as a digest -> why it is not rendered again."""
        self._spent: dict[str, float] = {}
        """Template, as a digest -> seconds of processor time that its chats took beyond the usual."""
        atexit.register(self.close)

    def begin(self) -> None:
        """Start the process where there is none, and do not wait for it."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def render(
        self, template: str, turns: list[dict[str, Any]], opened: bool, variables: Mapping[str, Any]
    ) -> str:
        """The text; see `applied`."""
        name = hashlib.sha256(template.encode(errors="surrogatepass")).hexdigest()
        with self._lock:
            if name in self._refused:
                raise TemplateFailure(self._refused[name])
            request = {"template": template, "turns": turns, "opened": opened, "variables": dict(variables)}
            try:
                said = self._asked(request)
            except TemplateFailure as error:
                self._refused[name] = str(error)
                raise
            spent = self._spent[name] = self._spent.get(name, 0.0) + max(0.0, float(said["cpu"]) - USUAL)
            if spent > TOGETHER:
                self._refused[name] = f"TimeoutError: its chats took more than {TOGETHER} s"
            if "text" in said:
                return said["text"]
            why = f"{said['error']}: {said['message']}"
            if said["error"] in ("MemoryError", "OverflowError", "RecursionError"):
                self._refused.setdefault(name, why)
            raise TemplateFailure(why)

    def _asked(self, request: Mapping[str, Any]) -> dict[str, str]:
        process = self._running()
        assert process.stdin is not None
        line = json.dumps(request) + "\n"
        try:
            process.stdin.write(line)
            process.stdin.flush()
            said: dict[str, str] = json.loads(self._line(SECONDS))
            return said
        except queue.Empty:
            self.close()
            raise TemplateFailure(f"TimeoutError: it is not done after {SECONDS} s") from None
        except (OSError, ValueError):
            self.close()
            raise TemplateFailure("MemoryError: it ended the process that renders templates") from None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        assert process is not None
        if not self._ready:
            with suppress(queue.Empty):
                self._ready = self._line(_STARTING).strip() == "ready"
            if not self._ready:
                self.close()
                raise RuntimeError("the process that renders chat templates did not start")
        return process

    def _start(self) -> None:
        self.close()
        child = Path(__file__).with_name("sandbox_child.py")
        # Without torch, with one thread, and without what would turn its warnings into errors.
        apart = {"USE_TORCH": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        limits = [str(number) for number in (MEMORY, SECONDS + 1, LONGEST)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(child), *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **apart},
            text=True,
            encoding="utf-8",
        )
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()

    def _line(self, seconds: float) -> str:
        """The next line of the child; empty where it has ended.

        Raises:
            queue.Empty: none came in this time.
        """
        return self._lines.get(timeout=seconds)

    def close(self) -> None:
        """End the child."""
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was not sent any more
                    stream.close()


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Pass on what the child writes, and an empty line when it ends."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except (OSError, ValueError):  # it was closed meanwhile
        pass
    lines.put("")


_RENDERER = _Renderer()
