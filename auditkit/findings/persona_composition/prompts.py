"""Grids of personas and tasks for "As {persona}, {task}": the project's own, or one from a file.

A grid is complete: every persona is combined with every task, and with a neutral baseline of each they give the four
prompts of the design (BB, XB, BY, XY). A file is TOML in the shape of the packaged `data/grid.toml`, or JSON in the
layout of the grids that were published with Xu (2026, arXiv:2605.23147). Either may hold several grids, `FILE#short`
and `FILE#long`; `#short` and `#long` without a file are the project's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError
from auditkit.data.files import text_of, toml_of

LEAST = 3
"""Personas and tasks without which nothing can be shuffled; intervals need more."""


@dataclass(frozen=True)
class GridPersona:
    """Who answers, and the words by which that shows in a text."""

    name: str
    text: str
    markers: tuple[str, ...] = ()


@dataclass(frozen=True)
class PersonaGrid:
    """Personas crossed with tasks.

    Attributes:
        personas, tasks: by name, in the order of the file.
        baseline, baseline_task: persona and task that stand for "none" in the four cells.
        other_task: a second baseline task.
        baselines: other personas that say next to nothing.
        filler: words that say nothing, whose beginning makes a persona of any length.
    """

    personas: tuple[GridPersona, ...]
    tasks: Mapping[str, str]
    baseline: str
    baseline_task: str
    other_task: str
    baselines: tuple[str, ...]
    filler: str

    @property
    def marked(self) -> bool:
        """Whether every persona has markers."""
        return all(persona.markers for persona in self.personas)


def asked(persona: str, task: str) -> str:
    """The user's turn."""
    return f"As {persona}, {task}"


def packaged_grid(which: str = "") -> PersonaGrid:
    """24 personas with markers and 24 tasks, written for this project; "short" are four personas of a word or two and
    three tasks, "long" eight personas of 20 to 30 words and six tasks.

    Raises:
        DataError: another name.
    """
    return _toml(files("auditkit.findings.persona_composition").joinpath("data", "grid.toml"), which)


def read_grid(spec: str) -> PersonaGrid:
    """The grid of a file, `PATH` or `PATH#short`, `PATH#long`; without a path one of the project's own.

    Raises:
        DataError: it cannot be found or read, lacks a baseline, a persona or a task, or does not hold all cells.
    """
    place, _, which = spec.partition("#")
    if not place:
        return packaged_grid(which)
    path = Path(place).expanduser()
    if not path.is_file():
        raise DataError(f"{place!r} is no file; give a grid of personas and tasks as TOML or JSON")
    if path.suffix == ".toml":
        return _toml(path, which)
    if path.suffix == ".json":
        return _published(path, which or "short")
    raise DataError(f"{place}: grids are read from .toml and .json files")


def shows(marker: str, text: str) -> bool:
    """Whether a marker stands in a text: one word as a whole word, others anywhere; case does not count."""
    if re.fullmatch(r"\w+", marker):
        return re.search(rf"\b{re.escape(marker)}\b", text, re.IGNORECASE) is not None
    return marker.lower() in text.lower()


def _toml(source: Path | Traversable, which: str) -> PersonaGrid:
    data = toml_of(source)
    baseline, personas = _table(source, data, "baseline"), _table(source, data, "personas")
    tasks = _table(source, data, "tasks")
    if which:
        personas, tasks = _chosen(source, data.get("grids", {}), which, personas, tasks)
    own = packaged_grid() if {"personas", "filler", "other_task"} - set(baseline) else None
    return _grid(
        source,
        [_persona(source, name, entry) for name, entry in personas.items()],
        tasks,
        baseline.get("persona"),
        baseline.get("task"),
        baseline.get("other_task") or (own.other_task if own else None),
        baseline.get("personas") or (own.baselines if own else None),
        baseline.get("filler") or (own.filler if own else None),
        data.get("cells"),
    )


