"""How a model processes an identity word: attention to it, separation of identities, effect of the early MLPs.

None of the three is good or bad by itself. A fine-tune that changes one of them has changed how identities are
processed, also where answers are still alike. So they are compared with the baseline, item by item:

- the share of attention from the last token to the identity's words, mean over layers and heads, without the first
token;
- how separable groups are from the middle of the network on: the silhouette (Rousseeuw 1987) of each prompt's
  activation at the last token among those of its group, unit norm, after the mean of its case is taken away;
- what restoring the MLPs at depth 0.06-0.19 at the identity's words does when one identity is swapped for another: the
  change of the log odds of the decision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.personas import differing_span
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.edits import Edited
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.patching.rows import first_difference
from auditkit.engine.sites import Span, mlp
from auditkit.findings.identity_bias.measurements.decisions import Decisions, answer_tokens
from auditkit.findings.identity_bias.prompts.identities import Identity
from auditkit.findings.identity_bias.prompts.items import DecisionCase
from auditkit.methods.attention import COUNTS, NO_SINK, shares
from auditkit.methods.patching import difference, note_guards
from auditkit.methods.separation.probes import unit_norm
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import MIN_CLUSTERS, Array
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

CASES = 6
"""Cases in which attention and activations are looked at, where there are as many; swaps need all: six decide nothing
in bfloat16."""
WHOLE = 20
"""Of so many cases both attributes are swapped, and one of them, in turn, of every further case: 50 swaps in 30 cases.
The variance of the mean is c / 30 + e / 50, and with 25 cases of two swaps it would be c / 25 + e / 50."""
BAND = (0.06, 0.19)
DEPTHS = (0.5, 0.75, 1.0)
"""Where separability is read: a fine-tune of the last layers alone changes nothing in the middle."""


class IdentityMechanism:
    """Attention, separability and the early MLPs on some of the cases of `decisions`, for identities of
    `attributes`."""

    def __init__(self, decisions: Decisions, attributes: Sequence[str] = ("gender", "religion")) -> None:
        self.decisions, self.adapter = decisions, decisions.adapter
        self.cases = decisions.cases[:CASES]
        self.people = [one for one in decisions.people if one.attribute in attributes]
        if len(self.cases) < MIN_CLUSTERS:
            raise Inconclusive(
                f"too_few_clusters: {len(self.cases)} cases, at least {MIN_CLUSTERS} are needed to decide"
            )

    def notes(self) -> tuple[str, ...]:
        """What a reader of a claim on the mechanism must know."""
        return (
            f"{len(self.cases)} cases under {len(self.people)} identities, swaps in all "
            f"{len(self.decisions.cases)}; a change here says that identities are processed otherwise, not that "
            "anybody is treated worse",
        )

    def attention(self) -> Estimate:
        """Share of attention from the last token to the identity's words, mean over layers and heads.

        Raises:
            NotApplicable: this model does not show its attention.
        """
        offered = self.adapter.support()[Component.PATTERN]
        if not offered:
            raise Unsupported(f"attention cannot be read on this model: {offered.reason}")
        runs = [Edited(prompt, (), {"identity": span}) for prompt, span in self._located]
        seen, _ = shares(self.adapter, runs, "identity")  # type: ignore[arg-type]  # support says that it attends
        values = seen[0, :, COUNTS.index(NO_SINK)].mean((1, 2)).double().numpy()
        return self._estimate("attention to identity words", "of attention", "attention", values)

    def separability(self) -> Estimate:
        """Silhouette of each prompt among those of its identity, -1 to 1, mean over `DEPTHS`."""
        layers, points = self.activations([prompt for prompt, _ in self._located], len(self.people))
        values = silhouettes(points, [one.id for _ in self.cases for one in self.people])
        note(f"activations are those of the stream after layers {', '.join(map(str, layers))}, at the last token")
        return self._estimate("separability of identities", "silhouette", "silhouette", values)

    def activations(self, prompts: Sequence[Prompt], of_case: int) -> tuple[list[int], Array]:
        """The layers of `DEPTHS`, and (layer, prompt, width) the stream at the last token, of unit norm, the mean of
        each case taken away.

        Args:
            of_case: how many prompts in a row are of one case.
        """
        layers = sorted({round(depth * (self.adapter.layers - 1)) for depth in DEPTHS})
        cuts = [
            cut for i in range(0, len(prompts), of_case) for cut in [_common(prompts[i : i + of_case])] * of_case
        ]
        # The prompts of a case begin alike, which is run once; the token that "continues" them is not run.
        tails = Tails(self.adapter, prompts, [[0]] * len(prompts), cuts)
        places = [(Component.RESIDUAL, layer) for layer in layers]
        read = tails.read(places)
        kept = np.array([[row[place][-1].double().cpu().numpy() for row in read] for place in places])
        points = unit_norm(kept.reshape(-1, self.adapter.width)).reshape(
            len(layers), -1, of_case, self.adapter.width
        )
        return layers, (points - points.mean(2, keepdims=True)).reshape(kept.shape)

    def swaps(self) -> tuple[Estimate, Estimate]:
        """What restoring the early MLPs at the identity's words moves when "man" stands where "woman" stood, in
        logits; and the control: the same at another place of the prompt.

        Raises:
            NotApplicable: too few cases in which two identities make prompts of one length.
        """
        pairs, ids = self._pairs
        own = mlp.at_depth(*BAND)
        measured = restarted(
            self.adapter,
            pairs,
            {name: [[own[name]]] * len(pairs) for name in ("identity", "elsewhere")},
            "identity swaps",
        )
        note_guards("identity swaps", measured)
        base = difference(measured.base)
        values = pd.DataFrame(
            {
                "before": base,
                "swapped": difference(measured.source),
                **{name: difference(logits) for name, logits in measured.conditions.items()},
            },
            ids,
        )
        prompts = {
            i: {"before": pair.base.text, "swapped": pair.source.text} for i, pair in zip(ids, pairs, strict=True)
        }
        clusters = pd.DataFrame({"case": [i.split("|")[0] for i in ids]}, ids)
        strata = self.decisions.kinds(list(clusters["case"]), clusters.index)
        table = Measurement("identity swaps", "logit", values, clusters, prompts, strata)
        return (
            Estimate("early MLPs at the identity", "logit", table, table.condition("identity") - base),
            Estimate("early MLPs elsewhere", "logit", table, table.condition("elsewhere") - base),
        )

    # -- prompts -----------------------------------------------------------------------------------------------

    @shared_measurement
    def _located(self) -> list[tuple[Prompt, Span]]:
        """Prompts case by case, each with the span of its identity."""
        return [self._locate(case, one) for case in self.cases for one in self.people]

    def _locate(self, case: DecisionCase, one: Identity) -> tuple[Prompt, Span]:
        prompt = self.decisions.prompt(case, one)
        start = prompt.text.rindex(one.phrase)
        first, last = (self._alike(prompt, prompt.text[:end]) for end in (start, start + len(one.phrase)))
        return prompt, (first, max(last, first + 1))

    def _alike(self, prompt: Prompt, text: str) -> int:
        ids = self.adapter.chat.encode(text)
        return next((i for i, (a, b) in enumerate(zip(ids, prompt.ids, strict=False)) if a != b), len(ids))

    @shared_measurement
    def _pairs(self) -> tuple[list[PatchPair], list[str]]:
        """In every case one pair of each attribute, or of one attribute (`WHOLE`), whose prompts have one length."""
        neighbours: dict[str, list[tuple[Identity, Identity]]] = {}
        for one, other in zip(self.people, self.people[1:], strict=False):
            if one.attribute == other.attribute:
                neighbours.setdefault(one.attribute, []).append((one, other))
        pairs: dict[str, PatchPair] = {}
        for number, case in enumerate(self.decisions.cases):
            names, most = list(neighbours), len(neighbours)
            if number >= WHOLE and names:
                turn, most = number % len(names), 1
                names = names[turn:] + names[:turn]
            for name in names:
                if most and (swap := self._swap(case, neighbours[name])):
                    pairs[swap[0]] = swap[1]
                    most -= 1
        cases = len({i.split("|")[0] for i in pairs})
        if cases < MIN_CLUSTERS:
            raise Unsupported(f"only {cases} cases have two identities that make prompts of one length")
        return list(pairs.values()), list(pairs)

    def _swap(
        self, case: DecisionCase, neighbours: Sequence[tuple[Identity, Identity]]
    ) -> tuple[str, PatchPair] | None:
        """The first neighbours whose prompts have one length, as item and pair; None where there are none."""
        yes, no = (side[0] for side in answer_tokens(self.adapter.chat))
        answers = (yes, no) if case.favourable == "yes" else (no, yes)
        for one, other in neighbours:
            base, source = (self.decisions.prompt(case, who) for who in (one, other))
            span = differing_span(base.ids, source.ids)
            if span is None:
                continue
            width = span[1] - span[0]
            item = f"{case.id}|{one.group}>{other.group}"
            # After the identity, where what it changed may have arrived, and before the last token.
            places = range(span[1], len(base) - width)
            at = int(stream(self.decisions.seed, "elsewhere", item).choice(places))
            return item, PatchPair(base, source, answers, {"identity": span, "elsewhere": (at, at + width)})
        return None

    def _estimate(self, name: str, unit: str, condition: str, values: Array) -> Estimate:
        ids = [f"{case.id}|{one.id}" for case in self.cases for one in self.people]
        clusters = pd.DataFrame({"case": [case.id for case in self.cases for _ in self.people]}, ids)
        prompts = {
            f"{case.id}|{one.id}": {condition: case.user(one)} for case in self.cases for one in self.people
        }
        strata = self.decisions.kinds(list(clusters["case"]), clusters.index)
        table = Measurement(name, unit, pd.DataFrame({condition: values}, ids), clusters, prompts, strata)
        return Estimate(name, unit, table, np.asarray(values, dtype=np.float64))


def _common(prompts: Sequence[Prompt]) -> int:
    """Tokens that several prompts begin with, without the last one of any."""
    alike = (first_difference(prompts[0], other) for other in prompts[1:])
    return max(1, min(*alike, *(len(prompt) - 1 for prompt in prompts)))


def silhouettes(points: Array, labels: Sequence[str]) -> Array:
    """(prompt,) silhouette of each of (layer, prompt, width) points among those of its label, mean over layers."""
    from sklearn.metrics import silhouette_samples

    return np.asarray(np.mean([silhouette_samples(at, labels) for at in points], axis=0))
