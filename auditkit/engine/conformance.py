"""What every adapter must hold, as checks that anybody can run on any model.

A check compares an adapter with itself (batched and alone, padded and not, edited with its own values) or with plain
hooks on its module, and comes to a `Finding`: green, refused where the model lacks what is asked (with the reason that
the adapter gives), or failed. Each takes an adapter and a few prompts of unequal length.

An adapter of another package is tested by a subclass:

    class TestMine(Conformance):
        @pytest.fixture
        def adapter(self):
            return open_model("./tiny-model", adapter="mine")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal
from unittest import SkipTest

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Batch, Component, Place, Shape, Touch
from auditkit.data.prompts import Chat
from auditkit.engine.crosscheck import allowed_difference
from auditkit.engine.patching import PatchPair, patch
from auditkit.engine.sites import residual
from auditkit.engine.wavefront import grid, sweep


@dataclass(frozen=True)
class Finding:
    """What a check came to.

    Attributes:
        check: its name.
        outcome: "refused" where the adapter says that this model cannot do what is asked.
        difference: the largest difference seen, in the units of what was compared; None where nothing was.
        reason: of a refusal or a failure.
    """

    check: str
    outcome: Literal["green", "refused", "failed"]
    difference: float | None
    reason: str


Check = Callable[[Adapter, Sequence[Prompt]], Finding]

CHECKS: dict[str, Check] = {}
"""Name -> check, in the order of the table in docs/conformance.md."""


class _Refused(Exception):
    """The model lacks what the check asks for."""


class _Failed(Exception):
    """The adapter does not do what it must."""


_Inner = Callable[[Adapter, Sequence[Prompt]], "_Largest"]


def _check(name: str) -> Callable[[_Inner], Check]:
    """Make a check of a function that gives differences, refuses or fails; whatever it raises is a failure."""

    def named(inner: _Inner) -> Check:
        @wraps(inner)
        def check(adapter: Adapter, prompts: Sequence[Prompt]) -> Finding:
            try:
                found = inner(adapter, prompts)
            except _Refused as refused:
                return Finding(name, "refused", None, str(refused))
            except Exception as error:  # an adapter may raise anything
                said = str(error) if isinstance(error, _Failed) else f"{type(error).__name__}: {error}"
                return Finding(name, "failed", None, said)
            if found.excess is not None:
                return Finding(name, "failed", found.difference, found.excess)
            return Finding(name, "green", found.difference, "")

        CHECKS[name] = check
        return check

    return named


class _Largest:
    """The largest difference so far, and the first that rounding does not explain."""

    def __init__(self, adapter: Adapter) -> None:
        self.info = adapter.info
        self.difference: float | None = None
        self.excess: str | None = None

    def compare(self, what: str, got: Tensor, expected: Tensor) -> None:
        if got.shape != expected.shape:
            raise _Failed(f"{what} has shape {tuple(got.shape)} instead of {tuple(expected.shape)}")
        difference = float((got.float() - expected.float()).abs().max())
        allowed = allowed_difference(float(expected.abs().max()), self.info.dtype, self.info.parity_max_abs)
        if not difference <= allowed and self.excess is None:
            self.excess = f"{what} differs by {difference:.2g}, rounding explains {allowed:.2g}"
        self.difference = max(difference, self.difference or 0.0)


@_check("batched = single")
def batched_is_single(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """A prompt's logits do not depend on its company."""
    largest = _Largest(adapter)
    together = adapter.run(adapter.batch(prompts))
    for row, prompt in enumerate(prompts):
        largest.compare(f"the logits of prompt {row}", together[row], adapter.run(adapter.batch([prompt]))[0])
    return largest


