"""The terminal at the end of a run: one line for each claim that needs a human, the others counted, all with `-v`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hostile import HOSTILE, replace_text
from msgspec.structs import replace

from auditkit.pytest_plugin import settings, terminal
from auditkit.record.schema import Change, Claim, FamilyPlace, Run, Verdict, Waiver

pytestmark = pytest.mark.unit

PASS, FAIL, INCONCLUSIVE, NOT_APPLICABLE, ERROR = Verdict
OTHERS = "                other claims: "
EFFECT = (
    "recovery: 0.5 [0.4, 0.6] of the total effect, to be ≥ 0.3, n=20, clusters=10, minimum detectable effect 0.1"
)


class Reporter:
    """Keeps what a terminal reporter is told to write."""

    def __init__(self, verbosity: int) -> None:
        self.verbosity, self.text = verbosity, ""

    def ensure_newline(self) -> None: ...

    def section(self, title: str) -> None:
        self.text += f"== {title}\n"

    def write(self, text: str, **markup: bool) -> None:
        self.text += text

    def write_line(self, line: str, **markup: bool) -> None:
        self.text += f"{line}\n"


def written(run: Run, verbosity: int = 0) -> list[str]:
    reporter = Reporter(verbosity)
    audited = SimpleNamespace(record=run, folder=Path("reports/run"), remark="", record_sha256="ab12")
    terminal.summarize(cast(Any, reporter), cast(Any, audited))
    return reporter.text.splitlines()


def asked(run: Run, **fields: Any) -> Run:
    """The run with its first claim changed, under the profile `pr` unless another is given."""
    profile = fields.pop("profile", "pr")
    return replace(run, profile=profile, claims=(replace(run.claims[0], **fields), *run.claims[1:]))


def waiver(state: Any) -> Waiver:
    return Waiver(claim="suite/claim0", owner="Jane", reason="ticket 12", expires="2999-12-31", state=state)


def before(verdict: Verdict) -> Change:
    return Change(verdict=verdict, comparable=True, effects=(), reason="")


def test_claims_that_need_nobody_are_counted(a_run: Run) -> None:
    assert written(a_run) == [
        "== audit of m", f"{OTHERS}2 PASS (-v shows each)", "",
        "verdict: PASS (2 of 2 claims passed)", "report: reports/run/audit.html",
        "record: SHA-256 ab12",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"verdict": FAIL}, f"FAIL            suite/claim0: {EFFECT}"),
        ({"verdict": FAIL, "effect": None, "reason": "why\nnot"}, "FAIL            suite/claim0: why not"),
        ({"verdict": ERROR, "reason": "it broke"}, "ERROR           suite/claim0: it broke"),
        (
            {"verdict": INCONCLUSIVE, "reason": "too few", "profile": "release"},
            "INCONCLUSIVE    suite/claim0: too few",
        ),
        (
            {"verdict": FAIL, "reason": "the baseline shows it", "lack": "behaviour", "change": before(PASS)},
            "FAIL            suite/claim0: the baseline shows it (PASS on the baseline)",
        ),
        (
            {"verdict": INCONCLUSIVE, "reason": "too few", "change": before(PASS)},
            "INCONCLUSIVE    suite/claim0: too few (PASS on the baseline)",
        ),
        (
            {"verdict": INCONCLUSIVE, "family": FamilyPlace(name="f", size=3, alone=FAIL)},
            "INCONCLUSIVE    suite/claim0: pytest showed it as F, and so does its own --junitxml: alone it failed, and "
            "whether that can be chance is known only at the end",
        ),
        ({"verdict": ERROR, "reason": "\x1b[31mred"}, "ERROR           suite/claim0: \N{REPLACEMENT CHARACTER}[31mred"),
    ],
)  # fmt: skip
def test_a_claim_that_needs_a_human_has_one_line(a_run: Run, fields: dict[str, Any], line: str) -> None:
    assert written(asked(a_run, **fields))[1:3] == [line, f"{OTHERS}1 PASS (-v shows each)"]


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({"verdict": INCONCLUSIVE}, "1 PASS, 1 INCONCLUSIVE"),
        ({"verdict": NOT_APPLICABLE}, "1 PASS, 1 NOT APPLICABLE"),
        ({"verdict": FAIL, "waiver": waiver("applied")}, "1 PASS, 1 FAIL (waived)"),
        ({"verdict": NOT_APPLICABLE, "change": before(NOT_APPLICABLE)}, "1 PASS, 1 NOT APPLICABLE"),
    ],
)
def test_a_claim_that_blocks_nothing_is_counted(a_run: Run, fields: dict[str, Any], counted: str) -> None:
    assert written(asked(a_run, **fields))[1:3] == [f"{OTHERS}{counted} (-v shows each)", ""]


@pytest.mark.parametrize("state", ["expired", "not needed", "cannot be waived", "not measured"])
def test_a_waiver_that_is_not_applied_has_a_line(a_run: Run, state: str) -> None:
    lines = written(replace(a_run, waivers=(waiver(state),)))
    assert sum(line.startswith("waiver of suite/claim0 by Jane: ") for line in lines) == 1


def test_an_applied_waiver_has_a_line_with_v_only(a_run: Run) -> None:
    run = replace(a_run, waivers=(waiver("applied"),))
    said = "waiver of suite/claim0 by Jane: waived until 2999-12-31; ticket 12"
    assert (said in written(run), said in written(run, verbosity=1)) == (False, True)


def test_with_v_every_claim_is_shown_with_its_evidence(a_run: Run) -> None:
    run = asked(a_run, verdict=FAIL, reason="the interval lies below 0.7")
    indent = " " * 16
    assert written(run, verbosity=1)[1:6] == [
        "FAIL            suite/claim0", f"{indent}{EFFECT}", f"{indent}the interval lies below 0.7",
        "PASS            suite/claim1", f"{indent}{EFFECT}",
    ]  # fmt: skip


def by_model(runs: list[Run], verbosity: int) -> list[str]:
    reporter = Reporter(verbosity)
    terminal.compare(cast(Any, reporter), runs)
    return [line.rstrip() for line in reporter.text.splitlines()][2:]


def test_of_several_models_the_claims_that_differ_or_need_a_human_have_a_row(a_run: Run) -> None:
    third: Claim = replace(a_run.claims[0], id="suite/claim2", verdict=ERROR)
    runs = [replace(run, claims=(*run.claims, third)) for run in (a_run, asked(a_run, verdict=NOT_APPLICABLE))]
    rows = [
        "PASS            NOT APPLICABLE  suite/claim0",
        "PASS            PASS            suite/claim1",
        "ERROR           ERROR           suite/claim2",
        "PASS            PASS            verdict",
    ]
    assert by_model(runs, verbosity=1) == rows
    fewer = "1 more with the same verdict on all models (-v shows each)"
    assert by_model(runs, verbosity=0) == [rows[0], rows[2], fewer, rows[3]]


@pytest.mark.parametrize("place", ["{text}", "{text} {old}", "{old}\n{text}"])
def test_nothing_in_a_run_is_obeyed_by_the_terminal_or_a_build_server(a_run: Run, place: str) -> None:
    gone = replace(a_run.claims[1], verdict=FAIL, change=before(PASS), waiver=waiver("expired"))
    run = replace(a_run, waivers=(waiver("expired"),), claims=(a_run.claims[0], gone))
    for text in HOSTILE:
        hostile = replace_text(run, lambda old, text=text: place.format(text=text, old=old))
        reporter = Reporter(1)
        terminal.compare(cast(Any, reporter), [hostile, hostile])
        terminal.write_line(cast(Any, reporter), text)
        printed = [*written(hostile), *written(hostile, 1), *reporter.text.split("\n")]
        for line in printed:
            assert not re.search(
                "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]", line
            ), text
            assert not re.match(r"\s*::", line), text
            assert not re.search(r"##\[|##vso\[|##teamcity\[", line, re.IGNORECASE), text


def test_every_value_of_the_command_to_measure_again_is_one_word_of_a_shell() -> None:
    words = [text for text in HOSTILE if text.isprintable()]
    for text in words:
        options = SimpleNamespace(
            seed=3, items=None, effort=text, device=text, dtype=text, adapter=text, data_texts=[text], thresholds=text,
            baseline=text, waivers=text, profile="pr", tokenizer=None, template_texts=[],
        )  # fmt: skip
        said = shlex.split(settings.rerun_options(cast(Any, options), text))
        assert said[:4] == ["--model", text, "--seed", "3"]
        assert said[5::2] == [text] * 8
