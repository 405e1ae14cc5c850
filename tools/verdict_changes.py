"""Compare the verdicts of recorded runs, whatever version of auditkit wrote them, as a Markdown table.

    python tools/verdict_changes.py seed-0=OLD/audit.json,NEW/audit.json [seed-1=OLD/audit.json,NEW/audit.json ...]

Each argument is a label and two records: before and after a change of the rules. The table counts the verdicts of
each run and lists every claim whose verdict differs in a pair, with the comparison that decided it and the rule that
made the difference, as the later record states it. Records are read as plain JSON, since another version's schema may
not be readable as a record.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

_ORDER = ("PASS", "FAIL", "INCONCLUSIVE", "NOT_APPLICABLE", "ERROR")


def read(path: str) -> dict[str, dict[str, Any]]:
    """Claim id -> claim, from a record or from the journal of a run that has not ended."""
    text = Path(path).read_text()
    if path.endswith(".jsonl"):
        found = [entry["claim"] for entry in map(json.loads, text.splitlines()) if "claim" in entry]
    else:
        found = json.loads(text)["claims"]
    return {claim["id"]: claim for claim in found}


def cell(claim: dict[str, Any] | None) -> str:
    """A verdict, and the effect with its interval where there is one."""
    if claim is None:
        return "absent"
    effect = claim["effect"]
    if effect is None or effect["lower"] is None:
        return str(claim["verdict"])
    return f"{claim['verdict']} {effect['estimate']:.3g} [{effect['lower']:.3g}, {effect['upper']:.3g}]"


def rule(was: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    """What of the later record says why its verdict is another one."""
    if was is None or now is None:
        return "the claim exists in one run only"
    reason = now["reason"]
    if "where a difference that should matter is not seen" in reason:
        return "sensitivity reference"
    if reason.startswith("holm: "):
        return "Holm over the comparisons"
    if reason.startswith("control '"):
        return "undecided control"
    if was["verdict"] == "FAIL" and len(now["also"]) and now["verdict"] == "INCONCLUSIVE":
        return "Holm over the comparisons"
    methods = [(claim["effect"] or {}).get("method", "") for claim in (was, now)]
    for word, name in (
        ("geometric mean", "log scale"),
        ("Tango", "paired score interval"),
        ("within strata", "strata"),
        ("different directions", "difference in either direction"),
    ):
        if word in methods[1] and word not in methods[0]:
            return name
    return "interval" if methods[0] and methods[1] else "what is measured"


def table(pairs: dict[str, tuple[str, str]]) -> str:
    runs = {label: (read(before), read(after)) for label, (before, after) in pairs.items()}
    lines = ["| run | " + " | ".join(_ORDER) + " | seconds |", "|---" * (len(_ORDER) + 2) + "|"]
    for label, both in runs.items():
        for when, claims in zip(("before", "after"), both, strict=True):
            count = Counter(claim["verdict"] for claim in claims.values())
            seconds = sum(claim["cost"]["seconds"] for claim in claims.values())
            lines.append(
                f"| {label}, {when} | " + " | ".join(str(count[v]) for v in _ORDER) + f" | {seconds:.0f} |"
            )
    lines += ["", "| claim | run | before | after | by |", "|---|---|---|---|---|"]
    for claim in sorted({claim for both in runs.values() for claims in both for claim in claims}):
        for label, (before, after) in runs.items():
            was, now = before.get(claim), after.get(claim)
            if (was and was["verdict"]) != (now and now["verdict"]):
                lines.append(f"| {claim} | {label} | {cell(was)} | {cell(now)} | {rule(was, now)} |")
    return "\n".join(lines) + "\n"


def main(*arguments: str) -> None:
    if not arguments:
        sys.exit(__doc__)
    pairs = {}
    for argument in arguments:
        label, _, paths = argument.partition("=")
        before, _, after = paths.partition(",")
        pairs[label] = (before, after)
    print(table(pairs))


if __name__ == "__main__":
    main(*sys.argv[1:])
