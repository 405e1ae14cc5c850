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
    from auditkit.record.escaping import plain
    from auditkit.record.store import RecordError

    try:
        folder = folder_of(arguments.run, arguments.audit_dir)
        note_if_old(folder)
        run = require_verified(folder)
    except RecordError as error:
        return unusable(error)
    found = list(forecasts(run))
    say(plain(line) for line in (*_costs(run), "", *_table(found), "", *_open(found)))
    return 0


def _costs(run: Run) -> list[str]:
    from auditkit.record.plan import EFFORTS

    layers, seconds = (
        sum(getattr(claim.cost, name) for claim in run.claims) for name in ("token_layers", "seconds")
    )
    own = run.plan.settings.get("effort", "standard")
    lines = [
        f"{run.model.name}, effort {own}: {len(run.claims)} claims took {layers / 1e6:.1f} million token-layers and "
        f"{_time(seconds)} here"
    ]
    for effort, share in EFFORTS.items():
        if effort != own:
            times = share / EFFORTS[own]
            lines.append(
                f"--effort {effort}: about {times:g} times that, {layers * times / 1e6:.1f} million token-layers and "
                f"{_time(seconds * times)}"
            )
    return lines


def _table(found: list[ClaimForecast]) -> list[str]:
    from auditkit.record.plan import EFFORTS

    head = f"{'claim':58}{'verdict':14}{'distance':>10}{'half-width':>12}"
    lines = [head + "".join(f"{effort:>10}" for effort in EFFORTS)]
    for one in found:
        name = one.claim.id if len(one.claim.id) <= 56 else f"{one.claim.id[:53]}..."
        powers = "".join(f"{one.power[effort]:>10.0%}" for effort in EFFORTS)
        row = f"{name:58}{one.claim.verdict:14}{one.distance:>10.3g}{one.half_width:>12.3g}{powers}"
        lines.append(row)
    return [
        *lines,
        "distance: of the estimate from its threshold; percent: chance that this comparison is decided",
    ]


def _open(found: list[ClaimForecast]) -> list[str]:
    undecided = [one for one in found if one.claim.verdict == "INCONCLUSIVE"]
    if not undecided:
        return ["no claim is undecided"]
    never = [one for one in undecided if max(one.power.values()) < NEVER]
    said = f"{len(undecided)} claims are undecided"
    if not never:
        return [said]
    names = ", ".join(one.claim.id for one in never)
    return [
        f"{said}; {len(never)} of them would stay so at any effort (chance below {NEVER:.0%}), since the estimate lies "
        f"near its threshold: {names}"
    ]


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
