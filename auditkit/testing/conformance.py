"""What every adapter must hold, as checks that anybody can run on any model.

A check compares an adapter with itself (batched and alone, padded and not, edited with its own values) or with plain
hooks on its module, and comes to a `CheckResult`: green, refused where the model lacks what is asked (with the reason
that the adapter gives), or failed. Each takes an adapter and a few prompts of unequal length.

An adapter of another package is tested by a subclass:

    class TestMine(Conformance):
        @pytest.fixture
        def adapter(self):
            return open_model("./tiny-model", adapter="mine")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from inspect import signature
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.touches import keep, restore
from auditkit.adapters.protocol import Adapter, Batch, Capability, Component, Place, Shape, Support, Touch
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.timed import Continued, Timed
from auditkit.engine.edits import Edit, add, project_out, scale
from auditkit.engine.forward import capture, words
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.sweep import grid, restartable, sweep
from auditkit.engine.sites import residual
from auditkit.engine.token_logits import token_logits
from auditkit.testing.check_results import CHECKS, Check, CheckResult, Failed, Largest, Refused, named
from auditkit.testing.raw_hooks import hooked_logits

__all__ = ["CHECKS", "Check", "CheckResult", "Conformance", "example_pairs", "example_prompts"]


@named("batched = single")
def batched_is_single(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """A prompt's logits do not depend on its company."""
    largest = Largest(adapter)
    together = adapter.run(adapter.batch(prompts))
    for row, prompt in enumerate(prompts):
        largest.compare(f"the logits of prompt {row}", together[row], adapter.run(adapter.batch([prompt]))[0])
    return largest


@named("padding changes nothing")
def padding_changes_nothing(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """The activations of a padded prompt are those of the prompt alone, at every component that has positions."""
    largest = Largest(adapter)
    _need(adapter, Component.RESIDUAL)
    places = [place for place in _places(adapter) if place[0].shape is not Shape.PATTERN]
    batch = adapter.batch(prompts)
    _, padded = capture(adapter, batch, places)
    row = max(range(len(prompts)), key=batch.pads.__getitem__)
    if not batch.pads[row]:
        raise Failed("the prompts are of one length, so nothing was padded; give prompts of unequal length")
    _, lonely = capture(adapter, adapter.batch([prompts[row]]), places)
    for place, alone in lonely.items():
        largest.compare(words(place), padded[place][row, batch.pads[row] :], alone[0])
    return largest


@named("right padding = left padding")
def right_padding_is_left_padding(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """The module itself, padded on the right, gives the logits that the adapter gives with padding on the left."""
    largest = Largest(adapter)
    module = _module(adapter)
    longest = max(map(len, prompts))
    ids = torch.tensor([[*p.ids, *(p.ids[-1:] * (longest - len(p)))] for p in prompts], device=module.device)
    mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in prompts], device=module.device)
    with torch.no_grad():
        logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits
    right = torch.stack([logits[row, len(prompt) - 1] for row, prompt in enumerate(prompts)])
    largest.compare("the logits", adapter.run(adapter.batch(prompts)), right.float())
    return largest


