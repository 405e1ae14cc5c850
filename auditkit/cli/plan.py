"""`auditkit plan`: what a recorded run would decide at each effort, and what a run that is not made yet will."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auditkit.cli.shared import RUN, folder_of, note_if_old, refused, say, unusable, with_reports

if TYPE_CHECKING:
    from auditkit.gate.forecast import ClaimForecast
    from auditkit.gate.planned import ClaimPlan
    from auditkit.record.schema import Run

NEVER = 0.2
"""Power at the highest effort below which a claim is said to stay open."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    plan = commands.add_parser(
        "plan",
        help="say what a run of suites on a model could decide, or what a recorded run would at each --effort; "
        "opens no model",
    )
    plan.add_argument(
        "what", nargs="*", metavar="RUN|SUITE", help=f"{RUN}; with --model: suites to be measured (default: all)"
    )
    plan.add_argument("--model", metavar="SPEC", help="plan a run of suites on this model")
    plan.add_argument("--effort", choices=["quick", "standard", "thorough"], default="standard")
    plan.add_argument(
        "--power",
        type=float,
        metavar="P",
        help="end with exit code 10 where the power of a claim at --effort is below P, such as 0.8",
    )
    plan.set_defaults(command=_plan)
    with_reports(plan)


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.model is not None:
        return _ahead(arguments)
    if len(arguments.what) != 1 or arguments.power is not None:
        return refused("plan: give one recorded run, or --model SPEC and suites; --power goes with --model")
    return _recorded(arguments.what[0], arguments.audit_dir)


def _recorded(text: str, reports: Path) -> int:
    from auditkit.gate.forecast import forecasts
    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError

    note_if_old(text)  # before the link `latest` is followed
    try:
        run = require_verified(folder_of(text, reports))
    except RecordError as error:
        return unusable(error)
    found = list(forecasts(run))
    say([*_costs(run), "", *_table(run, found), "", *_open(found)])
    return 0


def _ahead(arguments: argparse.Namespace) -> int:
    """Plan a run that is not made yet, by the variances of an earlier one."""
    from auditkit.gate.planned import earlier, planned, reference
    from auditkit.record.naming import told_apart

    model, power = told_apart([arguments.model])[0], arguments.power
    if power is not None and not 0 < power < 1:
        return refused(f"plan: --power {power:g} is no chance between 0 and 1, such as 0.8")
    asked = [Path(text).name for text in arguments.what] or sorted(reference().suites())
    found: list[ClaimPlan] = []
    runs = earlier(arguments.audit_dir, model, asked)
    for suite in dict.fromkeys(asked):
        before = runs.get(suite)
        if before is None:
            known = ", ".join(sorted(reference().suites()))
            return refused(
                f"plan: no variances are known for {suite}: the package has them for {known}; for a suite of your own, "
                f"record a run of it on {model} first"
            )
        say([f"{suite}: by the variances of {before.named()}"])
        found += planned(before, suite)
    weak = [one for one in found if power is not None and one.power[arguments.effort] < power]
    say(["", *_planned(found), "", *_cannot(found, arguments.effort), *_weak(weak, power, arguments.effort)])
    return 10 if weak else 0


def _planned(found: Sequence[ClaimPlan]) -> Iterator[str]:
    from auditkit.record.escaping import plain
    from auditkit.record.plan import EFFORTS

    yield f"{'claim':58}{'needs':>12}" + "".join(f"{f'±, {effort}':>13}{'power':>7}" for effort in EFFORTS)
    for one in found:
        needs = f"{one.effect.relation} {one.effect.threshold:.3g}"
        columns = "".join(f"{one.half_width[effort]:>13.3g}{one.power[effort]:>7.0%}" for effort in EFFORTS)
        yield f"{_short(plain(one.claim)):58}{needs:>12}{columns}"
    yield (
        "needs: what the hardest comparison of the claim is held to; ±: half-width of its interval, in the effect's "
        "unit; power: chance that it is decided (for 'within': that it passes) if there is no difference, and for "
        "other relations if the effect is as large as in the earlier run"
    )


def _cannot(found: Sequence[ClaimPlan], effort: str) -> Iterator[str]:
    from auditkit.gate.planned import cannot_pass, cannot_pass_in_words
    from auditkit.record.escaping import plain

    claims = cannot_pass(found, effort)
    if claims:
        yield plain(cannot_pass_in_words(claims, effort))


def _weak(weak: Sequence[ClaimPlan], power: float | None, effort: str) -> Iterator[str]:
    from auditkit.record.escaping import plain

    if weak:
        names = ", ".join(f"{one.claim} ({one.power[effort]:.0%})" for one in weak)
        yield plain(f"at {effort}, {len(weak)} claims have a power below {power:.0%}: {names}")


def _labels(run: Run) -> dict[str, str]:
    """Effort -> its name in the answer; a run whose number of items was set has none, but a multiple of them."""
    from auditkit.record.plan import EFFORTS

    sized = run.plan.settings.get("items", "None") != "None"
    return {effort: f"x {share:g}" if sized else effort for effort, share in EFFORTS.items()}


def _costs(run: Run) -> list[str]:
    from auditkit.gate.forecast import own_share
    from auditkit.record.escaping import plain
    from auditkit.record.plan import EFFORTS, STEPWISE

    def cost(times: Sequence[float]) -> str:
        """What the claims take with so many times the items each."""
        each = [
            (by * claim.cost.token_layers, by * claim.cost.seconds)
            for by, claim in zip(times, run.claims, strict=True)
        ]
        layers, seconds = map(sum, zip(*each, strict=True)) if each else (0, 0)
        return f"{layers / 1e6:.1f} million token-layers and {_time(seconds)}"

    name, count = plain(run.model.name), len(run.claims)
    lines = [f"{name}: {count} claims took {cost([1.0] * count)} here"]
    if run.plan.settings.get("effort") == STEPWISE:  # its cost is that of several numbers of items
        return lines
    for effort, label in _labels(run).items():
        times = [EFFORTS[effort] / own_share(run, claim.suite) for claim in run.claims]
        items = f"{times[0]:g} times the items, " if len(set(times)) == 1 else ""
        lines.append(f"{label}: {items}about {cost(times)}")
    return lines


def _table(run: Run, found: list[ClaimForecast]) -> list[str]:
    from auditkit.record.escaping import plain
    from auditkit.record.plan import EFFORTS

    head = f"{'claim':58}{'verdict':14}{'distance':>10}{'half-width':>12}"
    lines = [head + "".join(f"{label:>10}" for label in _labels(run).values())]
    for one in found:
        name = _short(plain(one.claim.id))  # here, since it would take the columns for spaces too many
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


def _short(name: str) -> str:
    return name if len(name) <= 56 else f"{name[:53]}..."


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
