"""Waivers: somebody's signed decision that a claim need not block, for a reason and until a day.

    [[waiver]]
    claim = "persona_patching/early_mlps_carry_the_persona"
    owner = "Jane Doe, model release"
    reason = "accepted for 1.2: the persona feature is off"
    expires = 2026-12-31

A waiver changes what a verdict does, never the verdict: a waived FAIL is still shown as a FAIL, by name. It ends by
itself, within a year, and it cannot cover an ERROR, which says that nothing is known.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec

from auditkit.record.schema import Claim, Verdict, Waiver

WAIVABLE = (Verdict.FAIL, Verdict.INCONCLUSIVE)
LONGEST = timedelta(days=365)
"""How far from today a waiver may expire: who signs for a failure looks at it again once a year. A recorded run keeps
the waivers that it had, whatever their day."""
_FILLERS = "\u115f\u1160\u3164\uffa0"
"""Letters by their category that show nothing."""
_FIELDS = ("claim", "owner", "reason", "expires")


class WaiversError(Exception):
    """A file of waivers that cannot be used; the message is one line that says where and why."""


def read_waivers(path: Path, claims: Collection[str], today: date) -> dict[str, Waiver]:
    """Claim -> waiver, each with the state "applied" or "expired" until `settled` says more.

    Raises:
        WaiversError: unreadable, not TOML, a field that is missing, empty or unknown, a day of expiry that is too far
            away, a claim that was not collected or has two waivers.
    """
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise WaiversError(f"cannot read waivers from {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise WaiversError(f"{path} is not TOML: {_line(str(error))}") from None
    entries = document.get("waiver", [])
    if document.keys() - {"waiver"} or not isinstance(entries, list):
        raise WaiversError(f"{path}: only [[waiver]] entries are known, each with {', '.join(_FIELDS)}")
    found: dict[str, Waiver] = {}
    for number, entry in enumerate(entries, start=1):
        waiver = _waiver(f"{path}, waiver {number}", entry, claims, today)
        if waiver.claim in found:
            raise WaiversError(f"{path}, waiver {number}: {waiver.claim!r} has a waiver already")
        found[waiver.claim] = waiver
    return found


def waived(claim: Claim, waivers: dict[str, Waiver]) -> Claim:
    """`claim` with the waiver that keeps it from blocking, if one does."""
    waiver = waivers.get(claim.id)
    applies = waiver is not None and waiver.state == "applied" and claim.verdict in WAIVABLE
    return msgspec.structs.replace(claim, waiver=waiver if applies else None)


def settled(waivers: dict[str, Waiver], claims: Iterable[Claim]) -> tuple[Waiver, ...]:
    """Every waiver with what became of it."""
    verdicts = {claim.id: claim.verdict for claim in claims}
    return tuple(_settled(waiver, verdicts.get(waiver.claim)) for waiver in waivers.values())


def _settled(waiver: Waiver, verdict: Verdict | None) -> Waiver:
    if waiver.state == "expired" or verdict in WAIVABLE:
        return waiver
    match verdict:
        case None:
            return msgspec.structs.replace(waiver, state="not measured")
        case Verdict.ERROR:
            return msgspec.structs.replace(waiver, state="cannot be waived")
        case _:
            return msgspec.structs.replace(waiver, state="not needed")


def _waiver(where: str, entry: object, claims: Collection[str], today: date) -> Waiver:
    if not isinstance(entry, dict):
        raise WaiversError(f"{where}: must be a table with {', '.join(_FIELDS)}")
    if unknown := sorted(entry.keys() - set(_FIELDS)):
        raise WaiversError(f"{where}: {_line(unknown[0])!r} is unknown; use {', '.join(_FIELDS)}")
    texts = {name: entry.get(name) for name in ("claim", "owner", "reason")}
    for name, text in texts.items():
        if not isinstance(text, str) or not _shows(text):
            raise WaiversError(f"{where}: no {name}; a waiver needs {', '.join(_FIELDS)}")
    claim, owner, reason = (" ".join(str(text).split()) for text in texts.values())
    if claim not in claims:
        near = difflib.get_close_matches(claim, claims, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise WaiversError(f"{where}: no claim {_line(claim)!r} was collected{hint}")
    expires = _day(where, entry.get("expires"), today)
    return Waiver(
        claim=claim,
        owner=owner,
        reason=reason,
        expires=expires.isoformat(),
        state="expired" if expires < today else "applied",
    )


def _shows(text: str) -> bool:
    """Whether a letter or digit of the text can be seen: an owner of blanks or invisible signs is nobody."""
    return any(sign.isalnum() and sign not in _FILLERS for sign in text)


def _day(where: str, value: object, today: date) -> date:
    """The day of expiry, which may have passed."""
    last = today + LONGEST
    if isinstance(value, str):
        with suppress(ValueError):
            value = date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise WaiversError(f"{where}: no day of expiry; write expires = {last}, or a day before")
    if value > last:
        raise WaiversError(
            f"{where}: expires {value} is more than {LONGEST.days} days from today; write a day until {last}, and sign "
            "again when it has passed"
        )
    return value


def _line(text: str) -> str:
    """`text` in one line of bearable length."""
    return " ".join(text.split())[:200]
