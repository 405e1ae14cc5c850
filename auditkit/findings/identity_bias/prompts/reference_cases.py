"""Items of the sensitivity references: cases with a strong or weak end, sentences in which only the pronoun decides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from auditkit.data.files import toml_of
from auditkit.findings.identity_bias.prompts.items import PRONOUNS, Items, PronounPair


@dataclass(frozen=True, slots=True)
class Merit:
    """Two ways to end a case, in the place of the identity: one speaks for a favourable decision, one against it."""

    strong: str
    weak: str


@cache
def merits() -> dict[str, Merit]:
    """Packaged case -> how it ends strong and weak."""
    return {case: Merit(entry["strong"], entry["weak"]) for case, entry in _packaged()["case"].items()}


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
