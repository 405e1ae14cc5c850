"""Sensitivity references of the claims about the inside of a model, for "unchanged since the baseline".

They make the measurements of `mechanism`: attention to the identity's words against attention spread evenly; the
silhouette of strong and weak cases against that of ends exchanged at random; the effect of patching the early MLPs at a
word that decides a case.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from auditkit.claims.outcomes import NotApplicable
from auditkit.data.personas import differing_span
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.sites import mlp
from auditkit.findings.identity_bias.measurements.decisions import answer_tokens
from auditkit.findings.identity_bias.measurements.mechanism import BAND, IdentityMechanism, silhouettes
from auditkit.findings.identity_bias.references.answers import ENDS, CaseMerit
from auditkit.methods.patching import difference, note_guards
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

LOOKED_AT = 8
"""Cases with a strong and a weak end that are looked at, at most."""
EXCHANGES = 50
"""Times that the ends of cases are exchanged at random."""


def attention_above_even(mechanism: IdentityMechanism, seen: Estimate) -> Estimate:
    """Share of attention from the last token to the identity's words, minus what attention that is spread evenly over
    all tokens but the first gives as many tokens.

    Args:
        seen: `mechanism.attention()`.
    """
    even = np.array([(stop - start) / (len(prompt) - 1) for prompt, (start, stop) in mechanism._located])
    return replace(seen, name="attention to identity words above even attention", numerator=seen.numerator - even)


def ends_apart(mechanism: IdentityMechanism, merit: CaseMerit) -> Estimate:
    """Silhouette of strong and weak cases by their end, minus its mean where the ends of each case are exchanged at
    random; by case.

    Cases end in other words, so only a model in which these mean something alike sets strong ends apart from weak
    ones in every case; identities, which are the same words throughout, lie apart in any network.

    Raises:
        NotApplicable: too few cases with two ends.
    """
    some = merit.cases[:LOOKED_AT]
    if len(some) < MIN_CLUSTERS:
        raise NotApplicable(f"no reference: only {len(some)} cases have a strong and a weak end")
    prompts = [prompt for case, ends in some for prompt in merit.prompts(case, ends)]
    _, points = mechanism.activations(prompts, len(ENDS))
    draw = stream(mechanism.decisions.seed, "ends exchanged at random")
    straight = silhouettes(points, [*ENDS] * len(some))
    exchanged = [
        silhouettes(points, [end for turn in draw.choice((1, -1), len(some)) for end in ENDS[::turn]])
        for _ in range(EXCHANGES)
    ]
    values = straight - np.mean(exchanged, axis=0)
    index = [f"{case.id}|{end}" for case, _ in some for end in ENDS]
    clusters = pd.DataFrame({"case": [case.id for case, _ in some for _ in ENDS]}, index)
    texts = {i: {"silhouette": prompt.text} for i, prompt in zip(index, prompts, strict=True)}
    table = Measurement("ends apart", "silhouette", pd.DataFrame({"silhouette": values}, index), clusters, texts)
    return Estimate("separability of strong and weak cases above chance", "silhouette", table, values)


def early_mlps_at_the_deciding_word(merit: CaseMerit) -> Estimate:
    """What restoring the early MLPs at the word that makes a case strong moves the decision on the weak case, in
    logits.

    Raises:
        NotApplicable: too few cases whose two ends make prompts of one length.
    """
    decisions = merit.decisions
    yes, no = answer_tokens(decisions.adapter.chat)
    pairs: dict[str, PatchPair] = {}
    for case, ends in merit.cases:
        strong, weak = merit.prompts(case, ends)
        span = differing_span(weak.ids, strong.ids)
        if span is not None and len(pairs) < LOOKED_AT:
            good, bad = (yes[0], no[0]) if case.favourable == "yes" else (no[0], yes[0])
            pairs[case.id] = PatchPair(weak, strong, (good, bad), {"word": span})
    if len(pairs) < MIN_CLUSTERS:
        raise NotApplicable(f"no reference: only {len(pairs)} cases have two ends that make prompts of one length")
    some = list(pairs.values())
    measured = restarted(
        decisions.adapter, some, {"word": [[mlp.at_depth(*BAND)["word"]]] * len(some)}, "deciding words"
    )
    note_guards("deciding words", measured)
    columns = {
        "weak": difference(measured.base),
        "strong": difference(measured.source),
        "early MLPs at the word": difference(measured.conditions["word"]),
    }
    index = list(pairs)
    prompts = {i: {"weak": pair.base.text, "strong": pair.source.text} for i, pair in pairs.items()}
    clusters = pd.DataFrame({"case": index}, index)
    table = Measurement("deciding words", "logit", pd.DataFrame(columns, index), clusters, prompts)
    moved = table.condition("early MLPs at the word") - table.condition("weak")
    return Estimate("early MLPs at the word that decides", "logit", table, moved)
