"""Prompts that go on: edits in the prompt, at the tokens after it, or both.

    Timed(add(residual.layer(12), direction, 4.0), "generated")            steer every generated token
    Timed(zero(mlp.layer(3)), "generated", steps=(0, 1))                   only the first two
    Timed(scale(head(5, 8), 0.0), "all")                                   the prompt and every generated token
    replace(mlp.layer(0)["identity"], source)                              a bare edit acts in the prompt

Steps count the tokens after the prompt from 0, whether they are generated or given: an edit at step s touches the
activations *at the position of token s*, that is while token s is read. So it can change token s + 1 and later
ones; token 0 is decided by the prompt alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Component, Place, Shape
from auditkit.engine import arguments
from auditkit.engine.batching import TOKEN_BUDGET
from auditkit.engine.directions import Along, AsLong
from auditkit.engine.edits import Edit, Edited, layers_of, spots, touched
from auditkit.engine.forward import Donated, Interventions, donate
from auditkit.engine.guards import costing
from auditkit.engine.sites import Site, SiteError, Span

When = Literal["prompt", "generated", "all"]

RUNS = "a list of prompts and Continued runs, such as [model.chat(chat)]"
"""What a list of runs is, in the words of an error message."""

GUARDED_ROWS = 4
"""Rows on which the guards of a measurement run; fired edits are counted on all."""


@dataclass(frozen=True, eq=False)
class Timed:
    """An edit, and when it acts.

    Attributes:
        edit: what is done. At tokens after the prompt its site names no position (their steps do), and what it
            gives is nothing, a tensor for one position, or made of the value.
        when: in the "prompt", at the tokens after it ("generated"), or at "all" of them.
        steps: which tokens after the prompt, counted from 0; None is every one.

    Raises:
        SiteError: steps without generated tokens, or an edit that cannot act there; see above.
        TypeError: an argument of another kind, such as a site where an edit is meant.
    """

    edit: Edit
    when: When = "prompt"
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        arguments.one("what is timed", self.edit, Edit, "one edit, such as zero(mlp.layer(3))")
        arguments.one("when", self.when, str, "'prompt', 'generated' or 'all'")
        arguments.indices("steps", self.steps, "generated tokens")
        site, give = self.edit.site, self.edit.give
        if self.when not in ("prompt", "generated", "all"):
            raise SiteError(f"{site}: when is '{self.when}'; say prompt, generated or all")
        if self.when == "prompt":
            if self.steps is not None:
                raise SiteError(f"{site}: steps count generated tokens; an edit of the prompt has none")
            return
        if self.steps is not None and (
            not self.steps or min(self.steps) < 0 or len(set(self.steps)) < len(self.steps)
        ):
            raise SiteError(f"{site}: steps {self.steps} asked for, give different steps from 0 on")
        if self.when == "generated" and site.position != "all":
            raise SiteError(f"{site}: generated tokens are named by their step, not by a position of the prompt")
        if site.component is Component.PATTERN:
            raise SiteError(f"{site}: attention probabilities of generated tokens have no fixed number of keys")
        if give is None or isinstance(give, Along | AsLong):
            return
        if not isinstance(give, Tensor):
            raise SiteError(
                f"{site}: a donor has no generated tokens to take from; give a tensor for one position"
            )
        rank = 2 if site.component.shape is Shape.STREAM else 3
        if give.ndim > rank or (give.ndim == rank and len(give) != 1):
            raise SiteError(f"{site}: a tensor of shape {tuple(give.shape)} was given; give one for one position")


@dataclass(frozen=True, eq=False)
class Continued:
    """A prompt that goes on, with edits on the way.

    Attributes:
        prompt: what is run first.
        edits: what is done; a bare `Edit` acts in the prompt.
        spans: named token spans of the prompt.

    Raises:
        TypeError: an argument of another kind, such as a bare site where an edit is meant.
    """

    prompt: Prompt
    edits: tuple[Edit | Timed, ...] = ()
    spans: Mapping[str, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments.one("a continued run's prompt", self.prompt, Prompt, "one prompt, such as model.chat(chat)")
        expected = "a list of edits, such as [replace(mlp.layer(1), donor)]"
        arguments.several(
            "a continued run's edits", self.edits, (Edit, Timed), expected, "an edit or a Timed edit"
        )
        arguments.spans("spans", self.spans)

    @property
    def timed(self) -> tuple[Timed, ...]:
        """Every edit with its time."""
        return tuple(edit if isinstance(edit, Timed) else Timed(edit) for edit in self.edits)

    @property
    def start(self) -> Edited:
        """The prompt with the edits that act in it."""
        edits = tuple(timed.edit for timed in self.timed if timed.when != "generated")
        return Edited(self.prompt, edits, self.spans)


def continued(run: Prompt | Continued) -> Continued:
    """A bare prompt as one without edits."""
    return Continued(run) if isinstance(run, Prompt) else run


@dataclass(frozen=True)
class Settled:
    """A continued prompt whose edits are ready to be put at any length: single layers, positions and tensors.

    Attributes:
        prompt: as given.
        early: edits of the prompt.
        late: edits of later tokens, with the steps at which they act.
    """

    prompt: Prompt
    early: tuple[Edit, ...]
    late: tuple[tuple[Edit, tuple[int, ...] | None], ...]

    def whole(self, tokens: Sequence[int]) -> Edited:
        """Prompt and `tokens` as one sequence, with every edit in its place."""
        length = len(self.prompt)
        edits = [_with_keys(edit, len(tokens)) for edit in self.early]
        for edit, steps in self.late:
            if steps is None:
                spans = [(length, length + len(tokens))] if tokens else []
            else:
                spans = [(length + step, length + step + 1) for step in steps if step < len(tokens)]
            edits += [_at(edit, span) for span in spans]
        return Edited(Prompt(self.prompt.text, (*self.prompt.ids, *tokens)), tuple(edits))

    @property
    def untouched(self) -> int:
        """How many tokens stand before the first one that an edit changes; the prompt's last one is never among them.

        Attention probabilities are given for all keys of the prompt, so no part of it can be run without the others.
        """
        firsts = [
            0 if edit.site.component is Component.PATTERN else edit.site.span(len(self.prompt), {})[0]
            for edit in self.early
        ]
        return min([len(self.prompt) - 1, *firsts])

    def last(self, tokens: int) -> Edited:
        """The last few tokens of the prompt with every edit in its place, as they are run on what is before them."""
        before = len(self.prompt) - tokens
        spans = [edit.site.span(len(self.prompt), {}) for edit in self.early]
        edits = (
            _at(e, (start - before, stop - before)) for e, (start, stop) in zip(self.early, spans, strict=True)
        )
        return Edited(Prompt("", self.prompt.ids[before:]), tuple(edits))

    def step(self, step: int, token: int) -> Edited:
        """Token `step` after the prompt on its own, as it is run on the keys and values of what was before."""
        edits = (edit for edit, steps in self.late if steps is None or step in steps)
        return Edited(Prompt("", (token,)), tuple(_at(edit, (0, 1)) for edit in edits))


def places(adapter: Adapter, run: Continued) -> set[Place]:
    """Every place that a run edits at some time; nothing is run to find out.

    Raises:
        SiteError, NotApplicable: an edit that cannot be made, see `auditkit.engine.edits.spots`.
    """
    late = Edited(Prompt("", (0,)), tuple(_at(edit, (0, 1)) for edit, _ in _late(adapter, run)))
    return touched(adapter, (run.start, late))


def settle(adapter: Adapter, runs: Sequence[Continued]) -> list[Settled]:
    """Run the donors of all edits, once each, and put what they gave in their place."""
    starts = [run.start for run in runs]
    donated = donate(adapter, starts, TOKEN_BUDGET)
    return [
        Settled(run.prompt, tuple(_constants(adapter, start, donated)), tuple(_late(adapter, run)))
        for run, start in zip(runs, starts, strict=True)
    ]


def _constants(adapter: Adapter, start: Edited, donated: Donated) -> list[Edit]:
    edits = []
    for place, first, stop, heads, edit in spots(adapter, start):
        give = edit.give
        if isinstance(give, Prompt | Edited):
            give = donated.activations[give, place][first:stop]
            give = give if heads is None else give[:, list(heads)]
        site = Site(place[0], place[1], place[1], position=(first, stop), heads=heads)
        edits.append(replace(edit, site=site, give=give))
    return edits


def _late(adapter: Adapter, run: Continued) -> list[tuple[Edit, tuple[int, ...] | None]]:
    late = []
    for timed in run.timed:
        if timed.when != "prompt":
            site = timed.edit.site
            for layer in layers_of(adapter, site):
                one = Site(site.component, layer, layer, heads=site.heads)
                late.append((replace(timed.edit, site=one), timed.steps))
    return late


def _at(edit: Edit, span: Span) -> Edit:
    return replace(edit, site=replace(edit.site, position=span))


def _with_keys(edit: Edit, more: int) -> Edit:
    """Attention probabilities given for the prompt's keys, over `more` later keys that no query of it sees."""
    if edit.site.component is Component.PATTERN and isinstance(edit.give, Tensor):
        return replace(edit, give=nn.functional.pad(edit.give, (0, more)))
    return edit


