"""As X, do Y: the four cells of persona and task, and the states at the sites where they are added up (Xu 2026,
arXiv:2605.23147).

One user turn, "As {persona}, {task}", in the model's own template. X is a persona and Y a task; B stands for the
neutral baseline of either. Four prompts, BB, XB, BY and XY, give four states at a site, and from them

    dX = h_XB - h_BB      dY = h_BY - h_BB      dXY = h_XY - h_BB      interaction = dXY - dX - dY

If persona and task add up, h_XB + h_BY - h_BB is h_XY. The four prompts have different lengths, so sites are counted
from the end:

    p_user_last   the last token before what opens the answer
    p_last        the last token of the prompt
    g1, g2        the first and the second token of the answer

At g1 and g2 the tokens of XY's own greedy answer stand behind all four prompts, so that the token at a site is the
same. A state is the input of a block (`block_input`), 0-based.

By default every persona and every task of the project's own grid stands in one cell. Cells of one persona or one task
resemble each other, so a cell of a new persona and a new task says most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Component, Continuable
from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.continuation.shared_prefix import KEPT_TOKENS, Heads, run_heads
from auditkit.engine.sites import block_input
from auditkit.findings.persona_composition.prompts import LEAST, GridPersona, PersonaGrid, asked
from auditkit.stats.design import incomplete_crossing
from auditkit.stats.streams import stream

SITES = ("p_user_last", "p_last", "g1", "g2")
DEPTHS = (0.25, 0.40, 0.55, 0.70, 0.85)
"""The paper's layers as fractions of the depth."""
WINDOW = 10
"""Tokens over which predictions are compared."""
CELLS = 20
"""Cells of the project's own grid, where nobody says how many: 20 personas and 20 tasks, each once."""
FACTORS = ("persona", "task")


@dataclass(frozen=True)
class PersonaTask:
    """A persona with a task."""

    persona: GridPersona
    task: str
    """Its name."""

    @property
    def id(self) -> str:
        return f"{self.persona.name}+{self.task}"


class Design:
    """Which cells are measured, and their prompts.

    Args:
        seed: of the draw, by which each persona meets a task first, then another, and so on.
        n_cells: so many of the grid's, which meet every persona and every task as early as can be; all of them where
            None. More cells contain the fewer.

    Raises:
        NotApplicable: a template that has no generation prompt, so that nothing stands between turn and answer.
        Inconclusive: fewer than three personas or tasks.
    """

    def __init__(self, adapter: Adapter, grid: PersonaGrid, *, seed: int = 0, n_cells: int | None = None) -> None:
        self.adapter, self.grid, self.seed = adapter, grid, seed
        if min(len(grid.personas), len(grid.tasks)) < LEAST:
            raise Inconclusive(
                f"too_few_clusters: {len(grid.personas)} personas and {len(grid.tasks)} tasks; without {LEAST} of each "
                "nothing is measured, and without 5 nothing is decided"
            )
        self.header = adapter.chat.opening(Chat(asked(grid.baseline, grid.baseline_task)))
        if not self.header:
            raise Unsupported(
                "the chat template adds no generation prompt, so there is no place between the user's turn and the "
                "answer; give a model whose template does"
            )
        people = {persona.name: persona for persona in grid.personas}
        order = sorted(people, key=lambda name: stream(seed, "order of the personas", name).random())
        dealt = incomplete_crossing(order, list(grid.tasks), len(grid.tasks), seed=seed, name="composition")
        self.cells = tuple(PersonaTask(people[name], task) for name, task in dealt[: n_cells or None])

    def prompt(self, persona: str, task: str) -> Prompt:
        """The prompt of two texts."""
        return self.adapter.chat(Chat(asked(persona, task)))

    def text(self, task: str) -> str:
        """Of a task by name."""
        return self.grid.tasks[task]

    def filler(self, persona: str) -> str:
        """The beginning of the grid's filler whose tokens are nearest in number to those of `persona`."""
        words = self.grid.filler.split()
        task = self.grid.baseline_task
        wanted = len(self.prompt(persona, task))
        some = [" ".join(words[:n]).rstrip(",") for n in range(2, len(words) + 1)]
        return min(some, key=lambda text: (abs(len(self.prompt(text, task)) - wanted), len(text)))

    @shared_measurement
    def fillers(self) -> Mapping[str, str]:
        """Persona -> filler of its length."""
        return {persona.name: self.filler(persona.text) for persona in {c.persona: None for c in self.cells}}


