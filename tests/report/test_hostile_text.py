"""Every output of a run that holds a hostile text in every field: nothing in it is obeyed by what reads the output.

`tests/record/test_escaping.py` holds the functions to their promises; here the outputs are held to using them.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
import xml.etree.ElementTree as ET
from datetime import date

import msgspec
import pytest
from hostile import HOSTILE, replace_text

from auditkit.gate.calibrate import Proposal, render_thresholds
from auditkit.record.canonical import canonical
from auditkit.record.schema import Run
from auditkit.report import (
    render_annotations,
    render_card,
    render_comment,
    render_csv,
    render_junit,
    render_markdown,
)
from auditkit.report.compare import rows
from auditkit.report.compare_terminal import comparison
from auditkit.report.terminal import details, overview

pytestmark = pytest.mark.unit

OBEYED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
COMMAND = re.compile(r"^\s*::|##\[|##vso\[|##teamcity\[", re.IGNORECASE)
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def lines_of(text: str) -> list[str]:
    """As a build server cuts what it is sent."""
    return re.split("\r\n|\r|\n|\u2028|\u2029|\x85", text)


def terminal(run: Run) -> list[str]:
    """What `show`, `show --claim` and `diff` print."""
    shown = [*overview(run), *(text for claim in run.claims for text in details(run, claim.id))]
    return [*shown, *comparison(run, run, rows(run, run))]


@pytest.fixture
def small_run(gated_run: Run) -> Run:
    """Claims with every kind of field, without figures, which no line of text holds."""
    claims = tuple(msgspec.structs.replace(claim, figures=()) for claim in gated_run.claims)
    return msgspec.structs.replace(gated_run, claims=claims)


@pytest.mark.parametrize("place", ["{text}", pytest.param("{old}\n{text} {old}", marks=pytest.mark.slow)])
def test_no_output_has_a_control_character_or_a_command_of_a_build_server(small_run: Run, place: str) -> None:
    for text in HOSTILE:
        run = canonical(replace_text(small_run, lambda old, text=text: place.format(text=text, old=old)))
        printed = terminal(run)
        assert not [one for one in printed if re.search("[\t\r\n\u2028\u2029]", one)], text
        junit = render_junit(run)
        ET.fromstring(junit)
        written = [render_markdown(run), render_comment(run), render_card(run), render_csv(run), junit.decode()]
        for output in [*printed, *written]:
            assert not OBEYED.search(output), text
            assert not [one for one in lines_of(output) if COMMAND.search(one)], text


@pytest.mark.parametrize("place", ["{text}", "{text} {old}", "{old}\n{text}"])
def test_no_annotation_holds_a_second_command(small_run: Run, place: str) -> None:
    harmless = render_annotations(replace_text(small_run, lambda old: "x"))
    for text in HOSTILE:
        annotations = render_annotations(
            replace_text(small_run, lambda old, t=text: place.format(text=t, old=old))
        )
        for one, same in zip(annotations, harmless, strict=True):
            assert len(lines_of(one)) == 1, text
            assert not OBEYED.search(one), text
            assert one.split(" ")[0] == same.split(" ")[0]
            assert not re.search(r"##\[|##vso\[|##teamcity\[", one, re.IGNORECASE), text


@pytest.mark.parametrize("place", ["{text}", "{text} {old}"])
def test_no_cell_is_a_formula(small_run: Run, place: str) -> None:
    for text in HOSTILE:
        run = replace_text(small_run, lambda old, text=text: place.format(text=text, old=old))
        table = list(csv.DictReader(io.StringIO(render_csv(run), newline="")))
        assert len(table) == len(run.claims)
        for name, value in ((name, value) for row in table for name, value in row.items()):
            number = name.startswith(("effect.", "change.")) and re.fullmatch(r"-?[0-9.e+-]+", value)
            assert number or not value.strip(" \u200b\ufeff\u00ad").startswith(FORMULA), text


def test_proposed_thresholds_are_read_back_and_obeyed_by_nobody(small_run: Run) -> None:
    for text in HOSTILE:
        run = canonical(replace_text(small_run, lambda old, text=text: f"{text} {old}"))
        proposals = tuple(
            Proposal(claim=claim, effect=claim.effect, value=value, reason=claim.reason)
            for claim, value in zip(run.claims[:2], (0.5, None), strict=True)
        )
        written = render_thresholds(run, "run", proposals, "model", date(2030, 1, 1))
        assert not OBEYED.search(written), text
        assert not [one for one in lines_of(written) if COMMAND.search(one)], text
        assert run.model.name in tomllib.loads(written)["model"]
