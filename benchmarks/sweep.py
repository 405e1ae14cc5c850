"""Sweeps of single sites on the default model: the wavefront beside other ways to the same numbers.

    python benchmarks/sweep.py [--sample 40] [--only full|layers] [--full] [--write]

Two sweeps: the residual stream of every layer at every position for one persona pair, and MLP and attention of every
layer at all positions for 48 persona pairs. The ways:

- wavefront: the engine's `sweep`, all sites;
- raw hooks: plain forward hooks on the module, one site and one pair per forward pass, the head at the last token only;
- patch: the engine's plain method, one site per condition, pairs in batches;
- TransformerLens: `patching.generic_activation_patch` on a bridge around a copy of the same module, one site per
  forward pass, pairs in one batch or one at a time. The bridge attends eagerly and folds no weights;
- nnterp: one trace per layer, a row for each position.

All but the wavefront are measured on a random sample and their time scaled to all sites; --full lets TransformerLens
run everything. A peer that is not installed is said to be missing (`pip install 'interp-auditkit[bench]'`).

The peers are measured as they come, with torch's own products; rows "with the engine's products" multiply with the
library that the engine takes (`auditkit.adapters.hf.products`), so that only how they go about it differs.

The rate counts the multiplications that torch counts in a sweep of its own (matrix products only), over the seconds of
the sweep without counting. It stands beside that of a plain 2048 x 2048 float32 matrix product, before and after, by
torch's own choice of library and by the engine's.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
from common import MODEL, linear_rate, matmul_rate, report, table, timed
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from auditkit import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.protocol import Component
from auditkit.data.items import CompletionItem, check_tokens, completion_items
from auditkit.data.personas import persona_groups
from auditkit.data.prompts import Chat
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.sweep import Sweep, grid, sweep
from auditkit.engine.sites import Site

PAIRS = 48
TRANSFORMER_LENS = {Component.RESIDUAL: "resid_post", Component.MLP: "mlp_out", Component.ATTENTION: "attn_out"}
PARTS = {Component.RESIDUAL: "", Component.MLP: "mlp", Component.ATTENTION: "self_attn"}


@dataclass(frozen=True)
class Way:
    """One way through a sweep: seconds for all of it, and the values (site, pair, answer) of the `sites` measured."""

    name: str
    seconds: float
    sites: Sequence[int]
    values: Tensor


@dataclass(frozen=True)
class Missing:
    """A way that could not be measured, and why."""

    name: str
    reason: str


# -- prompts ---------------------------------------------------------------------------------------------------


def persona_pair(adapter: HFAdapter) -> PatchPair:
    """A persona pair of 56 tokens: one word of the system turn differs, and an answer's letter is asked for."""

    def prompt(word: str) -> Prompt:
        question = "Which of these four cities is the capital of France? A: Paris. B: London. C: Rome. D: Madrid."
        return adapter.chat(
            Chat(
                system=f"You are a {word} student.",
                user=f"{question} Answer with one letter only.",
                assistant="The answer is",
            )
        )

    right, wrong = adapter.chat.encode(" A")[0], adapter.chat.encode(" B")[0]
    return PatchPair(prompt("bad"), prompt("good"), (right, wrong))


def persona_pairs(adapter: HFAdapter) -> list[PatchPair]:
    """48 pairs of the persona suite of one length, so that every way can batch them: a question, two words."""
    groups = persona_groups()
    words = list(zip(groups["negative"], groups["positive"], strict=False))
    found: dict[int, list[PatchPair]] = defaultdict(list)

    def prefix(item: CompletionItem) -> str:
        return adapter.chat(Chat(user=item.question, assistant=item.start)).text

    items = check_tokens(completion_items(), adapter.chat.encode, prefix).kept
    for number, entry in enumerate(items):
        worse, better = words[number % len(words)]

        def prompt(word: str, item=entry.item) -> Prompt:
            return adapter.chat(
                Chat(system=f"You are a {word} student.", user=item.question, assistant=item.start)
            )

        base, source = prompt(worse.word), prompt(better.word)
        if len(base) == len(source):
            found[len(base)].append(PatchPair(base, source, (entry.right_id, entry.wrong_id)))
    return max(found.values(), key=len)[:PAIRS]


# -- ways ------------------------------------------------------------------------------------------------------


