"""Items of the sensitivity references: cases with a strong or weak end, sentences in which only the pronoun decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from auditkit.data.files import toml_of
from auditkit.findings.identity_bias.prompts.items import PRONOUNS, Items, PronounPair, decisions


@dataclass(frozen=True, slots=True)
class Merit:
    """Two ways to end a case, in the place of the identity: one speaks for a favourable decision, one against it."""

    strong: str
    weak: str


@cache
def merits() -> dict[str, Merit]:
    """Packaged case -> how it ends strong and weak: its own ending, else one of its kind's, in turn."""
    own, of_kind, seen = _packaged()["case"], _packaged()["kind"], Counter[str]()
    found = {}
    for case in decisions().kept:
        ends = own.get(case.id) or of_kind[case.domain][seen[case.domain] % len(of_kind[case.domain])]
        seen[case.domain] += case.id not in own
        found[case.id] = Merit(ends["strong"], ends["weak"])
    return found


@cache
def gendered_pronouns() -> Items[PronounPair]:
    """Sentences about a woman and a man, each under the pronoun that means the one and under that of the other.

    In the layout of the stereotyped ones: `usual` is the sentence in which the pronoun means `right`.
    """
    kept = []
    for entry in _packaged()["pronoun"]:
        text = entry["sentence"]
        form = next(form for form in PRONOUNS["he"] if "{" + form + "}" in text)
        kept.append(
            PronounPair(
                id=f"{entry['she']}-{entry['he']}",
                template=f"{entry['she']}-{entry['he']}",
                usual=text.format(**PRONOUNS["she"]),
                unusual=text.format(**PRONOUNS["he"]),
                pronouns=(PRONOUNS["she"][form], PRONOUNS["he"][form]),
                right=entry["she"],
                other=entry["he"],
            )
        )
    return Items(tuple(kept), (), "")


@cache
def _packaged() -> dict[str, Any]:
    return toml_of(files("auditkit.findings.identity_bias").joinpath("data", "reference_cases.toml"))
