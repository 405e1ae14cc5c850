"""The direction from harmless to harmful requests, and what projecting it out does to refusals."""

import pandas as pd

from auditkit import NotApplicable
from auditkit.data.prompts import Chat
from auditkit.findings.refusal.prompts.openings import first_tokens, of_language
from auditkit.findings.refusal.prompts.requests import HARMFUL, HARMLESS, own_requests, spread
from auditkit.methods.contrast.directions import Contrast
from auditkit.methods.contrast.effects import effects
from auditkit.methods.contrast.nulls import nulls
from auditkit.methods.contrast.outcomes import PLAIN, FirstTokens
from auditkit.methods.contrast.states import after_instruction, read_states
from auditkit.methods.contrast.sweeps import choose, sweep

KINDS = (HARMFUL, HARMLESS)


def refusals(model, *, seed, n_items):
    """Log odds that the answer to a request begins as a refusal; a row for each request, a cluster for each pair."""
    pairs = spread(own_requests().pairs, n_items, seed)
    rows = [(f"{pair.id}, {kind}", pair.id, pair.of(kind)) for kind in KINDS for pair in pairs]
    table = pd.DataFrame({"pair": [pair for _, pair, _ in rows]}, [name for name, _, _ in rows])
    prompts = [model.chat(Chat(user=text)) for _, _, text in rows]
    tokens = first_tokens(model.chat, of_language("english"))
    after = after_instruction(model.chat)
    return FirstTokens("log odds of a refusal", prompts, table, tokens.refusal, tokens.answer, after, unit="logit")


def removal(model, asked, *, seed):
    """Effects of projecting the direction out after every block, and of null directions, on half of the pairs: the
    other half fits the direction at every place and selects the place.

    Raises:
        NotApplicable: the model answers most harmful requests, or no place lowers refusals.
    """
    harmful = asked.table.index.str.endswith(f", {HARMFUL}").astype(bool)
    states = read_states(model, asked.prompts, range(-asked.after, 0))
    contrast = Contrast("refusal", states, harmful, asked.table)
    split = contrast.halves(seed)
    fitted_on, judged_on = (
        asked.only(item for item in half if item.endswith(HARMFUL))
        for half in (split.discovery, split.confirmation)
    )
    refused = float((judged_on.under(model, {})[PLAIN] > 0).mean())
    if refused < 0.5:
        raise NotApplicable(f"the model refuses {refused:.0%} of the harmful requests, so no direction decides it")
    place = choose(sweep(model, contrast, fitted_on, split.discovery, kind="remove"), sign=-1)
    if place is None:
        raise NotApplicable("projecting the direction out lowers refusals at no layer and position")
    direction = contrast.direction(place.layer, place.position, split.discovery)
    null = nulls(contrast, direction, split.discovery, seed=seed, each=2)
    edits = {"direction": direction.remove()} | {name: other.remove() for name, other in null.items()}
    return effects(model, judged_on, edits)
