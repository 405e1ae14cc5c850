"""What several runs say, in sentences: which findings hold where, and what changed along the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from auditkit.report.several.matrix import (
    DECIDED,
    MEASURED,
    SEVERAL,
    STATES,
    ClaimInRun,
    ClaimInRuns,
    Scorecard,
    State,
)

Course = Literal["stops holding", "is no longer shown", "goes back and forth", "begins to hold"]
COURSES: dict[Course, str] = {
    "stops holding": "stop holding",
    "is no longer shown": "are no longer shown",
    "goes back and forth": "go back and forth",
    "begins to hold": "begin to hold",
}
"""How a claim can change along the order, the worst first -> the same of several claims."""


@dataclass(frozen=True)
class Changed:
    """A claim whose answer is another in later runs than in earlier ones."""

    course: Course
    row: ClaimInRuns
    sentence: str


def sentences(card: Scorecard) -> list[str]:
    """The first sentence answers: which claims change along the order, or that none does."""
    if not card.rows:
        return ["Nothing was compared: no run holds a claim."]
    changes = changed(card)
    counts = Counter(change.course for change in changes)
    said = [
        f"{counts[course]} {course if counts[course] == 1 else several}"
        for course, several in COURSES.items()
        if counts[course]
    ]
    count = len(card.rows)
    claims = "1 claim" if count == 1 else f"{count} claims"
    span = f"from {card.labels[0]} to {card.labels[-1]}"
    if said:
        first = f"Of {claims}, {_joined(said)} {span}."
    elif any(set(row.states()) & set(DECIDED) for row in card.rows):
        first = f"No claim is shown to change {span}."
    else:
        first = f"Nothing can be said: none of {claims} is decided in any run."
    return [said for said in (first, _everywhere(card), _most(card), *_apart(card)) if said]


def changed(card: Scorecard) -> list[Changed]:
    """Claims that change along the order, the worst first."""
    found = [change for row in card.rows if (change := _course(card, row)) is not None]
    return sorted(found, key=lambda change: list(COURSES).index(change.course))


def not_joined(card: Scorecard) -> dict[tuple[int, str], list[ClaimInRuns]]:
    """Run and reason -> the claims that the run asked in another way than most runs."""
    found: dict[tuple[int, str], list[ClaimInRuns]] = {}
    for row in card.rows:
        for cell in row.cells:
            if cell.otherwise:
                found.setdefault((cell.run, cell.otherwise), []).append(row)
    return found


def tally(rows: Sequence[ClaimInRuns], run: int) -> dict[State, int]:
    """State -> so many claims of a run, for states that occur; claims that were asked otherwise are counted too."""
    counts = Counter(row.cells[run].state for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}


def counted(state: State, count: int) -> str:
    """ "1 holds", "2 hold", "3 undecided"."""
    return f"{count} {state if count == 1 else SEVERAL.get(state, state)}"


def unlike(row: ClaimInRuns) -> bool:
    """Whether the first and the last number of a claim have intervals that do not overlap."""
    ends = [cell.effect for cell in row.cells if cell.joined and cell.effect is not None]
    known = [effect for effect in ends if effect.lower is not None and effect.upper is not None]
    if len(known) < 2:
        return False
    first, last = known[0], known[-1]
    assert first.lower is not None
    assert first.upper is not None
    assert last.lower is not None
    assert last.upper is not None
    return first.upper < last.lower or last.upper < first.lower


def _everywhere(card: Scorecard) -> str:
    """How many claims hold in all runs, in none, in some; and how many are decided in no run."""
    total = len(card.runs)
    counts: Counter[str] = Counter()
    for row in card.rows:
        states = row.states()
        complete = len(states) == total
        if complete and set(states) == {"holds"}:
            counts["all"] += 1
        elif complete and set(states) == {"does not hold"}:
            counts["none"] += 1
        elif {"holds", "does not hold"} <= set(states):
            counts["both"] += 1
        elif set(states) & set(DECIDED):
            counts["some"] += 1
        else:
            counts["never"] += 1
    words = {
        "all": ("holds", "hold", f"in all {total} runs"),
        "none": ("holds", "hold", "in none of them"),
        "both": ("holds", "hold", "in some and not in others"),
        "some": ("is", "are", "decided in some of the runs only"),
        "never": ("is", "are", "decided in no run"),
    }
    said = [
        f"{counts[key]} {one if counts[key] == 1 else more} {where}"
        for key, (one, more, where) in words.items()
        if counts[key]
    ]
    return f"By verdict, {_joined(said)}."


def _most(card: Scorecard) -> str:
    """Which run holds most claims and which fewest, among the answers that are joined."""
    held = [
        sum(row.cells[run].joined and row.cells[run].state == "holds" for row in card.rows) for run in _alike(card)
    ]
    if not held or max(held) == min(held):
        return ""
    most, fewest = (card.labels[_alike(card)[held.index(of(held))]] for of in (max, min))
    return f"{most} holds the most claims ({max(held)} of {len(card.rows)}), {fewest} the fewest ({min(held)})."


def _alike(card: Scorecard) -> list[int]:
    """Runs that were asked as most runs were, in every claim that they hold."""
    apart = {run for run, _ in not_joined(card)}
    return [run for run in range(len(card.runs)) if run not in apart]


def _apart(card: Scorecard) -> list[str]:
    """One sentence for what is not joined, and one for what is not measured."""
    said = []
    apart = not_joined(card)
    if apart:
        runs = sorted({run for run, _ in apart})
        cells = sum(map(len, apart.values()))
        named = _joined([card.labels[run] for run in runs])
        said.append(
            f"{cells} answers of {named} were asked in another way than those of the other runs; they are shown apart "
            "and not counted together."
        )
    unsaid = sum(cell.state not in MEASURED for row in card.rows for cell in row.cells)
    if unsaid:
        total = len(card.rows) * len(card.runs)
        said.append(
            f"{unsaid} of {total} answers are missing, since the claim does not apply to the model, was not asked, "
            "could not be read or is not in the run; none of them counts as a claim that holds."
        )
    return said


def _course(card: Scorecard, row: ClaimInRuns) -> Changed | None:
    """How a claim changes along the order; None where it does not, or where that cannot be said."""
    decided = [cell for cell in row.cells if cell.joined and cell.state in DECIDED]
    if not decided:
        return None
    holds = [cell.state == "holds" for cell in decided]
    turns = [place for place in range(1, len(holds)) if holds[place] != holds[place - 1]]
    if len(turns) > 1:
        where = _joined([_label(card, cell) for cell in decided if cell.state == "holds"])
        sentence = (
            f"It holds in {where}, and not in {_joined([_label(card, c) for c in decided if c.state != 'holds'])}."
        )
        return Changed("goes back and forth", row, sentence)
    if turns:
        before, after = decided[turns[0] - 1], decided[turns[0]]
        word = "holds" if holds[0] else "does not hold"
        then = "holds" if holds[-1] else "does not hold"
        sentence = f"It {word} up to {_label(card, before)} and {then} from {_label(card, after)} on.{_moved(row)}"
        return Changed("stops holding" if holds[0] else "begins to hold", row, sentence)
    last = [cell for cell in row.cells if cell.joined][-1]
    if holds[-1] and last.state not in DECIDED:
        sentence = (
            f"It last holds in {_label(card, decided[-1])}, and in {_label(card, last)} it is {_put(last.state)}."
        )
        return Changed("is no longer shown", row, sentence)
    return None


def _moved(row: ClaimInRuns) -> str:
    if not row.effect:
        return ""
    return (
        " The intervals of the first and the last number do not overlap."
        if unlike(row)
        else " The intervals of the first and the last number overlap."
    )


def _put(state: State) -> str:
    return {"does not apply": "not applicable", "not in this run": "not in the run"}.get(state, state)


def _label(card: Scorecard, cell: ClaimInRun) -> str:
    return card.labels[cell.run]


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
