"""What measurements cost, as arithmetic: token-layers, floating-point operations, seconds and memory.

A token-layer is one token through one block. The counts here are closed forms of what `patch` and `sweep` do (tests
compare them with the meter of real runs); from them follows what a model that is not at hand would need.

    python -m auditkit.engine.costs > docs/costs.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.patching.plain import GUARDED_PAIRS
from auditkit.engine.patching.rows import ROW_BUDGET


@dataclass(frozen=True)
class Size:
    """A decoder with gated MLPs, as far as cost depends on it. Parameters of norms and biases are left out."""

    name: str
    layers: int
    width: int
    heads: int
    groups: int
    head_size: int
    inner: int
    vocabulary: int

    @property
    def block(self) -> int:
        """Weights of one block: q, k, v and output projections, and the MLP's three."""
        return self.width * (2 * self.head_size * (self.heads + self.groups) + 3 * self.inner)

    @property
    def parameters(self) -> int:
        """All weights, with separate input and output embeddings."""
        return self.layers * self.block + 2 * self.width * self.vocabulary

    def flops(self, token_layers: int, keys: int) -> int:
        """Floating-point operations of so many token-layers whose queries meet `keys` keys each."""
        return token_layers * (2 * self.block + 4 * self.heads * self.head_size * keys)


def patch_cost(layers: int, lengths: Sequence[int], conditions: int) -> int:
    """Token-layers of `patch` with pairs of these lengths whose only donors are their sources: base, source, every
    condition, and four runs of the first pairs for the guards."""
    return layers * ((2 + conditions) * sum(lengths) + 4 * sum(lengths[:GUARDED_PAIRS]))


def residual_sweep(layers: int, length: int, first: int) -> int:
    """Least token-layers of restoring the residual stream at every layer and position of one pair whose prompts
    differ from position `first` on."""
    changed = length - first
    return 2 * layers * length + _later(layers) * changed * (changed + 1) // 2


def layer_sweep(layers: int, length: int, first: int) -> int:
    """Least token-layers of restoring MLP and attention of every layer, at all positions, of one pair."""
    changed = length - first
    return 2 * layers * length + 2 * _later(layers) * changed + _own(layers, changed)


def head_sweep(layers: int, heads: int, length: int, first: int) -> int:
    """Least token-layers of restoring z of every head of every layer, at all positions, of one pair."""
    changed = length - first
    return 2 * layers * length + heads * (_later(layers) * changed + _own(layers, changed))


def _later(layers: int) -> int:
    """Blocks after each block, summed over all."""
    return layers * (layers - 1) // 2


def _own(layers: int, changed: int) -> int:
    """What is left of the own block after attention; in the last block, only for the last token."""
    return (layers - 1) * changed + 1


