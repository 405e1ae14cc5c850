"""Activation patching: what restoring activations from a source run does to a base run.

Base and source prompts are paired and of equal length. A *condition* says, for each pair, what is edited in the base
run: a bare site takes its activation from the source run, and any other `Edit` may stand beside it. Answers are read
as two logits after the last token: that of the right answer, and that of the wrong one or the mean of several.
Denoising restores the clean run's activations in the corrupt one, noising the other way round: `PatchPair.swapped`.

Three guards stand over every measurement (docs/contracts.md#engine):

- the identity edit, which writes the base run's own activations back at every site, changes nothing beyond the
  noise floor (`auditkit.engine.guards.noise_floor`);
- the full patch, which gives the base run the source run's embeddings, reproduces the source run's logits;
- every edit fires exactly as often as declared, and the work done is the work declared.

A guard that trips raises `GuardTripped`; there is no number then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Place
from auditkit.engine import arguments
from auditkit.engine.batching import in_batches
from auditkit.engine.edits import Edit, Edited, touched
from auditkit.engine.edits import replace as restored
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import Donated, donate, execute
from auditkit.engine.guards import spending_of, within_noise
from auditkit.engine.pairs import Condition, PatchPair, answer_rows
from auditkit.engine.sampling import offer
from auditkit.engine.sites import Site, SiteError, block_input
from auditkit.notebook import Showable, spreads
from auditkit.record.figures import Figure

if TYPE_CHECKING:
    import pandas as pd

GUARDED_PAIRS = 4
"""Pairs on which the guards of a measurement run; the count of fired edits is checked on all."""


@dataclass(frozen=True)
class Patched(Showable):
    """Answer logits of a patching measurement, each (pairs, 2): right answer, and mean of the wrong ones.

    Attributes:
        base, source: the two runs without edits.
        conditions: condition -> logits of the base run with its edits.
        identity_error, full_patch_error: what the guards measured, in logits.
        whole: why whole runs were made where restarts from the first edited block were asked for; empty where they
            were not, or where nothing was found against them.
    """

    base: Tensor
    source: Tensor
    conditions: Mapping[str, Tensor]
    identity_error: float
    full_patch_error: float
    whole: str = ""

    def in_words(self) -> str:
        moved = {name: float((row - self.base).diff().neg().mean()) for name, row in self.conditions.items()}
        largest = max(moved, key=lambda name: abs(moved[name]), default="")
        most = f"; most by {largest} ({moved[largest]:+.3g} logits in the mean)" if moved else ""
        return f"{len(self.conditions)} conditions on {len(self.base)} pairs{most}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each pair and condition: both logits, their difference, and its change from the base run."""
        import pandas as pd

        runs = {"base": self.base, "source": self.source, **self.conditions}
        rows = []
        for name, logits in runs.items():
            for pair, ((right, wrong), base) in enumerate(zip(logits.tolist(), self.base.tolist(), strict=True)):
                difference, change = right - wrong, (right - wrong) - (base[0] - base[1])
                row = {"condition": name, "pair": pair, "right": right, "wrong": wrong}
                rows.append(row | {"difference": difference, "change": change})
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The mean change of the answer by each condition, and where the pairs lie."""
        changes = self.to_frame().groupby("condition", sort=False)["change"]
        values = {str(name): some for name, some in changes if name != "base"}
        label, caption = "right minus wrong answer (logits)", "Mean change from the base run by each condition."
        return (spreads(values, label, caption, 0.0).titled(title or "what patching changes"),)


@dataclass(frozen=True)
class Guarded:
    """What the guards of a measurement found, in logits.

    Attributes:
        identity_error: largest change by the identity edit.
        full_patch_error: largest difference of the full patch from the source run.
    """

    identity_error: float
    full_patch_error: float


def patch(
    adapter: Adapter,
    pairs: Sequence[PatchPair],
    conditions: Mapping[str, Condition],
    description: str = "patching",
    base: Tensor | None = None,
) -> Patched:
    """Run every pair's base prompt once per condition, with its edits.

    This is the plain method that any model can do and that faster ones are checked against. Cost: one forward
    pass per pair for the source and every other run that gives activations, one for the base unless its (pairs, 2)
    answer logits are given or it is a source too, one for each condition, and four for each of the first few pairs
    for the guards.

    Raises:
        SiteError: no pairs, base logits of other pairs, or a site that the model or a prompt does not have, before
            anything runs.
        NotApplicable: a component that this model does not offer.
        GuardTripped: a guard found the numbers not to be trusted.
        TypeError: an argument of another shape, such as a bare site for a condition, before anything runs.
    """
    checked(adapter, pairs, conditions)
    arguments.one("base", base, (Tensor, type(None)), "a tensor (pairs, 2) of answer logits, or None")
    if not pairs or (base is not None and len(base) != len(pairs)):
        received = "" if base is None else f" with the base logits of {len(base)}"
        raise SiteError(
            f"patching needs pairs, and base logits for all of them or none; got {len(pairs)}{received}"
        )
    plans = {name: edited_runs(pairs, condition) for name, condition in conditions.items()}
    places = sorted(touched(adapter, (run for plan in plans.values() for run in plan)))
    n = len(pairs)
    known = base is not None
    base, source = base.clone() if base is not None else torch.empty(n, 2), torch.empty(n, 2)
    results = {name: torch.empty(n, 2) for name in conditions}
    lengths = [len(pair.base) for pair in pairs]

    def work(rows: list[int]) -> None:
        chunk = [pairs[i] for i in rows]
        answers = [pair.answers for pair in chunk]
        edited = {name: [plan[i] for i in rows] for name, plan in plans.items()}
        sources: dict[Prompt | Edited, Sequence[Place]] = {pair.source: () for pair in chunk}
        with spending_of(adapter) as spent:
            room = len(rows) * max(lengths[i] for i in rows)
            donated = donate(adapter, chain.from_iterable(edited.values()), room, sources, answered=True)
            source[rows] = answer_rows(torch.stack([donated.logits[pair.source] for pair in chunk]), answers)
            # A base may be a source too, as where a source is its own base.
            given = known or all(pair.base in donated.logits for pair in chunk)
            if not known and given:
                base[rows] = answer_rows(torch.stack([donated.logits[pair.base] for pair in chunk]), answers)
            elif not known:
                logits, _ = execute(adapter, [Edited(pair.base) for pair in chunk], Donated())
                base[rows] = answer_rows(logits, answers)
            for name, plan in edited.items():
                logits, _ = execute(adapter, plan, donated)
                results[name][rows] = answer_rows(logits, answers)
            tokens = sum(lengths[i] for i in rows)
            spent.declared = adapter.layers * tokens * (len(plans) + (not given)) + donated.cost

    guarding = guarded(adapter, pairs, places)
    rows = {"base": base, "source": source, **{f"condition {name}": values for name, values in results.items()}}
    of = ("patch", pairs, conditions, base if known else None)
    in_batches(work, lengths, description, divided=Divided(adapter, of, rows))
    offer(pairs, ((conditions[name], logits) for name, logits in results.items()))
    return Patched(base, source, results, guarding.identity_error, guarding.full_patch_error)


def checked(adapter: object, pairs: object, conditions: object) -> None:
    """The arguments of a measurement over pairs have the shape that they need.

    Raises:
        TypeError: one has not, in one line that says which.
    """
    arguments.model(adapter)
    arguments.pairs(pairs)
    expected = "a dict from names to conditions, such as {'early': [[mlp.layer(1)]]}"
    arguments.named("conditions", conditions, expected)
    assert isinstance(conditions, Mapping)  # checked in the line above
    edits = "a list with one list of sites and edits for each pair, such as [[mlp.layer(1)]]"
    for name, condition in conditions.items():
        arguments.nested(f"conditions['{name}']", condition, (Site, Edit), edits, "a site or an edit")


def edited_runs(pairs: Sequence[PatchPair], condition: Condition) -> list[Edited]:
    """The base run of each pair with the condition's edits."""
    if len(condition) != len(pairs):
        raise SiteError(f"a condition needs edits for each of {len(pairs)} pairs, got {len(condition)}")
    return [
        Edited(
            pair.base,
            tuple(restored(edit, pair.source) if isinstance(edit, Site) else edit for edit in edits),
            pair.spans,
        )
        for pair, edits in zip(pairs, condition, strict=True)
    ]


