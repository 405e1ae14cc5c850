"""Which claims of a run can be cited for which item of a framework, read from frameworks.toml beside this module.

The table is evidence and no judgement: it lists failed and undecided claims as it lists those that pass, and an item
for which a run holds no claim stands there with none.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files

import msgspec

from auditkit.record.escaping import cell
from auditkit.record.escaping import markdown as text
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.report import wording

EVERY = "*"
"""Stands for every suite."""
NOTHING = "nothing: no claim was measured to a verdict or an interval"
_MEASURED = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item of a framework, and the suites whose claims speak to it."""

    framework: str
    item: str
    asks: str
    suites: tuple[str, ...]
    speaks: str
    needs: str = ""
    """"baseline": only of runs that compare with one."""


class Frameworks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole table."""

    frameworks: dict[str, str]
    """Name -> the edition that the items are of."""
    items: tuple[Item, ...]


@cache
def known() -> Frameworks:
    """The table as it is installed."""
    read = files("auditkit.report.evidence").joinpath("frameworks.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(read), Frameworks)


def cited(run: Run, item: Item) -> list[Claim]:
    """The claims of a run that can be cited for an item: those of its suites that this run measured or tried to."""
    if item.needs == "baseline" and run.baseline is None:
        return []
    return [claim for claim in run.claims if EVERY in item.suites or claim.suite in item.suites]


def render_correspondence(run: Run) -> str:
    """The table as Markdown."""
    return "\n".join(_lines(run))


def render_correspondence_csv(run: Run) -> str:
    """A row for each item and claim, for a spreadsheet; an item without a claim has one row without."""
    sink = io.StringIO(newline="")
    table = csv.writer(sink)
    table.writerow(["framework", "item", "claim", "verdict", "evidence of"])
    for item in known().items:
        claims: list[Claim | None] = [*cited(run, item)]
        for claim in claims or [None]:
            verdict = "" if claim is None else wording.WORDS[claim.verdict]
            of = item.speaks if claim is not None and claim.verdict in _MEASURED else ""
            said = [item.framework, item.item, "" if claim is None else claim.id, verdict, of]
            table.writerow([cell(one) for one in said])
    return sink.getvalue()


def _lines(run: Run) -> Iterator[str]:
    yield "# Which claims speak to which item\n"
    yield (
        "This table is evidence, and no statement of compliance. It says for which item of a framework a claim of this "
        "run can be cited, whatever the claim came to. Whether an item is met is for whoever answers for the system to "
        "say; it needs more than measurements of a model. `correspondence.csv` names each claim.\n"
    )
    own = sorted({claim.suite for claim in run.claims} - {suite for one in known().items for suite in one.suites})
    if own:
        yield f"Of these suites only the rows for every claim are known: {text(', '.join(own))}.\n"
    for framework, edition in known().frameworks.items():
        yield f"## {text(framework)}\n\n{text(edition)}\n"
        yield "| Item | It asks for | Claims of this run | They are evidence of |\n| --- | --- | --- | --- |"
        for item in known().items:
            if item.framework == framework:
                yield _row(item, cited(run, item))
        yield ""


def _row(item: Item, claims: Sequence[Claim]) -> str:
    counts = Counter(claim.verdict for claim in claims)
    said = ", ".join(f"{counts[verdict]} {wording.WORDS[verdict]}" for verdict in Verdict if counts[verdict])
    where = "of every suite" if EVERY in item.suites else ", ".join(dict.fromkeys(claim.suite for claim in claims))
    held = f"{len(claims)} ({where}): {said}" if claims else "none"
    speaks = (
        item.speaks if any(counts[verdict] for verdict in _MEASURED) else NOTHING if claims else wording.MISSING
    )
    return "| " + " | ".join(text(part) for part in (item.item, item.asks, held, speaks)) + " |"
