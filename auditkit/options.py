"""The options of an audit: what each is called, what it takes, and the words that every command says of it.

pytest registers them, and the commands that hand some of them on show the same words. Nothing of auditkit is imported
here.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

_EFFORTS = ("quick", "standard", "thorough", "stepwise")


def effort(text: str) -> str:
    """What `--effort` may say.

    Raises:
        ArgumentTypeError: it does not, in one line.
    """
    general, *others = text.split(",")
    for one in others:
        suite, joined, own = one.partition("=")
        if not (suite and joined and own in _EFFORTS[:-1]):
            raise ArgumentTypeError(
                f"{one!r} is no SUITE=EFFORT; give {', '.join(_EFFORTS[:-1])} to a suite by its name"
            )
    if general not in _EFFORTS or (others and general == _EFFORTS[-1]):
        wanted = ", ".join(_EFFORTS[:-1] if others else _EFFORTS)
        raise ArgumentTypeError(f"{general!r} is no effort{' for all suites' if others else ''}; give {wanted}")
    return text


OPTIONS: dict[str, dict[str, Any]] = {
    "model": {
        "action": "append",
        "metavar": "SPEC",
        "help": "model to audit: an alias ('auditkit models' lists them), a directory, a .gguf file or a hub id; "
        "given several times, every claim is measured on each",
    },
    "seed": {"type": int, "metavar": "N", "help": "seed that every random stream derives from (default 0)"},
    "items": {"type": int, "metavar": "N", "help": "items per measurement (default: each suite's own)"},
    "effort": {
        "type": effort,
        "metavar": "EFFORT[,SUITE=EFFORT...]",
        "help": "how many of each suite's own number of items are measured: quick a quarter, standard all (default), "
        "thorough twice as many; stepwise all, and three times as many for the claims that this leaves undecided; "
        "single suites may have another: quick,traits=standard",
    },
    "budget": {
        "metavar": "TIME",
        "help": "divide a time among the suites: 90s, 5m, 1h; each gets the --effort with which most is decided",
    },
    "data": {
        "action": "append",
        "metavar": "SUITE=SOURCE",
        "help": "questions for a suite in place of its own: a file, a folder or a hub data set, each perhaps with "
        "#subject,subject; may be given once per suite",
    },
    "template-arg": {
        "action": "append",
        "metavar": "NAME=VALUE",
        "help": "value of a variable of the chat template, as in enable_thinking=true; may be given for several",
    },
    "tokenizer": {
        "metavar": "SPEC",
        "help": "directory, alias or hub id whose tokenizer is used in place of the model's own",
    },
    "device": {"metavar": "DEVICE", "help": "auto, cpu, cuda, cuda:N, or spread over all GPUs (default auto)"},
    "dtype": {"metavar": "DTYPE", "help": "auto, float32, bfloat16, float16 (default auto: float32 on cpu)"},
    "adapter": {
        "metavar": "NAME",
        "help": "what runs the model and reads and replaces its activations: hf (default), nnterp, vllm (which does "
        "neither), ndif for a model on an NDIF server, or one that another package registers",
    },
    "cross-check": {
        "type": int,
        "metavar": "N",
        "help": "measure N random sites of the run again through the other adapter; a difference ends the run with 11",
    },
    "profile": {
        "choices": ["pr", "release"],
        "help": "what an undecided claim does: under 'pr' it warns (default), under 'release' it blocks",
    },
    "thresholds": {
        "metavar": "FILE",
        "help": "TOML file of thresholds that replace the suites' own, per model, family or by default",
    },
    "baseline": {
        "metavar": "SPEC|RUN",
        "help": "model, recorded run or its name ('auditkit baseline') to compare with, item by item; 'base': the "
        "model that a fine-tune was made from",
    },
    "waivers": {
        "metavar": "FILE",
        "help": "TOML file of claims that need not block, each with owner, reason and expiry",
    },
    "shard": {
        "metavar": "I/N",
        "help": "measure the I-th of N parts of the claims, by suite; 'auditkit merge' makes one run of all parts",
    },
    "exchange": {
        "metavar": "FOLDER",
        "help": "folder that all shards of a run see: those that are done help in it the others that run ('auditkit "
        "fleet' names one)",
    },
    "log-to": {
        "action": "append",
        "choices": ["mlflow", "wandb", "trackio"],
        "help": "log the run to an experiment tracker when it has ended; may be given for several. 'auditkit log' "
        "does so afterwards",
    },
    "resume": {
        "nargs": "?",
        "const": "",
        "metavar": "FOLDER",
        "help": "continue an interrupted run: its finished claims are taken over (default: the newest cut-off run)",
    },
}

FLAGS = {
    "as-baseline": "measure only what later comparisons with this run need, and no claims about this model alone",
    "trust-remote-code": "run code from the model's repository; the report says so in red",
}


def said_of(name: str) -> str:
    """What the help of a command says of an option that it hands on, in argparse's form."""
    text = str(OPTIONS[name]["help"] if name in OPTIONS else FLAGS[name])
    return text.replace("%", "%%")
