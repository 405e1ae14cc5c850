"""The one sentence that answers what a run was made for, and what stands beside it.

A gate run is asked "can it be released", any other run "which findings hold on this model". Gate checks and published
findings are counted apart. What is missing is said in the same sentence: a run that was cut off, that left claims out,
or whose numbers are not trusted, is never called ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from auditkit.claims.verdicts import blocks, sits_at_threshold
from auditkit.record.escaping import shell
from auditkit.record.plan import EFFORTS, OTHER_SHARDS, STEPWISE, share_of
from auditkit.record.schema import Claim, Run, Untested, Verdict
from auditkit.report import wording
from auditkit.report.answers.kinds import asked, is_finding, needs_base

Tone = Literal["good", "bad", "open", "plain"]

_MOST_EFFORT = "thorough"
AUDIT = "auditkit audit"
"""The command by which suites of the package are measured from any folder."""


@dataclass(frozen=True)
class Answer:
    """What a run answers."""

    sentence: str
    """The sentence that answers; every output begins with it."""
    tone: Tone
    """"good": ready; "bad": something blocks, broke or cannot be trusted; "open": not shown either way; "plain": what
    holds on a model is neither good nor bad."""
    more: tuple[str, ...]
    """Further sentences: the other kind of claims, and what the run left out."""
    base: str
    """One sentence for all claims that need a baseline; empty where none does."""
    base_command: str
    """The command that measures them; empty where it is not known."""


def answer(run: Run) -> Answer:
    """The sentence that answers, and those beside it."""
    needing = [claim for claim in run.claims if needs_base(run, claim)]
    here = asked(run, run.claims)
    checks = [claim for claim in here if not is_finding(claim)]
    findings = [claim for claim in here if is_finding(claim)]
    base, command = _base(needing), _base_command(run, needing)
    if wording.distrust(run.cross_check):
        distrusted = "No number of this run can be trusted, because the two adapters do not agree."
        sentence = f"Not ready: {distrusted}" if _is_gate(run, checks) else distrusted
        return Answer(sentence, "bad", (), base, command)
    if not run.claims:
        return Answer("Nothing is known about this model: the run holds no claims.", "open", (), "", "")
    missing = _left_out(run)
    if _is_gate(run, checks):
        sentence, tone = _gate(run, checks, missing)
        said = [_findings(findings)] if findings else []
    else:
        parts = [made for made in (_findings(findings), _checks(checks)) if made]
        sentence = parts[0] if parts else "Nothing could be decided: every claim of this run needs a baseline."
        tone, said = _tone(findings, checks), parts[1:]
    return Answer(sentence, tone, (*said, *missing), base, command)


def _is_gate(run: Run, checks: Sequence[Claim]) -> bool:
    """Whether the run is asked if the model can be released."""
    return bool(checks) and (run.baseline is not None or run.profile == "release")


def _gate(run: Run, checks: Sequence[Claim], missing: Sequence[str]) -> tuple[str, Tone]:
    count = len(checks)
    waived = [claim for claim in checks if claim.waiver is not None and claim.verdict in wording.ATTENTION]
    counted = [claim for claim in checks if claim not in waived]
    failed, broken, undecided, absent, passed = (
        [claim for claim in counted if claim.verdict is verdict]
        for verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE, Verdict.PASS)
    )
    parts = _failures(run, failed)
    parts += [f"{len(broken)} could not be measured"] if broken else []
    if undecided:
        parts.append(f"{len(undecided)} {_are(undecided)} still open{_effort(run, undecided)}")
    parts += [f"{len(passed)} {'pass' if len(passed) != 1 else 'passes'}"] if passed else []
    parts += [f"{len(waived)} {_are(waived)} waived"] if waived else []
    parts += [f"{len(absent)} {_do(absent)} not apply to this model"] if absent else []
    first, *rest = parts
    number, _, what = first.partition(" ")
    body = "; ".join([f"{number} of {_counted(count, 'gate check')} {what}", *rest])
    others = [c for c in asked(run, run.claims) if is_finding(c) and blocks(c, run.profile)]
    if others:
        outside = _counted(len(others), "published finding")
        body += f"; {outside} outside the gate {_do(others)} not hold or cannot be read"
    if failed or broken or others or (undecided and run.profile == "release"):
        return f"Not ready: {body}.", "bad"
    if undecided or missing or not passed:
        return f"Not shown to be ready: {body}{'; claims were left out' if missing else ''}.", "open"
    return f"Ready: {body}.", "good"


def _failures(run: Run, failed: Sequence[Claim]) -> list[str]:
    """Failed checks by how they failed: worse, changed where no change was allowed, lost, or whatever the base does."""
    if run.baseline is None:
        return [f"{len(failed)} failed"] if failed else []
    lost = [claim for claim in failed if claim.lack is not None]
    alone = [claim for claim in failed if claim.lack is None and _by_itself(claim)]
    kept = [claim for claim in failed if claim.lack is None and not _by_itself(claim)]
    changed = [claim for claim in kept if claim.effect is not None and claim.effect.relation == "within"]
    worse = len(kept) - len(changed)
    parts = [f"{worse} got worse than the base"] if worse else []
    parts += [f"{len(changed)} changed from the base"] if changed else []
    parts += [f"{len(lost)} lost what the base shows"] if lost else []
    parts += [_part(len(alone), "fails by itself", "fail by themselves")] if alone else []
    return parts


def _by_itself(claim: Claim) -> bool:
    """Whether a claim judges its model alone, also in a run that has a base."""
    recipes = [effect.recipe for effect in claim.compared]
    return bool(recipes) and all(recipe is not None and recipe.kind != "change" for recipe in recipes)


def _findings(findings: Sequence[Claim]) -> str:
    if not findings:
        return ""
    verdicts = [claim.verdict for claim in findings]
    hold = "" if Verdict.PASS in verdicts else " hold on this model"
    parts = [
        _part(verdicts.count(Verdict.PASS), "holds on this model", "hold on this model"),
        _part(verdicts.count(Verdict.FAIL), f"does not{hold}", f"do not{hold}"),
        _part(verdicts.count(Verdict.INCONCLUSIVE), "is undecided", "are undecided") + _sitting(findings),
        _part(verdicts.count(Verdict.ERROR), "could not be measured", "could not be measured"),
        _part(verdicts.count(Verdict.NOT_APPLICABLE), "does not apply to it", "do not apply to it"),
    ]
    return _of(len(findings), "published finding", parts)


def _sitting(findings: Sequence[Claim]) -> str:
    """ " (2 with no effect that counts)": of the undecided findings, those that more items would leave so."""
    count = sum(map(sits_at_threshold, findings))
    return f" ({count} with no effect that counts)" if count else ""


def _checks(checks: Sequence[Claim]) -> str:
    if not checks:
        return ""
    verdicts = [claim.verdict for claim in checks]
    parts = [
        _part(verdicts.count(Verdict.FAIL), "fails", "fail"),
        _part(verdicts.count(Verdict.ERROR), "could not be measured", "could not be measured"),
        _part(verdicts.count(Verdict.INCONCLUSIVE), "is undecided", "are undecided"),
        _part(verdicts.count(Verdict.PASS), "passes", "pass"),
        _part(verdicts.count(Verdict.NOT_APPLICABLE), "does not apply to it", "do not apply to it"),
    ]
    return _of(len(checks), "check of this model by itself", parts, "checks of this model by itself")


def _of(count: int, what: str, parts: Iterable[str], several: str = "") -> str:
    """ "Of 14 published findings 6 hold on this model, 3 do not and 5 are undecided." """
    *said, last = [part for part in parts if part]
    listed = f"{', '.join(said)} and {last}" if said else last
    return f"Of {_counted(count, what, several)} {listed}."


def _part(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}" if count else ""


def _counted(count: int, what: str, several: str = "") -> str:
    return f"{count} {what if count == 1 else several or what + 's'}"


def _are(claims: Sequence[Claim]) -> str:
    return "is" if len(claims) == 1 else "are"


def _do(claims: Sequence[Claim]) -> str:
    return "does" if len(claims) == 1 else "do"


def _tone(findings: Sequence[Claim], checks: Sequence[Claim]) -> Tone:
    """A run that no release hangs on is bad only where a check failed, or something could not be measured."""
    broken = any(claim.verdict is Verdict.ERROR for claim in (*findings, *checks))
    failed = any(claim.verdict is Verdict.FAIL and claim.waiver is None for claim in checks)
    return "bad" if broken or failed else "plain" if findings or checks else "open"


def _effort(run: Run, undecided: Sequence[Claim]) -> str:
    """ ", `--effort thorough` would take about 6 minutes": what more items would cost, if they can decide anything."""
    settings = run.plan.settings
    effort = settings.get("effort", "standard")
    suites = {claim.suite for claim in undecided}
    times = {suite: EFFORTS[_MOST_EFFORT] / share_of(effort, suite) for suite in suites}
    if settings.get("items", "None") != "None" or effort == STEPWISE or max(times.values(), default=1) <= 1:
        return ""
    ranges = [(c.effect.items_range, c.effect.n * times[c.suite]) for c in undecided if c.effect is not None]
    within_reach = sum(found is not None and found[0] <= most for found, most in ranges)
    if not within_reach:
        return ""
    seconds = sum(claim.cost.seconds * times[claim.suite] for claim in run.claims if claim.suite in suites)
    can = "" if within_reach == len(undecided) else f" and may decide {within_reach}"
    return f", `--effort {_MOST_EFFORT}` would take about {duration(seconds)}{can}"


def duration(seconds: float) -> str:
    """ "6 minutes", for a sentence."""
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}s"
    return _counted(max(1, round(seconds)), "second")


def left_out(run: Run) -> list[Untested]:
    """Claims and files of the run's suites that were there to be measured, and were not."""
    folders = tuple(word.rstrip("/") + "/" for word in run.command[1:] if not word.startswith("-"))
    # A file of a folder that the command names is one that its suite had no claims in.
    return [
        entry
        for entry in run.untested
        if entry.reason.startswith("not selected")
        or (entry.reason.startswith("the file was not read") and not entry.what.startswith(folders))
    ]


