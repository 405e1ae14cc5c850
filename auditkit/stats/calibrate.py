"""Calibration: thresholds proposed from a run, so that a gate starts from what a model was measured to do.

Rule: the end of the interval that the comparison looks at, moved outward by √2 of its half-width. Take the mean of
fresh items of the same size: it differs from this run's by less than √2 half-widths with the interval's confidence
(two independent errors of one size), and its own interval reaches one half-width further. So the same model, measured
again on other items of the same design, passes with 97.5 % probability (for an equivalence, at least 95 %).

A proposal says what the model does, not what it should do. It says beside each number what the suite asked for.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date

from auditkit.record.schema import Claim, Effect, Run

RULE = "end of the 95 % interval, moved outward by the square root of 2 of its half-width"
DIGITS = 3


@dataclass(frozen=True)
class Proposal:
    """A threshold for one `threshold()` call of a claim; `value` is None where the run supports none."""

    claim: Claim
    effect: Effect | None
    value: float | None
    reason: str
    """What it rests on, or why there is none."""

    @property
    def key(self) -> str:
        call = self.effect.threshold_call if self.effect is not None else None
        return self.claim.id if call in (None, 1) else f"{self.claim.id}#{call}"


def propose(run: Run) -> tuple[Proposal, ...]:
    """Proposals for every threshold of a run that a file can replace, in the order of its claims."""
    found = []
    for claim in run.claims:
        effects = [e for e in (claim.effect, *claim.also) if e is not None and e.threshold_call is not None]
        first = {effect.threshold_call: effect for effect in reversed(effects)}
        if not effects:
            found.append(
                Proposal(claim, None, None, f"no comparison with a threshold() call ({claim.verdict.value})")
            )
        found += [_proposal(claim, first[call]) for call in sorted(first, key=lambda call: call or 0)]
    return tuple(found)


def render_thresholds(run: Run, name: str, proposals: tuple[Proposal, ...], table: str, today: date) -> str:
    """The proposals as a TOML file that `--thresholds` reads.

    Args:
        name: of the run folder.
        table: "default", "family" or "model": whom the numbers are for.
    """
    heading = {
        "default": "default",
        "family": f"family.{_quoted(run.model.family)}",
        "model": f"model.{_quoted(run.model.name)}",
    }[table]
    source = f"calibration run {name} of {run.model.name}"
    facts = {
        "run": name,
        "model": run.model.name,
        "weights_sha256": run.model.weights_sha256,
        "plan_sha256": run.plan_sha256,
        "measured": run.created,
        "auditkit": run.tool.version,
        "rule": RULE,
        "date": today.isoformat(),
    }
    lines = ["# Proposed by `auditkit calibrate`. Read each number before it decides anything.", "[calibration]"]
    lines += [f"{key} = {_quoted(value)}" for key, value in facts.items()]
    lines += ["", f"[{heading}]"]
    for proposal in proposals:
        lines.append(f"# {_comment(proposal.key)}: {_comment(proposal.reason)}")
        if proposal.value is not None:
            lines.append(
                f"{_quoted(proposal.key)} = {{ threshold = {proposal.value!r}, source = {_quoted(source)}, "
                f"date = {today.isoformat()} }}"
            )
    return "\n".join(lines) + "\n"


def _proposal(claim: Claim, effect: Effect) -> Proposal:
    if effect.estimate is None or effect.lower is None or effect.upper is None:
        return Proposal(claim, effect, None, f"no interval to propose from: {claim.reason}")
    reach = 1 + math.sqrt(2)
    low = effect.estimate - reach * (effect.estimate - effect.lower)
    high = effect.estimate + reach * (effect.upper - effect.estimate)
    match effect.relation:
        case ">=" | ">":
            value = _rounded(low, up=False)
        case "<=" | "<":
            value = _rounded(high, up=True)
        case _:
            value = _rounded(max(abs(low), abs(high)), up=True)
    span = f"{effect.name}: {effect.estimate:.3g} [{effect.lower:.3g}, {effect.upper:.3g}] {effect.unit}"
    asked = f"asked for here: {effect.relation} {effect.threshold:g}" if effect.threshold is not None else ""
    return Proposal(claim, effect, value, f"{span}; {asked}; {claim.verdict.value}")


def _rounded(value: float, *, up: bool) -> float:
    """To three digits, away from the interval, so that rounding never makes a proposal stricter than its rule."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    whole = math.ceil(value / step) if up else math.floor(value / step)
    return float(f"{whole * step:.{DIGITS}g}")


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes, and the one that TOML asks for besides."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """`text` on one line, without what a TOML comment must not hold."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