@named("identity edit")
def identity_edit(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """Writing back what was read, at every place together, changes no logit."""
    largest = Largest(adapter)
    _need(adapter, Component.RESIDUAL)
    batch = adapter.batch(prompts)
    _, own = capture(adapter, batch, _places(adapter))
    same = {place: restore(own, place) for place in own}
    largest.compare("the logits", adapter.run(batch, same), adapter.run(batch))
    return largest


@named("full patch")
def full_patch(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """The source run's embeddings make the base run the source run."""
    largest = Largest(adapter)
    _need(adapter, Component.BLOCK_INPUT)
    pairs = example_pairs(prompts)
    source = adapter.batch([pair.source for pair in pairs])
    _, given = capture(adapter, source, [(Component.BLOCK_INPUT, 0)])
    base = adapter.batch([pair.base for pair in pairs])
    full = adapter.run(base, {place: restore(given, place) for place in given})
    largest.compare("the logits", full, adapter.run(source))
    return largest


@named("every touch fires once")
def every_touch_fires_once(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """At every place, in one run with touches at all of them, whatever order they are given in."""
    _need(adapter, Component.RESIDUAL)
    places = _places(adapter)
    fired = dict.fromkeys(places, 0)

    def count(place: Place) -> Touch:
        def touch(value: Tensor) -> None:
            fired[place] += 1

        return touch

    adapter.run(adapter.batch(prompts), {place: count(place) for place in reversed(places)})
    for place, times in fired.items():
        if times != 1:
            raise Failed(f"the touch at {words(place)} fired {times} times")
    return Largest(adapter)


@named("declared = works")
def declared_is_what_works(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """What is offered has the declared shape and changes logits; what is not has a reason and raises."""
    support = adapter.support()
    batch = adapter.batch(prompts)
    plain = adapter.run(batch)
    for component in Component:
        offered, place = support[component], (component, 0)
        if offered:
            places = [place for place in _places(adapter) if place[0] is component]
            for where, value in capture(adapter, batch, places)[1].items():
                if tuple(value.shape) != (declared := _shape(adapter, batch, where)):
                    raise Failed(f"{words(where)} has shape {tuple(value.shape)} instead of {declared}")
            if torch.equal(adapter.run(batch, {place: lambda value: value * 0.5}), plain):
                raise Failed(f"replacing {words(place)} changes no logit")
        elif not offered.reason:
            raise Failed(f"{component} is refused without a reason")
        for wrong in [(component, -1), (component, adapter.layers), *([] if offered else [place])]:
            runs = adapter.meter.runs
            try:
                adapter.run(batch, {wrong: lambda value: None})
            except ValueError:
                if adapter.meter.runs == runs:
                    continue
            raise Failed(f"{words(wrong)} is not there, and asking for it is no ValueError before anything runs")
    return Largest(adapter)


@named("sweep = one at a time")
def sweep_is_one_at_a_time(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """A sweep that restarts blocks gives what whole runs with one edit each give."""
    largest = Largest(adapter)
    if not (restarts := restartable(adapter, ())):
        raise Refused(restarts.reason)
    components = [part for part in Component if adapter.support()[part] and restartable(adapter, {part})]
    pairs = example_pairs(prompts)
    sites = [
        site for component in components for site in grid([component], _some_layers(adapter, component), [1, -1])
    ]
    found = sweep(adapter, pairs, sites)
    if found.method != "wavefront":
        raise Failed(f"the sweep went the {found.method} way: {found.reason}")
    # One site in each row, and many rows in each whole run.
    single = patch(adapter, pairs * len(sites), {"one": [[site] for site in sites for _ in pairs]}).conditions[
        "one"
    ]
    for site, got, expected in zip(sites, found.values, single.reshape(found.values.shape), strict=True):
        largest.compare(str(site), got, expected)
    return largest


@named("patched = raw hooks")
def patched_is_raw_hooks(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """Patching the stream after each block gives what plain forward hooks on the module give."""
    _need(adapter, Component.RESIDUAL)
    largest, module = Largest(adapter), _module(adapter)
    pair = max(example_pairs(prompts), key=lambda pair: len(pair.base))
    sites = {layer: residual.layer(layer)[1, 3] for layer in range(adapter.layers)}
    ours = patch(adapter, [pair], {str(layer): [[site]] for layer, site in sites.items()}).conditions
    for layer, site in sites.items():
        kept: dict[Place, Tensor] = {}
        place = (Component.RESIDUAL, layer)
        hooked_logits(module, adapter.layers, pair.source, pair.answers, {layer: keep(kept, place)})

        def exchange(value: Tensor, donor: Tensor = kept[place]) -> Tensor:
            return torch.cat((value[:, :1], donor[:, 1:3], value[:, 3:]), dim=1)

        expected = hooked_logits(module, adapter.layers, pair.base, pair.answers, {layer: exchange})
        largest.compare(str(site), ours[str(layer)][0], expected)
    return largest


@named("directions = raw hooks")
def directions_are_raw_hooks(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """Projecting a direction out, and adding one as a share of the norm, gives what plain forward hooks give.

    In the stream after one block, at the last two tokens, and after every block; padded prompts beside each other.
    """
    _need(adapter, Component.RESIDUAL)
    largest, module = Largest(adapter), _module(adapter)
    size, middle = adapter.sizes[Component.RESIDUAL, 0], adapter.layers // 2
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0))
    unit = vector / vector.norm()

    def removed(value: Tensor) -> Tensor:
        part: Tensor = (value * unit.to(value)).sum(-1, keepdim=True) * unit.to(value)
        return value - part

    def added(value: Tensor) -> Tensor:
        dosed = value[:, -2:] + 0.2 * value[:, -2:].norm(dim=-1, keepdim=True) * unit.to(value)
        return torch.cat((value[:, :-2], dosed), dim=1)

    everywhere = dict.fromkeys(range(adapter.layers), removed)
    both: dict[str, tuple[Edit, Mapping[int, Callable[[Tensor], Tensor]]]] = {
        "removed": (project_out(residual.layer(middle), vector), {middle: removed}),
        "removed everywhere": (project_out(residual.everywhere(), vector), everywhere),
        "added": (add(residual.layer(middle)["end"], vector, 0.2, relative=True), {middle: added}),
    }
    tokens = list(dict.fromkeys(token for prompt in prompts for token in prompt.ids))[:3]
    spans = [{"end": (len(prompt) - 2, len(prompt))} for prompt in prompts]
    conditions = {name: [[edit]] * len(prompts) for name, (edit, _) in both.items()}
    ours = token_logits(adapter, prompts, tokens, conditions, spans)
    if len(ours.ran.walked) < len(both) and adapter.support().get(Capability.BLOCKWISE):
        raise Failed(f"the model can be restarted, and its stream was edited in whole runs: {ours.ran.reason}")
    for name, (_, changes) in both.items():
        for row, prompt in enumerate(prompts):
            expected = hooked_logits(module, adapter.layers, prompt, tokens, changes)
            largest.compare(f"prompt {row}, {name},", ours.conditions[name][row], expected)
    return largest


@named("tap = eager")
def tap_is_eager(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """Attention probabilities read under the model's own attention are those that the eager one gives out."""
    largest = Largest(adapter)
    offered = adapter.support()[Component.PATTERN]
    if not offered:
        raise Refused(offered.reason)
    module, batch = _module(adapter), adapter.batch(prompts)
    _, read = capture(adapter, batch, [(Component.PATTERN, layer) for layer in range(adapter.layers)])
    positions = (batch.mask.cumsum(-1) - 1).clamp(min=0)
    placed = {"position_ids": positions} if "position_ids" in signature(module.forward).parameters else {}
    twin = deepcopy(module)  # transformers leaves hooks on a module that was asked for its attentions
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        eager = twin(batch.ids, attention_mask=batch.mask, output_attentions=True, use_cache=False, **placed)
    seen = batch.mask[:, None, :, None] > 0  # what a padding token attends to means nothing
    for (_, layer), pattern in read.items():
        largest.compare(f"the pattern of layer {layer}", pattern * seen, eager.attentions[layer].float() * seen)
    return largest


@named("cached = uncached")
def cached_is_uncached(adapter: Adapter, prompts: Sequence[Prompt]) -> Largest:
    """Generation with an edit at every token goes on from keys and values as if it ran everything again.

    Texts that the adapter's engine writes by itself, without edits, are those that runs of everything give.
    """
    largest = Largest(adapter)
    offered = adapter.support().get(Capability.GENERATION, Support(False, "the adapter does not go on from a run"))
    if adapter.support().get(Capability.WRITING):
        written, again = (generate(adapter, prompts, 8, stop=False, cached=cached) for cached in (True, False))
        if written.tokens != again.tokens:
            raise Failed(f"the tokens are {written.tokens} as written and {again.tokens} run by run")
    elif not offered:
        raise Refused(offered.reason)
    if not offered:
        return largest
    edit = Timed(scale(residual.layer(adapter.layers // 2), 0.5), "all")
    runs = [Continued(prompt, (edit,)) for prompt in prompts]
    kept, again = (generate(adapter, runs, 4, stop=False, cached=cached) for cached in (True, False))
    if kept.tokens != again.tokens:
        raise Failed(f"the tokens are {kept.tokens} with a cache and {again.tokens} without")
    largest.compare("the scores", torch.tensor(kept.scores), torch.tensor(again.scores))
    return largest


class Conformance:
    """All checks as test methods; a subclass named Test... gives an `adapter` fixture."""

    def prompts(self, adapter: Adapter) -> Sequence[Prompt]:
        """Prompts of unequal length; replace it where these chats say nothing to the model."""
        return example_prompts(adapter)

    def test_batched_is_single(self, adapter: Adapter) -> None:
        self._hold(batched_is_single, adapter)

    def test_padding_changes_nothing(self, adapter: Adapter) -> None:
        self._hold(padding_changes_nothing, adapter)

    def test_right_padding_is_left_padding(self, adapter: Adapter) -> None:
        self._hold(right_padding_is_left_padding, adapter)

    def test_identity_edit(self, adapter: Adapter) -> None:
        self._hold(identity_edit, adapter)

    def test_full_patch(self, adapter: Adapter) -> None:
        self._hold(full_patch, adapter)

    def test_every_touch_fires_once(self, adapter: Adapter) -> None:
        self._hold(every_touch_fires_once, adapter)

    def test_declared_is_what_works(self, adapter: Adapter) -> None:
        self._hold(declared_is_what_works, adapter)

    def test_sweep_is_one_at_a_time(self, adapter: Adapter) -> None:
        self._hold(sweep_is_one_at_a_time, adapter)

    def test_patched_is_raw_hooks(self, adapter: Adapter) -> None:
        self._hold(patched_is_raw_hooks, adapter)

    def test_directions_are_raw_hooks(self, adapter: Adapter) -> None:
        self._hold(directions_are_raw_hooks, adapter)

    def test_tap_is_eager(self, adapter: Adapter) -> None:
        self._hold(tap_is_eager, adapter)

    def test_cached_is_uncached(self, adapter: Adapter) -> None:
        self._hold(cached_is_uncached, adapter)

    def _hold(self, check: Check, adapter: Adapter) -> None:
        finding = check(adapter, self.prompts(adapter))
        if finding.outcome == "refused":
            raise SkipTest(finding.reason)
        assert finding.outcome == "green", f"{finding.check}: {finding.reason}"


def example_prompts(adapter: Adapter) -> list[Prompt]:
    """Three prompts of unequal length in the model's own chat format."""
    chats = (
        Chat(user="What is the capital of France?", system="You are a student."),
        Chat(user="Hello."),
        Chat(user="What is the capital?", assistant="The capital of France is"),
    )
    return [adapter.chat(chat) for chat in chats]


def example_pairs(prompts: Sequence[Prompt]) -> list[PatchPair]:
    """Each prompt with one that differs in its second token."""
    ids = list(dict.fromkeys(token for prompt in prompts for token in prompt.ids))
    pairs = []
    for prompt in prompts:
        other = next(token for token in reversed(ids) if token != prompt.ids[1])
        source = Prompt("", (prompt.ids[0], other, *prompt.ids[2:]))
        pairs.append(PatchPair(prompt, source, (ids[0], ids[1])))
    return pairs


def _need(adapter: Adapter, component: Component) -> None:
    """Refuse a check of a component that this model does not offer."""
    if not (offered := adapter.support()[component]):
        raise Refused(offered.reason)


def _module(adapter: Adapter) -> Any:
    module = getattr(adapter, "module", None)
    if not isinstance(module, nn.Module):
        raise Refused("the adapter shows no module to compare with")
    if all(parameter.is_meta for parameter in module.parameters()):
        raise Refused("the weights are on a server, so there is no module here to compare with")
    return module


def _places(adapter: Adapter) -> list[Place]:
    """Every place that the adapter offers on this model."""
    return [
        (component, layer)
        for component in Component
        if adapter.support()[component]
        for layer in range(1 if component is Component.EMBEDDINGS else adapter.layers)
    ]


def _some_layers(adapter: Adapter, component: Component) -> list[int]:
    """First, middle and last; the embeddings are at layer 0 only."""
    last = 0 if component is Component.EMBEDDINGS else adapter.layers - 1
    return sorted({0, (last + 1) // 2, last})


def _shape(adapter: Adapter, batch: Batch, place: Place) -> tuple[int, ...]:
    """What values at a place must look like in this batch."""
    rows, width, shape = len(batch), batch.width, place[0].shape
    if shape is Shape.PATTERN:
        return (rows, adapter.heads, width, width)
    counts = {Shape.HEADS: (adapter.heads,), Shape.GROUPS: (adapter.groups,)}
    return (rows, width, *counts.get(shape, ()), adapter.sizes[place])
