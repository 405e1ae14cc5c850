"""Grids of personas and tasks: the project's own, files in either layout, and files that cannot be used."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.errors import DataError
from auditkit.data.sources import source_sha256
from auditkit.findings.persona_composition.prompts import asked, packaged_grid, read_grid, shows

pytestmark = pytest.mark.unit

WAYS = (
    "explain how to", "explain what makes", "explain why", "explain when", "describe what to do", "describe a good",
    "give a beginner advice on", "suggest a", "say what", "tell a short story about",
)  # fmt: skip
"""How the first ten tasks ask, and so all others."""
PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "composition_grids.json"


def test_the_projects_grid_is_large_enough_for_intervals_and_says_who_is_meant() -> None:
    grid = packaged_grid()
    assert len(grid.personas) == len(grid.tasks) == 24
    assert len(grid.baselines) >= 5
    assert grid.marked
    texts = [p.text for p in grid.personas] + [*grid.tasks.values(), *grid.baselines]
    texts += [grid.baseline, grid.baseline_task, grid.other_task]
    assert len(set(texts)) == len(texts)


def test_the_projects_short_and_long_grids_are_of_the_papers_shapes() -> None:
    short, long = read_grid("#short"), read_grid("#long")
    assert (len(short.personas), len(short.tasks)) == (4, 3)
    assert (len(long.personas), len(long.tasks)) == (8, 6)
    assert short.marked
    assert long.marked
    assert all(20 <= len(persona.text.split()) <= 30 for persona in long.personas)
    assert all(len(persona.text.split()) <= 3 for persona in short.personas)
    assert short.baselines == long.baselines == packaged_grid().baselines
    assert len({source_sha256("#short"), source_sha256("#long")}) == 2
    with pytest.raises(DataError, match="holds no grid 'wide'; there is #short, #long"):
        read_grid("#wide")


@pytest.mark.parametrize("which", ["", "short", "long"])
def test_markers_belong_to_one_persona_and_stand_in_no_prompt(which: str) -> None:
    """All markers, also those of personas that a named grid leaves out, against all texts of the grid."""
    grid = packaged_grid(which)
    everyone = [(persona.name, marker) for persona in packaged_grid().personas for marker in persona.markers]
    assert len({marker for _, marker in everyone}) == len(everyone)
    tasks = [*grid.tasks.values(), grid.baseline_task, grid.other_task]
    people = [*(persona.text for persona in grid.personas), grid.baseline, *grid.baselines, grid.filler]
    prompts = " ".join([asked(persona, grid.baseline_task) for persona in people] + tasks)
    for name, marker in everyone:
        assert not shows(marker, prompts), marker
        assert not [other for of, other in everyone if of != name and shows(marker, other)], marker


def test_personas_are_alike_in_length_and_in_how_many_markers_they_have() -> None:
    personas = packaged_grid().personas
    for persona in personas:
        assert 7 <= len(persona.text.split()) <= 13, persona.name
        assert 15 <= len(persona.markers) <= 20, persona.name
        assert all(marker == marker.lower() == marker.strip() for marker in persona.markers)
        assert persona.text.startswith(("a ", "an "))
        assert not persona.text.endswith(".")
    first, others = ([len(p.text.split()) for p in some] for some in (personas[:10], personas[10:]))
    assert np.mean(others) == pytest.approx(np.mean(first), abs=1)


def test_tasks_are_alike_in_length_and_ask_in_one_of_few_ways() -> None:
    """No way of asking makes up more than a third of the tasks, and none belongs to one task alone."""
    tasks = list(packaged_grid().tasks.values())
    assert all(4 <= len(task.split()) <= 9 and task.endswith(".") for task in tasks)
    ways = [next((way for way in WAYS if task.startswith(f"{way} ")), "") for task in tasks]
    counts = Counter(ways)
    assert set(counts) == set(WAYS)
    assert 2 <= min(counts.values()) <= max(counts.values()) <= 8


@given(st.sampled_from(["sea", "deck"]), st.sampled_from(["", " ", ", ", "-", "s"]), st.booleans())
def test_a_word_is_found_as_a_word_only(word: str, behind: str, upper: bool) -> None:
    text = f"the {word.upper() if upper else word}{behind} it"
    assert shows(word, text) == (behind != "s")
    assert not shows(word, f"x{word}")
    assert shows("light-years", "Many LIGHT-YEARS away")
    assert shows("rule of law", "the rule of lawyers")


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published grids are not here")
def test_the_published_grids_can_be_read() -> None:
    short, long = read_grid(str(PUBLISHED)), read_grid(f"{PUBLISHED}#long")
    assert (len(short.personas), len(short.tasks)) == (4, 3)
    assert (len(long.personas), len(long.tasks)) == (8, 6)
    assert short.baseline == long.baseline == "a thoughtful person"
    assert not short.marked
    assert source_sha256(str(PUBLISHED)) != source_sha256(f"{PUBLISHED}#long")


TOML = """
[baseline]
persona = "a person"
task = "say it."
[personas.one]
text = "a one"
markers = ["first"]
[personas.two]
text = "a two"
[tasks]
a = "do a."
b = "do b."
"""


def written(folder: Path, text: str, name: str = "grid.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_of_ones_own_takes_what_it_leaves_out_from_the_projects(tmp_path: Path) -> None:
    grid = read_grid(written(tmp_path, TOML))
    assert [p.name for p in grid.personas] == ["one", "two"]
    assert grid.tasks == {"a": "do a.", "b": "do b."}
    assert (grid.baseline, grid.baseline_task) == ("a person", "say it.")
    assert grid.baselines == packaged_grid().baselines
    assert not grid.marked
    complete = 'cells = [["one", "a"], ["one", "b"], ["two", "a"], ["two", "b"]]\n' + TOML
    assert read_grid(written(tmp_path, complete)) == grid


def test_a_file_may_name_several_grids(tmp_path: Path) -> None:
    named = TOML + '[grids.small]\ntasks = ["b"]\n[grids.small.personas]\none = "quite a one"\n'
    spec = written(tmp_path, named)
    assert len(read_grid(spec).personas) == 2
    small = read_grid(f"{spec}#small")
    assert [(p.text, p.markers) for p in small.personas] == [("quite a one", ("first",))]
    assert small.tasks == {"b": "do b."}
    for old, new, wrong in (
        ("one = ", "three = ", "grid small: there is no persona 'three'"),
        ('tasks = ["b"]', 'tasks = ["c"]', "grid small: there is no task 'c'"),
        ('tasks = ["b"]', "", "grid small: needs a list of tasks"),
        ("[grids.small.personas]", "[other]", "the table 'personas' is missing"),
        ("grids.small", "grids.big", "holds no grid 'small'; there is #big"),
        ('[grids.small]\ntasks = ["b"]\n[grids.small.personas]', "[other]", "there is one, without a name"),
    ):
        assert old in named
        with pytest.raises(DataError, match=wrong):
            read_grid(written(tmp_path, named.replace(old, new), "wrong.toml") + "#small")


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        (
            "\n[baseline]",
            'cells = [["one", "a"], ["two", "b"]]\n[baseline]',
            r"2 of 4 cells are missing \(one x b, two x a\)",
        ),
        ('persona = "a person"', "", "the baseline persona is missing"),
        ('task = "say it."', 'task = " "', "the baseline task is missing, empty"),
        ('text = "a two"', "", "persona two is missing, empty"),
        ('b = "do b."', 'b = "do b. "', "task b is missing, empty, or has spaces around it"),
        ('markers = ["first"]', 'markers = "first"', "persona one: needs a text, and markers as a list"),
        ('[tasks]\na = "do a."\nb = "do b."', "", "the table 'tasks' is missing or empty"),
        ("[baseline]", "[baseline", "grid.toml: "),
    ],
)
def test_files_with_holes_are_refused_in_one_line(tmp_path: Path, old: str, new: str, wrong: str) -> None:
    assert old in TOML
    with pytest.raises(DataError, match=wrong) as caught:
        read_grid(written(tmp_path, TOML.replace(old, new)))
    assert len(str(caught.value).splitlines()) == 1


def test_published_layouts_with_holes_are_refused(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "baseline_persona": "a person",
        "baseline_task": "say it.",
        "short_personas": {"baseline": "a person", "x": "an x"},
        "short_tasks": {"baseline": "say it.", "y": "do y."},
    }
    spec = written(tmp_path, json.dumps(data), "grid.json")
    assert [p.name for p in read_grid(spec).personas] == ["x"]
    for wrong, message in {
        f"{spec}#long": "the table 'long_personas' is missing",
        f"{spec}#wide": "write #short or #long",
        written(tmp_path, "[]", "list.json"): "must be a JSON object",
        written(tmp_path, "{", "broken.json"): "broken.json: ",
        written(tmp_path, "", "grid.csv"): "read from .toml and .json",
        str(tmp_path / "none.toml"): "is no file",
    }.items():
        with pytest.raises(DataError, match=message):
            read_grid(wrong)
