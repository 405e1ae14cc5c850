"""Outcomes: what is measured on items while directions are edited.

An outcome has one value for each item under every condition, and knows the items' clusters:

    FirstTokens("refusal", prompts, table, higher=refusing, lower=answering, after=5)    log-odds of first tokens
    Statements("sycophancy", prompts, table, higher=agreeing, lower=opposing)            log probability of answers
    Leads("lead", prompts, table, answers)                                               one answer against another
    Difference("deference", leads, others)                                               leads minus other leads
    BenignText("benign text", texts, table)                                              damage: KL from the plain model

Conditions are the same edits for all items; a site may name the spans that the outcome gives to each of its prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.claims.evidence import gathering, note, replay
from auditkit.engine.conditions import BASE, HowRun
from auditkit.engine.edits import Edit
from auditkit.engine.losses import losses
from auditkit.engine.sites import Span
from auditkit.engine.token_logits import token_logits
from auditkit.methods.contrast.states import ContrastError

Array = NDArray[np.float64]
Edits = Mapping[str, Sequence[Edit]]
"""Condition -> its edits, the same for all items."""

PLAIN = BASE
"""Name of the values without edits."""

AFTER, PROMPT, ANSWER, REPLY = "after", "prompt", "answer", "reply"
"""Spans that outcomes name: the tokens after the instruction, a prompt, the answer that follows it, and the tokens from
which the answer is predicted, the prompt's last one and the answer."""


class Outcome(Protocol):
    """What is measured.

    Attributes:
        name, unit: of the values.
        table: (item x factor) cluster labels; its index names the items.
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def table(self) -> pd.DataFrame: ...

    def only(self, items: Iterable[str]) -> Self:
        """The same on some items, in the order of the table."""
        ...

    def under(self, adapter: Adapter, conditions: Edits, description: str = "conditions") -> dict[str, Array]:
        """(items,) values without edits, named `PLAIN`, and under each condition."""
        ...


def measured(
    adapter: Adapter, outcome: Outcome, conditions: Edits, description: str
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """An outcome's values by condition, and the sentences that were noted while it was measured."""
    with gathering() as said:
        values = outcome.under(adapter, conditions, description)
    replay(said)
    return values, tuple(said.notes)


def note_guards(description: str, ran: HowRun, conditions: int) -> None:
    """Put what the engine's guards measured over some conditions under the current claim."""
    walks = (
        f", runs that begin at the first edited block missed whole runs by at most {ran.walk_error:.1e}"
        if ran.walked
        else ""
    )
    whole = f". {conditions - len(ran.walked)} of {conditions} conditions were run whole: {ran.reason}"
    note(
        f"guards ({description}): edits that change nothing changed logits by at most {ran.identity_error:.1e}{walks}; "
        f"every edit was made as often as declared{whole if ran.reason else ''}"
    )


@dataclass(frozen=True, eq=False)
class FirstTokens:
    """Log-odds that the first token after a prompt is one of some, against some others, in nats.

    Nothing is generated: log(sum of exp of the logits of `higher`) minus that of `lower`.

    Attributes:
        prompts: one for each row of the table.
        higher, lower: token ids of the two kinds of openings.
        after: tokens at the end of each prompt that sites name "after" (`after_instruction`).
        spans: for each prompt, further named spans.

    Raises:
        ContrastError: no prompts, no tokens of a kind, a token of both kinds, or another number of rows.
    """

    name: str
    prompts: Sequence[Prompt]
    table: pd.DataFrame
    higher: Sequence[int]
    lower: Sequence[int]
    after: int = 1
    spans: Sequence[Mapping[str, Span]] = field(default=())
    unit: str = "nats"

    def __post_init__(self) -> None:
        _rows(self.name, self.table, prompts=self.prompts, spans=self.spans or self.prompts)
        if not self.higher or not self.lower:
            raise ContrastError(f"'{self.name}': first tokens of both kinds are needed")
        if common := sorted(set(self.higher) & set(self.lower)):
            raise ContrastError(
                f"'{self.name}': token {common[0]} begins openings of both kinds, so it tells nothing; leave it out"
            )
        short = min(map(len, self.prompts))
        if not 1 <= self.after <= short:
            raise ContrastError(
                f"'{self.name}': the last {self.after} tokens are named 'after', and a prompt has {short}"
            )

    def only(self, items: Iterable[str]) -> FirstTokens:
        """The same on some items, in the order of the table.

        Raises:
            ContrastError: an item that is not there, or none.
        """
        rows = _chosen(self.name, self.table, items)
        spans = [self.spans[i] for i in rows] if self.spans else ()
        return replace(self, prompts=[self.prompts[i] for i in rows], table=self.table.iloc[rows], spans=spans)

    def under(self, adapter: Adapter, conditions: Edits, description: str = "conditions") -> dict[str, Array]:
        """(items,) values by condition; see `Outcome`."""
        tokens = [*self.higher, *self.lower]
        ends = [{AFTER: (len(prompt) - self.after, len(prompt))} for prompt in self.prompts]
        named = [{**end, **own} for end, own in zip(ends, self.spans, strict=True)] if self.spans else ends
        each = {name: [list(edits)] * len(self.prompts) for name, edits in conditions.items()}
        got = token_logits(adapter, self.prompts, tokens, each, named, description)
        note_guards(f"{description}, {self.name}", got.ran, len(conditions))
        return {name: self._odds(logits) for name, logits in {PLAIN: got.base, **got.conditions}.items()}

    def _odds(self, logits: torch.Tensor) -> Array:
        wide, cut = logits.double(), len(self.higher)
        return np.asarray((wide[:, :cut].logsumexp(1) - wide[:, cut:].logsumexp(1)).numpy())


