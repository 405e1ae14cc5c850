"""A measurement gives the same numbers, to the last bit, whatever was measured before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Support
from auditkit.engine.continuation import shared_prefix
from auditkit.engine.patching.restarted import ends, restarted
from auditkit.engine.sites import embeddings, head, mlp
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.persona_patching.measurements.answers import ACCURACY, NOBODY, PLAIN, PersonaAnswers
from auditkit.findings.persona_patching.measurements.patching import EARLY, MIDDLE, PersonaPatching
from auditkit.methods.patching import Held
from auditkit.stats.effects.mean import Estimate
from tests.planted.circuits import Circuit, items, open_circuit

pytestmark = pytest.mark.unit

SHARE = 0.4
ASKED: dict[HFAdapter, PersonaQuestions] = {}
"""Questions once for each model: they know nothing of patching."""
FIRST = mlp.layer(0)
CLAIMS: dict[str, Callable[[PersonaPatching], Any]] = {
    "early": lambda patching: patching.recoveries(EARLY, patching.random_bands(EARLY)),
    "middle": lambda patching: patching.recoveries(MIDDLE, patching.random_bands(MIDDLE)),
    "word": lambda patching: (
        *patching.effects(FIRST["identity"], FIRST, embeddings["identity"], share=SHARE),
        *patching.recoveries(embeddings["identity"], share=SHARE),
        patching.moved(FIRST, share=SHARE),
    ),
    "path": lambda patching: patching.effects(
        EARLY["identity"],
        Held(EARLY["identity"], MIDDLE),
        Held(head(1, 0)["identity"], head(3, 2)),
        share=SHARE,
    ),
    "donors": lambda patching: patching.from_donors(EARLY, share=SHARE),
    "head": lambda patching: patching.recoveries(head(3, 2)["last"], share=SHARE),
    "total": lambda patching: (patching.on(SHARE).total(), patching.require_effect()),
}
ORDERS = [
    tuple(CLAIMS),
    tuple(reversed(CLAIMS)),
    ("path", "donors", "total", "middle", "head", "word", "early"),
]


@pytest.fixture(scope="module", params=["restarted", "beginnings shared", "whole"])
def model(request: pytest.FixtureRequest) -> Iterator[HFAdapter]:
    """Noise in every weight, so that rounding differs wherever sums are ordered differently."""
    adapter = open_circuit(Circuit(noise=0.3, seed=3))
    if request.param == "whole":
        support = {**adapter.support(), "blockwise": Support(False, "for this test")}
        adapter.support = lambda: support  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "beginnings shared":  # these prompts are too short for it to be worth it
            patched.setattr(shared_prefix, "WORTH", 4)
        yield adapter


def fresh(model: HFAdapter) -> PersonaPatching:
    if model not in ASKED:
        ASKED[model] = PersonaQuestions(model, items=items(), n_items=5)
    return PersonaPatching(ASKED[model], n_pairs=5, bands=(EARLY, MIDDLE))


def values(estimates: tuple[Estimate, ...]) -> list[np.ndarray]:
    return [part for one in estimates for part in (one.numerator, one.denominator) if part is not None]


def test_a_claim_alone_gives_what_it_gives_after_any_others(model: HFAdapter) -> None:
    alone = {name: values(claim(fresh(model))) for name, claim in CLAIMS.items()}
    assert sum(map(len, alone.values())) > 20
    for order in ORDERS:
        patching = fresh(model)
        for name in order:
            got = values(CLAIMS[name](patching))
            for mine, expected in zip(got, alone[name], strict=True):
                assert np.array_equal(mine, expected), (name, order, float(np.abs(mine - expected).max()))


def test_both_ends_are_those_of_a_run_with_conditions(model: HFAdapter) -> None:
    pairs = fresh(model).on(SHARE).items.pairs
    base, source = ends(model, pairs)
    for sites in (
        [[EARLY]],
        [[EARLY], [MIDDLE]],
        [[mlp.layer(4)]],
        [[]] if not model.support()["blockwise"] else [],
    ):
        measured = restarted(model, pairs, {str(n): [one] * len(pairs) for n, one in enumerate(sites)})
        assert np.array_equal(measured.base, base)
        assert np.array_equal(measured.source, source)


def test_the_order_of_what_is_asked_for_together_changes_nothing(model: HFAdapter) -> None:
    asked = (EARLY, MIDDLE, head(3, 2), embeddings["identity"])
    known: dict[str, np.ndarray] = {}
    for order in list(permutations(asked))[::7]:
        patching = fresh(model)
        for site, estimate in zip(order, patching.effects(*order, share=SHARE), strict=True):
            assert np.array_equal(known.setdefault(str(site), estimate.numerator), estimate.numerator)


ANSWERS: dict[str, Callable[[PersonaAnswers], Any]] = {
    "groups": lambda answers: (answers.compare("negative", against="positive"),),
    "none": lambda answers: (
        answers.compare("negative", against=NOBODY),
        answers.compare("racial", against=PLAIN),
    ),
    "accuracy": lambda answers: (answers.compare("colour", against="neutral", outcome=ACCURACY),),
    "swaps": lambda answers: answers.swaps("negative", against="positive"),
    "figures": lambda answers: answers.figures() and (),
}


@pytest.mark.parametrize(
    "order", [tuple(ANSWERS), tuple(reversed(ANSWERS)), ("figures", "swaps", "none", "groups")]
)
def test_answers_alone_are_those_after_any_others(
    model: HFAdapter, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    """Prompts that two comparisons share are not taken from a batch that only one of them makes."""
    run = model.run
    # What rounding does to a real model, where its size can be seen.
    monkeypatch.setattr(model, "run", lambda batch: run(batch) * (1 + len(batch) / 1000))

    def asked() -> PersonaAnswers:
        return PersonaAnswers(PersonaQuestions(model, items=items(), n_items=5), n_items=5)

    alone = {name: values(ANSWERS[name](asked())) for name in order}
    answers = asked()
    for name in order:
        for mine, expected in zip(values(ANSWERS[name](answers)), alone[name], strict=True):
            np.testing.assert_array_equal(mine, expected, err_msg=f"{name} in {order}")
