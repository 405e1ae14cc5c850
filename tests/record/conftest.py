"""Records drawn by hypothesis: a builder for every type of the schema."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from auditkit.record import schema

text = st.text(max_size=12)
sha = st.text("0123456789abcdef", min_size=8, max_size=8)
real = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**62)
figures = st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.integers(-(2**53), 2**53) | text
data = st.recursive(
    figures, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=5
)


def few(strategy):
    return st.lists(strategy, max_size=2).map(tuple)


def _strategies() -> dict[str, st.SearchStrategy]:
    """One strategy per record type; fields of text and of words are inferred from their annotation."""
    optional = dict.fromkeys(("estimate", "lower", "upper", "threshold", "standardized", "mde"), st.none() | real)
    effects = st.builds(
        schema.Effect, **optional, alpha=real, n=count, clusters=count, items_needed=st.none() | count
    )
    costs = st.builds(schema.Cost, seconds=real, token_layers=count, share_of_minimum=st.none() | real)
    controls = st.builds(schema.Control, effect=st.none() | effects)
    verdicts = st.sampled_from(schema.Verdict)
    changes = st.builds(schema.Change, verdict=st.none() | verdicts, effects=few(effects))
    waivers = st.builds(schema.Waiver)
    claims = st.builds(
        schema.Claim,
        change=st.none() | changes,
        made_with=st.dictionaries(text, text, max_size=2),
        waiver=st.none() | waivers,
        effect=st.none() | effects,
        also=few(effects),
        controls=few(controls),
        figures=few(st.builds(schema.Figure, data=st.dictionaries(text, data, max_size=3))),
        examples=few(
            st.builds(
                schema.Example,
                prompts=st.dictionaries(text, text, max_size=2),
                values=st.dictionaries(text, real, max_size=2),
            )
        ),
        notes=few(text),
        cost=costs,
        rerun=text,
    )
    models = st.builds(
        schema.ModelInfo,
        weights_sha256=sha,
        parameters=count,
        layers=count,
        heads=count,
        parity_max_abs=real,
        trust_remote_code=st.booleans(),
        identity=st.dictionaries(text, text, max_size=3),
    )
    summaries = st.builds(
        schema.Summary,
        **dict.fromkeys(("passed", "failed", "inconclusive", "not_applicable", "error", "waived"), count),
    )
    baselines = st.builds(
        schema.Baseline,
        plan_differences=few(text),
        model=models,
        summary=summaries,
        absent=st.dictionaries(text, verdicts, max_size=2),
    )
    runs = st.builds(
        schema.Run,
        schema_version=st.just(schema.SCHEMA_VERSION),
        seed=st.integers(-(2**63), 2**64 - 1),
        command=few(text),
        model=models,
        plan=st.builds(
            schema.Plan,
            **{name: st.dictionaries(text, text, max_size=2) for name in schema.Plan.__struct_fields__}
            | {"methods": st.dictionaries(text, few(text), max_size=2)},
        ),
        baseline=st.none() | baselines,
        waivers=few(waivers),
        environment=st.builds(schema.Environment, packages=st.dictionaries(text, text, max_size=2), threads=count),
        summary=summaries,
        claims=few(claims),
        untested=few(st.builds(schema.Untested)),
    )
    rows = st.builds(schema.ItemRow, value=st.none() | real)
    return {"effect": effects, "claim": claims, "run": runs, "row": rows}


@pytest.fixture(scope="session")
def records() -> dict[str, st.SearchStrategy]:
    """Strategies of records by name: effect, claim, run, row."""
    return _strategies()
