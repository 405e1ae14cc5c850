"""Sentences that were riddles stay away: docs/style.md shows each with what is written instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import auditkit

pytestmark = pytest.mark.unit

REPOSITORY = Path(auditkit.__file__).parent.parent
FOLDERS = ("auditkit", "suites", "docs")
SUFFIXES = (".py", ".md", ".j2", ".toml")
SHOWS_THEM = "docs/style.md"

RIDDLES = [
    r"begins? to matter",
    r"as long as what does not add up",
    r"what does not add up (is less|costs|points)",
    r"what lengths alone make it",
    r"in the direction that other items show",
    r"no heads to ask this about",
    r"heads( \S+)? look at the word,",
    r"of (these|those)( were)? (found on one|confirmed on the other)",
    r"whole interval [\[{]\S+ (is|lies)",
    r"half-widths of the interval (on|off)",
    r"(on|off) the claimed side['\"]",
    r"the claim at hand",
    r"\bexactly [\d{]\S* over all",
    r"over all 1 items",
    r"edits begin late",
    r"what stands in front of the edits",
    r"what is had of such",
]


def texts() -> dict[str, str]:
    """Path -> text on one line, with the quotes of joined strings taken out, since a sentence may go on in the next."""
    files = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*"))]
    read = {path.relative_to(REPOSITORY).as_posix(): path.read_text() for path in files if path.suffix in SUFFIXES}
    return {path: on_one_line(text) for path, text in read.items() if path != SHOWS_THEM}


def on_one_line(text: str) -> str:
    """The text as it is read: without line ends, and without the ends of string literals that Python joins."""
    return " ".join(re.sub(r'"\s*\n\s*f?"', "", text).split())


@pytest.mark.parametrize("riddle", RIDDLES)
def test_a_sentence_that_was_a_riddle_does_not_come_back(riddle: str) -> None:
    found = {path: hit[0] for path, text in texts().items() if (hit := re.search(riddle, text, re.IGNORECASE))}
    assert not found


@pytest.mark.parametrize("riddle", RIDDLES)
def test_each_fragment_finds_what_it_is_about(riddle: str) -> None:
    said = """
        Where a site begins to matter, a random vector as long as what does not add up costs at least twice as much.
        The repaired RSI is not what lengths alone make it, zero, in the direction that other items show.
        There are no heads to ask this about: of 270 heads 36 look at the word, 12 of these were found on one half of
        the items, and 0 of those confirmed on the other. The whole interval [-0.0756,-0.0236] is ±0.25.
        "0.1 half-widths of the interval off the claimed side"
        exactly 0.283479 over all 1 items of the worst of 100 evaluated identity swaps
        Runs whose edits begin late: many edited versions of one prompt share what stands in front of the edits.
        This is what is had of such, and told the claim at hand.
        f"what does not add up"
        f" is less than noise"
    """
    assert re.search(riddle, on_one_line(said), re.IGNORECASE)


def test_style_shows_the_sentences() -> None:
    assert "begins to matter" in (REPOSITORY / SHOWS_THEM).read_text()
