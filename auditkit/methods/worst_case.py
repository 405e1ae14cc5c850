"""Worst-case search: the example of a Hypothesis strategy that moves a score most, and the smallest that moves it
too far.

    worst = search(identity_swaps(), distance, prompts, seed=0, name="identity swap", budget=300, epsilon=0.2)
    assert worst.largest() <= 0.2

Averages hide the one prompt that goes wrong. Hypothesis draws examples, is told every score (`hypothesis.target`)
and goes on from the high ones. Then the search is run again from the start on the scores already known, ends at the
first example beyond epsilon, and shrinks it: fewer and simpler parts that still go beyond. Both together stay
within the budget of evaluations, and everything follows from the seed. This is a search and no proof: what it does
not find may exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pandas as pd

from auditkit.adapters.loading.digests import cache_root
from auditkit.claims.outcomes import Inconclusive
from auditkit.notebook import Showable
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.exact import Exact, exactly
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

BUDGET = 300
SHRINKING = 0.25
"""Part of the budget that is kept for shrinking."""
SHOWN = 5


@dataclass(frozen=True)
class ScoredExample:
    """One evaluated example: its score, and the exact prompts by name."""

    score: float
    prompts: Mapping[str, str]


@dataclass(frozen=True)
class WorstCase(Showable):
    """What a search found.

    Attributes:
        worst: the highest scores, highest first.
        smallest: the simplest example found whose score is above epsilon, or as high as the worst where none is.
        evaluations: distinct examples that were scored, at most `budget`.
        searched: those of them scored before shrinking.
    """

    name: str
    unit: str
    worst: tuple[ScoredExample, ...]
    smallest: ScoredExample | None
    evaluations: int
    searched: int
    budget: int
    epsilon: float | None
    seed: int

    def largest(self) -> Exact:
        """The highest score, compared as it is: of what was evaluated it is the largest, and it speaks of nothing
        else.

        Raises:
            Inconclusive: nothing was evaluated.
        """
        if not self.worst:
            raise Inconclusive(f"no_items: the search for the worst {self.name} evaluated no example")
        top = self.worst[0]
        item = hashlib.sha256("\x1f".join(top.prompts.values()).encode()).hexdigest()[:12]
        table = pd.DataFrame({self.name: [top.score]}, index=[item])
        clusters = pd.DataFrame({"example": [item]}, index=[item])
        measured = Measurement(f"worst {self.name}", self.unit, table, clusters, {item: dict(top.prompts)})
        largest = Estimate(
            f"largest of {self.evaluations} {self.name}s", self.unit, measured, np.array([top.score])
        )
        return exactly(
            largest,
            population=f"the worst of {self.evaluations} evaluated {self.name}s",
            size=1,
            sentence=f"the worst of {self.evaluations} {self.name}s moves the answer by {{value}}",
        )

    def notes(self) -> tuple[str, ...]:
        """How far the search went."""
        return (
            f"this is a search, not a proof: {self.evaluations} {self.name}s were evaluated ({self.searched} in the "
            f"search, the rest in shrinking; budget {self.budget}, seed {self.seed}), and others may be worse",
        )

    def figures(self) -> tuple[Figure, ...]:
        """The worst examples with their exact prompts, in one table."""
        examples = [(f"{k}. largest", found) for k, found in enumerate(self.worst[:SHOWN], 1)]
        if self.smallest is not None:
            over = self.epsilon is not None and self.smallest.score > self.epsilon
            examples.append((f"smallest above {self.epsilon:g}" if over else "smallest as large", self.smallest))
        names = list(examples[0][1].prompts) if examples else []
        table = Table(
            "Each row: one example of the search with the exact prompts that the model saw, and its score "
            f"({self.unit}). The last row is the simplest counterexample that shrinking came to.",
            ["example", "score", *names],
            [[label, found.score, *(found.prompts[name] for name in names)] for label, found in examples],
        )
        return (table.titled(f"Worst {self.name}s found"),)


def search(
    strategy: SearchStrategy[T],
    score: Callable[[T], float],
    prompts: Callable[[T], Mapping[str, str]],
    *,
    seed: int = 0,
    name: str = "example",
    unit: str = "1",
    budget: int = BUDGET,
    epsilon: float | None = None,
    database: Path | None = None,
) -> WorstCase:
    """Look for the example with the highest score, then for a smallest counterexample.

    Args:
        strategy: what examples are drawn from.
        score: of one example; finite, higher is worse. Examples with the same prompts are scored once.
        prompts: name -> exact text of one example, for the report; they also say which examples are the same.
        seed, name: fix the search; another name searches elsewhere.
        budget: evaluations of `score`, shrinking included.
        epsilon: what a counterexample goes beyond; None shrinks the worst found at its own score.
        database: folder of Hypothesis' example database in which counterexamples are kept; under auditkit's cache
            where None. It is written and never read, so that a search does not depend on earlier ones.

    Raises:
        ValueError: a budget below 1, or a score that is not finite.
    """
    if budget < 1:
        raise ValueError(f"a search needs a budget of at least 1 evaluation, got {budget}")
    most = max(1, round(budget * (1 - SHRINKING)))
    scores: _Scores[T] = _Scores(score, prompts, most)
    number = int(stream(seed, "worst case", name).integers(2**32))
    folder = cache_root() / "worst-cases" / name.replace(" ", "-") if database is None else database
    _drive(strategy, scores, most, number, None, folder)
    searched = len(scores.known)
    smallest = None
    if scores.known:
        scores.budget = budget
        worst_found = max(scores.known.values(), key=lambda found: found.score)
        best = worst_found.score
        beyond = epsilon is not None and best > epsilon
        level = np.nextafter(epsilon, np.inf) if beyond and epsilon is not None else best
        smallest = _drive(strategy, scores, most, number, float(level), folder) or worst_found
    worst = sorted(scores.known.values(), key=lambda found: (-found.score, tuple(found.prompts.values())))
    return WorstCase(name, unit, tuple(worst[:SHOWN]), smallest, len(worst), searched, budget, epsilon, seed)


@dataclass
class _Scores(Generic[T]):
    """Scores of examples by their prompts; None once the budget is spent."""

    score: Callable[[T], float]
    prompts: Callable[[T], Mapping[str, str]]
    budget: int
    known: dict[tuple[str, ...], ScoredExample] = field(default_factory=dict)

    def __call__(self, example: T) -> ScoredExample | None:
        texts = self.prompts(example)
        key = tuple(texts.values())
        if key not in self.known:
            if len(self.known) >= self.budget:
                return None
            value = float(self.score(example))
            if not np.isfinite(value):
                raise ValueError(f"the score of an example is {value}; a search needs finite scores")
            self.known[key] = ScoredExample(value, dict(texts))
        return self.known[key]


class _Beyond(Exception):
    """The example goes beyond the level."""


def _drive(
    strategy: Any, scores: _Scores[Any], most: int, seed: int, level: float | None, folder: Path
) -> ScoredExample | None:
    """Let Hypothesis draw and be told the scores; with a level, stop at the first example that reaches it and shrink.

    The second drive has the first one's seed and scores, so it comes by the same examples at no cost.
    """
    import hypothesis
    from hypothesis import HealthCheck, Phase, Verbosity
    from hypothesis.database import DirectoryBasedExampleDatabase
    from hypothesis.errors import Flaky, Unsatisfiable

    last: ScoredExample | None = None

    def drawn(example: Any) -> None:
        nonlocal last
        found = scores(example)
        if found is None:  # the budget is spent
            if level is None:
                hypothesis.reject()
            return
        hypothesis.target(found.score, label="score")
        if level is not None and found.score >= level:
            last = found
            raise _Beyond

    configured = hypothesis.settings(
        max_examples=most,
        phases=(Phase.generate, Phase.target, Phase.shrink),  # no reuse: the seed alone decides
        database=DirectoryBasedExampleDatabase(folder),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
        report_multiple_bugs=False,
    )
    # Settings come after the seed, which would take the database away.
    decorators: tuple[Any, ...] = (hypothesis.given(strategy), hypothesis.seed(seed), configured)
    run: Any = drawn
    for decorate in decorators:
        run = decorate(run)
    try:
        run()
    except (_Beyond, Flaky):
        pass
    except Unsatisfiable as error:
        if not scores.known:
            raise Inconclusive("the search could draw no example from its strategy") from error
    return last
