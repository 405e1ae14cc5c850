"""From a chat to token ids, by the model's own template.

The rendered text is encoded without adding special tokens again, since templates write them out. Where a
template refuses or silently drops the system turn, its text goes to the head of the user turn; where there is
no template at all, the parts are joined as plain text. Both are said in `ChatEncoder.format`, because they are
another prompt than the finding was stated for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from auditkit.data.prompts import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """A rendered chat: its text and token ids (unpadded)."""

    text: str
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


class ChatEncoder:
    """Renders chats for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, chat: Chat) -> Prompt:
        text = self.render(chat)
        return Prompt(text, tuple(self.encode(text)))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def render(self, chat: Chat) -> str:
        """The text that the model sees, up to and including the start of the answer."""
        if self.template is None:
            parts = [part for part in (chat.system, chat.user) if part]
            return self._plain_bos + "\n\n".join(parts) + "\n" + chat.assistant
        return self._apply(self._taken(chat)) + chat.assistant

    def opening(self, chat: Chat) -> int:
        """How many tokens open the answer, behind the user's turn; 0 where the template has no generation prompt."""
        chat = Chat(chat.user, chat.system)
        whole = self.render(chat)
        turn = whole[:-1] if self.template is None else self._apply(self._taken(chat), opened=False)
        ids, before = self.encode(whole), self.encode(turn)
        same = (i for i, pair in enumerate(zip(ids, before, strict=False)) if pair[0] != pair[1])
        return len(ids) - next(same, min(len(ids), len(before)))

    @property
    def template(self) -> str | None:
        """The chat template's source; None where the model has none."""
        template: Any = getattr(self.tokenizer, "chat_template", None)
        if isinstance(template, dict):  # several named templates; transformers applies this one when none is named
            template = template.get("default")
        return template if isinstance(template, str) and template.strip() else None

    @property
    def template_sha256(self) -> str | None:
        return hashlib.sha256(self.template.encode()).hexdigest() if self.template else None

    @property
    def format(self) -> str:
        """How chats become text, in words."""
        if self.template is None:
            return (
                "no chat template: system text and question joined by a blank line, "
                "the start of the answer on the next line"
            )
        if not self._takes_system:
            return "chat template; it takes no system turn, so the system text heads the user turn"
        return "chat template"

    def _taken(self, chat: Chat) -> Chat:
        """With the system text in the user turn where the template takes no system turn."""
        if not chat.system or self._takes_system:
            return chat
        return Chat(user=f"{chat.system}\n\n{chat.user}", assistant=chat.assistant)

    @cached_property
    def _takes_system(self) -> bool:
        probe = Chat(system="Reply as a heron.", user="Hello.")
        try:
            return probe.system in self._apply(probe)
        except Exception:  # templates raise jinja2 errors of their own making
            return False

    @cached_property
    def _plain_bos(self) -> str:
        """Text of the token that the tokenizer puts in front of plain text, if it does."""
        bos = self.tokenizer.bos_token
        first = list(self.tokenizer("a")["input_ids"])[:1]
        return str(bos) if bos and first == [self.tokenizer.bos_token_id] else ""

    def _apply(self, chat: Chat, opened: bool = True) -> str:
        turns = [{"role": "user", "content": chat.user}]
        if chat.system:
            turns.insert(0, {"role": "system", "content": chat.system})
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened)
        return str(text)
