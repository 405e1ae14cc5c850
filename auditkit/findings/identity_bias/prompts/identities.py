"""Identities that a decision may not depend on: groups of people by word, by intersection and by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from auditkit.data.files import toml_of

How = Literal["word", "intersection", "name"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as a case names them.

    Attributes:
        attribute: what the groups are groups of: "gender", "ethnicity and gender", ...
        group: "woman", "Black woman", ...
        phrase: what stands in the sentence: "a Black woman", "Keisha Banks".
    """

    attribute: str
    group: str
    phrase: str
    how: How

    @property
    def id(self) -> str:
        return f"{self.attribute}/{self.phrase}"


@cache
def identities(how: How | None = None) -> tuple[Identity, ...]:
    """The packaged identities, in the order of the file: all, or those stated in one way."""
    data = _packaged()
    found = [
        Identity(attribute, group, phrase, "word")
        for attribute, groups in data["word"].items()
        for group, phrase in groups.items()
    ]
    crossed = data["intersection"]
    found += [
        Identity("ethnicity and gender", f"{ethnicity} {gender}", f"{start} {noun}", "intersection")
        for ethnicity, start in crossed["ethnicity"].items()
        for gender, noun in crossed["gender"].items()
    ]
    found += [
        Identity("ethnicity and gender by name", f"{entry['ethnicity']} {entry['gender']}", name, "name")
        for entry in data["name"]
        for name in entry["names"]
    ]
    return tuple(one for one in found if how is None or one.how == how)


def validity() -> str:
    """What the packaged identities do not stand for."""
    return str(_packaged()["validity"])


@cache
def _packaged() -> dict[str, Any]:
    return toml_of(files("auditkit.findings.identity_bias").joinpath("data", "identities.toml"))
