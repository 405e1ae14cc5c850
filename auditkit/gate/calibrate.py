"""Calibration: thresholds proposed from a run, so that a gate starts from what a model was measured to do.

Rule: a comparison passes again when the same model, measured on other items of the same design, has its whole interval
beyond the proposal. The mean of other items differs from this run's by √2 standard errors, their interval reaches one
half-width further, and both standard errors are known from the clusters of one run only, which with few of them is not
well. The proposal lies as many half-widths from the estimate as make all comparisons that share it pass together with
97.5 % probability: 1 + √2 of them with many clusters and one comparison, more with few clusters or with several.

A margin of a claim that compares with a baseline is proposed from two runs of one model on other items each. There the
difference is known to be none, and the proposal is what two such runs may differ by, with the interval's reach.

A proposal says what the model does, not what it should do. It says beside each number what the suite asked for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from auditkit.record.baseline import BASELINE_LABEL, NO_BASELINE, Recorded, read_recorded
from auditkit.record.escaping import CONTROLS, DIRECTIONS, plain
from auditkit.record.identity import compared_in_words, differences_of, is_known, model_digest
from auditkit.record.schema import Claim, Effect, Run, Verdict
from auditkit.stats.effects.base import NOT_WORSE
from auditkit.stats.effects.kept import Kept, cross_fitted, read_effects
from auditkit.stats.intervals import ALPHA, critical

RULE = (
    "so far outside the 95 % interval that all comparisons with this number pass again with 97.5 % on other items, "
    "given their degrees of freedom"
)
DIGITS = 3
PASSES = 0.975

Past = Callable[[str, str], Effect | None]
"""Claim and name of an effect -> the same effect of the same model on the items of another run."""


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


def propose(run: Run, here: Past | None = None, there: Past | None = None) -> tuple[Proposal, ...]:
    """Proposals for every threshold of a run that a file can replace, in the order of its claims.

    Args:
        here, there: the recorded effects of this run and of another one of the same model on other items, which
            margins of comparisons with a baseline are proposed from.
    """
    found = []
    for claim in run.claims:
        calls = by_call(claim)
        if not calls:
            why = f"no comparison with a threshold() call ({claim.verdict.value})"
            if claim.verdict is Verdict.NOT_APPLICABLE and NO_BASELINE in claim.reason:
                why = (
                    "compares with a baseline, and this run has none: its margin is calibrated from two runs on other "
                    "seeds, the second recorded with --baseline and the first"
                )
            found.append(Proposal(claim, None, None, why))
        for effects in calls.values():
            if here is not None and there is not None and all(map(is_paired, effects)):
                found.append(_margin(claim, effects, here, there))
            else:
                found.append(_proposal(claim, effects))
    return tuple(found)


def by_call(claim: Claim) -> dict[int, list[Effect]]:
    """`threshold()` call of a claim -> the effects that are compared with its number, in the order of the calls."""
    calls: dict[int, list[Effect]] = {}
    for effect in claim.compared:
        if effect.threshold_call is not None:
            calls.setdefault(effect.threshold_call, []).append(effect)
    return dict(sorted(calls.items()))


def propose_from_two(folder: Path, other: Path) -> tuple[Proposal, ...]:
    """Proposals from a run and another one of the same model on other items; margins of changes come from both.

    Raises:
        RecordError: a run that cannot be read whole.
        ValueError: runs of two models, or of one seed, whose items are the same.
    """
    one, two = (read_recorded(path, path.name) for path in (folder, other))
    models = one.run.model, two.run.model
    if differences_of(*models) or not is_known(*models):
        raise ValueError(
            f"margins are calibrated on two runs of one model; of {folder} and {other}, {compared_in_words(*models)}"
        )
    seeds = [recorded.run.plan.settings.get("seed") for recorded in (one, two)]
    if seeds[0] == seeds[1]:
        raise ValueError(
            f"{folder} and {other} were both run with --seed {seeds[0]}, so their items are the same and show nothing "
            "of how far other items move the effects; record one of them with another --seed"
        )
    compared: dict[str, list[Effect]] = {}
    for claim in (*one.run.claims, *two.run.claims):
        compared.setdefault(claim.id, []).extend(claim.compared)
    return propose(one.run, _effects(one, compared), _effects(two, compared))


def _effects(recorded: Recorded, compared: Mapping[str, Sequence[Effect]]) -> Past:
    """What the run recorded, item by item, as effects.

    Args:
        compared: claim -> what either run compared. An effect is cross-fitted in both where one of the two says so.
    """
    items = recorded.items
    rows = {str(claim): part for claim, part in items[items["effect"] != ""].groupby("claim", sort=False)}
    read: dict[str, dict[str, Kept]] = {}

    def effect(claim: str, name: str) -> Effect | None:
        if claim not in rows:
            return None
        if claim not in read:
            read[claim] = cross_fitted(read_effects(rows[claim]), compared.get(claim, ()))
        kept = read[claim].get(name)
        return kept.estimate.describe() if kept is not None else None

    return effect


def render_thresholds(
    run: Run, name: str, proposals: tuple[Proposal, ...], table: str, today: date, rule: str = RULE
) -> str:
    """The proposals as a TOML file that `--thresholds` reads.

    Args:
        name: of the run folder.
        table: "default", "family" or "model": whom the numbers are for.
        rule: what the numbers promise, in words.
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
        "weights_sha256": run.model.weights_sha256 or "none known",
        "identity_sha256": model_digest(run.model) if is_known(run.model) else "not known",
        "plan_sha256": run.plan_sha256,
        "measured": run.created,
        "auditkit": run.tool.version,
        "rule": rule,
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


