"""`auditkit plan`: what a recorded run would decide at each effort, and what that costs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from auditkit.cli.shared import RUN, folder_of, note_if_old, say, unusable, with_reports

if TYPE_CHECKING:
    from auditkit.gate.forecast import ClaimForecast
    from auditkit.record.schema import Run

NEVER = 0.2
"""Power at the highest effort below which a claim is said to stay open."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    plan = commands.add_parser(
        "plan", help="what a recorded run would decide at each --effort, and what that costs; needs no model"
    )
    plan.add_argument("run", metavar="RUN", help=RUN)
    plan.set_defaults(command=_plan)
    with_reports(plan)


def _plan(arguments: argparse.Namespace) -> int:
    from auditkit.gate.forecast import forecasts
    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError

    note_if_old(arguments.run)  # before the link `latest` is followed
    try:
        run = require_verified(folder_of(arguments.run, arguments.audit_dir))
    except RecordError as error:
        return unusable(error)
    found = list(forecasts(run))
    say([*_costs(run), "", *_table(run, found), "", *_open(found)])
    return 0


def _labels(run: Run) -> dict[str, str]:
    """Effort -> its name in the answer; a run whose number of items was set has none, but a multiple of them."""
    from auditkit.record.plan import EFFORTS

    sized = run.plan.settings.get("items", "None") != "None"
    return {effort: f"x {share:g}" if sized else effort for effort, share in EFFORTS.items()}


def _costs(run: Run) -> list[str]:
    from auditkit.gate.forecast import own_share
    from auditkit.record.escaping import plain
    from auditkit.record.plan import EFFORTS

    layers = sum(claim.cost.token_layers for claim in run.claims)
    seconds = sum(claim.cost.seconds for claim in run.claims)
    lines = [
        f"{plain(run.model.name)}: {len(run.claims)} claims took {layers / 1e6:.1f} million token-layers and "
        f"{_time(seconds)} here"
    ]
    for effort, label in _labels(run).items():
        times = EFFORTS[effort] / own_share(run)
        lines.append(
            f"{label}: {times:g} times the items, about {layers * times / 1e6:.1f} million token-layers and "
            f"{_time(seconds * times)}"
        )
    return lines


def _table(run: Run, found: list[ClaimForecast]) -> list[str]:
    from auditkit.record.escaping import plain
    from auditkit.record.plan import EFFORTS

    head = f"{'claim':58}{'verdict':14}{'distance':>10}{'half-width':>12}"
    lines = [head + "".join(f"{label:>10}" for label in _labels(run).values())]
    for one in found:
        name = plain(one.claim.id)  # here, since it would take the columns for spaces too many
        name = name if len(name) <= 56 else f"{name[:53]}..."
        powers = "".join(f"{one.power[effort]:>10.0%}" for effort in EFFORTS)
        row = f"{name:58}{one.claim.verdict:14}{one.distance:>10.3g}{one.half_width:>12.3g}{powers}"
        lines.append(row)
    return [
        *lines,
        "distance: of the estimate from its threshold; percent: chance that this comparison is decided",
    ]


def _open(found: list[ClaimForecast]) -> list[str]:
    from auditkit.record.escaping import plain

    undecided = [one for one in found if one.claim.verdict == "INCONCLUSIVE"]
    if not undecided:
        return ["no claim is undecided"]
    never = [one for one in undecided if max(one.power.values()) < NEVER]
    said = f"{len(undecided)} claims are undecided"
    if not never:
        return [said]
    names = plain(", ".join(one.claim.id for one in never))
    return [
        f"{said}; {len(never)} of them would stay so at any effort (chance below {NEVER:.0%}), since the estimate lies "
        f"near its threshold: {names}"
    ]


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