@_check("padding changes nothing")
def padding_changes_nothing(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """The activations of a padded prompt are those of the prompt alone, at every component that has positions."""
    largest = _Largest(adapter)
    places = [place for place in _places(adapter) if place[0].shape is not Shape.PATTERN]
    batch = adapter.batch(prompts)
    padded = _read(adapter, batch, places)
    row = max(range(len(prompts)), key=batch.pads.__getitem__)
    if not batch.pads[row]:
        raise _Failed("the prompts are of one length, so nothing was padded; give prompts of unequal length")
    for place, alone in _read(adapter, adapter.batch([prompts[row]]), places).items():
        largest.compare(_words(place), padded[place][row, batch.pads[row] :], alone[0])
    return largest


@_check("right padding = left padding")
def right_padding_is_left_padding(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """The module itself, padded on the right, gives the logits that the adapter gives with padding on the left."""
    largest = _Largest(adapter)
    module = _module(adapter)
    longest = max(map(len, prompts))
    ids = torch.tensor([[*p.ids, *(p.ids[-1:] * (longest - len(p)))] for p in prompts], device=module.device)
    mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in prompts], device=module.device)
    with torch.no_grad():
        logits = module(input_ids=ids, attention_mask=mask, use_cache=False).logits
    right = torch.stack([logits[row, len(prompt) - 1] for row, prompt in enumerate(prompts)])
    largest.compare("the logits", adapter.run(adapter.batch(prompts)), right.float())
    return largest


