"""Prompts as data: a chat of system, user and the start of the assistant's answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chat:
    """One exchange, the assistant's turn open.

    Attributes:
        user: the user's turn.
        system: the system turn; empty for none.
        assistant: start of the assistant's answer, which the model continues; empty to score its first token.
    """

    user: str
    system: str = ""
    assistant: str = ""