class Cells:
    """Cells with their answers and states; what was measured once is not measured again.

    Args:
        depths: at which layers, as fractions of the depth.
    """

    def __init__(self, design: Design, *, depths: Sequence[float] = DEPTHS) -> None:
        self.design, self.adapter, self.seed = design, design.adapter, design.seed
        self.depths = tuple(depths)
        self.layers = tuple(
            dict.fromkeys(block_input.at_depth(d, d).layer_indices(self.adapter.layers)[0] for d in depths)
        )
        self._states: dict[tuple[Prompt, ...], Tensor] = {}
        self.dropped: tuple[str, ...] = ()
        self._answered()

    def layer(self, depth: float) -> int:
        """The measured layer that is nearest to a fraction of the depth."""
        return min(self.layers, key=lambda layer: abs(layer - depth * self.adapter.layers))

    def _answered(self) -> None:
        """Greedy answers of all cells; those whose answer is too short for every window are left out.

        Raises:
            Inconclusive: too few are left.
        """
        cells = self.design.cells
        prompts = [self.design.prompt(cell.persona.text, self.design.text(cell.task)) for cell in cells]
        needed = WINDOW + 2
        said = generate(self.adapter, prompts, needed, description="answers")
        kept, dropped = [], []
        for i, tokens in enumerate(said.tokens):
            content = len(tokens) - (tokens[-1] in self.adapter.ends)
            if content == 0:
                dropped.append(f"{cells[i].id}: the answer is empty")
            elif len(tokens) < needed:
                dropped.append(f"{cells[i].id}: the answer ends after {content} tokens")
            else:
                kept.append(i)
        self.dropped = tuple(dropped)
        self.cells = tuple(cells[i] for i in kept)
        counts = [len({c.persona.name for c in self.cells}), len({c.task for c in self.cells})]
        if min(counts) < LEAST:
            why = f"; left out: {'; '.join(dropped[:3])}" if dropped else ""
            raise Inconclusive(
                f"too_few_clusters: {len(kept)} cells of {counts[0]} personas and {counts[1]} tasks have answers of "
                f"{needed} tokens, at least {LEAST} of each are needed{why}"
            )
        self.prompts = tuple(prompts[i] for i in kept)
        self.answers = tuple(said.tokens[i] for i in kept)
        self.table = pd.DataFrame(
            [(cell.persona.name, cell.task) for cell in self.cells],
            index=pd.Index([cell.id for cell in self.cells], name="item"),
            columns=list(FACTORS),
        )

    def notes(self) -> tuple[str, ...]:
        """Which cells, layers and sites were measured."""
        design = self.design
        layers = ", ".join(f"{n} ({depth:g})" for n, depth in zip(self.layers, self.depths, strict=False))
        measured = (
            f"{len(self.cells)} cells of {self.table['persona'].nunique()} personas and {self.table['task'].nunique()} "
            f"tasks; block inputs of layers {layers}; the answer is opened by {design.header} tokens; windows of "
            f"{WINDOW} tokens"
        )
        return (measured, f"cells left out: {'; '.join(self.dropped)}") if self.dropped else (measured,)

    # -- states ------------------------------------------------------------------------------------------------

    def states(self, prompts: Sequence[Prompt]) -> Tensor:
        """(cell, site, layer, width) in float32: what one prompt per cell has at the sites, with XY's tokens behind it.

        The token at a site is the same as in XY's run: where a template ends the turns of two prompts differently,
        nothing can be compared.
        """
        key = tuple(prompts)
        if key not in self._states:
            self._states[key] = self._read(key, self.answers, self._own if key == self.prompts else None)
        return self._states[key]

    def some(self, rows: Sequence[int], texts: Sequence[tuple[str, str]]) -> Tensor:
        """(row, site, layer, width) the same for some of the cells, each under another persona and task by text. A
        prompt that comes several times is run once, with the answers of these cells behind it."""
        prompts = [self.design.prompt(*pair) for pair in texts]
        return self._read(prompts, [self.answers[row] for row in rows], self._begun(prompts))

    def _begun(self, prompts: Sequence[Prompt]) -> Heads | None:
        """Runs of these prompts up to the sites, from which states are read and patched; None where the model cannot go
        on from a run, or where there are too many to be kept."""
        heads = [self._head(prompt) for prompt in dict.fromkeys(prompts)]
        able = self.adapter.support().get(Capability.GENERATION)
        if not able or sum(map(len, heads)) > KEPT_TOKENS:
            return None
        return run_heads(cast(Continuable, self.adapter), heads)

    @shared_measurement
    def _own(self) -> Heads | None:
        return self._begun(self.prompts)

    def _head(self, prompt: Prompt) -> tuple[int, ...]:
        return prompt.ids[: len(prompt) - self.design.header - 1]

    def _read(
        self, prompts: Sequence[Prompt], answers: Sequence[tuple[int, ...]], known: Heads | None = None
    ) -> Tensor:
        # The third token is predicted and not read.
        tails = Tails(
            self.adapter,
            prompts,
            [answer[:3] for answer in answers],
            [len(self._head(prompt)) for prompt in prompts],
            known=known,
        )
        read = tails.read([(Component.BLOCK_INPUT, layer) for layer in self.layers])
        at = [self.offset(site) for site in SITES]
        return torch.stack(
            [
                torch.stack([row[Component.BLOCK_INPUT, layer][at].float().cpu() for layer in self.layers], 1)
                for row in read
            ]
        )

    def offset(self, site: str) -> int:
        """Tokens from p_user_last to a site."""
        return {"p_user_last": 0, "p_last": self.design.header}.get(
            site, self.design.header + int(site[-1] == "2") + 1
        )

    def of(self, persona: str | Sequence[str] | None, task: str | Sequence[str] | None) -> Tensor:
        """States under personas and tasks by text: one for all cells, or one for each; None is the cell's own."""
        personas = [cell.persona.text for cell in self.cells] if persona is None else persona
        tasks = [self.design.text(cell.task) for cell in self.cells] if task is None else task
        count = len(self.cells)
        texts = zip(_for_each(personas, count), _for_each(tasks, count), strict=True)
        return self.states([self.design.prompt(*pair) for pair in texts])

    @property
    def xy(self) -> Tensor:
        """(cell, site, layer, width) h_XY."""
        return self.of(None, None)

    @property
    def xb(self) -> Tensor:
        """h_XB."""
        return self.of(None, self.design.grid.baseline_task)

    @property
    def by(self) -> Tensor:
        """h_BY."""
        return self.of(self.design.grid.baseline, None)

    @property
    def bb(self) -> Tensor:
        """h_BB."""
        return self.of(self.design.grid.baseline, self.design.grid.baseline_task)

    # -- windows -----------------------------------------------------------------------------------------------

    def tails(self, site: str, prompts: Sequence[Prompt] | None = None) -> Tails:
        """Runs cut at a site, read over the window behind it: XY's own, or those of other prompts (one per cell).

        The window of p_user_last and p_last is answer tokens 1 to 10, that of g1 2 to 11, that of g2 3 to 12.
        """
        given = {"g1": 1, "g2": 2}.get(site, 0)
        back = self.design.header if site == "p_user_last" else 0
        longer = [
            Prompt(prompt.text, (*prompt.ids, *answer[:given]))
            for prompt, answer in zip(prompts or self.prompts, self.answers, strict=True)
        ]
        return Tails(
            self.adapter,
            longer,
            [answer[given : given + WINDOW] for answer in self.answers],
            [len(prompt) - 1 - back for prompt in longer],
            known=self._own if prompts is None else None,
        )


def _for_each(texts: str | Sequence[str], count: int) -> Sequence[str]:
    return [texts] * count if isinstance(texts, str) else texts
