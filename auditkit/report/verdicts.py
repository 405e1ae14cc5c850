"""The verdicts of a recorded run, for a notebook: the sentence that answers, a table, and how far from the thresholds.

verdicts("reports/latest")
verdicts("reports/latest").to_frame()
verdicts("reports/latest").plot("induction")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auditkit.notebook import Plot, Showable
from auditkit.record.figures import Dot, DotGroup, Dots
from auditkit.record.schema import Claim, Figure, Run
from auditkit.record.store import read_run
from auditkit.report import wording
from auditkit.report.answers.headline import answer
from auditkit.report.figures.forest import FIRST, LAST, scale_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Verdicts(Showable):
    """The claims of a run with their verdicts.

    Attributes:
        run: the whole record.
    """

    run: Run

    def in_words(self) -> str:
        return f"{self.run.model.name}, seed {self.run.seed}: {answer(self.run).sentence}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each claim: verdict and reason, and the effect that decides with its threshold."""
        import pandas as pd

        shown = ("estimate", "lower", "upper", "unit", "relation", "threshold", "n", "clusters")
        return pd.DataFrame(
            [
                {
                    "suite": claim.suite,
                    "claim": claim.id.partition("/")[2],
                    "verdict": wording.WORDS[claim.verdict],
                }
                | {name: getattr(claim.effect, name, None) for name in shown}
                | {"reason": claim.reason, "statement": claim.statement}
                for claim in self.run.claims
            ]
        )

    def figures(self, suite: str = "") -> tuple[Figure, ...]:
        """How far each effect lies from its threshold, the claimed side to the right, by suite.

        Args:
            suite: only this one.

        Raises:
            ValueError: a suite that the run does not have.
        """
        suites = wording.suites(self.run)
        if suite and suite not in suites:
            raise ValueError(f"no suite '{suite}' in this run, only {', '.join(suites)}")
        groups = [
            DotGroup(name, [dot for claim in claims if (dot := _dot(claim)) is not None])
            for name, claims in suites.items()
            if suite in ("", name)
        ]
        caption = (
            "Each row is the effect that decides a claim, with its interval. The dashed line is the claim's threshold, "
            "and right of it is the claimed side. One unit is as much as the threshold itself; where that is 0, half "
            "the width of the interval. What lies further away is drawn at the end of the axis."
        )
        label = "distance from the threshold, in units of the threshold"
        return (Dots(label, caption, [group for group in groups if group.dots], reference=0.0).titled("Verdicts"),)

    def figures_of(self, claim: str) -> Plot:
        """The figures that a claim recorded.

        Args:
            claim: its name, with or without "suite/" before it.

        Raises:
            ValueError: a claim that the run does not have, or a name that two suites have.
        """
        found = [one for one in self.run.claims if claim in (one.id, one.id.partition("/")[2])]
        if len(found) != 1:
            there = ", ".join(one.id for one in (found or self.run.claims))
            raise ValueError(f"{len(found)} claims are called '{claim}'; give one of {there}")
        return Plot(found[0].figures)


def verdicts(run: Run | Path | str) -> Verdicts:
    """The verdicts of a run.

    Args:
        run: the record, its folder, or its audit.json.

    Raises:
        RecordError: as `read_run`.
    """
    return Verdicts(run if isinstance(run, Run) else read_run(run))


def _dot(claim: Claim) -> Dot | None:
    """The claim's effect in units from its threshold, kept inside the axis of a report's forest plot."""
    effect = claim.effect
    scale = None if effect is None else scale_of(effect)
    if effect is None or scale is None or effect.estimate is None:
        return None
    name = f"{wording.GLYPHS[claim.verdict]} {claim.id.partition('/')[2].replace('_', ' ')}"
    placed = [
        None if end is None else min(max(scale.units(end), FIRST), LAST) for end in (effect.lower, effect.upper)
    ]
    lower, upper = placed if scale.unit > 0 else placed[::-1]
    return Dot(name, min(max(scale.units(effect.estimate), FIRST), LAST), lower, upper)