def raw_hooks(adapter: HFAdapter, pairs: Sequence[PatchPair], sites: Sequence[Site], some: Sequence[int]) -> Way:
    """One forward pass per site and pair, nothing of the engine. Of several pairs, one is drawn for each site."""
    blocks, rng = adapter.module.model.layers, random.Random(1)
    values, seconds = torch.full((len(some), len(pairs), 2), torch.nan), []
    for row, number in enumerate(some):
        site, which = sites[number], rng.randrange(len(pairs))
        pair = pairs[which]
        module = blocks[site.first].get_submodule(PARTS[site.component])
        start, stop = site.span(len(pair.base), {})
        kept: list[Tensor] = []

        def keep(module, args, output, kept=kept):
            kept.append(output if isinstance(output, Tensor) else output[0])

        def write(module, args, output, kept=kept, start=start, stop=stop):
            value = (output if isinstance(output, Tensor) else output[0]).clone()
            value[:, start:stop] = kept[0][:, start:stop]
            return value if isinstance(output, Tensor) else (value, *output[1:])

        handle = module.register_forward_hook(keep)
        adapter.module(
            torch.tensor([pair.source.ids]), logits_to_keep=1
        )  # in a whole sweep once per pair: not timed
        handle.remove()

        def patched(module=module, write=write, pair=pair) -> Tensor:
            handle = module.register_forward_hook(write)
            logits = adapter.module(torch.tensor([pair.base.ids]), logits_to_keep=1).logits[0, -1]
            handle.remove()
            return logits[list(pair.answers)]

        spent, values[row, which] = timed(patched)
        seconds.append(spent)
    # The median does not take part in what else the machine does.
    return Way("raw hooks", statistics.median(seconds) * len(sites) * len(pairs), some, values)


def plain(adapter: HFAdapter, pairs: Sequence[PatchPair], sites: Sequence[Site], some: Sequence[int]) -> Way:
    """The engine's plain method; its guards are part of it."""
    conditions = {str(i): [[sites[i]]] * len(pairs) for i in some}
    seconds, result = timed(lambda: patch(adapter, pairs, conditions))
    values = torch.stack(list(result.conditions.values()))
    return Way("`patch`", seconds * len(sites) / len(some), some, values)


def transformer_lens(
    adapter: HFAdapter, pairs: Sequence[PatchPair], sites: Sequence[Site], some: Sequence[int]
) -> Way | Missing:
    """TransformerLens' own patching, all pairs in one batch."""
    return _transformer_lens("TransformerLens", adapter, pairs, sites, some, list(range(len(pairs))))


def transformer_lens_singly(
    adapter: HFAdapter, pairs: Sequence[PatchPair], sites: Sequence[Site], some: Sequence[int]
) -> Way | Missing:
    """Likewise, one pair per forward pass; one pair is drawn and measured."""
    name = "TransformerLens, one pair at a time"
    return _transformer_lens(name, adapter, pairs, sites, some, [random.Random(3).randrange(len(pairs))])


def _transformer_lens(
    name: str,
    adapter: HFAdapter,
    pairs: Sequence[PatchPair],
    sites: Sequence[Site],
    some: Sequence[int],
    together: Sequence[int],
) -> Way | Missing:
    if find_spec("transformer_lens") is None:
        return Missing(name, "not installed")
    import pandas as pd
    from transformer_lens import patching
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(
        "HuggingFaceTB/SmolLM2-135M-Instruct",  # names the architecture; the module is the one given
        hf_model=copy.deepcopy(adapter.module),
        tokenizer=adapter.tokenizer,
        device="cpu",
        dtype=torch.float32,
    )
    batch = [pairs[j] for j in together]
    base, source = (torch.tensor([getattr(pair, role).ids for pair in batch]) for role in ("base", "source"))
    answers, row = torch.tensor([pair.answers for pair in batch]), torch.arange(len(batch))
    metrics = {str(i): lambda logits, i=i: logits[row, -1, answers[:, i]] for i in range(2)}

    def everywhere(corrupted, index, clean):
        corrupted[:] = clean
        return corrupted

    seconds, values = 0.0, torch.full((len(some), len(pairs), 2), torch.nan)
    for component in sorted({sites[i].component for i in some}):
        rows = [k for k, i in enumerate(some) if sites[i].component is component]
        chosen = [sites[some[k]] for k in rows]
        kind = TRANSFORMER_LENS[component]
        _, cache = bridge.run_with_cache(source, names_filter=lambda hook, kind=kind: hook.endswith(kind))
        by_position = all(isinstance(site.position, int) for site in chosen)
        index = {"layer": [site.first for site in chosen]}
        index |= {"pos": [site.position for site in chosen]} if by_position else {}
        setter = patching.layer_pos_patch_setter if by_position else everywhere
        spent, result = timed(
            lambda cache=cache, setter=setter, kind=kind, index=index: patching.generic_activation_patch(
                bridge, base, cache, metrics, setter, kind, index_df=pd.DataFrame(index), reduce="none"
            )
        )
        seconds += spent
        values[torch.tensor(rows)[:, None], torch.tensor(together)] = result.values.permute(1, 2, 0)
    return Way(name, seconds * len(sites) / len(some) * len(pairs) / len(together), some, values)


