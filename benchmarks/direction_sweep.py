"""The selection of a direction on the default model, at every layer and position after the instruction.

    python benchmarks/direction_sweep.py [--prompts 8] [--sample 40] [--write]

Both ways measure the same: for each layer and each position that the chat template writes after the instruction, the
difference of means of two kinds of requests is projected out of the stream after that layer, at the tokens after the
instruction, and the log-odds of two sets of first tokens is read.

- sweep: `auditkit.methods.contrast.sweeps.sweep`, all places and prompts, guards included;
- plain hooks: one forward hook on the block, one prompt per forward pass, the head at the last token only. It is
  measured on a random sample of places and prompts, and its time scaled to all of them.

The two alternate, so that what else the machine does falls on both; the medians are compared.
"""

from __future__ import annotations

import argparse
import random
import statistics

import pandas as pd
import torch
from common import MODEL, report, table, timed
from torch import Tensor

from auditkit import open_model
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.data.items import completion_items
from auditkit.data.prompts import Chat
from auditkit.methods.contrast.directions import Contrast, Direction
from auditkit.methods.contrast.outcomes import FirstTokens
from auditkit.methods.contrast.states import after_instruction, read_states
from auditkit.methods.contrast.sweeps import Swept, sweep

FITTED = 16
"""Pairs on which the directions are fitted."""

ROUNDS = 3


def requests(adapter: HFAdapter, after: int) -> tuple[Contrast, FirstTokens]:
    """Questions, asked politely and rudely: two kinds of requests about one subject."""
    items = completion_items()[:FITTED]
    chats = [Chat(user=f"Please be so kind and tell me: {item.question}") for item in items]
    chats += [Chat(user=f"Shut up and answer, you fool: {item.question}") for item in items]
    names = [f"{item.id} {sign}" for sign in "+-" for item in items]
    clusters = pd.DataFrame({"topic": [item.topic for item in items] * 2}, names)
    prompts = [adapter.chat(chat) for chat in chats]
    states = read_states(adapter, prompts, range(-after, 0))
    contrast = Contrast("politeness", states, clusters.index.str.endswith("+").astype(bool), clusters)
    ids = [adapter.chat.encode(word)[0] for word in ("I", "Sorry", "The", "A")]
    return contrast, FirstTokens("log-odds", prompts, clusters, ids[:2], ids[2:], after)


def hooked(adapter: HFAdapter, outcome: FirstTokens, direction: Direction, row: int) -> float:
    """The log-odds after one prompt, by one hook and nothing of the engine."""
    unit = torch.from_numpy(direction.unit).float()

    def hook(module, args, output) -> Tensor | tuple[Tensor, ...]:
        value = (output if isinstance(output, Tensor) else output[0]).clone()
        some = value[:, -outcome.after :]
        value[:, -outcome.after :] = some - (some @ unit)[..., None] * unit
        return value if isinstance(output, Tensor) else (value, *output[1:])

    handle = adapter.module.model.layers[direction.layer].register_forward_hook(hook)
    try:
        with torch.no_grad():
            ids = torch.tensor([outcome.prompts[row].ids])
            logits = adapter.module(ids, use_cache=False, logits_to_keep=1).logits[0, -1].double()
    finally:
        handle.remove()
    yes, no = (logits[list(tokens)].logsumexp(0) for tokens in (outcome.higher, outcome.lower))
    return float(yes - no)


def compared(
    adapter: HFAdapter, outcome: FirstTokens, swept: Swept, sample: int, seed: int
) -> tuple[list[float], float]:
    """Seconds of single hooked runs, and the largest difference of an outcome from the sweep's, in nats."""
    draw = random.Random(seed)
    places = list(swept.directions)
    plain = outcome.under(adapter, {})[""]
    seconds, largest = [], 0.0
    for _ in range(sample):
        place, row = draw.choice(places), draw.randrange(len(outcome.prompts))
        spent, value = timed(lambda p=place, r=row: hooked(adapter, outcome, swept.directions[p], r))
        seconds.append(spent)
        at = swept.layers.index(place[0]), swept.positions.index(place[1])
        largest = max(largest, abs(value - float(plain[row] + swept.changes[(row, *at)])))
    return seconds, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=8, help="prompts on which the outcome is read")
    parser.add_argument("--sample", type=int, default=40, help="hooked runs in each round")
    parser.add_argument("--write", action="store_true", help="store the result in benchmarks/results")
    given = parser.parse_args()
    adapter = open_model(MODEL)
    after = after_instruction(adapter.chat)
    contrast, outcome = requests(adapter, after)
    some = outcome.only(outcome.table.index[: given.prompts])
    sweeps, hooks, largest = [], [], 0.0
    for number in range(ROUNDS):
        spent, swept = timed(lambda: sweep(adapter, contrast, some))
        sweeps.append(spent)
        seconds, difference = compared(adapter, some, swept, given.sample, number)
        hooks += seconds
        largest = max(largest, difference)
    runs = swept.changes.size
    whole = statistics.median(hooks) * runs
    rows = [
        ["plain hooks, one run per prompt", f"{whole:.1f}", "1", "0"],
        [
            "`sweep`",
            f"{statistics.median(sweeps):.1f}",
            f"{whole / statistics.median(sweeps):.1f}",
            f"{largest:.1e}",
        ],
    ]
    tokens = f"{min(map(len, some.prompts))} to {max(map(len, some.prompts))}"
    text = (
        f"{len(swept.layers)} layers x {len(swept.positions)} positions after the instruction x {given.prompts} "
        f"prompts of {tokens} tokens: {runs} edited runs. Hooks: the median of {len(hooks)} single runs, scaled to all "
        f"of them; sweep: the median of {len(sweeps)}, guards included.\n\n"
        + table(["way", "seconds", "times as fast", "largest difference (nats)"], rows)
    )
    report("direction_sweep", "Selection of a direction", text, ["torch", "transformers"], given.write)


if __name__ == "__main__":
    main()
