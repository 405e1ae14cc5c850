"""Numbers of single heads with their names: a table, the strongest heads, and the map of layers and heads.

(entropy,) = entropies(model, [prompt], queries="last")
scores = HeadScores.of(model, "entropy of the last query", "nats", entropy[..., 0])
scores.top(5)
scores.plot()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from auditkit.adapters.protocol import Adapter
from auditkit.methods.head_search import Head, label
from auditkit.notebook import Showable
from auditkit.record.figures import Figure, Heatmap

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class HeadScores(Showable):
    """One number for each head of a model.

    Attributes:
        model: its name.
        name, unit: what the number is.
        values: (layer, head).
        marked: heads to frame in the map, such as the confirmed ones of a search.

    Raises:
        ValueError: values that are no table of layers and heads, or a marked head that is not there.
    """

    model: str
    name: str
    unit: str
    values: NDArray[np.float64]
    marked: tuple[Head, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ValueError(
                f"'{self.name}': head scores are (layer, head), got an array of shape {self.values.shape}"
            )
        for layer, head in self.marked:
            if not (0 <= layer < self.values.shape[0] and 0 <= head < self.values.shape[1]):
                raise ValueError(f"'{self.name}': no {label(layer, head)} in {self.values.shape[0]} layers")

    @classmethod
    def of(cls, adapter: Adapter, name: str, unit: str, values: Any, marked: Sequence[Head] = ()) -> HeadScores:
        """Scores of a model's heads, from a tensor or an array (layer, head).

        Raises:
            ValueError: another number of layers or heads than the model has.
        """
        found = np.asarray(values, dtype=np.float64)
        if found.shape != (adapter.layers, adapter.heads):
            raise ValueError(
                f"'{name}': {adapter.info.name} has {adapter.layers} layers of {adapter.heads} heads, got {found.shape}"
            )
        return cls(adapter.info.name, name, unit, found, tuple(marked))

    def top(self, count: int = 10) -> pd.DataFrame:
        """The heads with the largest scores, the largest first."""
        return self.to_frame().nlargest(count, "score").reset_index(drop=True)

    def in_words(self) -> str:
        layers, heads = self.values.shape
        best = self.top(3)
        rows = zip(best["layer"], best["head"], best["score"], strict=True)
        largest = ", ".join(f"{label(layer, head)} ({score:.3g})" for layer, head, score in rows)
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.name}{unit}, {self.model}, {layers} layers of {heads} heads; largest: {largest}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each head."""
        import pandas as pd

        layers, heads = np.indices(self.values.shape)
        return pd.DataFrame({"layer": layers.ravel(), "head": heads.ravel(), "score": self.values.ravel()})

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The map: layers from left to right, heads from top to bottom."""
        values = [[None if value != value else float(value) for value in row] for row in self.values.T]
        caption = f"Each cell is one head of {self.model}."
        caption += " Framed: the marked heads." if self.marked else ""
        columns, rows = (list(map(str, range(count))) for count in self.values.shape)
        what = f"{self.name} ({self.unit})" if self.unit else self.name
        framed = [(head, layer) for layer, head in self.marked]
        scale: Literal["centred", "linear"] = "centred" if np.nanmin(self.values, initial=0.0) < 0 else "linear"
        drawn = Heatmap("layer", "head", what, caption, columns, rows, values, outlined=framed, scale=scale)
        return (drawn.titled(title or self.name),)