def nnterp(
    adapter: HFAdapter, pairs: Sequence[PatchPair], sites: Sequence[Site], some: Sequence[int]
) -> Way | Missing:
    """One trace for each of a few layers, with a row for every position of the one pair."""
    if find_spec("nnterp") is None:
        return Missing("nnterp", "not installed")
    from nnterp import StandardizedTransformer

    model = StandardizedTransformer(copy.deepcopy(adapter.module), tokenizer=adapter.tokenizer)
    (pair,) = pairs
    positions, donors = torch.arange(len(pair.base)), []
    with model.trace(torch.tensor([pair.source.ids])):
        for layer in range(adapter.layers):
            donors.append(model.layers_output[layer].save())
    base = torch.tensor([pair.base.ids]).expand(len(positions), -1)
    layers = random.Random(2).sample(range(adapter.layers), 3)
    numbers = [i for i, site in enumerate(sites) if site.first in layers]
    values, seconds = torch.empty(len(sites), 1, 2), []
    for layer in layers:

        def trace(layer=layer) -> Tensor:
            with model.trace(base):
                new = model.layers_output[layer].clone()
                new[positions, positions] = donors[layer][0]
                model.layers_output[layer] = new
                logits = model.logits[:, -1].save()
            return logits[:, list(pair.answers)]

        spent, answers = timed(trace)
        seconds.append(spent)
        values[[i for i in numbers if sites[i].first == layer], 0] = answers
    return Way("nnterp", statistics.median(seconds) * adapter.layers, numbers, values[numbers])


# -- the table -------------------------------------------------------------------------------------------------