@_check("identity edit")
def identity_edit(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """Writing back what was read, at every place together, changes no logit."""
    largest = _Largest(adapter)
    batch = adapter.batch(prompts)
    own = _read(adapter, batch, _places(adapter))
    same: dict[Place, Touch] = {place: lambda _, value=value: value for place, value in own.items()}  # type: ignore[misc]
    largest.compare("the logits", adapter.run(batch, same), adapter.run(batch))
    return largest


@_check("full patch")
def full_patch(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """The source run's embeddings make the base run the source run."""
    largest = _Largest(adapter)
    pairs = example_pairs(prompts)
    source = adapter.batch([pair.source for pair in pairs])
    given = _read(adapter, source, [(Component.BLOCK_INPUT, 0)])
    base = adapter.batch([pair.base for pair in pairs])
    full = adapter.run(base, {place: lambda _, value=value: value for place, value in given.items()})  # type: ignore[misc]
    largest.compare("the logits", full, adapter.run(source))
    return largest


@_check("every touch fires once")
def every_touch_fires_once(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """At every place, in one run with touches at all of them, whatever order they are given in."""
    places = _places(adapter)
    fired = dict.fromkeys(places, 0)

    def count(place: Place) -> Touch:
        def touch(value: Tensor) -> None:
            fired[place] += 1

        return touch

    adapter.run(adapter.batch(prompts), {place: count(place) for place in reversed(places)})
    for place, times in fired.items():
        if times != 1:
            raise _Failed(f"the touch at {_words(place)} fired {times} times")
    return _Largest(adapter)


@_check("declared = works")
def declared_is_what_works(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """What is offered has the declared shape and changes logits; what is not has a reason and raises."""
    support = adapter.support()
    batch = adapter.batch(prompts)
    plain = adapter.run(batch)
    for component in Component:
        offered, place = support[component], (component, 0)
        if offered:
            (value,) = _read(adapter, batch, [place]).values()
            if not _fits(adapter, batch, component, value):
                raise _Failed(f"{component} has shape {tuple(value.shape)} instead of {component.shape}")
            if torch.equal(adapter.run(batch, {place: lambda value: value * 0.5}), plain):
                raise _Failed(f"replacing {_words(place)} changes no logit")
        elif not offered.reason:
            raise _Failed(f"{component} is refused without a reason")
        for wrong in [(component, -1), (component, adapter.layers), *([] if offered else [place])]:
            runs = adapter.meter.runs
            try:
                adapter.run(batch, {wrong: lambda value: None})
            except ValueError:
                if adapter.meter.runs == runs:
                    continue
            raise _Failed(f"{_words(wrong)} is not there, and asking for it is no ValueError before anything runs")
    return _Largest(adapter)


@_check("sweep = one at a time")
def sweep_is_one_at_a_time(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """A sweep that restarts blocks gives what whole runs with one edit each give."""
    largest = _Largest(adapter)
    restarts = adapter.support().get("blockwise")
    if not restarts:
        raise _Refused(
            restarts.reason if restarts is not None else "the adapter cannot restart a run from a block"
        )
    swept = (Component.BLOCK_INPUT, Component.RESIDUAL, Component.ATTENTION, Component.MLP)
    components = [component for component in swept if adapter.support()[component]]
    pairs = example_pairs(prompts)
    sites = grid(components, sorted({0, adapter.layers // 2, adapter.layers - 1}), [1, -1])
    found = sweep(adapter, pairs, sites)
    if found.method != "wavefront":
        raise _Failed(f"the sweep went the {found.method} way: {found.reason}")
    single = patch(adapter, pairs, {str(i): [[site]] * len(pairs) for i, site in enumerate(sites)})
    for i, site in enumerate(sites):
        largest.compare(str(site), found.values[i], single.conditions[str(i)])
    return largest


@_check("patched = raw hooks")
def patched_is_raw_hooks(adapter: Adapter, prompts: Sequence[Prompt]) -> _Largest:
    """Patching the stream after each block gives what plain forward hooks on the module give."""
    largest = _Largest(adapter)
    module = _module(adapter)
    pair = max(example_pairs(prompts), key=lambda pair: len(pair.base))
    lists = [
        child for child in module.modules() if isinstance(child, nn.ModuleList) and len(child) == adapter.layers
    ]
    blocks = max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()))

    def hooked(prompt: Prompt, layer: int, change: Callable[[Tensor], Tensor | None]) -> Tensor:
        def after(block: nn.Module, args: Any, output: Any) -> Any:
            whole = isinstance(output, Tensor)
            new = change(output if whole else output[0])
            return None if new is None else new if whole else (new, *output[1:])

        handle = blocks[layer].register_forward_hook(after)
        try:
            with torch.no_grad():
                logits: Tensor = module(torch.tensor([prompt.ids], device=module.device)).logits[0, -1].float()
        finally:
            handle.remove()
        return logits.cpu()[list(pair.answers)]

    sites = {layer: residual.layer(layer)[1, 3] for layer in range(adapter.layers)}
    ours = patch(adapter, [pair], {str(layer): [[site]] for layer, site in sites.items()}).conditions
    for layer, site in sites.items():
        kept: list[Tensor] = []
        hooked(pair.source, layer, lambda value, kept=kept: kept.append(value.clone()))  # type: ignore[misc]

        def restore(value: Tensor, donor: Tensor = kept[0]) -> Tensor:
            return torch.cat((value[:, :1], donor[:, 1:3], value[:, 3:]), dim=1)

        largest.compare(str(site), ours[str(layer)][0], hooked(pair.base, layer, restore))
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


def _module(adapter: Adapter) -> Any:
    module = getattr(adapter, "module", None)
    if not isinstance(module, nn.Module):
        raise _Refused("the adapter shows no module to compare with")
    return module


def _places(adapter: Adapter) -> list[Place]:
    """Every place that the adapter offers on this model."""
    return [
        (component, layer)
        for component in Component
        if adapter.support()[component]
        for layer in range(1 if component is Component.EMBEDDINGS else adapter.layers)
    ]


def _read(adapter: Adapter, batch: Batch, places: Sequence[Place]) -> dict[Place, Tensor]:
    values: dict[Place, Tensor] = {}

    def keep(place: Place) -> Touch:
        def touch(value: Tensor) -> None:
            values[place] = value.detach().clone()

        return touch

    adapter.run(batch, {place: keep(place) for place in places})
    missing = [place for place in places if place not in values]
    if missing:
        raise _Failed(f"nothing was read at {_words(missing[0])}")
    return {place: values[place] for place in places}


def _fits(adapter: Adapter, batch: Batch, component: Component, value: Tensor) -> bool:
    rows, width = len(batch), batch.width
    start = {
        Shape.STREAM: (rows, width),
        Shape.HEADS: (rows, width, adapter.heads),
        Shape.GROUPS: (rows, width, adapter.groups),
        Shape.PATTERN: (rows, adapter.heads, width, width),
    }[component.shape]
    axes = 3 if component.shape is Shape.STREAM else 4
    return value.ndim == axes and tuple(value.shape[: len(start)]) == start


def _words(place: Place) -> str:
    return f"{place[0]} of layer {place[1]}"