def _left_out(run: Run) -> list[str]:
    """The same in sentences, and the parts of a run that was split."""
    left, said = left_out(run), []
    if left:
        what = _counted(len(left), "claim or file", "claims or files")
        said.append(f"{what} of these suites {'was' if len(left) == 1 else 'were'} left out of the run.")
    if any(entry.what == OTHER_SHARDS for entry in run.untested):
        said.append("This is one part of a run that was split over machines: the other parts are missing.")
    return said


def _base(needing: Sequence[Claim]) -> str:
    if not needing:
        return ""
    if len(needing) == 1:
        return "1 claim compares this model with a base, and the run was given none."
    return f"{len(needing)} claims compare this model with a base, and the run was given none."


def _base_command(run: Run, needing: Iterable[Claim]) -> str:
    """The command that measures the claims that need a baseline; empty where the record does not say where they are."""
    needing = list(needing)
    folders = dict.fromkeys(claim.location.rpartition("/")[0] for claim in needing if "/" in claim.location)
    called = "pytest"
    if needing and all(
        claim.rerun.startswith(AUDIT) for claim in needing
    ):  # suites that lie in no folder of the user's
        called, folders = AUDIT, dict.fromkeys(claim.suite for claim in needing)
    if not folders or not run.model.spec:
        return ""
    return f"{called} {' '.join(map(shell, folders))} --model {shell(run.model.spec)} --baseline BASE"
