"""The process that renders chat templates: `auditkit.adapters.sandbox` starts it, by its path and without the package.

It reads one JSON object a line (template, turns, opened, variables) and writes one (text, or error and message; and the
processor time that it took). Its memory is limited before the first template, and an alarm ends it where a template
does not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any


def limit_memory(more: int) -> None:
    """Let this process have so many bytes beyond what it has now; nothing is limited where the system cannot."""
    try:
        import resource
        from pathlib import Path

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return


def answer(request: dict[str, Any], longest: int) -> dict[str, str]:
    """What a template makes of the turns, or why it makes nothing of them."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered: Any = render_jinja_template(
            conversations=[request["turns"]],
            chat_template=request["template"],
            add_generation_prompt=request["opened"],
            **request["variables"],
        )
        text = str(rendered[0][0])
    except MemoryError:
        return {"error": "MemoryError", "message": "it needs more memory than a chat template may have"}
    except BaseException as error:  # whatever an expression in the template runs into
        return {"error": type(error).__name__, "message": str(error)[:2000]}
    if len(text) > longest:
        return {
            "error": "OverflowError",
            "message": f"it writes {len(text):,} characters; at most {longest:,} are read",
        }
    return {"text": text}


def serve(more: int, seconds: int, longest: int) -> None:
    """Answer until the input ends. Nothing but answers is written to where they are read."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    answer({"turns": [], "template": "", "opened": False, "variables": {}}, longest)  # everything is imported now
    limit_memory(more)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        if hasattr(signal, "alarm"):
            signal.alarm(seconds)
        began = time.process_time()
        said = answer(json.loads(line), longest)
        said["cpu"] = f"{time.process_time() - began:.3f}"
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:4]))