@dataclass(frozen=True, eq=False)
class Statements:
    """Log probability of one given answer minus that of another, each in the mean over its tokens, in nats.

    Sites may name "prompt", "answer" and "reply".

    Attributes:
        prompts: one for each row of the table.
        higher, lower: for each prompt, the token ids of the two answers.

    Raises:
        ContrastError: no prompts, another number of rows or answers, or an empty answer.
    """

    name: str
    prompts: Sequence[Prompt]
    table: pd.DataFrame
    higher: Sequence[Sequence[int]]
    lower: Sequence[Sequence[int]]
    unit: str = "nats per token"

    def __post_init__(self) -> None:
        _rows(self.name, self.table, prompts=self.prompts, higher=self.higher, lower=self.lower)
        if not all(self.higher) or not all(self.lower):
            raise ContrastError(f"'{self.name}': every answer needs at least one token")

    def only(self, items: Iterable[str]) -> Statements:
        """The same on some items, in the order of the table.

        Raises:
            ContrastError: an item that is not there, or none.
        """
        rows = _chosen(self.name, self.table, items)
        prompts, table = [self.prompts[i] for i in rows], self.table.iloc[rows]
        higher, lower = ([answers[i] for i in rows] for answers in (self.higher, self.lower))
        return replace(self, prompts=prompts, table=table, higher=higher, lower=lower)

    def under(self, adapter: Adapter, conditions: Edits, description: str = "conditions") -> dict[str, Array]:
        """(items,) values by condition; see `Outcome`."""
        answers = [*self.higher, *self.lower]
        twice = [*self.prompts, *self.prompts]
        whole = [Prompt(p.text, (*p.ids, *answer)) for p, answer in zip(twice, answers, strict=True)]
        spans = [(len(prompt), len(both)) for prompt, both in zip(twice, whole, strict=True)]
        named = [{PROMPT: (0, start), ANSWER: (start, stop), REPLY: (start - 1, stop)} for start, stop in spans]
        each = {name: [list(edits)] * len(whole) for name, edits in conditions.items()}
        found = losses(adapter, whole, spans, each, named, compare=False, description=description)
        note_guards(f"{description}, {self.name}", found[PLAIN].ran, len(conditions))
        half = len(self.prompts)
        out = {}
        for name, loss in found.items():
            values = -loss.losses.numpy()
            out[name] = values[:half] - values[half:]
        return out


@dataclass(frozen=True, eq=False)
class Leads:
    """Logit of one answer token minus that of another after a prompt, which has answers of its own, in logits.

    Attributes:
        prompts: one for each row of the table.
        answers: for each prompt, the two token ids.
        spans: for each prompt, its named spans.

    Raises:
        ContrastError: no prompts, or another number of rows, answers or spans.
    """

    name: str
    prompts: Sequence[Prompt]
    table: pd.DataFrame
    answers: Sequence[Sequence[int]]
    spans: Sequence[Mapping[str, Span]] = field(default=())
    unit: str = "logit"

    def __post_init__(self) -> None:
        _rows(self.name, self.table, prompts=self.prompts, answers=self.answers, spans=self.spans or self.prompts)
        if any(len(pair) != 2 for pair in self.answers):
            raise ContrastError(
                f"'{self.name}': a lead is that of one answer over another, so give two of each prompt"
            )

    def only(self, items: Iterable[str]) -> Leads:
        """The same on some items, in the order of the table.

        Raises:
            ContrastError: an item that is not there, or none.
        """
        rows = _chosen(self.name, self.table, items)
        prompts, answers = [self.prompts[i] for i in rows], [self.answers[i] for i in rows]
        spans = [self.spans[i] for i in rows] if self.spans else ()
        return replace(self, prompts=prompts, table=self.table.iloc[rows], answers=answers, spans=spans)

    def under(self, adapter: Adapter, conditions: Edits, description: str = "conditions") -> dict[str, Array]:
        """(items,) values by condition; see `Outcome`."""
        tokens = sorted({token for pair in self.answers for token in pair})
        each = {name: [list(edits)] * len(self.prompts) for name, edits in conditions.items()}
        got = token_logits(adapter, self.prompts, tokens, each, self.spans or None, description)
        places = torch.tensor([[tokens.index(token) for token in pair] for pair in self.answers])
        out = {}
        for name, logits in {PLAIN: got.base, **got.conditions}.items():
            pairs = logits.double().gather(1, places)
            out[name] = np.asarray((pairs[:, 0] - pairs[:, 1]).numpy())
        return out


