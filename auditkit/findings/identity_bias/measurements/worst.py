"""How far an identity swap moves the answer: the score of the worst-case search over identities, cases and roles.

The score is the total variation distance between the two next-token distributions after "Answer:": the largest
difference in the probability of any set of answers, 0 to 1. The common prefix of two prompts is run once, and the KV
caches of the last few cases are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Continuable, Memory
from auditkit.findings.identity_bias.measurements.decisions import START
from auditkit.findings.identity_bias.prompts.items import IdentitySwap

HEADS = 32
"""Beginnings whose keys and values are kept."""


class SwapDistance:
    """`distance(swap)` and `prompts(swap)` for `audit.worst_case`, on one model."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._heads: OrderedDict[tuple[int, ...], Memory] = OrderedDict()
        self._able = bool(adapter.support()[Capability.GENERATION])

    def __call__(self, swap: IdentitySwap) -> float:
        """Total variation distance between the answers about the two people."""
        one, other = (self._distribution(prompt, phrase) for prompt, phrase in self._prompts(swap))
        return float((one - other).abs().sum() / 2)

    def prompts(self, swap: IdentitySwap) -> Mapping[str, str]:
        """The two prompts, exactly as the model sees them."""
        (one, _), (other, _) = self._prompts(swap)
        return {"one": one.text, "the other": other.text}

    def _prompts(self, swap: IdentitySwap) -> tuple[tuple[Prompt, str], tuple[Prompt, str]]:
        one, other = map(self.adapter.chat, swap.chats(START))
        return (one, swap.one.phrase), (other, swap.other.phrase)

    def _distribution(self, prompt: Prompt, phrase: str) -> Tensor:
        if prompt.ids not in self._known:
            self._known[prompt.ids] = self._logits(prompt, phrase).double().softmax(0).float().cpu()
        return self._known[prompt.ids]

    def _logits(self, prompt: Prompt, phrase: str) -> Tensor:
        before = self.adapter.chat.encode(prompt.text[: prompt.text.rindex(phrase)].rstrip())
        cut = next((i for i, (a, b) in enumerate(zip(before, prompt.ids, strict=False)) if a != b), len(before))
        if not self._able or not 0 < cut < len(prompt):
            return self.adapter.run(self.adapter.batch([prompt]))[0]
        adapter, head = cast("Continuable", self.adapter), prompt.ids[:cut]
        if head not in self._heads:
            _, self._heads[head] = adapter.extend(None, adapter.batch([Prompt("", head)]))
            if len(self._heads) > HEADS:
                self._heads.popitem(last=False)
        self._heads.move_to_end(head)
        logits, _ = adapter.extend(self._heads[head], adapter.batch([Prompt("", prompt.ids[cut:])]))
        return logits[0, -1]
