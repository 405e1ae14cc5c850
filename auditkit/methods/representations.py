"""Representations of statements: one activation per statement and layer, as an array for any analysis.

Where a statement is read changes what is read. Cintas et al. (2025, arXiv:2505.24539) put it into the system turn and
take the last token of the chat template, which is the same token for every statement. The other way is the statement as
the user's turn, read at its own last token.

    read = representations(model, [statement.text for statement in statements], residual.layers(0, 29))
    read.at(20)  # (statements, width)

"After block k" is index k + 1 of transformers' `hidden_states`, so the paper's layers 1, 4, ..., 31 are 0, 3, ..., 30.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from auditkit.adapters.chat import ChatEncoder, Prompt
from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading.digests import cache_root
from auditkit.adapters.protocol import Adapter, Place, Shape, Touch
from auditkit.claims.evidence import note
from auditkit.data.prompts import Chat
from auditkit.engine.batching import in_batches
from auditkit.engine.forward import words
from auditkit.engine.guards import costing
from auditkit.engine.sites import Site
from auditkit.notebook import Showable
from auditkit.record.identity import has_digest, model_digest
from auditkit.record.store import atomic_write

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["system", "user"]
Array = NDArray[np.float32]
FORMAT = 2
"""Of the cached files; another number where the same request would give other values."""


@dataclass(frozen=True, eq=False)
class Representations(Showable):
    """Activations of statements.

    Attributes:
        values: (statements, layers, width).
        layers: the layer of each, ascending.
        prompts: what the model was given for each statement.
        tokens: text of the token that each was read at.
    """

    values: Array
    layers: tuple[int, ...]
    prompts: tuple[Prompt, ...]
    tokens: tuple[str, ...]

    def in_words(self) -> str:
        statements, layers, width = self.values.shape
        return f"{statements} statements, {layers} layers, width {width}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each statement and layer: the token that was read, and the norm of the activation."""
        import pandas as pd

        norms = np.linalg.norm(self.values.astype(np.float64), axis=-1)
        index = pd.MultiIndex.from_product([range(len(norms)), self.layers], names=["statement", "layer"])
        frame = pd.Series(norms.ravel(), index, name="norm").reset_index()
        return frame.assign(token=[self.tokens[i] for i in frame["statement"]])

    def at(self, layer: int) -> Array:
        """(statements, width) at one layer.

        Raises:
            ValueError: a layer that was not read.
        """
        if layer not in self.layers:
            raise ValueError(f"layer {layer} was not read, only {', '.join(map(str, self.layers))}")
        values: Array = self.values[:, self.layers.index(layer)]
        return values


def representations(
    adapter: Adapter, statements: Sequence[str], site: Site, *, role: Role = "system", cache: bool = True
) -> Representations:
    """Read one token of each statement's prompt at every layer of a site.

    Nothing but that token is kept. Statements that give the same prompt are run once. Batches are made from sorted
    prompts, so that the order of statements changes no bit of the result.

    Args:
        site: component and layers; its position is decided by `role`.
        role: "system": the statement as the only turn, a system turn, read at the last token of the template; where
            a template takes no system turn, or none alone, the statement is the user's turn, and a note says so.
            "user": the statement as the user's turn, read at the statement's last token.
        cache: keep the values on disk, under a digest of the weights, number type, device, library versions, places and
            token ids, and take them from there next time. Nothing is kept of weights that have no digest.

    Raises:
        ValueError: no statements, an empty one, or a component with heads.
        SiteError, NotApplicable: a site that this model does not have.
    """
    if site.heads is not None or site.component.shape is not Shape.STREAM:
        raise ValueError(f"{site}: a representation is one vector of the stream; heads have several")
    if not statements or not all(text.strip() for text in statements):
        raise ValueError("representations need statements, and every statement some text")
    layers = tuple(site.layer_indices(adapter.layers))
    read = [_system(adapter.chat, text) if role == "system" else _user(adapter.chat, text) for text in statements]
    order = sorted({(prompt.ids, place) for prompt, place in read})
    places = [(site.component, layer) for layer in layers]
    rows = _cached(
        _digest(adapter, places, order),
        len(order),
        len(layers),
        lambda: _run(adapter, places, order),
        cache and has_digest(adapter.info),
    )
    row_of = {one: row for row, one in enumerate(order)}
    tokens = tuple(str(adapter.chat.tokenizer.decode([prompt.ids[place]])) for prompt, place in read)
    values = rows[[row_of[prompt.ids, place] for prompt, place in read]]
    return Representations(values, layers, tuple(prompt for prompt, _ in read), tokens)


