"""The audit page: one HTML file that needs no network, no script and no server.

Everything in a run but its numbers may come from a model, a data set or a stranger's suite, so it is treated
as hostile: the templates escape always, and the page's own Content-Security-Policy allows no script and no
style but the two files of this package that it names by digest. The script adds filters, sorting and copying; the
page says everything without it.
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass

import msgspec
from markupsafe import Markup

from auditkit.record import escaping
from auditkit.record.canonical import canonical
from auditkit.record.schema import Claim, Figure, FigureKind, Run
from auditkit.report import changes, effects, wording
from auditkit.report.figures import forest
from auditkit.report.html import environment, json_text, own, policy

_OPENED = 30
"""So many claims that need attention are open from the start, the worst."""
_READABLE = 250_000
"""Longest record, in characters, that stands in the page as plain JSON."""
_KINDS: dict[str, tuple[FigureKind, ...]] = {
    "Maps of heads, layers and pairs": ("heatmap",),
    "Curves": ("curves",),
    "Groups": ("dots", "table"),
    "Overlaps": ("sets",),
    "Embeddings": ("points",),
    "Images": ("image",),
}


def render_html(run: Run) -> str:
    """The audit page of `run`; the same run gives the same text."""
    run = canonical(run)
    style, script = own("style.css"), own("page.js")
    anchors = _anchors(run)
    attention = wording.needing_attention(run)
    suites = wording.suites(run)
    data, packed = _embedded(run)
    page = (
        environment()
        .get_template("audit.html.j2")
        .render(
            run=run,
            suites=suites,
            attention=attention,
            opened={anchors[id(claim)] for claim in attention[:_OPENED]},
            pictures=_pictures(suites),
            anchor=lambda claim: anchors[id(claim)],
            methods=_methods(run),
            units=effects.units_of(effect for claim in run.claims for effect in wording.effects_of(claim)),
            rows={
                suite: [_row(claim, anchors[id(claim)]) for claim in claims] for suite, claims in suites.items()
            },
            apart=changes.apart(run.claims),
            moved=changes.moved(run.claims, lambda claim: anchors[id(claim)]),
            drawing=forest.drawn,
            command=escaping.shell_join(run.command),
            policy=policy(style, script),
            # Safe: files of this package, which hold no "</style" and no "</script".
            style=Markup(style),
            script=Markup(script),
            # Safe: `json_text` leaves no character that could end the element or open another, and base64 has none.
            data=Markup(data),
            packed=packed,
        )
    )
    # Lines between elements would be nodes of their own, a third of all; no text has one, since "<" is escaped in it.
    return escaping.document(re.sub(r">\n+<", "><", page))


def _embedded(run: Run) -> tuple[str, bool]:
    """The record as the page embeds it, and whether it is compressed (deflate, in base64).

    A record is mostly repetition, and a large one would be a third of the page. A small one stays readable.
    """
    text = json_text(run)
    if len(text) <= _READABLE:
        return text, False
    return base64.b64encode(zlib.compress(msgspec.json.encode(run), 9)).decode(), True


def _row(claim: Claim, anchor: str) -> forest.Row:
    words = effects.in_words(claim.effect, claim.suite)
    return forest.claim_row(claim, words, href=anchor, name=anchor.replace("claim-", "drawn-", 1))


def _anchors(run: Run) -> dict[int, str]:
    """Fragment per claim, by object identity: readable, stable between runs, unique, of safe characters."""
    anchors: dict[int, str] = {}
    for position, claim in enumerate(run.claims, start=1):
        anchor = "claim-" + re.sub(r"[^A-Za-z0-9_]+", "-", claim.id)[:80].strip("-")
        anchors[id(claim)] = f"{anchor}-{position}" if anchor in anchors.values() else anchor
    return anchors


@dataclass(frozen=True)
class _Method:
    number: int
    claims: list[Claim]


def _methods(run: Run) -> dict[str, _Method]:
    """Distinct methods in order of appearance, each with the claims that rest on it."""
    methods: dict[str, _Method] = {}
    for claim in run.claims:
        for method in dict.fromkeys(effect.method for effect in wording.effects_of(claim)):
            methods.setdefault(method, _Method(len(methods) + 1, [])).claims.append(claim)
    return methods


def _pictures(suites: dict[str, list[Claim]]) -> dict[str, list[tuple[Figure, str, Claim]]]:
    """Every figure with its fragment and its claim, by what it shows; empty where no claim has one."""
    found = [
        (figure, f"f-{suite}-{place}-{number}", claim)
        for suite, claims in enumerate(suites.values(), start=1)
        for place, claim in enumerate(claims, start=1)
        for number, figure in enumerate(claim.figures, start=1)
    ]
    kinds = {name: [entry for entry in found if entry[0].kind in of] for name, of in _KINDS.items()}
    return kinds if found else {}
