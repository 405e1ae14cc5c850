"""The adapter for models on an NDIF server: the stream before and after whole blocks, read and replaced over HTTP.

A server runs no function of this package, so a touch is called here. A first job reads every touched place. Where a
touch replaces a value, the next job puts the new values in at the positions that changed, and reads the places after
it: one job more for each edited layer, each with values that are known before it begins. What a job consists of is
torch's own arithmetic, and nothing of this package is needed to run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedModel

from auditkit.adapters.chat import Prompt
from auditkit.adapters.common import ModuleAdapter
from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.hf.layout import blocks_of
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.ndif import opening
from auditkit.adapters.protocol import Batch, Capability, Component, Meter, Place, Support, Touch

try:
    from nnsight import LanguageModel, save

    from auditkit.adapters.ndif.jobs import RemoteJob
except ImportError as error:
    raise ModelError(
        f"the adapter ndif needs nnsight 0.7 ({first_line(error)}): pip install 'interp-auditkit[ndif]'"
    ) from None

OFFERED = (Component.BLOCK_INPUT, Component.RESIDUAL)

_OTHERS = (
    "through an NDIF server auditkit reads and replaces the residual stream before and after whole blocks only"
)
_REFUSED = {
    Capability.BLOCKWISE: "an NDIF server runs the whole model for every edit",
    Capability.SWAPS: "an NDIF server runs the whole model for every edit",
    Capability.GENERATION: "an NDIF server keeps no keys and values from one job to the next",
    Capability.GRADIENTS: "auditkit takes gradients through the hf adapter only",
    Capability.WRITING: "an NDIF server is asked for activations and logits, and not for texts",
}


class NewValues(NamedTuple):
    """New values at some positions of a stream: (n,) rows, (n,) positions, (n, width) values."""

    rows: Tensor
    positions: Tensor
    values: Tensor


class NdifAdapter(ModuleAdapter):
    """A causal language model that runs on an NDIF server.

    `module` has the model's structure and no weights. `meter` counts a run once, however many jobs it took;
    `jobs` counts these.

    Attributes:
        info: what is known of the model. It has no digest of weights, since a server states none; others as
            `ModuleAdapter`.

    Raises:
        IntegrityError: batched logits differ from plain ones beyond rounding, or are not finite.
        ModelError: the server cannot be reached or does not do what is asked, or the tokenizer is not this model's.
    """

    load = staticmethod(opening.load)
    """In place of `auditkit.adapters.loading.load.load`: the weights stay where they are."""

    def __init__(self, loaded: Loaded) -> None:
        if not isinstance(loaded, opening.Elsewhere):
            raise ModelError("the adapter ndif opens models by their hub id: open_model(ID, adapter='ndif')")
        self._server, self._key = loaded.server, loaded.key
        self.jobs = 0
        self._model = LanguageModel(loaded.module, tokenizer=loaded.tokenizer)
        self._blocks = _blocks(loaded.module, self._model)
        self._vocabulary = int(loaded.module.get_output_embeddings().weight.shape[0])
        super().__init__(loaded)
        places = [(component, layer) for layer in range(self.layers) for component in OFFERED]
        seen, _ = self._passed(self._short, places, {}, 1)
        self.sizes = {place: value.shape[-1] for place, value in seen.items()}
        self._support = self._proved()
        described = self._describe(loaded, "ndif", self._parity(self.run))
        self.info = msgspec.structs.replace(described, device=f"NDIF server {self._server.name}")
        self.meter = Meter()  # opening is not part of any claim's cost

    def support(self) -> Mapping[str, Support]:
        """Component or capability -> yes, or no with the reason."""
        return {
            **{str(name): offered for name, offered in self._support.items()},
            **{name: Support(False, why) for name, why in _REFUSED.items()},
        }

    def run(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> Tensor:
        """Logits (batch, vocabulary) in float32 after the last token; touches are called here, see `predict`."""
        return self.predict(batch, touches)[:, 0]

    @torch.no_grad()
    def predict(self, batch: Batch, touches: Mapping[Place, Touch] | None = None, tokens: int = 1) -> Tensor:
        """Logits (batch, tokens, vocabulary) in float32 after each of the last `tokens` positions.

        Raises:
            ValueError: a layer that is out of range, a component that is not supported, or more tokens than there
                are positions, before anything runs.
            ModelError: the server did not do it.
        """
        self._check_tokens(batch, tokens)
        places = dict(touches or {})
        for place in places:
            self._require_place(place, self._support[place[0]])
        left = sorted(places, key=_rank)
        changes: dict[Place, NewValues] = {}
        while True:
            seen, logits = self._passed(batch, left, changes, tokens)
            done, more = self._touched(left, places, seen, changes)
            if not more:
                break
            left = left[done:]
        self._count(batch)
        return logits.float()

    @staticmethod
    def _touched(
        left: Sequence[Place],
        touches: Mapping[Place, Touch],
        seen: Mapping[Place, Tensor],
        changes: dict[Place, NewValues],
    ) -> tuple[int, bool]:
        """Call the touches up to the first that changes a value, which changes what the later ones see.

        Returns:
            How many were called, and whether something is to be put in that the last job did not have.
        """
        more = False
        for done, place in enumerate(left, start=1):
            value = seen[place]
            new = touches[place](value.clone())
            if new is None:
                continue
            more = True
            moved = (new != value).any(-1)
            # A value that is written back as it was is sent as well: that it changes nothing is for the run to show.
            rows, positions = (moved if moved.any() else torch.ones_like(moved)).nonzero(as_tuple=True)
            changes[place] = NewValues(rows, positions, new[rows, positions].clone())
            if moved.any():
                return done, True
        return len(left), more

    def _passed(
        self, batch: Batch, reads: Sequence[Place], changes: Mapping[Place, NewValues], tokens: int
    ) -> tuple[dict[Place, Tensor], Tensor]:
        """One job: the values at some places, none of which lies before a change, and the logits."""
        plain = {place: tuple(change) for place, change in changes.items()}  # a server knows no class of ours
        steps = [
            (self._blocks[place[1]], place[0] is Component.BLOCK_INPUT, _name(place), plain.get(place))
            for place in sorted([*reads, *changes], key=_rank)
        ]
        shapes = {_name(place): (len(batch), batch.width, self.sizes.get(place, -1)) for place in reads}
        shapes["logits"] = (len(batch), tokens, self._vocabulary)
        job = RemoteJob(self._server, self._key, shapes, self.width)
        self._traced(self._inputs(batch, tokens), steps, tokens, job)
        self.jobs += 1
        return {place: job.found[_name(place)] for place in reads}, job.found["logits"]

    def _traced(self, inputs: dict[str, Any], steps: list[Any], tokens: int, job: RemoteJob) -> None:
        """What the server runs is the body of the trace, and so is all that it is sent besides numbers."""
        model = self._model
        with model.trace(inputs, backend=job):
            found = {}
            for part, before, name, change in steps:
                value = part.input if before else part.output
                stream = value[0] if isinstance(value, tuple) else value
                if change is None:
                    found[name] = stream.detach().clone().cpu()
                    continue
                stream = stream.clone()
                stream[change[0].to(stream.device), change[1].to(stream.device)] = change[2].to(stream)
                if before:
                    part.input = stream
                elif isinstance(value, tuple):
                    part.output = (stream, *value[1:])
                else:
                    part.output = stream
            found["logits"] = model.output.logits[:, -tokens:].detach().clone().cpu()
            save(found)

    # -- what is found out when the model is opened ----------------------------------------------------------------

    @property
    def _device(self) -> torch.device:
        """Batches are made here; the weights' device is the server's own."""
        return torch.device("cpu")

    def _run_alone(self, ids: tuple[int, ...], source: str) -> Tensor:
        first: Place = (Component.RESIDUAL, 0)
        seen, logits = self._passed(self.batch([Prompt("", ids)]), [first], {}, len(ids))
        self.module.to(dtype=seen[first].dtype)  # type: ignore[call-arg]  # what the server computes in
        return logits[0].float()

    def _proved(self) -> dict[Component, Support]:
        """Which streams can be read and replaced, by exchanging those of two prompts of one length.

        Raises:
            ModelError: what the last block gives does not decide the answers.
        """
        ids = self._prompts[-1].ids
        pair = self.batch([Prompt("", ids[:5]), Prompt("", ids[1:6])])
        ends = {Component.BLOCK_INPUT: 0, Component.RESIDUAL: self.layers - 1}
        seen, plain = self._passed(pair, list(ends.items()), {}, 1)
        proved = dict.fromkeys(Component, Support(False, _OTHERS))
        for place in ends.items():
            value = seen[place]
            rows, positions = torch.ones(value.shape[:2]).nonzero(as_tuple=True)
            _, exchanged = self._passed(
                pair, [], {place: NewValues(rows, positions, value.flip(0)[rows, positions])}, 1
            )
            difference = float((exchanged.float() - plain.float().flip(0)).abs().max())
            fine = difference <= self._rounding(plain.float())
            why = f"exchanging it between two prompts moves their answers by {difference:.2g} from each other's"
            proved[place[0]] = Support(fine, "" if fine else why)
        if not proved[Component.RESIDUAL]:
            raise ModelError(
                f"the stream after the last block on {self._server.name} does not decide the model's answers: "
                f"{proved[Component.RESIDUAL].reason}"
            )
        return proved


def _rank(place: Place) -> tuple[int, bool]:
    """The order in which a run reaches the places."""
    return place[1], place[0] is Component.RESIDUAL


def _name(place: Place) -> str:
    return f"{place[0]} {place[1]}"


def _blocks(module: PreTrainedModel, model: Any) -> list[Any]:
    """nnsight's names for the blocks of a module."""
    blocks = blocks_of(module)
    path = next(name for name, part in module.named_modules() if part is blocks)
    return list(reduce(getattr, path.split("."), model))
