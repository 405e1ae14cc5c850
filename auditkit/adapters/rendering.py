"""What a model's chat template makes of chats, as one digest.

Items and code say which chats a run has asked; the template turns them into the text that the model reads, and can
change that without a change of its own: where it reads the clock, or where another version of a package renders it. So
the digest is of rendered text, not of the template, and two templates that write the same have the same digest. Token
ids are no part of it: another tokenizer cuts the same text elsewhere.
"""

from __future__ import annotations

import hashlib

from auditkit.adapters.chat import ChatEncoder
from auditkit.data.prompts import Chat

_CHATS = (
    Chat("Is bread a kind of food?"),
    Chat("Is bread a kind of food?", system="You are a nurse."),
    Chat("Is bread a kind of food?", assistant="Answer:"),
    Chat("  One.\n\nTwo, with “quotes”, {braces} and <tags>.\n", system="Reply\nbriefly. ", assistant=" It"),
)
"""With and without a system turn and the start of an answer, and text that a template may strip or escape."""


def rendered_prompt(chat: ChatEncoder) -> str:
    """One of the chats in full, as the model reads it: with a system turn and the start of an answer.

    Raises:
        ModelError: the template fails on it.
    """
    return chat.render(Chat("Is bread a kind of food?", system="You are a nurse.", assistant="Answer:"))


def rendered_sha256(chat: ChatEncoder) -> str:
    """SHA-256 of what the encoder makes of a few fixed chats.

    Raises:
        ModelError: the template fails on them.
    """
    texts = "\x1f".join(chat.render(one) for one in _CHATS)
    return hashlib.sha256(texts.encode(errors="surrogatepass")).hexdigest()