def guarded(adapter: Adapter, pairs: Sequence[PatchPair], places: Sequence[Place]) -> Guarded:
    """The identity edit at all `places` together, and the full patch, on the first `GUARDED_PAIRS` pairs.

    Raises:
        GuardTripped: one of them moves logits beyond the noise floor.
    """
    pairs, everything = pairs[:GUARDED_PAIRS], block_input.layer(0)
    everywhere = [Site(component, layer, layer) for component, layer in places]
    errors = [(0.0, 0.0)]

    def work(rows: list[int]) -> None:
        base, source = [pairs[i].base for i in rows], [pairs[i].source for i in rows]
        own, other = Donated(), Donated()
        for donated, prompts, wanted in ((own, base, places), (other, source, [(everything.component, 0)])):
            donated.take(prompts, *execute(adapter, [Edited(prompt) for prompt in prompts], Donated(), wanted))
        same = [Edited(prompt, tuple(restored(site, prompt) for site in everywhere)) for prompt in base]
        full = [
            Edited(*both)
            for both in zip(base, [(restored(everything, prompt),) for prompt in source], strict=True)
        ]
        identity = _within_noise(adapter, "identity edit changes", same, base, own)
        errors.append(
            (identity, _within_noise(adapter, "full patch misses the source run's", full, source, other))
        )

    in_batches(
        work, [len(pair.base) for pair in pairs], "guards", GUARDED_PAIRS * max(len(pair.base) for pair in pairs)
    )
    return Guarded(max(error for error, _ in errors), max(error for _, error in errors))


def _within_noise(
    adapter: Adapter, what: str, runs: Sequence[Edited], donors: Sequence[Prompt], donated: Donated
) -> float:
    """Largest difference between runs to which one donor each gives everything, and that donor, in logits."""
    got, _ = execute(adapter, runs, donated)
    expected = torch.stack([donated.logits[donor] for donor in donors])
    return within_noise(adapter, what, got, expected)