def _chosen(
    source: Path | Traversable, grids: Any, which: str, personas: Mapping[str, Any], tasks: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Personas and tasks of one of several grids: its own texts of some personas, and the names of some tasks."""
    grid = grids.get(which) if isinstance(grids, dict) else None
    if grid is None:
        there = ", ".join(f"#{name}" for name in grids) if grids else "one, without a name"
        raise DataError(f"{source}: holds no grid {which!r}; there is {there}")
    texts, names = _table(source, grid, "personas"), grid.get("tasks")
    if not isinstance(names, list) or not names:
        raise DataError(f"{source}, grid {which}: needs a list of tasks by name")
    for kind, asked_for, known in (("persona", texts, personas), ("task", names, tasks)):
        if unknown := [name for name in asked_for if name not in known]:
            raise DataError(f"{source}, grid {which}: there is no {kind} {unknown[0]!r}")
    chosen = {
        name: {**personas[name], "text": text} if isinstance(personas[name], dict) else None
        for name, text in texts.items()
    }
    return chosen, {name: tasks[name] for name in names}


def _persona(source: Path | Traversable, name: str, entry: Any) -> GridPersona:
    markers = entry.get("markers", []) if isinstance(entry, dict) else None
    if not (isinstance(markers, list) and all(isinstance(marker, str) and marker for marker in markers)):
        raise DataError(f"{source}, persona {name}: needs a text, and markers as a list of words if there are any")
    return GridPersona(name, entry.get("text", ""), tuple(markers))


def _published(path: Path, which: str) -> PersonaGrid:
    if which not in ("short", "long"):
        raise DataError(f"{path}#{which}: the published file holds two grids, write #short or #long")
    try:
        data = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise DataError(f"{path}: must be a JSON object")
    personas = _table(path, data, f"{which}_personas")
    tasks = _table(path, data, "tasks" if which == "long" else "short_tasks")
    own = packaged_grid()
    return _grid(
        path,
        [GridPersona(name, text) for name, text in personas.items() if name != "baseline"],
        {name: text for name, text in tasks.items() if name != "baseline"},
        data.get("baseline_persona"),
        data.get("baseline_task"),
        own.other_task,
        own.baselines,
        own.filler,
        data.get("cells"),
    )


def _table(source: Path | Traversable, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name)
    if not isinstance(table, dict) or not table:
        raise DataError(f"{source}: the table '{name}' is missing or empty")
    return table


def _grid(
    source: Path | Traversable,
    personas: list[GridPersona],
    tasks: Mapping[str, Any],
    baseline: Any,
    baseline_task: Any,
    other_task: Any,
    baselines: Any,
    filler: Any,
    cells: Any,
) -> PersonaGrid:
    """The grid, once it is sure that every text is there.

    Raises:
        DataError: see `read_grid`.
    """
    texts = {f"persona {persona.name}": persona.text for persona in personas}
    texts |= {f"task {name}": text for name, text in tasks.items()}
    texts |= {"the baseline persona": baseline, "the baseline task": baseline_task}
    texts |= {"the other baseline task": other_task, "the filler": filler}
    texts |= {f"baseline persona {i}": text for i, text in enumerate(baselines, 1)}
    for what, text in texts.items():
        if not isinstance(text, str) or not text or text != text.strip():
            raise DataError(f"{source}: {what} is missing, empty, or has spaces around it")
    if cells is not None:
        there = {tuple(cell) for cell in cells if isinstance(cell, list)}
        wanted = [(persona.name, task) for persona in personas for task in tasks]
        if missing := [cell for cell in wanted if cell not in there]:
            listed = ", ".join(" x ".join(cell) for cell in missing[:3])
            raise DataError(
                f"{source}: {len(missing)} of {len(wanted)} cells are missing ({listed}); every persona must meet "
                "every task, since differences are taken between the four cells"
            )
    return PersonaGrid(tuple(personas), dict(tasks), baseline, baseline_task, other_task, tuple(baselines), filler)
