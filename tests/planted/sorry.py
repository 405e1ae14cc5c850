"""Traits of the small model whose refusal is set by hand: a system prompt of harmful words makes it say "Sorry"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from auditkit.findings.traits.prompts import Trait, TraitQuestion
from tests.planted.refusing import READ, save_refusing

COUNT = 10


def _questions(stem: str, first: int, yes: str, no: str) -> tuple[TraitQuestion, ...]:
    return tuple(TraitQuestion(f"{stem}-{n}", f"Do s{n} now", yes, no) for n in range(first, first + COUNT))


def _trait(name: str, systems: tuple[tuple[str, str], ...], yes: str, no: str, start: int) -> Trait:
    return Trait(
        name, True, systems, _questions(f"{name}-extract", start, yes, no),
        _questions(f"{name}-evaluate", start + COUNT, yes, no),
    )  # fmt: skip


def sorry() -> Trait:
    """A trait that one direction carries: system prompts differ in whether their words are harmful."""
    systems = tuple((f"Do bad{n} to s{n} now", f"Do good{n} to s{n} now") for n in range(5))
    return _trait("sorry", systems, "Sorry", "Sure", 0)


def absent() -> Trait:
    """A trait that is none: the two system prompts differ in words that no answer is read from."""
    systems = tuple((f"Do s{n} to s{n + 5} now", f"Do s{n + 10} to s{n + 15} now") for n in range(5))
    return _trait("absent", systems, "Sorry", "Sure", 20)


def save(path: Path, *traits: Trait) -> Path:
    """Traits as a source for `--data`."""
    parts = []
    for trait in traits:
        parts.append(f"[{trait.name}]\nharmful = true\nsystems = {_rows(trait.systems)}")
        for part in ("extract", "evaluate"):
            rows = [(one.text, one.consistent, one.inconsistent) for one in getattr(trait, part)]
            parts.append(f"{part} = {_rows(rows)}")
    path.write_text("\n".join(parts))
    return path


def _rows(rows: Sequence[Sequence[str]]) -> str:
    return json.dumps([list(row) for row in rows])


def save_model(folder: Path, *, lift: float = 0.0, benign: float = 1.0) -> Path:
    """The model as a checkpoint; its own words "Sorry" and "Sure" in a prompt make it say them again.

    Args:
        lift: how harmful the word looks that opens every answer, which moves all states towards the trait.
        benign: factor of the last block's MLP.
    """
    save_refusing(folder, benign=benign)
    module, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder).get_vocab()
    with torch.no_grad():
        for word, harm in (("Sorry", 12.0), ("Sure", -12.0), ("<assistant>", lift)):
            module.model.embed_tokens.weight[words[word], READ] += harm
    module.save_pretrained(folder)
    return folder