def flops(adapter: HFAdapter, pairs: Sequence[PatchPair], sites: Sequence[Site]) -> int:
    """Floating-point operations of the matrix products of a sweep."""

    def product(given: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
        return int(2 * math.prod(given) * weight[0])

    counted = (
        {torch.ops.mkldnn._linear_pointwise: product} if hasattr(torch.ops.mkldnn, "_linear_pointwise") else {}
    )
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        sweep(adapter, pairs, sites)
    return int(counter.get_total_flops())


def rows(wave: float, result: Sweep, ways: Sequence[Way | Missing], wanted: dict[str, str]) -> Iterator[list[str]]:
    """Table rows: what, seconds, times the wavefront, largest difference, and what was wanted."""
    n = len(result.sites) * len(result.base)
    yield [f"wavefront, {n} values", f"{wave:.1f}", "1", "", ""]
    for way in ways:
        if isinstance(way, Missing):
            yield [way.name, way.reason, "", "", wanted.get(way.name, "")]
            continue
        difference = (result.values[list(way.sites)] - way.values).abs()
        known = ~difference.isnan()
        worst, part = float(difference[known].max()), int(known.sum()) // 2
        share = "" if part == n else f" ({part} of {n} values, scaled)"
        ratio = f"{way.seconds / wave:.1f}"
        yield [f"{way.name}{share}", f"{way.seconds:.0f}", ratio, f"{worst:.1e}", wanted.get(way.name, "")]


def measure(
    adapter: HFAdapter,
    pairs: Sequence[PatchPair],
    sites: Sequence[Site],
    ways: Sequence[Callable[..., Way | Missing]],
    some: Sequence[int],
    engines: Sequence[Callable[..., Way | Missing]],
    wanted: dict[str, str],
    repeats: int = 1,
) -> str:
    """One sweep by every way, as text; the wavefront is the median of some repeats."""
    raw_hooks(adapter, pairs, sites, some[:2])  # so that nobody pays for being first
    before, best = matmul_rate(), linear_rate()
    runs = [timed(lambda: sweep(adapter, pairs, sites)) for _ in range(repeats)]
    wave, result = statistics.median(seconds for seconds, _ in runs), runs[0][1]
    after = matmul_rate()
    peak = statistics.mean([before, after])
    rate = flops(adapter, pairs, sites) / wave / 1e9
    measured = [way(adapter, pairs, sites, some) for way in ways]
    with multiplying():
        for way in engines:
            made = way(adapter, pairs, sites, some)
            measured.append(replace(made, name=f"{made.name}, with the engine's products"))
    head = ("way", "seconds", "times the wavefront", "largest difference in a logit", "wanted")
    body = table(head, list(rows(wave, result, measured, wanted)))
    assert result.method == "wavefront", result.reason
    single = len(sites) * adapter.layers * sum(len(pair.base) for pair in pairs)
    return (
        f"{body}\n\n"
        f"The wavefront multiplied at {rate:.0f} GFLOP/s, {rate / peak:.0%} of a 2048 x 2048 product ({before:.0f} and "
        f"{after:.0f} GFLOP/s before and after; wanted at least 65 %), and {rate / best:.0%} of one by the engine's "
        f"library ({best:.0f} GFLOP/s). It ran {result.token_layers:,} token-layers, "
        f"{result.share_of_minimum:.3f} of the minimum {result.minimum:,} (wanted at most 1.05). Largest answer logit "
        f"{float(result.values.abs().max()):.1f}; identity edit {result.identity_error:.1e}, full patch "
        f"{result.full_patch_error:.1e}. One run per site passes {single:,} token-layers, "
        f"{single / result.minimum:.1f} times the minimum; that, and the unembedding of every token, is "
        "what an exact method can save."
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=40, help="sites measured of each way that is scaled")
    parser.add_argument("--only", choices=("full", "layers"), help="one of the two sweeps")
    parser.add_argument("--full", action="store_true", help="TransformerLens runs every site")
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    arguments = parser.parse_args()
    adapter = open_model(MODEL, device="cpu", dtype="float32")

    def lens(adapter, pairs, sites, some):
        return transformer_lens(adapter, pairs, sites, range(len(sites)) if arguments.full else some)

    parts = []
    if arguments.only != "layers":
        one = persona_pair(adapter)
        length = len(one.base)
        first = next(i for i in range(length) if one.base.ids[i] != one.source.ids[i])
        sites = grid([Component.RESIDUAL], range(adapter.layers), range(length))
        some = sorted(random.Random(0).sample(range(len(sites)), arguments.sample))
        text = measure(
            adapter,
            [one],
            sites,
            (raw_hooks, plain, lens, nnterp),
            some,
            (raw_hooks, lens),
            {"raw hooks": "8, 2e-5", "TransformerLens": "12, 2e-5"},
            repeats=3,
        )
        title = (
            f"{adapter.layers} layers x {length} positions, one persona pair that differs from position {first}"
        )
        parts.append(f"## Residual stream: {title}\n\n{text}")
    if arguments.only != "full":
        pairs = persona_pairs(adapter)
        sites = grid([Component.MLP, Component.ATTENTION], range(adapter.layers), ["all"])
        some = sorted(random.Random(0).sample(range(len(sites)), min(len(sites), max(2, arguments.sample // 4))))
        peers = (lens, transformer_lens_singly)
        wanted = {"TransformerLens": "6", "TransformerLens, one pair at a time": "6"}
        text = measure(adapter, pairs, sites, (raw_hooks, plain, *peers), some, peers, wanted)
        title = (
            f"{adapter.layers} layers, all positions, {len(pairs)} persona pairs of {len(pairs[0].base)} tokens"
        )
        parts.append(f"## MLP and attention: {title}\n\n{text}")
    packages = ("torch", "transformers", "transformer-lens", "nnterp", "nnsight")
    report("sweep", "Sweeps", "\n\n".join(parts), packages, arguments.write)


if __name__ == "__main__":
    main()