def memory(size: Size, length: int, bytes_each: int) -> dict[str, int]:
    """Bytes that a sweep needs: the weights, and what is held for one batch of prompts of this length.

    Keys and values are those of the base run; streams are those of base and source after every block; rows in flight
    are the widest moment of a walk, inside the MLP.
    """
    prompts = max(1, TOKEN_BUDGET // length)
    tokens = prompts * length
    return {
        "weights": size.parameters * bytes_each,
        "keys and values": 2 * size.layers * size.groups * size.head_size * tokens * bytes_each,
        "streams": 2 * (size.layers + 1) * size.width * tokens * bytes_each,
        "rows in flight": (4 * size.width + 3 * size.inner) * max(ROW_BUDGET, length) * bytes_each,
    }


# -- the page ------------------------------------------------------------------------------------------------------

_SPENT = """\
# Costs

## How runs are spent

The unit is the token-layer: one token through one block. A run of a prompt costs its tokens times the blocks of the
model. Every measurement declares what it will cost, a meter counts what the model ran, and a difference is an error
([contracts](contracts.md#engine)). The report shows the token-layers and seconds of each claim. What several claims
share is paid by the first one that asks for it, and each of them alone gives the same numbers.

**How many items.** A suite's own size is that of `--effort standard`. Runs go to new questions, personas, words and
cases before they go to more items of the same ones ([the rule](statistics.md#which-combinations-are-run), and the
coverage of every design that the suites deal, [simulated](statistics.md#how-often-it-errs)). `quick` runs a quarter
of that and `thorough` twice as much; `stepwise` measures three times as much for what is left undecided, and measures
the items of the first look again ([how much to measure](running.md#how-much-to-measure)). `--budget` divides a time
among the suites by what each can be expected to decide, and `auditkit plan` says beforehand what that is.

**Where they go.** SmolLM2-135M-Instruct (30 blocks) at `standard`, seed 0, in millions of token-layers and seconds on
two idle cores: 10.2 and 410, at 204 GFLOP/s.

| suite | token-layers | seconds | most of it |
|---|---|---|---|
| persona_patching | 3.0 | 84 | 0.8 six bands on 144 items, 0.7 answers under personas, 0.4 sweeps |
| persona_composition | 1.7 | 81 | 0.4 texts of 40 tokens, 0.6 exchanged states; divergences over the vocabulary |
| identity_bias | 1.6 | 83 | 0.6 decisions on 30 cases under 50 identities, 0.2 the search for the worst swap |
| traits | 1.5 | 50 | answers of five traits under steering and after examples |
| sycophancy | 1.3 | 34 | 0.5 questions from five speakers, 0.1 three other wordings, 0.6 directions |
| role_conditioning | 0.5 | 19 | 0.2 ablations of heads (20 random sets among them), 0.1 reading attention |
| persona_localization | 0.3 | 34 | steering; hulls and scans take time and no runs; 0.7 more with an empty cache |
| induction | 0.2 | 9 | ablations of the found heads and of random ones |
| refusal, finetune_traces | 0.1 | 3 | one ends at its capability gate on this model, the other needs a baseline |

At `thorough` ten suites took 625 and 587 s for 16.7 and 16.3 million (seeds 0 and 1), and decided 57 and 59 % of the
claims that apply; six and five more sit at their threshold.

**What more items would decide.** By the estimates of a default audit, twice the items would decide 54 % of its claims
in place of 53 % (seed 0), four times 61 %, and ten times 72 %; at seed 1 they would decide 59, 65 and 73 % in place of
59 %. The others lie at their threshold, or no number of items is known to decide them, as where a sensitivity
reference falls short. So on this model 65 % takes four times the work or more, and 80 % needs effects that this model
does not show.

At a seed at which the persona effect is not there nothing is patched, and persona_patching costs less than half. The
[default audit](../benchmarks/results/default_audit.md) has the machine, the memory and what was decided.

**Whom they serve.** Of the 7.2 million of the five older suites and the questions of sycophancy, 0.3 show what another
choice would have come to (wordings of an opinion, bands counted from one), 0.6 are figures of single layers, and 0.3
are read by claims about a change alone, which make the run a baseline. Claims about the model itself, with their
controls and references, take the rest. An audit of 6 million has room for six tenths of the items, whose intervals are
1.3 times as wide.

**What the rest of the time is.** Plain batches of the same token-layers would take a little more than half of it. A row
of logits over SmolLM2's vocabulary costs as much as eight token-layers and is not counted, and a divergence of two such
rows as much again. Products of linear layers were two thirds of the time of a default audit until they were made whole
([why](decisions/engine.md#products-go-to-onednn-whole)). Padding is 1.4 % of the tokens of persona_composition, traits
and role_conditioning together.

**What is not run.** An edited run begins at its first edited block and its first changed token; what prompts begin with
is run once; a run that only gives activations ends behind the last of them
([what is not run twice](engine.md#what-is-not-run-twice)). Guards run on four pairs or rows of each measurement. A
beginning has to save 128 tokens to be run by itself, since a short run takes as long as reading the weights.

**What is left.** Most of a default audit is runs that no other run contains: other words in front of the same question
(a causal model reads the question anew), generated tokens, and edits of other blocks. The last block is run on all
tokens although only the last one is read; restarts spare most of it and count it in full.

## What larger models need
"""

SIZES = (
    Size("7B (Qwen2.5-7B)", 28, 3584, 28, 4, 128, 18944, 152064),
    Size("70B (Llama-3.1-70B)", 80, 8192, 64, 8, 128, 28672, 128256),
)
LENGTH, FIRST, PAIRS = 56, 6, 48
RATE = 400e12
"""Assumed: FLOP/s of one H100-class GPU in bfloat16, 40 % of its peak of 989e12."""


def page() -> str:
    """docs/costs.md."""
    lines = []
    for size in SIZES:
        sites = size.layers * LENGTH
        works = {
            "residual sweep, one pair, one run per site": (sites + 2) * size.layers * LENGTH,
            "residual sweep, one pair": residual_sweep(size.layers, LENGTH, FIRST),
            f"layer sweep, {PAIRS} pairs": PAIRS * layer_sweep(size.layers, LENGTH, FIRST),
            f"head sweep, {PAIRS} pairs": PAIRS * head_sweep(size.layers, size.heads, LENGTH, FIRST),
        }
        for what, count in works.items():
            seconds = size.flops(count, LENGTH) / RATE
            lines.append(
                f"| {size.name} | {what} | {count:,} | {size.flops(count, LENGTH) / 1e12:,.0f} | {seconds:,.1f} | "
                f"{seconds / 8:,.1f} |"
            )
    parts = [
        f"| {size.name} | {' | '.join(f'{value / 1e9:,.1f}' for value in memory(size, LENGTH, 2).values())} |"
        for size in SIZES
    ]
    names = " | ".join(memory(SIZES[0], LENGTH, 2))
    return f"""{_SPENT}
These numbers are computed, not measured, with the formulas of `auditkit.engine.costs`; tests compare the formulas with
the counts of real runs on a small model. `python -m auditkit.engine.costs` writes this page.
What whole audits of many models take on several machines stands under [many models](scale.md).

A persona pair here has {LENGTH} tokens, and its two prompts differ from token {FIRST} on. Except for "one run per
site", the table has the least token-layers (one token through one block) that an exact method needs. The wavefront
sweep stays within 1.05 of them, but a head sweep adds one run per pair and head. A token-layer costs 2 FLOP for each
weight of a block and 4 for each query, key and head dimension. Seconds assume {RATE / 1e12:.0f} TFLOP/s per GPU in
bfloat16 ({RATE / 989e12:.0%} of an H100's peak). Eight GPUs hold eight copies of the model, which share the pairs or
the sites of one pair.

| model | work | token-layers | TFLOP | seconds, one GPU | seconds, eight |
|---|---|---|---|---|---|
{chr(10).join(lines)}

Memory in GB (bfloat16; float32 takes twice as much), for one batch of {TOKEN_BUDGET // LENGTH} pairs and sweep passes
of {ROW_BUDGET} tokens:

| model | {names} |
|---|---|---|---|---|
{chr(10).join(parts)}

The weights take most of the memory. The 7B model fits on one GPU of 24 GB. The 70B model in bfloat16 needs two GPUs of
80 GB. Eight such GPUs hold four copies, so the last column doubles for that model. Under a `device_map` that spreads
one copy over all eight, the blocks run one after another and the column for one GPU applies. A head sweep over all
heads also stores the residual stream after every block for each head: heads times half of "streams" above.
"""


if __name__ == "__main__":
    print(page(), end="")
