"""The second adapter: the same module through nnterp and nnsight, an engine of independent make.

nnterp gives the parts of every family one set of names, and nnsight runs a function beside the forward pass that
waits for each value in turn and may replace it. The module itself is what `loading` has loaded, so local folders,
GGUF files and the default model work here too. What is repaired or checked, because nnterp 1.3 or nnsight 0.7 does
not: position ids come from the mask (nnsight makes none, which silently breaks left-padded GPT-2), values are
asked for in the order in which the model makes them, and an attention or MLP output counts as a contribution only
where it adds up with the block's input to its output (behind a post-norm it does not).
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Mapping
from functools import reduce
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from auditkit.adapters.common import ModuleAdapter
from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.hf.layout import adds_up
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.protocol import Batch, Capability, Component, Meter, Place, Support, Touch

_INSTALL = "pip install 'interp-auditkit[nnterp]'"

_REFUSED = {
    Component.MIDDLE: "nnterp has no name for the residual stream between attention and MLP",
    **dict.fromkeys((Component.Q, Component.K, Component.V), "nnterp has no queries, keys or values"),
    Component.PATTERN: "nnterp reads attention probabilities only with eager attention in the whole model, "
    "which is another arithmetic than the audited one",
}


def standardized_transformer() -> Any:
    """nnterp's class.

    Raises:
        ModelError: nnterp or nnsight is missing, or the two do not go together; one line that says what to install.
    """
    try:
        from nnterp import StandardizedTransformer
    except ImportError as error:
        versions = {name: _version(name) for name in ("nnterp", "nnsight")}
        absent = [name for name, number in versions.items() if number is None or error.name == name]
        if absent:
            raise ModelError(f"the adapter nnterp needs {' and '.join(absent)}: {_INSTALL}") from None
        found = " and ".join(f"{name} {number}" for name, number in versions.items())
        raise ModelError(
            f"{found} do not go together ({first_line(error)}); nnterp 1.3.0 needs nnsight 0.7: {_INSTALL}"
        ) from None
    return StandardizedTransformer


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


_StandardizedTransformer = standardized_transformer()

_NAMES = {Component.ATTENTION: "self_attn", Component.MLP: "mlp"}

_Watched = tuple[Component, int, str]
"""A place, and for the output projection its path within the attention."""


class NnterpAdapter(ModuleAdapter):
    """A causal language model of transformers, touched inside nnsight traces.

    Touches run in nnsight's thread beside the forward pass, in the caller's context and without gradients; what they
    raise arrives at the caller as it is.

    Attributes:
        info: identity of the model, as it enters the record; others as `ModuleAdapter`.

    Raises:
        IntegrityError: batched logits differ from plain ones beyond rounding, or are not finite.
        ModelError: nnterp does not know the module's names, or the tokenizer is not this model's.
    """

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self._model = _standardize(loaded)
        if len(self._model.layers) != self.layers:
            raise ModelError(f"nnterp finds {len(self._model.layers)} blocks, the config states {self.layers}")
        self._accessors = {
            Component.BLOCK_INPUT: self._model.layers_input,
            Component.RESIDUAL: self._model.layers_output,
            Component.ATTENTION: self._model.attentions_output,
            Component.MLP: self._model.mlps_output,
        }
        seen = self._observe()
        self._order = {key: rank for rank, key in enumerate(seen)}
        self._projections = self._find_projections(seen)
        self._support = {component: Support(not why, why) for component, why in self._reasons(seen).items()}
        self.sizes = self._sizes(seen)
        self.info = self._describe(loaded, "nnterp", self._parity(self.run))
        self.meter = Meter()  # opening is not part of any claim's cost

    def support(self) -> Mapping[str, Support]:
        """Component or capability -> yes, or no with the reason."""
        return {
            **{str(name): offered for name, offered in self._support.items()},
            Capability.BLOCKWISE: Support(False, "nnterp runs the whole model for every edit"),
            Capability.GENERATION: Support(False, "auditkit goes on from a run through the hf adapter only"),
            Capability.GRADIENTS: Support(False, "auditkit takes gradients through the hf adapter only"),
        }

    def run(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> Tensor:
        """Logits (batch, vocabulary) in float32 after the last token; touches fire on the way, see `predict`."""
        return self.predict(batch, touches)[:, 0]

    @torch.no_grad()
    def predict(self, batch: Batch, touches: Mapping[Place, Touch] | None = None, tokens: int = 1) -> Tensor:
        """Logits (batch, tokens, vocabulary) in float32 after each of the last `tokens` positions.

        Never in inference mode, whatever the caller is in: the thread in which touches run is outside it, and could
        not edit its values in place.

        Raises:
            ValueError: a layer that is out of range, a component that is not supported, or more tokens than there
                are positions, before anything runs.
        """
        self._check_tokens(batch, tokens)
        places = dict(touches or {})
        for place in places:
            self._require_place(place, self._support[place[0]])
        ordered = sorted(places.items(), key=lambda item: self._rank(item[0]))
        with torch.inference_mode(False), multiplying(self.module.get_output_embeddings()):
            logits = self._traced(batch, ordered, tokens)
        self._count(batch)
        return logits

    def _traced(self, batch: Batch, ordered: list[tuple[Place, Touch]], tokens: int) -> Tensor:
        """One trace; `ordered` is in the order of the forward pass, or nnsight would wait for what is past."""
        context = contextvars.copy_context()
        raised: list[BaseException] = []
        logits: list[Tensor] = []

        @torch.no_grad()
        def call(touch: Touch, value: Tensor) -> Tensor | None:
            try:
                return context.run(touch, value)
            except BaseException as error:
                raised.append(error)
                # nnsight's thread passes on an Exception; a KeyboardInterrupt there would hang the run
                raise _TouchRaisedError from None

        try:
            with self._model.trace(self._inputs(batch, tokens)):
                for place, touch in ordered:
                    new = call(touch, self._value(place))
                    if new is not None:
                        self._replace(place, new)
                logits.append(self._model.output.logits[:, -tokens:].float())
        except Exception as error:
            raise (raised[0] if raised else getattr(error, "original", error)) from None
        return logits[0]

    def _value(self, place: Place) -> Tensor:
        """The value at a place, inside a trace."""
        component, layer = place
        if component is Component.EMBEDDINGS:
            value: Tensor = self._model.token_embeddings
        elif component is Component.Z:
            value = self._projections[layer][1].input.unflatten(-1, (self.heads, -1))
        else:
            value = self._accessors[component][layer]
        return value

    def _replace(self, place: Place, new: Tensor) -> None:
        component, layer = place
        if component is Component.EMBEDDINGS:
            self._model.token_embeddings = new
        elif component is Component.Z:
            self._projections[layer][1].input = new.flatten(-2)
        else:
            self._accessors[component][layer] = new

    # -- what can be touched, looked up on a real forward pass -----------------------------------------------------

    def _observe(self) -> dict[_Watched, Tensor]:
        """What a plain forward pass shows at everything that may be offered, in the order in which it is reached."""
        watched: dict[_Watched, tuple[nn.Module, bool]] = {
            (Component.EMBEDDINGS, 0, ""): (self._model.embed_tokens._module, False)
        }
        for layer in range(self.layers):
            block = self._model.layers[layer]
            watched[Component.BLOCK_INPUT, layer, ""] = (block._module, True)
            watched[Component.RESIDUAL, layer, ""] = (block._module, False)
            for component, name in _NAMES.items():
                if hasattr(block, name):
                    watched[component, layer, ""] = (getattr(block, name)._module, False)
            attention = watched.get((Component.ATTENTION, layer, ""))
            for path, part in attention[0].named_modules() if attention else ():
                if path and getattr(part, "weight", torch.empty(0)).ndim == 2:
                    watched[Component.Z, layer, path] = (part, True)
                    watched[Component.Z, layer, f"{path} output"] = (part, False)
        seen: dict[_Watched, Tensor] = {}
        handles = [_listen(*where, seen, key) for key, where in watched.items()]
        try:
            with torch.no_grad():
                self.module(**self._inputs(self._short))
        finally:
            for handle in handles:
                handle.remove()
        return seen

    def _find_projections(self, seen: Mapping[_Watched, Tensor]) -> list[tuple[str, Any]]:
        """(path, envoy) of each layer's output projection: the linear part whose output is the attention's own.

        Empty where a layer has none, or one whose input is not made of heads.
        """
        found = []
        for layer in range(self.layers):
            whole = seen.get((Component.ATTENTION, layer, ""))
            paths = [path for component, at, path in seen if (component, at) == (Component.Z, layer)]
            for path in paths:
                after = seen.get((Component.Z, layer, f"{path} output"))
                heads = seen[Component.Z, layer, path].shape[-1] % self.heads == 0
                if whole is not None and after is not None and heads and torch.equal(whole, after):
                    attention = getattr(self._model.layers[layer], _NAMES[Component.ATTENTION])
                    found.append((path, reduce(getattr, path.split("."), attention)))
                    break
        return found if len(found) == self.layers else []

    def _reasons(self, seen: Mapping[_Watched, Tensor]) -> dict[Component, str]:
        """Component -> why it is not offered; empty where it is."""
        reasons = {**dict.fromkeys(Component, ""), **_REFUSED}
        if self._model.embed_tokens._module is not self.module.get_input_embeddings():
            reasons[Component.EMBEDDINGS] = "nnterp's embed_tokens is not the model's input embedding"
        block = type(self._model.layers[0]._module).__name__
        absent = [c for c in _NAMES if any((c, layer, "") not in seen for layer in range(self.layers))]
        if absent:
            names = " and no ".join(_NAMES[component] for component in absent)
            why = f"nnterp finds no {names} in every {block}"
            reasons |= dict.fromkeys(_NAMES, why)
        elif not all(self._adds_up(seen, layer) for layer in range(self.layers)):
            why = (
                f"in {block} nnterp's attention and MLP outputs do not add up with the block's input to its output: "
                "a norm or a multiplier follows them, or they hold the residual already"
            )
            reasons |= dict.fromkeys(_NAMES, why)
        if not self._projections:
            reasons[Component.Z] = f"the attention nnterp finds in {block} does not end in one output projection"
        return reasons

    def _sizes(self, seen: Mapping[_Watched, Tensor]) -> dict[Place, int]:
        whole = {
            (component, layer): value.shape[-1] for (component, layer, path), value in seen.items() if not path
        }
        heads = {
            (Component.Z, layer): seen[Component.Z, layer, path].shape[-1] // self.heads
            for layer, (path, _) in enumerate(self._projections)
        }
        return {place: size for place, size in (whole | heads).items() if self._support[place[0]]}

    def _adds_up(self, seen: Mapping[_Watched, Tensor], layer: int) -> bool:
        names = {Component.BLOCK_INPUT: "input", Component.RESIDUAL: "output"}
        parts = (Component.BLOCK_INPUT, Component.ATTENTION, Component.MLP, Component.RESIDUAL)
        values = {(layer, names.get(part, str(part))): seen[part, layer, ""] for part in parts}
        return adds_up(values, layer, Component.ATTENTION, Component.MLP)

    def _rank(self, place: Place) -> int:
        component, layer = place
        return self._order[component, layer, self._projections[layer][0] if component is Component.Z else ""]


def _listen(module: nn.Module, before: bool, seen: dict[_Watched, Tensor], key: _Watched) -> Any:
    """Keep what a module is first given (`before`) or first returns."""

    def note(value: Any) -> None:
        value = value if isinstance(value, Tensor) else value[0]
        if key not in seen:
            seen[key] = value.detach().clone()

    if before:
        return module.register_forward_pre_hook(
            lambda module, args, kwargs: note(args or tuple(kwargs.values())), with_kwargs=True
        )
    return module.register_forward_hook(lambda module, args, output: note(output))


def _standardize(loaded: Loaded) -> Any:
    """The module under nnterp's names.

    nnterp's own checks are left out: they look at the first layer only, and their row-sum test of attention
    probabilities fails by chance in bfloat16. What is offered is proved on every layer instead.
    """
    log = logging.getLogger("nnterp")  # its remarks on names are in `support()`, with what follows from them
    was, log.disabled = log.disabled, True
    try:
        model = _StandardizedTransformer(
            loaded.module, tokenizer=loaded.tokenizer, device_map=None, check_renaming=False
        )
        len(model.layers), model.embed_tokens
    except Warning as error:  # turned into an error by the run: it says nothing about names
        raise ModelError(
            f"nnterp could not be tried on {type(loaded.module).__name__}: {type(error).__name__}: {first_line(error)}"
        ) from error
    except Exception as error:  # an unknown name appears as whatever the attempt to use it raises
        what = "" if isinstance(error, AttributeError) else f" ({first_line(error)})"
        raise ModelError(
            f"nnterp {_version('nnterp')} does not know the parts of {type(loaded.module).__name__} by name{what}"
        ) from error
    finally:
        log.disabled = was
    return model


class _TouchRaisedError(Exception):
    """A touch raised; what it raised is kept beside."""
