"""A run in an existing model card, and in the forms of the Hub and of Every Eval Ever, read back by other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
import yaml
from hostile import HOSTILE
from huggingface_hub import ModelCard, parse_eval_result_entries

from auditkit.record.schema import Run
from auditkit.report import wording
from auditkit.report.files.card import BEGIN, END, CardError, into_card
from auditkit.report.files.exports import EVERY_EVAL_EVER, exported, render_every_eval, render_hub_results

pytestmark = pytest.mark.unit

CARD = """---
license: apache-2.0
language:
- en
tags:
- chat
model-index:
- name: their-model
  results:
  - task:
      type: text-generation
    dataset:
      type: gsm8k
      name: GSM8K
    metrics:
    - type: accuracy
      value: 0.5
---
# Their model

Their words.
"""


def test_a_card_keeps_what_is_there_and_gets_a_section_and_results(sample_run: Run) -> None:
    written = into_card(CARD, sample_run)
    card = ModelCard(written)
    assert (card.data.license, card.data.language, card.data.tags) == ("apache-2.0", ["en"], ["chat", "auditkit"])
    assert card.data.model_name == "their-model"
    by_type = [result.dataset_type for result in card.data.eval_results]
    assert by_type == ["gsm8k"] + ["auditkit"] * len(exported(sample_run))
    assert card.text.startswith("# Their model\n\nTheir words.\n\n" + BEGIN)
    for claim in sample_run.claims:
        assert (
            f"| {wording.GLYPHS[claim.verdict]} {wording.WORDS[claim.verdict]} | {claim.statement} |" in card.text
        )


def test_a_later_run_takes_the_place_of_an_earlier_one(sample_run: Run) -> None:
    once = into_card(CARD + "\nTheir last words.\n", sample_run)
    assert into_card(once, sample_run) == once
    fewer = msgspec.structs.replace(sample_run, claims=sample_run.claims[:1])
    moved = once.replace("Their words.", "Other words.")
    again = into_card(moved, fewer)
    assert len(ModelCard(again).data.eval_results) == 2
    assert again.count(BEGIN) == again.count(END) == 1
    assert "Other words." in again
    assert again.index("Their last words.") < again.index(BEGIN)


def test_a_run_without_numbers_leaves_the_results_of_others(empty_run: Run) -> None:
    card = ModelCard(into_card(CARD, empty_run))
    assert [result.dataset_type for result in card.data.eval_results] == ["gsm8k"]
    bare = ModelCard(into_card("---\nlicense: mit\n---\n# A\n", empty_run))
    assert bare.data.to_dict() == {"license": "mit", "tags": ["auditkit"]}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_of_a_run_adds_no_marker_and_no_line_of_its_own(sample_run: Run, text: str) -> None:
    claims = tuple(msgspec.structs.replace(one, statement=text + END, reason=text) for one in sample_run.claims)
    run = msgspec.structs.replace(sample_run, claims=claims)
    written = into_card(CARD, run)
    assert into_card(written, run) == written
    card = ModelCard(written)
    assert (card.text.count(BEGIN), card.text.count(END)) == (1, 1)
    assert not [line for line in written.splitlines() if line.startswith(("::", "##["))]
    assert card.data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("# A readme\n", "it has no front matter"),
        ("", "it has no front matter"),
        ("---\nlicense: [\n---\n# A\n", "its front matter cannot be read"),
        ("---\n- a\n---\n# A\n", "its front matter cannot be read"),
        (f"---\nlicense: mit\n---\n{BEGIN}\n", "must stand there once each"),
        (f"---\nlicense: mit\n---\n{END}\n{BEGIN}\n", "must stand there once each"),
        (f"---\nlicense: mit\n---\n{BEGIN}{END}{BEGIN}{END}\n", "must stand there once each"),
    ],
)
def test_a_card_that_cannot_take_it_is_refused_in_one_line(sample_run: Run, card: str, why: str) -> None:
    with pytest.raises(CardError, match=why) as error:
        into_card(card, sample_run)
    assert "\n" not in str(error.value)


def test_the_hub_library_reads_every_result(sample_run: Run) -> None:
    text = render_hub_results(sample_run, "somebody/findings", "https://example.org/audit.html")
    entries = parse_eval_result_entries(yaml.safe_load(text))
    claims = exported(sample_run)
    assert [(one.task_id, one.value) for one in entries] == [(one.id, one.effect.estimate) for one in claims]
    assert {(one.dataset_id, one.source_url, one.date) for one in entries} == {
        ("somebody/findings", "https://example.org/audit.html", sample_run.created)
    }
    for entry, claim in zip(entries, claims, strict=True):
        assert entry.notes.startswith(f"{wording.WORDS[claim.verdict]}: ")
        assert wording.threshold(claim.effect) in entry.notes
    assert parse_eval_result_entries(yaml.safe_load(render_hub_results(sample_run, "a/b")))[0].source_url is None


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    """Of the published schema, 0.2.1 and 0.3.0, what a run fills; a field that it does not have is an error."""


Texts = dict[str, str]


class Source(Struct):
    source_name: str
    source_type: Literal["documentation", "evaluation_run"]
    source_organization_name: str
    evaluator_relationship: Literal["first_party", "third_party", "collaborative", "other"]


class Library(Struct):
    name: str
    version: str
    additional_details: Texts


class Model(Struct):
    name: str
    id: str
    additional_details: Texts


class Data(Struct):
    dataset_name: str
    source_type: Literal["other"]


class Metric(Struct):
    evaluation_description: str
    lower_is_better: bool
    score_type: Literal["continuous"]  # without it the schema wants the names of levels
    min_score: float
    max_score: float
    additional_details: Texts


class Interval(Struct):
    lower: float
    upper: float
    confidence_level: Annotated[float, msgspec.Meta(ge=0, le=1)]
    method: str


class Uncertainty(Struct):
    num_samples: int
    confidence_interval: Interval | None = None


class Score(Struct):
    score: float
    details: Texts
    uncertainty: Uncertainty


class Result(Struct):
    evaluation_name: str
    source_data: Data
    evaluation_timestamp: str
    metric_config: Metric
    score_details: Score


class Evaluation(Struct):
    schema_version: Literal["0.2.1", "0.3.0"]
    evaluation_id: str
    evaluation_timestamp: str
    retrieved_timestamp: str
    source_metadata: Source
    eval_library: Library
    model_info: Model
    evaluation_results: list[Result]


def test_every_eval_ever_gets_each_number_with_its_interval_and_verdict(sample_run: Run) -> None:
    read = msgspec.json.decode(render_every_eval(sample_run, "Somebody", "first_party"), type=Evaluation)
    claims = exported(sample_run)
    assert [one.evaluation_name for one in read.evaluation_results] == [claim.id for claim in claims]
    for one, claim in zip(read.evaluation_results, claims, strict=True):
        effect, score = claim.effect, one.score_details
        assert score.score == effect.estimate
        assert one.metric_config.min_score <= score.score <= one.metric_config.max_score
        assert score.details["verdict"] == wording.WORDS[claim.verdict]
        assert score.uncertainty.num_samples == effect.n
        interval = score.uncertainty.confidence_interval
        assert (interval.lower, interval.upper) == (effect.lower, effect.upper)
    assert read.eval_library.additional_details["claims_without_a_number"] == str(
        len(sample_run.claims) - len(claims)
    )
    assert read.retrieved_timestamp.isdigit()


def test_an_effect_without_an_interval_states_none(sample_run: Run) -> None:
    claim = exported(sample_run)[0]
    effect = msgspec.structs.replace(claim.effect, lower=None, upper=None)
    run = msgspec.structs.replace(sample_run, claims=(msgspec.structs.replace(claim, effect=effect),))
    read = msgspec.json.decode(render_every_eval(run, "Somebody", "other"), type=Evaluation)
    assert read.evaluation_results[0].score_details.uncertainty.confidence_interval is None


@pytest.mark.parametrize("version", EVERY_EVAL_EVER)
def test_the_library_of_every_eval_ever_reads_it_and_finds_nothing_to_object_to(
    sample_run: Run, tmp_path: Path, version: str
) -> None:
    pytest.importorskip("every_eval_ever", reason="every-eval-ever is not installed (requirements/exports.txt)")
    from every_eval_ever.eval_types import EvaluationLog
    from every_eval_ever.schema import get_schema_version
    from every_eval_ever.validator.validation_core import validate_aggregate

    model = msgspec.structs.replace(sample_run.model, spec="somebody/model")
    run = msgspec.structs.replace(sample_run, model=model)
    written = tmp_path / "eval.json"
    written.write_text(render_every_eval(run, "Somebody", "first_party", version))
    assert get_schema_version() == EVERY_EVAL_EVER[-1]
    place = "data/auditkit/somebody/model/0d03a117-82c9-4823-a256-439a728d0ead.json"
    report = validate_aggregate(written, run_semantic_checks=True, repo_path=place, available_files={place})
    assert (report.valid, report.errors, report.warnings) == (True, [], [])
    log = EvaluationLog.model_validate_json(written.read_text())
    assert log.schema_version == version
    for one, claim in zip(log.evaluation_results, exported(sample_run), strict=True):
        assert one.evaluation_name == claim.id
        assert one.score_details.score == claim.effect.estimate
        interval = one.score_details.uncertainty.confidence_interval
        assert (interval.lower, interval.upper) == (claim.effect.lower, claim.effect.upper)