def _system(encoder: ChatEncoder, statement: str) -> tuple[Prompt, int]:
    """The prompt with the statement as its only turn, and its last position."""
    turns = [{"role": "system", "content": statement}]
    text = ""
    try:
        if encoder.template is not None:
            text = encoder.apply(turns)
    except ModelError:  # the template takes no system turn alone
        text = ""
    if statement.strip() not in text:
        note("this model takes no system turn alone: the statement is the user's turn")
        text = encoder.render(Chat(user=statement))
    prompt = Prompt(text, tuple(encoder.encode(text)))
    return prompt, len(prompt) - 1


def _user(encoder: ChatEncoder, statement: str) -> tuple[Prompt, int]:
    """The prompt with the statement as the user's turn, and the position of the statement's last token."""
    prompt = encoder(Chat(user=statement))
    end = prompt.text.rindex(statement.strip()) + len(statement.strip())
    before = encoder.encode(prompt.text[:end])
    # The statement's last token may have merged with what follows it; then it is the first that differs.
    same = next((i for i, (a, b) in enumerate(zip(before, prompt.ids, strict=False)) if a != b), len(before))
    return prompt, min(same, len(before) - 1)


def _run(adapter: Adapter, places: Sequence[Place], order: Sequence[tuple[tuple[int, ...], int]]) -> Array:
    """(prompts, places, width) read at each prompt's position."""
    prompts = [Prompt("", ids) for ids, _ in order]
    kept: dict[Place, list[torch.Tensor | None]] = {place: [None] * len(order) for place in places}

    def some(rows: list[int]) -> None:
        batch = adapter.batch([prompts[i] for i in rows])
        at = torch.tensor([pad + order[i][1] for pad, i in zip(batch.pads, rows, strict=True)])
        with costing(adapter, sum(len(prompts[i]) for i in rows)):
            adapter.run(batch, {place: keeping(place, rows, at) for place in places})

    def keeping(place: Place, rows: list[int], at: torch.Tensor) -> Touch:
        def touch(value: torch.Tensor) -> None:
            taken = value[torch.arange(len(rows), device=value.device), at.to(value.device)].detach().float().cpu()
            for i, row in zip(rows, taken, strict=True):
                kept[place][i] = row

        return touch

    in_batches(some, [len(prompt) for prompt in prompts], "representations")
    columns = []
    for place, values in kept.items():
        there = [value for value in values if value is not None]
        if len(there) != len(order):
            raise RuntimeError(f"nothing was read at {words(place)}: the model never reached it")
        columns.append(torch.stack(there))
    return np.asarray(torch.stack(columns, dim=1).numpy(), dtype=np.float32)


def _digest(adapter: Adapter, places: Sequence[Place], order: Sequence[tuple[tuple[int, ...], int]]) -> str:
    info = adapter.info
    versions = [metadata.version(package) for package in ("torch", "transformers")]
    model = [model_digest(info), info.device]
    what = [FORMAT, versions, model, [[str(component), layer] for component, layer in places], order]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _cached(digest: str, rows: int, layers: int, made: Callable[[], Array], use: bool) -> Array:
    """The values of this digest from the disk, or made and put there. A damaged file is made again."""
    path = cache_root() / "representations" / f"{digest}.npy"
    if use:
        try:
            values: Array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass
        else:
            if values.dtype == np.float32 and values.ndim == 3 and values.shape[:2] == (rows, layers):
                return values
    values = made()
    if use:
        _keep(path, values)
    return values


def _keep(path: Path, values: Array) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, buffer.getvalue())
    except OSError:
        note(f"representations are not cached: {path.parent} cannot be written")
