"""Thresholds from a file: the numbers a policy or a calibration run puts in place of a suite's own.

    [default]
    "persona_patching/early_mlps_carry_the_persona" = { threshold = 0.25, source = "calibration", date = 2026-11-20 }

    [family.llama]
    "persona_patching/first_mlp_acts_at_the_identity_word" = { threshold = 0.15 }

    [model."smollm2-135m-instruct"]
    "persona_patching/early_mlps_carry_the_persona#2" = { threshold = 0.10, source = "policy 7" }

A key is a claim's identity and means the first `threshold()` of that claim, `#2` the second, and so on. What is said
of a model goes before what is said of its family, and that before the default. A table [calibration], as `auditkit
calibrate` writes it, says where the numbers come from.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from math import inf, isfinite
from pathlib import Path
from typing import Any

from auditkit.claims.outcomes import Threshold

LARGEST = 1e6
"""Largest size of a threshold. Effects are shares, logits, nats, bits and angles, whose sizes stay below a thousand; a
threshold far beyond them lets every model pass, or none."""

Key = tuple[str, int]
"""Claim and number of the call, from 1."""


class ThresholdsError(Exception):
    """A file of thresholds that cannot be used; the message is one line that says where and why."""


@dataclass(frozen=True)
class Thresholds:
    """The tables of one file, checked."""

    sha256: str
    tables: dict[tuple[str, str], dict[Key, Threshold]]
    """("default", ""), ("family", name) or ("model", name) -> thresholds."""

    def listed(self) -> dict[str, str]:
        """Table and key -> number and source, for the plan."""
        return {
            f"[{'.'.join(filter(None, table))}] {claim}#{call}": f"{threshold:g} ({threshold.source})"
            for table, entries in self.tables.items()
            for (claim, call), threshold in entries.items()
        }

    def applying_to(self, names: Collection[str], family: str) -> dict[Key, Threshold]:
        """What holds for a model with these names (its alias, the path it was given by) and this family."""
        chosen = dict(self.tables.get(("default", ""), {})) | self.tables.get(("family", family), {})
        for name in dict.fromkeys(names):
            chosen |= self.tables.get(("model", name), {})
        return chosen


def read_thresholds(path: Path, claims: Collection[str]) -> Thresholds:
    """Read and check a file of thresholds for the `claims` of a run.

    Every table is checked, also those of other models: a misspelt claim is found before the day it is needed.

    Raises:
        ThresholdsError: unreadable, not TOML, an unknown table or claim, or an entry without a finite number.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ThresholdsError(f"cannot read thresholds from {path}: {error.strerror or error}") from None
    try:
        document = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number of thousands of digits
        raise ThresholdsError(f"{path} is not TOML: {_line(str(error))}") from None
    tables: dict[tuple[str, str], dict[Key, Threshold]] = {}
    for label, kind, name, entries in _tables(path, document):
        where = f"{path}: {label}"
        if not isinstance(entries, dict):
            raise ThresholdsError(f"{where}: must be a table of claims")
        table = tables[kind, name] = {}
        for text, entry in entries.items():
            key = _key(f"{where} {text!r}", text, claims)
            if key in table:
                raise ThresholdsError(f"{where} {text!r}: the same threshold is given twice")
            table[key] = _threshold(f"{where} {text!r}", entry, f"{path.name} {label}")
    return Thresholds(hashlib.sha256(raw).hexdigest(), tables)


def _tables(path: Path, document: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    """(heading, kind, name, entries) of each table."""
    found = []
    for kind, content in document.items():
        if kind == "calibration" and isinstance(content, dict):
            continue  # where the numbers come from, written by `auditkit calibrate`
        if kind == "default":
            found.append(("[default]", kind, "", content))
        elif kind in ("family", "model") and isinstance(content, dict):
            found += [(f"[{kind}.{_line(name)}]", kind, name, inner) for name, inner in content.items()]
        else:
            raise ThresholdsError(
                f"{path}: [{_line(kind)}] is unknown; use [default], [family.NAME], [model.NAME]"
            )
    return found


def _key(where: str, text: str, claims: Collection[str]) -> Key:
    if text in claims:
        return text, 1
    numbered = re.fullmatch(r"(.+)#([1-9][0-9]*)", text)
    if numbered and numbered[1] in claims:
        return numbered[1], int(numbered[2])
    near = difflib.get_close_matches(numbered[1] if numbered else text, claims, n=1, cutoff=0.0)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ThresholdsError(f"{where}: no such claim was collected{hint}")


def _threshold(where: str, entry: object, file: str) -> Threshold:
    if not isinstance(entry, dict) or "threshold" not in entry:
        raise ThresholdsError(f"{where}: no threshold number; write {{ threshold = 0.25, source = '...' }}")
    number, source, day = entry["threshold"], entry.get("source", ""), entry.get("date", "")
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ThresholdsError(f"{where}: threshold is no number: {_line(repr(number))}")
    try:
        value = float(number)
    except OverflowError:
        value = inf
    if not isfinite(value):
        raise ThresholdsError(f"{where}: threshold is {value}; a finite number is needed")
    if abs(value) > LARGEST:
        raise ThresholdsError(
            f"{where}: threshold is {value:g}, which no effect comes near, so that it would decide nothing; give a "
            f"number between -{LARGEST:g} and {LARGEST:g}"
        )
    if unknown := sorted(entry.keys() - {"threshold", "source", "date"}):
        raise ThresholdsError(f"{where}: {_line(unknown[0])!r} is unknown; use threshold, source and date")
    if not isinstance(source, str) or not isinstance(day, str | date):
        raise ThresholdsError(f"{where}: source must be text, and date a date")
    said = ", ".join(part for part in (source, str(day)) if part)
    return Threshold(value, f"{said} ({file})" if said else file)


def _line(text: str) -> str:
    """`text` in one line of bearable length."""
    return " ".join(text.split())[:200]
