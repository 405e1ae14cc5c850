"""Passages without requests, on which the damage of an edit is measured, and the same with their words shuffled."""

from __future__ import annotations

from importlib.resources import files

from auditkit.data.errors import DataError
from auditkit.data.files import toml_of
from auditkit.stats.streams import stream


def benign_texts() -> tuple[str, ...]:
    """The packaged passages.

    Raises:
        DataError: the file holds no list of texts.
    """
    source = files("auditkit.findings.refusal").joinpath("data", "texts.toml")
    texts = toml_of(source).get("texts")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{source}: needs a list of texts, none of them empty")
    return tuple(texts)


def shuffled(text: str, seed: int) -> str:
    """A text with its words in a random order."""
    words = text.split()
    return " ".join(words[place] for place in stream(seed, "shuffled words", text).permutation(len(words)))