@dataclass(frozen=True, eq=False)
class Difference:
    """Leads after some prompts minus those after others, item by item.

    Attributes:
        first, second: the same items under two prompts.

    Raises:
        ContrastError: other items.
    """

    name: str
    first: Leads
    second: Leads
    unit: str = "logit"

    def __post_init__(self) -> None:
        if not self.first.table.equals(self.second.table):
            raise ContrastError(f"'{self.name}': a difference needs the same items in the same clusters")

    @property
    def table(self) -> pd.DataFrame:
        """Clusters of the items."""
        return self.first.table

    def only(self, items: Iterable[str]) -> Difference:
        """The same on some items, in the order of the table.

        Raises:
            ContrastError: an item that is not there, or none.
        """
        chosen = list(items)
        return replace(self, first=self.first.only(chosen), second=self.second.only(chosen))

    def under(self, adapter: Adapter, conditions: Edits, description: str = "conditions") -> dict[str, Array]:
        """(items,) values by condition; see `Outcome`. Both kinds of prompts are run together."""
        one, other, half = self.first, self.second, len(self.first.prompts)
        table = pd.concat([one.table.add_prefix("first ", axis=0), other.table.add_prefix("second ", axis=0)])
        spans = [*one.spans, *other.spans]
        both = Leads(self.name, [*one.prompts, *other.prompts], table, [*one.answers, *other.answers], spans)
        return {name: v[:half] - v[half:] for name, v in both.under(adapter, conditions, description).items()}


@dataclass(frozen=True, eq=False)
class BenignText:
    """Damage: how far edits move what the model predicts in texts that have nothing to do with the direction.

    KL(plain || edited) in the mean over the tokens of a text from the second one on, in nats per token.

    Raises:
        ContrastError: no texts, a text of one token, or another number of rows.
    """

    name: str
    prompts: Sequence[Prompt]
    table: pd.DataFrame
    unit: str = "nats per token"

    def __post_init__(self) -> None:
        _rows(self.name, self.table, prompts=self.prompts)
        if min(map(len, self.prompts)) < 2:
            raise ContrastError(f"'{self.name}': a text of one token predicts nothing")

    def only(self, items: Iterable[str]) -> BenignText:
        """The same on some items, in the order of the table.

        Raises:
            ContrastError: an item that is not there, or none.
        """
        rows = _chosen(self.name, self.table, items)
        return replace(self, prompts=[self.prompts[i] for i in rows], table=self.table.iloc[rows])

    def under(self, adapter: Adapter, conditions: Edits, description: str = "conditions") -> dict[str, Array]:
        """(items,) values by condition; see `Outcome`."""
        spans = [(1, len(prompt)) for prompt in self.prompts]
        each = {name: [list(edits)] * len(self.prompts) for name, edits in conditions.items()}
        found = losses(adapter, self.prompts, spans, each, description=description)
        note_guards(f"{description}, {self.name}", found[PLAIN].ran, len(conditions))
        return {name: loss.damage.numpy() for name, loss in found.items()}


def _rows(name: str, table: pd.DataFrame, **columns: Sequence[object]) -> None:
    """There are items, each with one element of every column, a name of its own and a cluster.

    Raises:
        ContrastError: otherwise.
    """
    if not len(table) or not table.index.is_unique:
        raise ContrastError(f"'{name}': give a table of items with unique names, one row or more")
    for column, values in columns.items():
        if len(values) != len(table):
            raise ContrastError(f"'{name}': {len(table)} items need as many {column}, got {len(values)}")


def _chosen(name: str, table: pd.DataFrame, items: Iterable[str]) -> list[int]:
    wanted = set(items)
    if strangers := sorted(map(str, wanted - set(table.index))):
        raise ContrastError(f"'{name}' has no item {strangers[0]!r}")
    if not wanted:
        raise ContrastError(f"'{name}': no items were chosen")
    return [row for row, item in enumerate(table.index) if item in wanted]
