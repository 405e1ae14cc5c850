"""A model whose answers are written down: one token per word, log odds and likelihoods from a function of the text."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Batch, Support
from auditkit.data.prompts import Chat

VOCABULARY = 6000


class Words:
    """Words with the space before them are tokens; what is not written so is another token."""

    format = "as it stands"

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [self.known.setdefault(word, len(self.known) + 1) for word in re.findall(r" ?\S+|\n", text)]

    def render(self, chat: Chat) -> str:
        return f"[{chat.system}] {chat.user} => {chat.assistant}".strip()

    def __call__(self, chat: Chat) -> Prompt:
        text = self.render(chat)
        return Prompt(text, tuple(self.encode(text)))


class Teller:
    """Logits after any text are `says(text)`: word with its space -> logit; all others are 0."""

    def __init__(self, says: Callable[[str], dict[str, float]]) -> None:
        self.chat, self.says = Words(), says
        self.read = 0

    def support(self) -> dict[str, Support]:
        return {"generation": Support(False, "it only tells")}

    def batch(self, prompts) -> Batch:
        longest = max(map(len, prompts))
        pads = tuple(longest - len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * pad + list(prompt.ids) for pad, prompt in zip(pads, prompts, strict=True)])
        return Batch(ids, (ids > 0).long(), pads)

    def predict(self, batch, touches=None, tokens: int = 1) -> torch.Tensor:
        logits = torch.zeros(len(batch), tokens, VOCABULARY)
        words = {number: word for word, number in self.chat.known.items()}
        for row, (ids, pad) in enumerate(zip(batch.ids.tolist(), batch.pads, strict=True)):
            self.read += 1
            for back in range(min(tokens, len(ids) - pad)):
                text = "".join(words[i] for i in ids[pad : len(ids) - back])
                for word, logit in self.says(text).items():
                    logits[row, tokens - 1 - back, self.chat.encode(word)[0]] = logit
        return logits

    def run(self, batch, touches=None) -> torch.Tensor:
        return self.predict(batch)[:, 0]
