"""Results show themselves in a notebook: a line, a table, figures; the numbers are those that were measured."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from msgspec.structs import replace

import auditkit
from auditkit import mlp, residual
from auditkit.claims.evidence import Decision
from auditkit.engine.conditions import HowRun
from auditkit.engine.continuation.divergence import Divergence, Divergences
from auditkit.engine.continuation.generation import Generated
from auditkit.engine.losses import Losses
from auditkit.engine.patching.plain import Patched
from auditkit.engine.patching.screening import Screening
from auditkit.engine.patching.sweep import Sweep
from auditkit.engine.token_logits import TokenLogits
from auditkit.methods.contrast.directions import Contrast, Direction
from auditkit.methods.contrast.effects import Effects
from auditkit.methods.contrast.outcomes import PLAIN
from auditkit.methods.contrast.states import States
from auditkit.methods.head_scores import HeadScores
from auditkit.methods.scanning.detection import Detection
from auditkit.methods.scanning.scan import FoundSubset
from auditkit.methods.sequences import SequenceRuns
from auditkit.notebook import Plot, Showable, frame_of
from auditkit.record.figures import Curves, Dots, Image, Series, Table
from auditkit.record.schema import Run, Verdict
from auditkit.report.verdicts import verdicts
from auditkit.stats.effects.base import Comparable
from auditkit.stats.effects.geometric import geometric_ratio
from auditkit.stats.effects.mean import Estimate, mean_difference, recovery
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit

RAN = HowRun((), "", 0.0, 0.0)
PIXEL = b"\x89PNG\r\n\x1a\n" + b"0" * 8


def classes() -> Iterator[type[Showable]]:
    """Every class of the package that shows itself."""
    for module in pkgutil.walk_packages(auditkit.__path__, "auditkit."):
        if module.name.split(".")[1] in ("claims", "stats", "engine", "methods", "report", "findings"):
            importlib.import_module(module.name)
    found = [Showable]
    for one in found:
        found += one.__subclasses__()
    yield from found[1:]


def measured(values: dict[str, list[float]], unit: str = "logits") -> Measurement:
    items = [f"item {i}" for i in range(len(next(iter(values.values()))))]
    return Measurement("answer", unit, pd.DataFrame(values, items), pd.DataFrame({"topic": items}, items))


def effect() -> Estimate:
    values = [0.1, 0.5, 0.9, 0.4, 0.6, 0.5]
    return mean_difference(
        measured({"patched": values, "corrupt": [0.0] * 6}), "patched", "corrupt", name="effect"
    )


def test_no_result_prints_its_arrays() -> None:
    """A dataclass would print every field; a result says in one line what it is."""
    every = list(classes())
    assert {"Estimate", "Patched", "Activations", "HeadScores", "Effects", "Verdicts"} <= {
        c.__name__ for c in every
    }
    assert [c for c in every if c.__repr__ not in (Showable.__repr__, Decision.__repr__)] == []
    silent = [c for c in every if c.in_words is Showable.in_words and "findings" not in c.__module__]
    assert {c.__name__ for c in silent} <= {"WorstCase"}, "a result outside the findings says what came out"


def test_every_result_has_a_table_or_figures_to_make_one_of() -> None:
    for one in classes():
        assert one.to_frame is not Showable.to_frame or one.figures is not Showable.figures, one


def test_an_estimate_prints_its_interval_and_what_it_rests_on() -> None:
    told = effect().describe()
    assert repr(effect()) == (
        f"Estimate: effect = {told.estimate:.3g} [{told.lower:.3g}, {told.upper:.3g}] logits (6 items in 6 clusters)"
    )
    (row,) = effect().to_frame().to_dict("records")
    assert (row["estimate"], row["lower"], row["upper"]) == (told.estimate, told.lower, told.upper)
    lonely = mean_difference(measured({"a": [1.0, 2.0], "b": [0.0, 0.0]}), "a", "b", name="lonely")
    assert "no interval, too_few_clusters" in repr(lonely)
    assert "[" not in repr(lonely)
    share = recovery(
        measured({"p": [0.5] * 5 + [0.6], "c": [1.0, 1.1, 0.9, 1.0, 1.2, 1.0], "k": [0.0] * 6}),
        "p", clean="c", corrupt="k", name="recovery",
    )  # fmt: skip
    assert repr(share).endswith("of the total effect (6 items in 6 clusters)")
    assert share.figures()[0].data["groups"][0]["dots"][0].get("spread") == [], "a ratio is no mean of its items"


def test_a_ratio_is_drawn_from_one() -> None:
    values = {"a": [2.0, 2.2, 1.8, 2.1, 1.9, 2.0], "b": [1.0] * 6}
    ratio = geometric_ratio(measured(values), "a", "b", name="ratio")
    assert ratio.figures()[0].data["reference"] == 1.0
    assert "spread" not in {k for k, v in ratio.figures()[0].data["groups"][0]["dots"][0].items() if v}


def test_a_decision_shows_the_threshold_beside_the_interval() -> None:
    decision = effect() >= 0.1
    assert repr(decision).startswith("PASS: the interval")
    assert decision.to_frame()["threshold"].tolist() == [0.1]
    assert decision.plot().figures[0].data["reference"] == 0.1


def test_a_measurement_is_a_tidy_table() -> None:
    table = measured({"a": [1.0, 2.0], "b": [3.0, np.nan]})
    frame = table.to_frame()
    assert list(frame.columns) == ["item", "topic", "condition", "value"]
    assert frame[frame["condition"] == "b"]["value"].tolist()[0] == 3.0
    assert "2 items under a, b, in logits; clusters: 2 of topic" in repr(table)
    assert table.plot().figures[0].data["groups"][0]["dots"][1]["estimate"] == 3.0, (
        "what was not measured is left out"
    )


def test_a_plot_is_svg_with_names_of_its_own(tmp_path: Path) -> None:
    one, other = effect().plot(), effect().plot("another title")
    assert ElementTree.fromstring(one.svg()).tag.endswith("svg")
    ids = [{part.split('"')[0] for part in plot.svg().split(' id="')[1:]} for plot in (one, other)]
    assert not ids[0] & ids[1], "two figures of one notebook must not share identifiers"
    assert one.svg() == effect().plot().svg()
    saved = one.save(tmp_path / "effect.svg").read_text()
    assert ElementTree.fromstring(saved).get("color") == "#1f2328"
    assert "#fff" in saved
    assert "<svg" in one._repr_html_()


def test_a_plot_that_cannot_be_drawn_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 2 figures: take one"):
        Plot([*effect().figures(), *effect().figures()]).svg()
    with pytest.raises(ValueError, match="0 figures: nothing to draw"):
        Plot([]).svg()
    with pytest.raises(ValueError, match=r"ends in \.svg"):
        effect().plot().save(tmp_path / "effect.png")
    table = Table("Rows.", ["name", "<b>"], [["<script>", 1.5]]).titled("<i>Table</i>")
    with pytest.raises(ValueError, match="is a table"):
        Plot([table]).svg()
    shown = Plot([table, Image.of(PIXEL, caption="c", alt='"x"').titled("t")])._repr_html_()
    assert "<script>" not in shown
    assert "<i>" not in shown
    assert "&lt;script&gt;" in shown
    assert 'alt="&quot;x&quot;"' in shown
    assert Plot([])._repr_html_() == "<p>no figures</p>"
    assert len(Plot([table, table])[:1]) == len(Plot([table, table])[1]) == 1


def test_numbers_of_figures_become_a_table() -> None:
    lines = Curves("layer", "logits", "c", [Series("a", [0, 1], [1.0, None], [0.5, None], [1.5, None])]).titled(
        "lines"
    )
    frame = frame_of([lines])
    assert frame["a"].tolist()[0] == 1.0
    assert frame["a lower"].tolist()[0] == 0.5
    dots = Dots.of("x", "c", {"g": {"effect": effect().describe()}}).titled("dots")
    assert set(frame_of([lines, dots])["figure"]) == {"lines", "dots"}
    assert frame_of([]).empty


def test_patching_results_are_named_rows() -> None:
    base, source = torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([[3.0, 0.0], [3.0, 1.0]])
    patched = Patched(base, source, {"mlp": torch.tensor([[2.0, 0.0], [2.0, 0.5]])}, 0.0, 0.0)
    frame = patched.to_frame().set_index(["condition", "pair"])["change"]
    assert frame["mlp"].tolist() == [1.0, 0.5]
    assert frame["source"].tolist() == [2.0, 1.0]
    assert repr(patched) == "Patched: 1 conditions on 2 pairs; most by mlp (+0.75 logits in the mean)"
    names = [dot["name"] for dot in patched.figures()[0].data["groups"][0]["dots"]]
    assert names == ["source", "mlp"]

    sites = (mlp.layer(0)["last"], mlp.layer(1)["last"], residual.layers(0, 1))
    values = torch.stack([base, source, base])
    swept = Sweep(sites, values, base, source, "plain", "", 2, 1, 0.0, 0.0)
    assert swept.to_frame()["effect"].tolist() == [0.0, 1.5, 0.0]
    assert swept.to_frame()["share"].tolist() == [0.0, 1.0, 0.0]
    (drawn,) = swept.figures()
    assert drawn.data["values"] == [[0.0, 1.5]], "a band of layers has no cell in a map of layers"
    assert "most by the MLP output of layer 1" in repr(swept) or "layer 1" in repr(swept)

    screened = Screening(
        sites, torch.tensor([[0.1, 0.1], [2.0, 0.0], [0.0, 0.0]]), (1, 2), torch.tensor([[1.5, 1.5], [0.0, 0.0]]),
        1, (), 0.0, (0.0, 1.0), swept,
    )  # fmt: skip
    assert screened.to_frame()["exact"].dropna().tolist() == [1.5, 0.0]
    assert [cloud["name"] for cloud in screened.figures()[0].data["clouds"]] == ["chosen", "sampled"]


def test_runs_under_conditions_are_named_rows() -> None:
    logits = TokenLogits((7, 8), torch.tensor([[1.0, 0.0]]), {"c": torch.tensor([[3.0, 1.0]])}, RAN)
    assert logits.to_frame()["logit"].tolist() == [1.0, 0.0, 3.0, 1.0]
    assert logits.figures()[0].data["groups"][0]["dots"][0]["estimate"] == 1.0
    lost = Losses((torch.tensor([-1.0, -3.0]),), (torch.tensor([0.5, 0.5]),), RAN)
    assert repr(lost) == "Losses: loss 2 nats per token in the mean of 1 prompts; KL from the plain runs 0.5"
    assert lost.to_frame()["divergence"].tolist() == [0.5, 0.5]
    assert "divergence" not in replaced(lost).to_frame()
    moved = Divergences(
        {"c": Divergence((torch.tensor([0.5, 0.25]),), (torch.tensor([True, False]),))}, 0.0, 0.0, 0.0
    )
    assert moved.to_frame()["agrees"].tolist() == [True, False]
    assert "c 0.75" in repr(moved)
    said = Generated(((1, 2),), ((1.0, 3.0),), ("so it is",), "cached", "", 0.0)
    assert said.to_frame().to_dict("records") == [{"text": "so it is", "tokens": 2, "mean score": 2.0}]


def replaced(lost: Losses) -> Losses:
    return Losses(lost.log_probabilities, (), lost.ran)


def test_effects_of_edits_print_their_changes() -> None:
    table = pd.DataFrame({"topic": list("abcdef")}, list("abcdef"))
    found = Effects("log-odds", "nats", table, {PLAIN: np.zeros(6), "edit": np.arange(6.0)})
    assert repr(found) == "Effects: log-odds (nats), 6 items; mean change by edit +2.5"
    assert found.plot().figures[0].title == "changes of log-odds"
    assert found.plot("mine").figures[0].title == "mine"


def test_what_is_read_and_found_is_counted() -> None:
    states = States(np.ones((4, 2, 1, 3), dtype=np.float32) * np.arange(1, 5)[:, None, None, None], (3, 5), (-1,))
    assert states.to_frame()["layer"].tolist()[:2] == [3, 5]
    assert states.to_frame()["norm"].tolist()[0] == pytest.approx(3**0.5)
    flags = np.array([True, True, False, False])
    contrast = Contrast("mood", states, flags, pd.DataFrame({"topic": list("abab")}, list("wxyz")))
    assert repr(contrast).startswith("Contrast: mood, 2 and 2 prompts in 2 clusters; 4 prompts, 2 layers")
    assert contrast.to_frame()["positive"].tolist() == flags.tolist()
    direction = Direction("mood", np.array([[3.0, 4.0]]), 5, -1)
    assert repr(direction) == "Direction: mood at layer 5, position -1, norm 5"
    assert direction.to_frame()[0].tolist() == [3.0, 4.0]
    runs = SequenceRuns(torch.tensor([[1.0, 3.0]]), torch.tensor([[[[0.1, 0.2]]]]))
    assert repr(runs).endswith("1 layers of 2 heads; mean loss 2 nats")
    assert runs.to_frame()["head"].tolist() == [0, 1]
    subset = FoundSubset(2.0, 0.1, np.array([4]), np.array([7, 8]))
    assert repr(subset) == "FoundSubset: score 2 at alpha 0.1: 1 rows x 2 units"
    assert subset.to_frame()["index"].tolist() == [4, 7, 8]
    detection = Detection(2.0, 0.1, np.array([4]), np.array([7]), np.array([3, 4]), np.array([0.0, 1.5]))
    assert detection.to_frame()["found"].tolist() == [False, True]


def test_head_scores_have_the_names_of_heads() -> None:
    scores = HeadScores("m", "entropy", "nats", np.array([[0.1, 0.9], [0.4, np.nan]]), ((0, 1),))
    assert scores.top(1).to_dict("records") == [{"layer": 0, "head": 1, "score": 0.9}]
    assert repr(scores).startswith(
        "HeadScores: entropy (nats), m, 2 layers of 2 heads; largest: layer 0, head 1 (0.9)"
    )
    drawn = scores.figures()[0].data
    assert (drawn["values"], drawn["outlined"]) == ([[0.1, 0.4], [0.9, None]], [(1, 0)])
    with pytest.raises(ValueError, match=r"\(layer, head\)"):
        HeadScores("m", "entropy", "nats", np.zeros(3))
    with pytest.raises(ValueError, match="no layer 5, head 0"):
        HeadScores("m", "entropy", "nats", np.zeros((2, 2)), ((5, 0),))


def test_verdicts_of_a_record_are_a_line_a_table_and_a_figure(a_run: Run) -> None:
    found = verdicts(a_run)
    assert repr(found).startswith("Verdicts: m, seed 7: Of 2 checks of this model by itself 2 pass.")
    frame = found.to_frame()
    assert frame["claim"].tolist() == ["claim0", "claim1"]
    assert frame["verdict"].tolist() == ["PASS", "PASS"]
    dot = found.figures("suite")[0].data["groups"][0]["dots"][0]
    assert dot["estimate"] == pytest.approx(0.2 / 0.3), "right of the threshold, in units of it"
    assert dot["lower"] == pytest.approx(0.1 / 0.3)
    at_most = replace(a_run.claims[0].effect, relation="<=", threshold=1.0)  # type: ignore[type-var]  # a claim of this run has one
    turned = replace(a_run, claims=(replace(a_run.claims[0], effect=at_most, verdict=Verdict.PASS),))
    dot = verdicts(turned).figures()[0].data["groups"][0]["dots"][0]
    assert (dot["lower"], dot["estimate"], dot["upper"]) == pytest.approx((0.4, 0.5, 0.6))
    with pytest.raises(ValueError, match="no suite 'other' in this run, only suite"):
        found.plot("other")
    with pytest.raises(ValueError, match="0 claims are called 'x'"):
        found.figures_of("x")
    assert len(found.figures_of("claim0")) == 0


def test_an_adapter_and_what_it_reads_are_named(tiny_llama: Path) -> None:
    from auditkit.adapters import open_model
    from auditkit.adapters.chat import Prompt
    from auditkit.engine.activations import activations
    from auditkit.engine.sites import SiteError, head, z

    model = open_model(str(tiny_llama))
    assert "6 layers of 4 heads, width 32, float32 on cpu" in repr(model)
    prompts = [Prompt("", (5, 6, 7)), Prompt("", (8, 9, 10, 11))]
    site = residual.layers(1, 2)["last"]
    read = activations(model, prompts, [site, head(1, 3), z.layer(0).head(0, 2)["last"]])
    assert read.at(site).shape == (2, 2, 1, 32)
    for row, prompt in enumerate(prompts):  # the model's own hidden states, without the engine
        states = model.module(torch.tensor([prompt.ids]), output_hidden_states=True).hidden_states
        for place, layer in enumerate((1, 2)):
            assert torch.allclose(read.at(site)[row, place, 0], states[layer + 1][0, -1], atol=1e-5)
    assert read.at(z.layer(0).head(0, 2)["last"]).shape == (2, 1, 1, 2, 8)
    with pytest.raises(SiteError, match="different lengths"):
        read.at(head(1, 3))
    with pytest.raises(SiteError, match="was not read"):
        read.at(mlp.layer(0))
    frame = read.to_frame()
    assert frame["layer"].tolist()[:2] == [1, 2]
    assert frame["norm"].tolist()[0] == pytest.approx(float(read.at(site)[0, 0, 0].norm()), rel=1e-5)
    assert "2 prompts" in repr(read)
    with pytest.raises(SiteError, match="got 0 and 1"):
        activations(model, [], [site])


def test_comparables_are_what_the_statistics_offer() -> None:
    kinds = {one.__name__ for one in classes() if issubclass(one, Comparable)}
    assert {"Estimate", "Rate", "RateContrast", "Exact", "Geometric", "Resampled"} <= kinds