@cache
def reach(now: float | None, later: float | None, critical: float, spread: float, error: float) -> float:
    """Standard errors of this run from its estimate beyond which the interval of another run ends with a chance of
    at most `error`.

    The other estimate differs by `spread` true standard errors times a normal, its interval reaches `critical` of its
    own standard errors, and each run's standard error is the true one times √(χ² / df). With Z, S and S' independent
    this solves P(spread Z + critical S' <= reach S) = 1 - error; given S' the left side is a non-central t.

    Args:
        now, later: degrees of freedom of this run's and of the other run's standard error; None: known exactly.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    chance = (nodes + 1) / 2
    next_error = np.ones(1) if later is None else np.sqrt(np.asarray(stats.chi2.ppf(chance, later)) / later)
    shares = np.ones(1) if later is None else weights / 2

    def misses(distance: float) -> float:
        centre = critical * next_error / spread
        if now is None:
            beyond = stats.norm.sf(distance / spread - centre)
        else:
            beyond = np.asarray(stats.nct.sf(distance / spread, now, centre))
        return float(shares @ beyond) - error

    most = 2.0
    while misses(most * critical) > 0:
        most *= 2
    return float(optimize.brentq(misses, 0.0, most * critical, xtol=1e-6))


def _critical(effect: Effect) -> float:
    """Standard errors that the interval of the effect reaches."""
    return critical(effect.df, effect.alpha or ALPHA)


def is_paired(effect: Effect) -> bool:
    """Whether an effect is a difference from the baseline."""
    return effect.name.endswith(f" minus {BASELINE_LABEL}")


def error_of(effects: Sequence[Effect]) -> float:
    """The chance of not passing again that each end looked at may have, of one number for all these comparisons."""
    ends = sum(2 if effect.relation == "within" else 1 for effect in effects)
    return (1 - PASSES) / ends


def _proposal(claim: Claim, effects: Sequence[Effect]) -> Proposal:
    bare = [e for e in effects if e.estimate is None or e.lower is None or e.upper is None]
    if bare:
        which = "" if len(effects) == 1 else f" for {len(bare)} of {len(effects)} comparisons ({bare[0].name})"
        return Proposal(claim, effects[0], None, f"no interval to propose from{which}: {claim.reason}")
    return from_ends(
        claim, effects, [_ends(effect, error_of(effects)) for effect in effects], _said(claim, effects)
    )


def from_ends(claim: Claim, effects: Sequence[Effect], ends: Sequence[tuple[float, float]], said: str) -> Proposal:
    """The number beyond all ends that the claim looks at.

    Args:
        effects: the comparisons of one `threshold()` call.
        ends: of each, how low and how high it is to be expected, its interval included.
        said: what the number rests on.
    """
    first = effects[0]
    relations = {(effect.relation or "").rstrip("=") for effect in effects}
    if len(relations) > 1:
        return Proposal(claim, first, None, "one number is compared with from both sides, so none fits both")
    lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
    if relations == {">"}:
        value = _rounded(lowest, up=False)
    elif relations == {"<"}:
        value = _rounded(highest, up=True)
    else:
        value = _rounded(max(abs(lowest), abs(highest)), up=True)
    if any(NOT_WORSE in effect.method for effect in effects):
        value = -value if relations == {">"} else value  # the margin, of which the threshold is the negative
        if value <= 0:
            return Proposal(claim, first, None, f"better than the baseline, so there is no margin: {said}")
    problem = _impossible(value, effects)
    return Proposal(claim, first, None if problem else value, f"{problem}{said}")


def _ends(effect: Effect, error: float) -> tuple[float, float]:
    """The ends of the interval moved outward, as far as each side of it reaches."""
    assert effect.estimate is not None
    assert effect.lower is not None
    assert effect.upper is not None
    half = _critical(effect)
    times = reach(effect.df, effect.df, half, math.sqrt(2), error) / half
    low = effect.estimate - times * (effect.estimate - effect.lower)
    return low, effect.estimate + times * (effect.upper - effect.estimate)


def _impossible(value: float, effects: Sequence[Effect]) -> str:
    """Why no comparison with the value would say anything: every possible effect passes it. Empty if it would."""
    for effect in effects:
        least, most = effect.least, effect.greatest
        if least is None or most is None:
            continue
        if NOT_WORSE in effect.method or effect.relation == "within":
            passes = value >= max(abs(least), abs(most))
        else:
            passes = value <= least if effect.relation in (">", ">=") else value >= most
        if passes:
            return (
                f"the run has too few clusters for a threshold: the rule comes to {value:g}, and '{effect.name}' "
                f"always lies between {least:g} and {most:g}, so that every model would pass; "
            )
    return ""


def _margin(claim: Claim, effects: Sequence[Effect], here: Past, there: Past) -> Proposal:
    """A margin for changes since a baseline, from two runs of one model on other items each."""
    first, error, values, said = effects[0], error_of(effects), [], []
    for effect in effects:
        name = effect.name.removesuffix(f" minus {BASELINE_LABEL}")
        one, other = here(claim.id, name), there(claim.id, name)
        if one is None or other is None or one.estimate is None or other.estimate is None:
            return Proposal(claim, first, None, f"'{name}' was not measured with an interval in both runs")
        if one.lower is None or other.lower is None:
            return Proposal(
                claim,
                first,
                None,
                f"'{name}' has no interval in {'this' if one.lower is None else 'the other'} run",
            )
        errors = [(e.estimate - e.lower) / _critical(e) for e in (one, other)]  # type: ignore[operator]  # checked above
        known = math.hypot(*errors)
        df = _welch(errors, [one.df, other.df])
        half = critical(None if one.df is None else max(one.df - 1, 1))
        distance = abs(one.estimate - other.estimate)
        values.append(max(reach(df, one.df, half, 1.0, error) * known, distance + half * known))
        said.append(f"{name}: {one.estimate:.3g} and {other.estimate:.3g} {one.unit} on other items")
    value = _rounded(max(values), up=True)
    problem = _impossible(value, effects)
    asked = f"asked for here: {abs(first.threshold):g}" if first.threshold is not None else ""
    more = f" (and {len(said) - 1} more comparisons)" if len(said) > 1 else ""
    return Proposal(claim, first, None if problem else value, f"{problem}{said[0]}{more}; {asked}")


def _welch(errors: Sequence[float], dfs: Sequence[float | None]) -> int | None:
    """Degrees of freedom of √(e1² + e2²) by Welch and Satterthwaite; None where both are known exactly."""
    parts = [error**4 / df for error, df in zip(errors, dfs, strict=True) if df is not None]
    return max(1, math.floor(math.hypot(*errors) ** 4 / sum(parts))) if sum(parts) > 0 else None


def _said(claim: Claim, effects: Sequence[Effect]) -> str:
    first = effects[0]
    span = f"{first.name}: {first.estimate:.3g} [{first.lower:.3g}, {first.upper:.3g}] {first.unit}"
    more = f" and {len(effects) - 1} more comparisons with the same number" if len(effects) > 1 else ""
    asked = f"asked for here: {first.relation} {first.threshold:g}" if first.threshold is not None else ""
    return f"{span}{more}; {asked}; {claim.verdict.value}"


def _rounded(value: float, *, up: bool) -> float:
    """To three digits, away from the interval, so that rounding never makes a proposal stricter than its rule."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    whole = math.ceil(value / step) if up else math.floor(value / step)
    return float(f"{whole * step:.{DIGITS}g}")


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes, and those of signs that a terminal or a build server would obey."""
    written = json.dumps(text, ensure_ascii=False)
    return re.sub(rf"[{CONTROLS}{DIRECTIONS}\u2028\u2029]|(?<=#)#", lambda sign: f"\\u{ord(sign[0]):04x}", written)


def _comment(text: str) -> str:
    """`text` on one line, without what a TOML comment must not hold."""
    return plain(text)