@dataclass(frozen=True)
class Forced:
    """Runs over given continuations, as comparisons take them.

    Attributes:
        lengths: tokens that each row costs.
        windows: tokens of each row's continuation.
        logits: row indices -> (row, window, vocabulary) in float32: what is predicted for each token of the
            continuation, right-aligned at the longest window of these rows.
        of: all that the logits depend on besides the model; None where it cannot be said.
    """

    lengths: tuple[int, ...]
    windows: tuple[int, ...]
    logits: Callable[[list[int]], Tensor]
    of: tuple[object, ...] | None = None

    def chosen(self, rows: Sequence[int]) -> Forced:
        """Some of the rows, in the order given."""
        lengths, windows = (tuple(column[row] for row in rows) for column in (self.lengths, self.windows))
        of = None if self.of is None else ("chosen", list(rows), *self.of)
        return Forced(lengths, windows, lambda some: self.logits([rows[k] for k in some]), of)


def forced(adapter: Adapter, runs: Sequence[Continued], continuations: Sequence[Sequence[int]]) -> Forced:
    """Every run read over its continuation, with its edits, as one sequence.

    Raises:
        SiteError: a continuation is missing or empty.
        TypeError: an argument of another shape.
    """
    arguments.model(adapter)
    arguments.several("runs", runs, Continued, "a list of Continued runs", "a Continued run")
    windows = window_lengths(len(runs), continuations)

    def logits(rows: list[int]) -> Tensor:
        some = settle(adapter, [runs[i] for i in rows])
        whole = [run.whole(continuations[i][:-1]) for run, i in zip(some, rows, strict=True)]
        return predicted(adapter, whole, max(windows[i] for i in rows))

    lengths = (len(run.prompt) + window - 1 for run, window in zip(runs, windows, strict=True))
    return Forced(tuple(lengths), windows, logits, ("forced", runs, continuations))


def predicted(adapter: Adapter, runs: Sequence[Edited], tokens: int, donated: Donated | None = None) -> Tensor:
    """One batch of runs: logits (run, tokens, vocabulary) at the last positions.

    Args:
        donated: what the donors of their edits gave; None where the edits need none.

    Raises:
        GuardTripped: an edit that did not fire exactly once.
    """
    batch = adapter.batch([run.prompt for run in runs])
    interventions = Interventions(adapter, batch, runs, donated or Donated())
    with costing(adapter, sum(len(run.prompt) for run in runs)):
        logits = adapter.predict(batch, interventions.touches, tokens)
    interventions.confirm()
    return logits


def window_lengths(rows: int, continuations: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Tokens of each continuation.

    Raises:
        SiteError: not one continuation for each of `rows`, or an empty one.
        TypeError: no list of lists of token ids.
    """
    arguments.continuations(continuations)
    if len(continuations) != rows or not all(continuations):
        raise SiteError(f"{rows} runs need one continuation of at least one token each")
    return tuple(len(tokens) for tokens in continuations)
