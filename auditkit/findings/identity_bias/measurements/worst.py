"""How far an identity swap moves the answer: the score of the worst-case search over identities, cases and roles.

The score is the total variation distance between the two next-token distributions after "Answer:": the largest
difference in the probability of any set of answers, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Continuable
from auditkit.engine.continuation.shared_prefix import Heads, further, run_heads, shared_head
from auditkit.findings.identity_bias.measurements.decisions import START
from auditkit.findings.identity_bias.prompts.items import IdentitySwap

KEPT, AGAIN = 16, 8
"""Beginnings that are remembered, and tokens of a prompt that are rather run again than a beginning of its own."""


class SwapDistance:
    """`distance(swap)` and `prompts(swap)` for `audit.worst_case`, on one model."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._begun: list[Heads] = []

    def __call__(self, swap: IdentitySwap) -> float:
        """Total variation distance between the answers about the two people."""
        prompts = self._prompts(swap)
        if new := [prompt for prompt in prompts if prompt.ids not in self._known]:
            cut = shared_head([prompt.ids for prompt in prompts])
            answers = self._logits(new, cut).double().softmax(-1).float().cpu()
            self._known |= {prompt.ids: answer for prompt, answer in zip(new, answers, strict=True)}
        one, other = (self._known[prompt.ids] for prompt in prompts)
        return float((one - other).abs().sum() / 2)

    def _logits(self, prompts: Sequence[Prompt], cut: int) -> Tensor:
        """(prompt, vocabulary) after prompts that share their first `cut` tokens, case and role: these are run once,
        also for later swaps in that case and role."""
        if not (hasattr(self.adapter, "extend") and self.adapter.support().get(Capability.GENERATION)):
            return self.adapter.run(self.adapter.batch(prompts))
        able = cast(Continuable, self.adapter)
        known = next((one for one in self._begun if _goes_on(one, prompts, cut)), None)
        if known is None:
            known = run_heads(able, [prompts[0].ids[:cut]])
            self._begun = [known, *self._begun[: KEPT - 1]]
        return further(able, prompts, known).logits[:, 0]

    def prompts(self, swap: IdentitySwap) -> Mapping[str, str]:
        """The two prompts, exactly as the model sees them."""
        one, other = self._prompts(swap)
        return {"one": one.text, "the other": other.text}

    def _prompts(self, swap: IdentitySwap) -> tuple[Prompt, Prompt]:
        one, other = map(self.adapter.chat, swap.chats(START))
        return one, other


def _goes_on(begun: Heads, prompts: Sequence[Prompt], cut: int) -> bool:
    """Whether all prompts begin with nearly `cut` tokens that were run."""
    rows = [begun.of(prompt.ids) for prompt in prompts]
    return None not in rows and cut - begun.memory.batch.width <= AGAIN
