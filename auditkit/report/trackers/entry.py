"""What a tracker is given of a run: numbers, verdicts and tags by name, and the files that are kept beside them.

Names are those that every tracker takes: MLflow refuses brackets, and treats a name as a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from auditkit.claims.verdicts import exit_code
from auditkit.record.canonical import canonical
from auditkit.record.escaping import plain
from auditkit.record.manifest import record_digest
from auditkit.record.schema import Claim, Effect, Run
from auditkit.record.store import AUDIT_JSON
from auditkit.report import wording

FILES = ("audit.html", AUDIT_JSON, "claims.csv")
"""Files of a run folder that an entry keeps: the page, the record, and the claims as a table."""
LONGEST_NAME = 200
"""Characters of a name; MLflow takes 250, and an ending is added."""
LONGEST_TAG = 500
_PARAMETER = re.compile(r"\[([^\[\]]*)\]")
_NOT_TAKEN = re.compile(r"[^\w.\- /]", re.ASCII)


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker takes it.

    Attributes:
        name: of the entry: the run's folder.
        numbers: estimates and ends of intervals by claim, and counts of verdicts.
        verdicts: claim -> its verdict.
        tags: which model, how it was measured, and the digests.
        files: those that are kept beside the numbers.
    """

    name: str
    numbers: dict[str, float]
    verdicts: dict[str, str]
    tags: dict[str, str]
    files: tuple[Path, ...]


def tracked(folder: Path, run: Run) -> TrackedRun:
    """The entry of the run in a folder.

    Raises:
        RecordError: the folder has no record.
    """
    run = canonical(run)
    tags = {name: plain(text)[:LONGEST_TAG] for name, text in _tags(run, record_digest(folder)).items() if text}
    files = tuple(folder / name for name in FILES if (folder / name).is_file())
    return TrackedRun(folder.name, numbers(run), _verdicts(run), tags, files)


def numbers(run: Run, *, beside: bool = False) -> dict[str, float]:
    """Name -> number: how many claims have which verdict, and what each claim measured, with its interval and, where
    the run has a baseline, its change.

    Args:
        beside: with the effects that are shown next to a claim and judged by nobody.
    """
    counts = run.summary
    named = {
        "audit/pass": counts.passed,
        "audit/fail": counts.failed,
        "audit/inconclusive": counts.inconclusive,
        "audit/not_applicable": counts.not_applicable,
        "audit/error": counts.error,
        "audit/waived": counts.waived,
        "audit/exit_code": exit_code(counts, run.profile),
    }
    found = {name: float(value) for name, value in named.items()}
    for claim, name in _named(run.claims):
        found |= _of(name, claim.effect)
        found |= _of(f"{name}.change", wording.change_of(claim, claim.effect))
        for control in claim.controls if beside else ():
            if control.verdict is None and control.effect is not None:
                found |= _of(_free(f"{name}/{_taken(control.effect.name)}", found), control.effect)
    return found


def _verdicts(run: Run) -> dict[str, str]:
    return {
        name: wording.WORDS[claim.verdict] + (" (waived)" if claim.waiver is not None else "")
        for claim, name in _named(run.claims)
    }


def _tags(run: Run, digest: str) -> dict[str, str]:
    model, baseline = run.model, run.baseline
    return {
        "auditkit": run.tool.version,
        "commit": run.tool.git or "",
        "verdict": wording.WORDS[run.summary.verdict],
        "reason": run.summary.reason,
        "model": model.name,
        "model.spec": model.spec,
        "model.source": model.source,
        "model.revision": model.revision,
        "model.weights_sha256": model.weights_sha256,
        "model.tokenizer_sha256": model.tokenizer_sha256,
        "model.identity_sha256": wording.identity(model),
        "dtype": model.dtype,
        "device": model.device,
        "adapter": model.adapter,
        "seed": str(run.seed),
        "items": run.plan.settings.get("items", ""),
        "effort": run.plan.settings.get("effort", "standard"),
        "profile": run.profile,
        "created": run.created,
        "plan_sha256": run.plan_sha256,
        "items_sha256": run.items_sha256,
        "record_sha256": digest,
        "baseline": baseline.name if baseline is not None else "",
        "baseline.record_sha256": baseline.audit_sha256 if baseline is not None else "",
    }


def _of(name: str, effect: Effect | None) -> dict[str, float]:
    """The estimate of an effect and the ends of its interval, as far as they were measured."""
    if effect is None:
        return {}
    values = {name: effect.estimate, f"{name}.lower": effect.lower, f"{name}.upper": effect.upper}
    return {key: float(value) for key, value in values.items() if value is not None}


def _named(claims: Iterable[Claim]) -> Iterator[tuple[Claim, str]]:
    """Each claim with a name that no other has."""
    used: set[str] = set()
    for claim in claims:
        name = _free(_taken(claim.id), used)
        used.add(name)
        yield claim, name


def _free(name: str, used: Iterable[str]) -> str:
    """The name, with a number behind it where it is in use."""
    taken = set(used)
    return next(
        one for one in (name, *(f"{name}-{count}" for count in range(2, len(taken) + 3))) if one not in taken
    )


def _taken(text: str) -> str:
    """A text as every tracker takes it for a name: "suite/claim[gender]" becomes "suite/claim.gender"."""
    said = " ".join(_NOT_TAKEN.sub(" ", _PARAMETER.sub(r".\1", text)).split())
    parts = [part.strip(" .") for part in said.split("/")]
    return "/".join(filter(None, parts))[:LONGEST_NAME].rstrip(" ./") or "unnamed"
