"""Steering with a direction: how strong it has to be to do something, and what that costs in fluency.

    vector = direction(model, prompts_with, prompts_without, residual.layer(12)[-1])
    curve = strength_curve(model, hosts, [vector] * len(hosts), residual.layer(12), (0, 1, 2, 4), table,
                           effect=lambda row, text: float("sea" in text))
    figure(*curve.figures("The captain's direction"))

A vector that is strong enough to change what a text is about is often strong enough to break the text, so an effect
means something only beside two other numbers: how likely the model without the vector finds the text, and how much of
the text repeats itself. (Both are needed: a loop is likely.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.likelihoods import log_likelihoods
from auditkit.engine.continuation.timed import Continued, Timed, When
from auditkit.engine.edits import add
from auditkit.engine.forward import means
from auditkit.engine.sites import Site, SiteError
from auditkit.notebook import Showable
from auditkit.record.figures import Cloud, Curves, Figure, Points, Series, Table
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]

EFFECT, FLUENCY, DISTINCT = "effect", "fluency", "distinct"
UNITS = {EFFECT: "", FLUENCY: "nats per token", DISTINCT: "of trigrams"}


def direction(adapter: Adapter, given: Sequence[Prompt], without: Sequence[Prompt], site: Site) -> Tensor:
    """(width,) mean activation at a site of one layer over some prompts, minus that over others.

    Raises:
        SiteError: a site of several layers, or one that the model or a prompt does not have.
        NotApplicable: a component that this model does not offer.
    """
    one, other = (means(adapter, prompts, site, TOKEN_BUDGET) for prompts in (given, without))
    if len(one) != 1:
        raise SiteError(f"{site}: a direction is of one layer")
    (layer,) = one
    return one[layer] - other[layer]


@dataclass(frozen=True)
class StrengthCurve(Showable):
    """What was said at each strength.

    Attributes:
        factors: multiples of the vectors; 0 is the plain model.
        texts: by factor, one per prompt.
        values: "effect", "fluency" (mean log probability of the text's tokens for the model without the vector, in
            nats) or "distinct" (share of the text's trigrams of tokens that are different ones) -> (factor, prompt);
            NaN where a text is too short.
        table: (prompt x factor) cluster labels.
    """

    factors: tuple[float, ...]
    texts: tuple[tuple[str, ...], ...]
    values: dict[str, Array]
    table: pd.DataFrame

    def estimate(self, what: str, factor: float) -> Estimate:
        """Mean over the prompts that said something."""
        values = self.values[what][self.factors.index(factor)]
        said = np.flatnonzero(np.isfinite(values))
        table = self.table.iloc[said]
        measured = Measurement(
            f"{what} at strength {factor:g}", UNITS[what], pd.DataFrame({what: values[said]}, table.index), table
        )
        return Estimate(f"{what} at strength {factor:g}", UNITS[what], measured, values[said], None, (what,))

    def in_words(self) -> str:
        means = ", ".join(
            f"{factor:g}: {np.nanmean(row):.3g}"
            for factor, row in zip(self.factors, self.values[EFFECT], strict=True)
        )
        return f"{len(self.table)} prompts; mean effect by strength {means}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each strength and prompt: the text, and each of the three numbers."""
        rows = [
            {"strength": factor, "prompt": prompt, "text": self.texts[i][j]}
            | {what: float(values[i, j]) for what, values in self.values.items()}
            for i, factor in enumerate(self.factors)
            for j, prompt in enumerate(self.table.index)
        ]
        return pd.DataFrame(rows)

    def figures(self, title: str = "steering", effect: str = "effect") -> tuple[Figure, ...]:
        """Effect against fluency, the three curves, and the texts of the first prompt side by side."""
        labels = {
            EFFECT: effect,
            FLUENCY: "log probability per token (nats)",
            DISTINCT: "trigrams that occur once",
        }
        captions = {
            EFFECT: f"Mean of '{effect}' in what the steered model says, by multiple of the vector.",
            FLUENCY: "How likely the model without the vector finds the steered text.",
            DISTINCT: "Different trigrams of tokens as a share of all: below 1 it repeats itself.",
        }
        curves = {what: [self.estimate(what, factor).describe() for factor in self.factors] for what in labels}
        clouds = [
            Cloud(f"strength {factor:g}", [price.estimate], [done.estimate])
            for factor, done, price in zip(self.factors, curves[EFFECT], curves[FLUENCY], strict=True)
            if done.estimate is not None and price.estimate is not None
        ]
        tradeoff = Points(
            labels[FLUENCY],
            effect,
            "A point per strength, in the mean over prompts: upwards what the vector does, to the right how likely the "
            "model without it finds the text. An effect that appears only far to the left costs fluency.",
            clouds,
        )
        lines = {
            what: Curves(
                "strength", label, captions[what], [Series.through(what, self.factors, curves[what])],
                reference=curves[what][0].estimate, whole=False,
            )
            for what, label in labels.items()
        }  # fmt: skip
        rows = [[f"{factor:g}", texts[0]] for factor, texts in zip(self.factors, self.texts, strict=True)]
        texts = Table(f"The steered model's answers to {self.table.index[0]}.", ["strength", "text"], rows)
        return (
            tradeoff.titled(f"{title}: effect against fluency"),
            *(line.titled(f"{title}: {what}") for what, line in lines.items()),
            texts.titled(f"{title}: texts"),
        )


def strength_curve(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    vectors: Sequence[Tensor],
    site: Site,
    factors: Sequence[float],
    table: pd.DataFrame,
    *,
    effect: Callable[[int, str], float],
    tokens: int = 24,
    when: When = "all",
) -> StrengthCurve:
    """Go on from every prompt with its vector added at several strengths, and score what is said.

    Args:
        vectors: (width,) one per prompt.
        site: where it is added, without a position: at every token, or at those that are generated.
        factors: multiples of the vector.
        table: (prompt x factor) cluster labels, in the order of the prompts.
        effect: scores a text, given the number of its prompt.

    Raises:
        ValueError: not one vector and one row of the table for each prompt.
        SiteError, NotApplicable, GuardTripped: see `generate`.
    """
    if not len(prompts) == len(vectors) == len(table):
        raise ValueError(
            f"{len(prompts)} prompts need as many vectors and rows, got {len(vectors)} and {len(table)}"
        )
    runs = [
        Continued(prompt, (Timed(add(site, vector, factor), when),) if factor else ())
        for factor in factors
        for prompt, vector in zip(prompts, vectors, strict=True)
    ]
    said = generate(adapter, runs, tokens, description="steering")
    shape = (len(factors), len(prompts))
    values = {
        EFFECT: np.array([effect(i % len(prompts), text) for i, text in enumerate(said.texts)]),
        FLUENCY: fluencies(adapter, [run.prompt for run in runs], said.tokens),
        DISTINCT: np.array([distinct(row) for row in said.tokens]),
    }
    texts = [said.texts[i * len(prompts) : (i + 1) * len(prompts)] for i in range(len(factors))]
    return StrengthCurve(
        tuple(factors), tuple(texts), {name: each.reshape(shape) for name, each in values.items()}, table
    )


def fluencies(adapter: Adapter, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Array:
    """(prompt,) mean log probability of the tokens of each prompt's answer, in nats."""
    asked, given = [prompt.ids for prompt in prompts], [tuple(answer) for answer in answers]
    return np.array([float(tokens.mean()) for tokens in log_likelihoods(adapter, asked, given, "fluency")])


def distinct(tokens: Sequence[int]) -> float:
    """Different trigrams as a share of all; NaN without one."""
    grams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(grams)) / len(grams) if grams else float("nan")
