"""Whether generated texts still show the persona: its marker words, with the additive prediction and without dX.

Every persona has markers: words fixed before any text was generated. A text shows a persona when it has one of them.
The measure is 1 where a text shows its own persona (else 0), minus the share of the other personas that it shows, since
any text has some of such words by chance. There are four texts per cell:

    clean      the answer to "As X, do Y"
    additive   the same prompt, with h_XB + h_BY - h_BB in the place of the state at the last token
    removed    the same prompt, with dX taken away from the state there
    bare       the answer to the task without any persona

If "removed" equals "clean" too, that "additive" equals "clean" says little: the site does not carry what the markers
measure, so no state that is put there could change it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.continuation.timed import Continued
from auditkit.engine.edits import add, replace
from auditkit.engine.sites import block_input
from auditkit.findings.persona_composition.measurements.cells import FACTORS, Design, PersonaTask
from auditkit.findings.persona_composition.prompts import shows
from auditkit.methods.steering import StrengthCurve, strength_curve
from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Figure, Table
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.measurement import Measurement

CLEAN, ADDITIVE, REMOVED, BARE = "clean", "additive", "removed", "bare"
CONDITIONS = (CLEAN, ADDITIVE, REMOVED, BARE)
TOKENS = 40
TEXT_CELLS = 72
"""Cells of the project's own grid, where nobody says how many: 24 personas with three tasks each. All 576 would take
eight times as long."""
FEWEST = 30
"""Cells below which nothing is generated: whether rates are equal within a few tenths takes about 100."""
UNIT = "own minus other personas"
STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0)
STEERED, STEERED_TOKENS = 10, 24
"""Cells and tokens of the strength curve."""
SAMPLES = 4


class Behaviour(Showable):
    """What is said in each cell of a design under the four conditions; generated once.

    Args:
        design: which cells.
        depth: of the layer whose input is changed.
        tokens: of each text.

    Raises:
        NotApplicable: a grid without markers.
        Inconclusive: fewer cells than `fewest`.
    """

    def __init__(self, design: Design, *, depth: float, tokens: int = TOKENS, fewest: int = FEWEST) -> None:
        if not design.grid.marked:
            raise Unsupported(
                "the grid has no markers, words fixed beforehand by which a persona shows in a text; write them into a "
                "TOML grid (docs/findings/persona_composition.md)"
            )
        if len(design.cells) < fewest:
            raise Inconclusive(
                f"too_few_items: {len(design.cells)} cells, {fewest} are needed before anything is generated, and "
                "about 100 to decide that two rates are equal"
            )
        self.design, self.adapter, self.tokens = design, design.adapter, tokens
        self.layer = block_input.at_depth(depth, depth).layer_indices(self.adapter.layers)[0]
        self.table = pd.DataFrame(
            [(cell.persona.name, cell.task) for cell in design.cells],
            index=pd.Index([cell.id for cell in design.cells], name="item"),
            columns=list(FACTORS),
        )

    # -- claims ------------------------------------------------------------------------------------------------

    def against(self, condition: str, other: str) -> Estimate:
        """Paired difference of own minus other personas between two conditions."""
        return mean_difference(self.measurement, condition, other, name=f"{condition} against {other}")

    def level(self, condition: str) -> Estimate:
        """Own minus other personas under one condition."""
        measured = self.measurement
        return Estimate(condition, UNIT, measured, measured.condition(condition), shown_conditions=(condition,))

    def score(self, cell: PersonaTask, text: str) -> float:
        """1 where a text shows its cell's persona, minus the share of the others that it shows."""
        found = {p.name: any(shows(m, text) for m in p.markers) for p in self.design.grid.personas}
        own = found.pop(cell.persona.name)
        return own - sum(found.values()) / len(found)

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Condition -> one text per cell."""
        design = self.design
        prompts = [design.prompt(cell.persona.text, design.text(cell.task)) for cell in design.cells]
        site = block_input.layer(self.layer)["last"]
        to_x = [self._of(cell.persona.text, design.grid.baseline_task) - self._bb for cell in design.cells]
        by = [self._of(design.grid.baseline, design.text(cell.task)) for cell in design.cells]
        runs = {
            CLEAN: [Continued(prompt) for prompt in prompts],
            ADDITIVE: [
                Continued(p, (replace(site, own + delta),))
                for p, own, delta in zip(prompts, by, to_x, strict=True)
            ],
            REMOVED: [Continued(p, (add(site, delta, -1.0),)) for p, delta in zip(prompts, to_x, strict=True)],
        }
        order = (ADDITIVE, REMOVED, CLEAN)  # the edited ones first, since the guards look at the first few
        every = [runs[name][i] for i in range(len(prompts)) for name in order]
        tasks = list(
            dict.fromkeys(cell.task for cell in design.cells)
        )  # without a persona, cells of a task are one
        bare = [Continued(self._bare(task)) for task in tasks]
        said = generate(self.adapter, [*every, *bare], self.tokens, description="texts").texts
        texts = {name: said[k : len(every) : len(order)] for k, name in enumerate(order)}
        return texts | {BARE: tuple(said[len(every) + tasks.index(cell.task)] for cell in design.cells)}

    @shared_measurement
    def measurement(self) -> Measurement:
        """Own minus other personas, by cell and condition."""
        cells = self.design.cells
        columns = {
            name: np.array([self.score(cell, text) for cell, text in zip(cells, self.texts[name], strict=True)])
            for name in CONDITIONS
        }
        prompts = {
            cell.id: {name: self.texts[name][i] for name in CONDITIONS} for i, cell in enumerate(self.design.cells)
        }
        values = pd.DataFrame(columns, index=self.table.index)
        return Measurement("markers", UNIT, values, self.table, prompts)

    def steered(self) -> StrengthCurve:
        """The persona's direction, added at every token of the baseline persona's run, at several strengths.

        It is the mean difference between persona and baseline over two tasks that are no cell's.
        """
        design, grid = self.design, self.design.grid
        cells = design.cells[:STEERED]
        tasks = (grid.baseline_task, grid.other_task)
        people = dict.fromkeys(cell.persona.text for cell in cells)
        states = self._last([(text, task) for text in (*people, grid.baseline) for task in tasks])
        means = {
            text: torch.stack([states[text, task] for task in tasks]).mean(0) for text in (*people, grid.baseline)
        }
        return strength_curve(
            self.adapter,
            [design.prompt(grid.baseline, design.text(cell.task)) for cell in cells],
            [means[cell.persona.text] - means[grid.baseline] for cell in cells],
            block_input.layer(self.layer),
            STRENGTHS,
            self.table.iloc[: len(cells)],
            effect=lambda row, text: self.score(cells[row], text),
            tokens=STEERED_TOKENS,
        )

    def _bare(self, task: str) -> Prompt:
        text = self.design.text(task)
        return self.adapter.chat(Chat(text[0].upper() + text[1:]))

    @shared_measurement
    def _bb(self) -> Tensor:
        return self._of(self.design.grid.baseline, self.design.grid.baseline_task)

    def _of(self, persona: str, task: str) -> Tensor:
        """(width,) the state at the last token."""
        return self._states[persona, task]

    @shared_measurement
    def _states(self) -> dict[tuple[str, str], Tensor]:
        design, grid = self.design, self.design.grid
        wanted = {(cell.persona.text, grid.baseline_task) for cell in design.cells}
        wanted |= {(grid.baseline, design.text(cell.task)) for cell in design.cells}
        wanted |= {(grid.baseline, grid.baseline_task)}
        return self._last(sorted(wanted))

    def _last(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Tensor]:
        """(width,) the state at the last token, by persona and task."""
        prompts = [self.design.prompt(*texts) for texts in wanted]
        place = (Component.BLOCK_INPUT, self.layer)
        # Only the last token is a tail; the token that "continues" it is not run.
        tails = Tails(self.adapter, prompts, [[0]] * len(prompts), [len(prompt) - 1 for prompt in prompts])
        return {texts: row[place][-1] for texts, row in zip(wanted, tails.read([place]), strict=True)}

    # -- figures -----------------------------------------------------------------------------------------------

    def notes(self) -> tuple[str, ...]:
        """How many texts there are, and where the model was edited."""
        return (
            f"{len(self.design.cells)} cells, {self.tokens} tokens each, greedy; block input of layer {self.layer} at "
            "the last token of the prompt",
        )

    def figures(self) -> tuple[Figure, ...]:
        """Markers by condition, and some texts side by side."""
        markers = Dots.of(
            "own minus other personas",
            "Share of the texts that show their own persona by one of its markers, minus the share of the other "
            "personas that they show. Removed as high as clean: the site does not carry what the markers count.",
            {"condition": {name: self.level(name).describe() for name in CONDITIONS}},
            reference=0.0,
        )
        cells = self.design.cells
        rows: list[list[str | float | None]] = [
            [cells[i].id, *(self.texts[name][i] for name in CONDITIONS)] for i in range(min(SAMPLES, len(cells)))
        ]
        caption = f"The first {len(rows)} cells, {self.tokens} tokens, under every condition."
        texts = Table(caption, ["cell", *CONDITIONS], rows)
        return markers.titled("Personas in what is said"), texts.titled("Texts side by side")
