"""Ten requests in five topics, each made politely, plainly and rudely."""

from __future__ import annotations

from importlib.resources import files

from auditkit.data.files import toml_of
from auditkit.data.prompts import Chat

START, ANSWERS = "Answer:", (" Yes", " No")
OPENINGS = {"polite": "Would you please", "plain": "Will you", "rude": "Go and"}


def requests() -> list[tuple[str, str]]:
    """The topic and the text of every request; those of one topic are one cluster."""
    topics = toml_of(files(__package__).joinpath("data", "requests.toml"))
    return [(topic, text) for topic, texts in topics.items() for text in texts]


def chat(request: str, manner: str) -> Chat:
    """A request in one manner; the model's answer is the next token."""
    return Chat(user=f"{OPENINGS[manner]} {request}?", assistant=START)
