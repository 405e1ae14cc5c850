"""Whatever has another shape than a public function of the engine expects gets one line, before anything runs."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import auditkit
from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component
from auditkit.engine import edits, sites
from auditkit.engine.attention import entropies, probabilities
from auditkit.engine.continuation.divergence import compare, divergence
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.late import late_divergence
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.continuation.timed import Continued, Timed, forced
from auditkit.engine.continuation.transplant import PrefixGraft, SpanGraft, answers, prefixes, spans
from auditkit.engine.edits import Edit, Edited, replace
from auditkit.engine.forward import capture, execute, means
from auditkit.engine.losses import loss, losses
from auditkit.engine.pairs import PatchPair, answer_logits, answered
from auditkit.engine.patching.paths import path
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.patching.screening import attribution, screen
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sites import Site, block_input, mlp, residual, z
from auditkit.engine.token_logits import token_logits

pytestmark = pytest.mark.unit

PROMPT = Prompt("", tuple(range(10, 19)))
PAIR = PatchPair(PROMPT, Prompt("", (*range(10, 18), 30)), (11, 12), {"word": (3, 4)})
SITE, VECTOR = mlp.layer(1), np.zeros(32)
EDIT = replace(SITE, PAIR.source)
LATE = replace(block_input.layer(2)[0], torch.zeros(32))
CONTINUATIONS = [[5, 6]]

NO_LIST: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a bare site": lambda: SITE,
    "a NumPy vector": lambda: VECTOR,
    "a tensor": lambda: torch.zeros(3),
    "a text": lambda: "mlp",
    "a dict": lambda: {"a": 1},
    "a generator": lambda: (part for part in [SITE]),
    "a prompt": lambda: PROMPT,
    "a list of None": lambda: [None],
    "a list of texts": lambda: ["mlp"],
    "a list of families": lambda: [mlp],
}
NO_ITERABLE = {name: NO_LIST[name] for name in ("None", "a bare site", "a text")}
NO_NESTED = {**NO_LIST, "a flat list": lambda: [SITE], "a list of one site too deep": lambda: [[[SITE]]]}
NO_MAPPING = {name: make for name, make in NO_NESTED.items() if name != "a dict"}
NO_SITE = {name: make for name, make in NO_NESTED.items() if name != "a bare site"} | {"a family": lambda: mlp}
NO_PROMPT = {name: make for name, make in NO_NESTED.items() if name != "a prompt"}
NO_GIVER = {name: make for name, make in NO_PROMPT.items() if name != "a tensor"}
NO_NUMBER = NO_NESTED
NO_POSITION = {name: make for name, make in NO_NESTED.items() if name != "a text"}
NO_MODEL = NO_NESTED
MAYBE_LIST = {name: make for name, make in NO_LIST.items() if name != "None"}
NO_LOGITS = {name: make for name, make in MAYBE_LIST.items() if name != "a tensor"}
NO_PLACES = {name: make for name, make in NO_NESTED.items() if name != "a dict"}


def many(tiny: HFAdapter) -> dict[str, Any]:
    """What most functions are called with."""
    return {"adapter": tiny, "pairs": [PAIR]}


def _run(tiny: HFAdapter) -> Any:
    return forced(tiny, [Continued(PROMPT)], CONTINUATIONS)


def _tails(tiny: HFAdapter) -> Tails:
    return Tails(tiny, [PROMPT], CONTINUATIONS, [4])


Make = Callable[[HFAdapter], dict[str, Any]]
Wrong = Mapping[str, Mapping[str, Callable[[], Any]]]

ENTRIES: dict[str, tuple[Callable[..., Any], Make, Wrong]] = {
    "patch": (
        patch,
        lambda tiny: {**many(tiny), "conditions": {"a": [[SITE]]}},
        {"adapter": NO_MODEL, "pairs": NO_LIST, "conditions": NO_MAPPING, "base": NO_LOGITS},
    ),
    "patch, one condition": (
        lambda adapter, condition: patch(adapter, [PAIR], {"a": condition}),
        lambda tiny: {"adapter": tiny, "condition": [[SITE]]},
        {"condition": NO_NESTED},
    ),
    "restarted": (
        restarted,
        lambda tiny: {**many(tiny), "conditions": {"a": [[SITE]]}},
        {"adapter": NO_MODEL, "pairs": NO_LIST, "conditions": NO_MAPPING},
    ),
    "restarted, one condition": (
        lambda adapter, condition: restarted(adapter, [PAIR], {"a": condition}),
        lambda tiny: {"adapter": tiny, "condition": [[SITE]]},
        {"condition": NO_NESTED},
    ),
    "path": (
        path,
        lambda tiny: {**many(tiny), "sender": [SITE]},
        {"adapter": NO_MODEL, "pairs": NO_LIST, "sender": NO_LIST, "frozen": NO_LIST, "receivers": NO_LIST},
    ),
    "sweep": (
        sweep,
        lambda tiny: {**many(tiny), "sites": [SITE]},
        {"adapter": NO_MODEL, "pairs": NO_LIST, "sites": NO_LIST},
    ),
    "grid": (
        grid,
        lambda tiny: {"components": [Component.MLP], "layers": [0], "positions": ["last"]},
        dict.fromkeys(("components", "layers", "positions"), NO_ITERABLE),
    ),
    "attribution": (
        attribution,
        lambda tiny: {**many(tiny), "sites": [SITE]},
        {"adapter": NO_MODEL, "pairs": NO_LIST, "sites": NO_LIST},
    ),
    "screen": (
        screen,
        lambda tiny: {**many(tiny), "sites": [SITE], "top": 1, "sample": 0, "generator": np.random.default_rng(0)},
        {"adapter": NO_MODEL, "pairs": NO_LIST, "sites": NO_LIST, "top": NO_NUMBER, "generator": NO_NUMBER},
    ),
    **{
        read.__name__: (
            read,
            lambda tiny: {"adapter": tiny, "prompts": [PROMPT]},
            {
                "adapter": NO_MODEL,
                "prompts": NO_LIST,
                "queries": NO_POSITION,
                "layers": MAYBE_LIST,
                "heads": MAYBE_LIST,
                "spans": MAYBE_LIST,
            },
        )
        for read in (entropies, probabilities)
    },
    **{
        read.__name__: (
            read,
            lambda tiny: {"adapter": tiny, "prompts": [PROMPT], "answers": [(11, 12)]},
            {"adapter": NO_MODEL, "prompts": NO_LIST, "answers": NO_NESTED},
        )
        for read in (answered, answer_logits)
    },
    "token_logits": (
        token_logits,
        lambda tiny: {"adapter": tiny, "prompts": [PROMPT], "tokens": [11, 12], "conditions": {"a": [[EDIT]]}},
        {"adapter": NO_MODEL, "prompts": NO_LIST, "tokens": NO_LIST, "conditions": NO_MAPPING},
    ),
    "token_logits, one condition": (
        lambda adapter, condition: token_logits(adapter, [PROMPT], [11, 12], {"a": condition}),
        lambda tiny: {"adapter": tiny, "condition": [[EDIT]]},
        {"condition": NO_NESTED},
    ),
    "losses": (
        losses,
        lambda tiny: {"adapter": tiny, "prompts": [PROMPT], "spans": [(1, 3)], "conditions": {"a": [[EDIT]]}},
        {"adapter": NO_MODEL, "prompts": NO_LIST, "spans": NO_NESTED, "conditions": NO_MAPPING},
    ),
    "loss": (
        loss,
        lambda tiny: {"adapter": tiny, "prompts": [PROMPT], "spans": [(1, 3)], "edits": [[EDIT]]},
        {
            "adapter": NO_MODEL,
            "prompts": NO_LIST,
            "spans": NO_NESTED,
            "edits": {name: make for name, make in NO_NESTED.items() if name != "None"},
        },
    ),
    "generate": (
        generate,
        lambda tiny: {"adapter": tiny, "runs": [PROMPT], "tokens": 2},
        {"adapter": NO_MODEL, "runs": NO_LIST, "tokens": NO_NUMBER},
    ),
    "divergence": (
        divergence,
        lambda tiny: {
            "adapter": tiny,
            "reference": [PROMPT],
            "continuations": CONTINUATIONS,
            "conditions": {"a": [PROMPT]},
        },
        {"adapter": NO_MODEL, "reference": NO_LIST, "continuations": NO_NESTED, "conditions": NO_MAPPING},
    ),
    "divergence, one condition": (
        lambda adapter, condition: divergence(adapter, [PROMPT], CONTINUATIONS, {"a": condition}),
        lambda tiny: {"adapter": tiny, "condition": [PROMPT]},
        {"condition": NO_LIST},
    ),
    "forced": (
        forced,
        lambda tiny: {"adapter": tiny, "runs": [Continued(PROMPT)], "continuations": CONTINUATIONS},
        {"adapter": NO_MODEL, "runs": NO_LIST, "continuations": NO_NESTED},
    ),
    "compare": (
        compare,
        lambda tiny: {"adapter": tiny, "reference": _run(tiny), "conditions": {"a": _run(tiny)}},
        {"adapter": NO_MODEL, "reference": NO_NESTED, "conditions": NO_MAPPING},
    ),
    "Tails": (
        Tails,
        lambda tiny: {"adapter": tiny, "prompts": [PROMPT], "continuations": CONTINUATIONS, "cuts": [4]},
        {"adapter": NO_MODEL, "prompts": NO_LIST, "continuations": NO_NESTED, "cuts": NO_LIST},
    ),
    "Tails.read": (
        lambda tails, places: tails.read(places),
        lambda tiny: {"tails": _tails(tiny), "places": [(Component.MLP, 1)]},
        {"places": NO_PLACES},
    ),
    "Tails.forced": (
        lambda tails, edits: tails.forced(edits),
        lambda tiny: {"tails": _tails(tiny), "edits": [[LATE]]},
        {"edits": {name: make for name, make in NO_NESTED.items() if name != "None"}},
    ),
    "late_divergence": (
        late_divergence,
        lambda tiny: {"tails": _tails(tiny), "conditions": {"a": [[LATE]]}},
        {"tails": NO_NESTED, "conditions": NO_MAPPING, "reference": MAYBE_LIST},
    ),
    "late_divergence, one condition": (
        lambda tails, condition: late_divergence(tails, {"a": condition}),
        lambda tiny: {"tails": _tails(tiny), "condition": [[LATE]]},
        {"condition": NO_NESTED},
    ),
    "prefixes": (
        prefixes,
        lambda tiny: {
            "adapter": tiny,
            "grafts": [PrefixGraft(PROMPT, 1, PROMPT, 1)],
            "continuations": CONTINUATIONS,
        },
        {"adapter": NO_MODEL, "grafts": NO_LIST, "continuations": NO_NESTED},
    ),
    "spans": (
        spans,
        lambda tiny: {
            "adapter": tiny,
            "grafts": [SpanGraft(PROMPT, PROMPT, ((1, 2),))],
            "continuations": CONTINUATIONS,
        },
        {"adapter": NO_MODEL, "grafts": NO_LIST, "continuations": NO_NESTED},
    ),
    "answers": (
        answers,
        lambda tiny: {"adapter": tiny, "run": _run(tiny), "pairs": [(11, 12)]},
        {"adapter": NO_MODEL, "run": NO_NESTED, "pairs": NO_NESTED},
    ),
    "means": (
        means,
        lambda tiny: {"adapter": tiny, "prompts": [PROMPT], "site": SITE, "budget": 100},
        {"adapter": NO_MODEL, "prompts": NO_LIST, "site": NO_SITE, "budget": NO_NUMBER},
    ),
    "capture": (
        capture,
        lambda tiny: {"adapter": tiny, "batch": tiny.batch([PROMPT]), "places": [(Component.MLP, 1)]},
        {"adapter": NO_MODEL, "batch": NO_NESTED, "places": NO_PLACES},
    ),
    "execute": (
        execute,
        lambda tiny: {"adapter": tiny, "runs": [Edited(PROMPT)], "donated": None},
        {"adapter": NO_MODEL, "runs": NO_LIST, "places": NO_PLACES},
    ),
    "PatchPair": (
        PatchPair,
        lambda _: {"base": PROMPT, "source": PROMPT, "answers": (11, 12)},
        {"base": NO_PROMPT, "source": NO_PROMPT, "answers": NO_LIST, "spans": NO_MAPPING},
    ),
    "PrefixGraft": (
        PrefixGraft,
        lambda _: {"host": PROMPT, "own": 1, "donor": PROMPT, "given": 1},
        {"host": NO_PROMPT, "own": NO_NUMBER, "donor": NO_PROMPT, "given": NO_NUMBER},
    ),
    "SpanGraft": (
        SpanGraft,
        lambda _: {"host": PROMPT, "donor": PROMPT, "spans": ((1, 2),)},
        {"host": NO_PROMPT, "donor": NO_PROMPT, "spans": NO_NESTED, "layers": MAYBE_LIST},
    ),
    "Edit": (
        Edit,
        lambda _: {"site": SITE},
        {"site": NO_SITE, "give": {k: v for k, v in NO_GIVER.items() if k != "None"}, "keep": NO_NUMBER},
    ),
    "Edited": (
        Edited,
        lambda _: {"prompt": PROMPT, "edits": (EDIT,)},
        {"prompt": NO_PROMPT, "edits": NO_LIST, "spans": NO_MAPPING},
    ),
    "Continued": (
        Continued,
        lambda _: {"prompt": PROMPT, "edits": (EDIT,)},
        {"prompt": NO_PROMPT, "edits": NO_LIST, "spans": NO_MAPPING},
    ),
    "Timed": (
        Timed,
        lambda _: {"edit": edits.zero(SITE), "when": "all"},
        {"edit": NO_SITE | NO_LIST, "when": NO_POSITION, "steps": MAYBE_LIST},
    ),
    "replace": (
        edits.replace,
        lambda _: {"site": SITE, "donor": PROMPT},
        {"site": NO_SITE, "donor": NO_GIVER, "strength": NO_NUMBER},
    ),
    "add": (
        edits.add,
        lambda _: {"site": SITE, "vector": torch.zeros(32)},
        {"site": NO_SITE, "vector": NO_GIVER, "factor": NO_NUMBER},
    ),
    "project_out": (
        edits.project_out,
        lambda _: {"site": SITE, "directions": torch.ones(32)},
        {
            "site": NO_SITE,
            "directions": {name: make for name, make in NO_NESTED.items() if name != "a tensor"},
            "strength": NO_NUMBER,
        },
    ),
    "scale": (edits.scale, lambda _: {"site": SITE, "factor": 0.5}, {"site": NO_SITE, "factor": NO_NUMBER}),
    "zero": (edits.zero, lambda _: {"site": SITE}, {"site": NO_SITE}),
    "mean": (
        edits.mean,
        lambda _: {"site": SITE, "values": {1: torch.zeros(32)}},
        {"site": NO_SITE, "values": NO_MAPPING},
    ),
    "resample": (
        edits.resample,
        lambda _: {
            "site": SITE,
            "base": PROMPT,
            "prompts": [PROMPT, PAIR.source],
            "generator": np.random.default_rng(0),
        },
        {"site": NO_SITE, "base": NO_PROMPT, "prompts": NO_LIST, "generator": NO_NUMBER},
    ),
    "Site": (
        Site,
        lambda _: {"component": Component.Z, "first": 1, "last": 1},
        {
            "component": NO_NESTED,
            "first": {k: v for k, v in NO_NUMBER.items() if k != "None"},
            "heads": MAYBE_LIST,
        },
    ),
    "site[...]": (lambda position: SITE[position], lambda _: {"position": "last"}, {"position": NO_POSITION}),
    "head": (sites.head, lambda _: {"layer": 1, "index": 2}, {"layer": NO_NUMBER, "index": NO_NUMBER}),
    "layer": (residual.layer, lambda _: {"index": 1}, {"index": NO_NUMBER}),
    "layers": (residual.layers, lambda _: {"first": 1, "last": 2}, {"first": NO_NUMBER, "last": NO_NUMBER}),
    "at_depth": (residual.at_depth, lambda _: {"low": 0, "high": 1}, {"low": NO_NUMBER, "high": NO_NUMBER}),
    "site.head": (z.layer(1).head, lambda _: {"index": 1}, {}),
}
"""Name -> the function, arguments that it takes, and for each argument what it must refuse."""

CASES = [(name, argument) for name, (_, _, arguments) in ENTRIES.items() for argument in arguments]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_another_shape_is_refused_in_one_line(tiny: HFAdapter, name: str, argument: str) -> None:
    function, make, arguments = ENTRIES[name]
    good = make(tiny)
    before = tiny.meter.runs
    for wrong, value in arguments[argument].items():
        with pytest.raises(TypeError) as raised:
            function(**{**good, argument: value()})
        message = str(raised.value)
        assert "\n" not in message, wrong
        assert re.fullmatch(r".+: .+ was given; give .+", message), (wrong, message)
    assert tiny.meter.runs == before


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in ("execute", "site.head")])
def test_the_right_shape_is_taken(tiny: HFAdapter, name: str) -> None:
    function, make, _ = ENTRIES[name]
    assert function(**make(tiny)) is not None


def test_every_public_name_that_the_docs_teach_is_tried() -> None:
    """Functions and classes of docs/engine.md, and those that auditkit exports."""
    page = (Path(auditkit.__file__).parents[1] / "docs" / "engine.md").read_text()
    taught = {
        (module, name.strip())
        for module, names in re.findall(r"^from (auditkit\.engine[\w.]+) import (.+)$", page, re.MULTILINE)
        for name in names.split(",")
    }
    assert len(taught) > 15
    exported = {
        ("auditkit", name)
        for name in auditkit.__all__
        if getattr(getattr(auditkit, name), "__module__", "").startswith("auditkit.engine")
    }
    tried = {id(function) for function, _, _ in ENTRIES.values()}
    for module, name in taught | exported:
        value = getattr(importlib.import_module(module), name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert id(value) in tried, f"{module}.{name} has no test of its arguments' shape"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            SITE,
            r"conditions\['a'\]: the site 'MLP of layer 1' was given; give a list with one list of sites and edits",
        ),
        ([SITE], r"conditions\['a'\]\[0\]: the site 'MLP of layer 1' was given; give a list with one list"),
        ([[mlp]], r"conditions\['a'\]\[0\]\[0\]: 'mlp', which names no layer, was given; give a site or an edit"),
        (
            [[VECTOR]],
            r"conditions\['a'\]\[0\]\[0\]: a NumPy array of shape \(32,\) was given; give a site or an edit",
        ),
        ([{"a": SITE}], r"conditions\['a'\]\[0\]: a dict with the keys a was given"),
    ],
)
def test_the_line_says_where_and_what(tiny: HFAdapter, wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        patch(tiny, [PAIR], {"a": wrong})


@pytest.mark.parametrize("site", [SITE, sites.embeddings, z.layer(1).head(1)["word"]], ids=str)
def test_a_site_is_no_list(site: Site) -> None:
    """Positions in brackets must not make Python read it as a sequence of sites without an end."""
    for use in (list, tuple, iter, sorted, len, lambda site: 3 in site, lambda site: [*site]):
        with pytest.raises(TypeError) as raised:
            use(site)  # type: ignore[operator]
        assert "\n" not in str(raised.value)
    with pytest.raises(TypeError, match="is no list of sites; where a list is meant, write \\[site\\]"):
        next(iter(site))


def test_a_vector_for_a_tensor_is_not_taken_for_a_run(tiny: HFAdapter) -> None:
    with pytest.raises(TypeError, match=r"a NumPy array of shape \(32,\) was given; give a torch tensor"):
        edits.add(residual.layer(1), VECTOR)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="None was given; give a torch tensor"):
        edits.replace(residual.layer(1), None)  # type: ignore[arg-type]
