"""Late edits and what they do to the predictions after them, at the price of tails.

tails = Tails(model, prompts, continuations, cuts)
late_divergence(tails, {"patched": [[replace(block_input.layer(12)[0], h)] for h in states]})
late_losses(tails, {"ablated": [[replace(head(5, 8)[0, 24], average)] for _ in prompts]})
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from auditkit.adapters.protocol import Component
from auditkit.engine import arguments
from auditkit.engine.batching import TOKEN_BUDGET, in_batches
from auditkit.engine.continuation.divergence import LOGIT_BUDGET, Divergence, compare
from auditkit.engine.continuation.prefix_cached import Edits, Tails
from auditkit.engine.continuation.timed import GUARDED_ROWS, Forced
from auditkit.engine.edits import replace
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.guards import GuardTripped, pieces_floor
from auditkit.engine.patching.walks import MissesWholeRuns, against_walks
from auditkit.engine.sites import Position, Site, Span, block_input
from auditkit.engine.token_losses import token_losses


def late_divergence(
    tails: Tails,
    conditions: Mapping[str, Edits | Forced],
    description: str = "divergence",
    reference: Forced | None = None,
) -> dict[str, Divergence]:
    """Divergence of every condition from the reference over the continuations: `divergence`, at the price of tails.

    Cost: tail tokens per row for the reference and for each condition, the heads once, and a few whole rows for the
    guards: plain tails must have the logits of whole runs, and so must tails that are given their own activations back
    at every place that some condition edits; an edited tail that joined a walk must have those of one that is run from
    the first block, else all are run from there and `Tails.missed` says why. Where the model can be restarted, a
    condition costs tail tokens in the blocks from its first edited one on only (`Tails.start`), and one without edits
    nothing.

    Args:
        conditions: edits by row, or runs that are made already, such as transplants.
        reference: what is compared with, over the same continuations; the unedited tails where None.

    Raises:
        SiteError, NotApplicable: an edit that cannot be made, before anything runs.
        GuardTripped: a guard found the numbers not to be trusted.
        TypeError: an argument of another shape, such as a flat list of edits, before anything runs.
    """
    arguments.one("tails", tails, Tails, "Tails of the prompts")
    arguments.named("conditions", conditions, arguments.EDITED)
    arguments.one("reference", reference, (Forced, type(None)), "a Forced run, or None for the unedited tails")
    edited = {name: given for name, given in conditions.items() if not isinstance(given, Forced)}
    made = _guarded(tails, edited)
    runs = {name: given if isinstance(given, Forced) else made[name] for name, given in conditions.items()}
    compared = compare(tails.adapter, reference or tails.forced(), runs, description)
    tails.forget()
    return compared


def late_losses(
    tails: Tails, conditions: Mapping[str, Edits], description: str = "losses"
) -> dict[str, list[Tensor]]:
    """Loss of every token of the continuations under every condition: by row, (window,) in nats and float64.

    Cost: as `late_divergence`. In addition to its guards the first few tails are given the embeddings of their own
    tokens in reverse order, and must have the logits of the reversed tails (the full patch).

    Raises:
        SiteError, NotApplicable, GuardTripped, TypeError: as `late_divergence`; losses that are not finite.
    """
    arguments.one("tails", tails, Tails, "Tails of the prompts")
    arguments.named("conditions", conditions, arguments.EDITED)
    runs = _guarded(tails, conditions)
    _guard_full(tails.guarded())
    losses = {name: [torch.empty(n, dtype=torch.float64) for n in tails.windows] for name in conditions}

    def work(rows: list[int]) -> None:
        for name, run in runs.items():
            logits = run.logits(rows)
            for k, row in enumerate(rows):
                ids = torch.tensor([tails.continuations[row]])
                losses[name][row].copy_(token_losses(logits[k : k + 1, -ids.shape[1] :], ids)[0])

    vocabulary = len(tails.adapter.chat.tokenizer)
    costs = [max(n, w * vocabulary * TOKEN_BUDGET // LOGIT_BUDGET) for n, w in tails.sizes]
    divided = Divided(tails.adapter, ("losses", {name: run.of for name, run in runs.items()}), losses)
    in_batches(work, costs, description, divided=divided)
    tails.forget()
    return losses


def _guarded(tails: Tails, conditions: Mapping[str, Edits]) -> dict[str, Forced]:
    """The tails under every condition, once guards have looked at the first few; without restarts where these miss."""
    made = tails.together(conditions)
    few = {name: edits[:GUARDED_ROWS] for name, edits in conditions.items()}
    _guard(tails.guarded(), few)
    try:
        with against_walks():
            _guard_restarts(tails.guarded(), few)
    except MissesWholeRuns as missed:
        tails.give_up_restarts(str(missed))
        return tails.together(conditions)
    return made


def _guard_full(tails: Tails) -> None:
    """Tails that are given the embeddings of their own tokens in reverse order are the reversed tails."""
    turned = tails.turned()
    everything = block_input.layer(0)
    given = [
        [replace(everything[0, len(values)], values)]
        for values in (read[everything.component, 0] for read in turned.read([(everything.component, 0)]))
    ]
    rows = list(range(len(tails.prompts)))
    expected, got = turned.forced().logits(rows), tails.forced(given).logits(rows)
    error, floor = float((got - expected).abs().max()), pieces_floor(tails.adapter, expected)
    if not error <= floor:
        raise GuardTripped(
            f"guard: the full patch misses the logits of the reversed tails by up to {error:.3g}, the noise floor is "
            f"{floor:.3g}"
        )


def _guard(tails: Tails, conditions: Mapping[str, Edits]) -> None:
    adapter = tails.adapter
    sites = {
        (edit.site.component, layer, _span(edit.site.position))
        for edits in conditions.values()
        for row in edits
        for edit in row
        for layer in edit.site.layer_indices(adapter.layers)
    }
    own = tails.read({(component, layer) for component, layer, _ in sites})
    back = [
        [
            replace(Site(component, layer, layer)[start, stop], values[component, layer][start:stop])
            for component, layer, (start, stop) in sorted(sites)
        ]
        for values in own
    ]
    rows, expected = list(range(len(tails.prompts))), tails.whole()
    for what, run in (("plain tails miss", tails.forced()), ("own activations change", tails.forced(back))):
        got = run.logits(rows)
        floor = pieces_floor(adapter, expected)
        for k, row in enumerate(rows):
            window = tails.windows[row]
            error = float((got[k, -window:] - expected[k, -window:]).abs().max())
            if not error <= floor:
                raise GuardTripped(
                    f"guard: {what} the logits of prompt {row} by up to {error:.3g}, the noise floor is {floor:.3g}"
                )


def _span(position: Position) -> Span:
    """A position of a late edit as a half-open span."""
    assert not isinstance(position, str)  # `Tails` has refused names
    return (position, position + 1) if isinstance(position, int) else position


def _guard_restarts(tails: Tails, conditions: Mapping[str, Edits]) -> None:
    """For the first edits of each kind that join at a block: the same by hooks, from the first block on."""
    first: dict[tuple[int, frozenset[Component]], Edits] = {}
    for edits in conditions.values():
        start = tails.start(edits[0])
        if start is not None and start < tails.adapter.layers:
            first.setdefault((start, frozenset(edit.site.component for edit in edits[0])), edits[:1])
    by_name = {f"{start} ({', '.join(sorted(kinds))})": edits for (start, kinds), edits in first.items()}
    expected, got = (tails.some(1, restarts=on).together(by_name) for on in (False, True))
    for name in by_name:
        logits = expected[name].logits([0])
        error, floor = float((got[name].logits([0]) - logits).abs().max()), pieces_floor(tails.adapter, logits)
        if not error <= floor:
            raise GuardTripped(
                f"guard: restarts at block {name} miss the logits of the edited run by up to {error:.3g}, the noise "
                f"floor is {floor:.3g}"
            )
