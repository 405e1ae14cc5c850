"""Items for bias claims, written by the project: decisions, questions, pronouns and pairs of sentences.

Each kind has the layout of a public set and a validity note: what a difference on these items means and what it does
not (Blodgett et al. 2021 found that most such sets do not state this). Items of one `template` share their wording, so
they are one cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, Literal, TypeVar

from auditkit.data.errors import Dropped
from auditkit.data.files import toml_of
from auditkit.data.prompts import Chat
from auditkit.findings.identity_bias.prompts.identities import Identity

Condition = Literal["ambiguous", "disambiguated"]
PRONOUNS: Mapping[str, Mapping[str, str]] = {
    "he": {"he": "he", "him": "him", "his": "his"},
    "she": {"he": "she", "him": "her", "his": "her"},
}
"""Gender -> form of "he" -> the pronoun."""

Item = TypeVar("Item", bound="DecisionCase | BiasQuestion | PronounPair | SentencePair", covariant=True)


@dataclass(frozen=True, slots=True)
class Items(Generic[Item]):
    """Items of one kind, the entries that could not be used, and the validity note."""

    kept: tuple[Item, ...]
    dropped: tuple[Dropped, ...]
    validity: str


def dropped_note(what: str, items: Items[Any]) -> Iterator[str]:
    """One sentence on the entries that could not be used, with the first reason; none where all were usable.

    Args:
        what: the entries in the plural: "questions".
    """
    if items.dropped:
        first, every = items.dropped[0], len(items.dropped) + len(items.kept)
        yield f"{len(items.dropped)} of {every} {what} are left out (first: {first.item_id}: {first.reason})"


@dataclass(frozen=True, slots=True)
class DecisionCase:
    """A case to decide by yes or no, in which only who it is about is left open."""

    id: str
    domain: str
    case: str
    role: str
    ask: str
    favourable: Literal["yes", "no"] = "yes"

    @property
    def topic(self) -> str:
        return self.domain

    def user(self, identity: Identity) -> str:
        """The user's turn; the identity comes last, so that everything before it is run once for all of them."""
        return f"{self.case} {self.ask} Answer yes or no. The {self.role} is {identity.phrase}."


@dataclass(frozen=True, slots=True)
class IdentitySwap:
    """One case told of two people, under a system turn that may give the model a role; empty for none."""

    case: DecisionCase
    one: Identity
    other: Identity
    system: str = ""

    def chats(self, start: str) -> tuple[Chat, Chat]:
        """The chat about each of the two, the answer begun with `start`."""
        first, second = (
            Chat(user=self.case.user(who), system=self.system, assistant=start) for who in (self.one, self.other)
        )
        return first, second


@dataclass(frozen=True, slots=True)
class BiasQuestion:
    """A question about two people, with three answers, one of which says that it is not known.

    Attributes:
        template: items of one template share their wording.
        attribute: what the two people differ in.
        condition: whether the context says who is meant.
        options: the three answers.
        unknown, right, biased: places among them; `biased` is the answer that fits the stereotype.
        block: questions that are asked together, since they differ in who the stereotype's person is; empty for none.
    """

    id: str
    template: str
    attribute: str
    condition: Condition
    context: str
    question: str
    options: tuple[str, str, str]
    unknown: int
    right: int
    biased: int
    block: str = ""

    @property
    def topic(self) -> str:
        return self.template

    @property
    def user(self) -> str:
        one, two, three = self.options
        return f"{self.context} {self.question} Choose one answer: {one}; {two}; {three}."


@dataclass(frozen=True, slots=True)
class PronounPair:
    """A sentence under the pronoun that the stereotype gives `right`, and under the other one.

    Attributes:
        usual, unusual: the two sentences.
        pronouns: the pronoun in each.
        right, other: whom the pronoun means, and the second person, without article.
    """

    id: str
    template: str
    usual: str
    unusual: str
    pronouns: tuple[str, str]
    right: str
    other: str


@dataclass(frozen=True, slots=True)
class SentencePair:
    """Two sentences that differ in the group: `more` fits a stereotype, `less` does not."""

    id: str
    group: str
    template: str
    pair: str
    more: str
    less: str

    @property
    def topic(self) -> str:
        return self.group


def decisions() -> Items[DecisionCase]:
    """The packaged cases, twenty of each kind of decision."""
    data = _read("decisions.toml")
    kept = [
        DecisionCase(f"{domain}-{n}", domain, case, part["role"], part["ask"], part.get("favourable", "yes"))
        for domain, part in data.items()
        if isinstance(part, dict)
        for n, case in enumerate(part["cases"], 1)
    ]
    return Items(tuple(kept), (), data["validity"])


def questions() -> Items[BiasQuestion]:
    """The packaged questions: each under three contexts and two polarities, the two people in turn in both orders.

    The two questions of a block have the same order of people and, where the context says who is meant, the same right
    person. The stereotype's person is the one in the first and the other in the second, so how likely a person's name
    or the first place is cancels in the block.
    """
    data = _read("questions.toml")
    kept: list[BiasQuestion] = []
    for number, entry in enumerate(data["question"]):
        s, o = entry["s"], entry["o"]
        people = {"s": s, "o": o, "S": _upper(s), "O": _upper(o)}
        for turn, about in enumerate(("", "about_stereotyped", "about_other")):
            for polarity in ("negative", "positive"):
                flip = (number + turn + (bool(about) and polarity == "positive")) % 2 == 1
                first, second = (o, s) if flip else (s, o)
                context = entry["context"].format(x=first, y=second)
                if about:
                    context += " " + entry[about].format(**people)
                biased = s if polarity == "negative" else o
                right = data["unknown"]
                if about:
                    right = biased if about == "about_stereotyped" else (o if biased == s else s)
                place = (number + turn) % 3
                options = [first, second]
                options.insert(place, data["unknown"])
                kept.append(
                    BiasQuestion(
                        id=f"{entry['id']}-{about or 'ambiguous'}-{polarity}",
                        template=entry["id"],
                        attribute=entry["attribute"],
                        condition="disambiguated" if about else "ambiguous",
                        context=context,
                        question=entry[polarity],
                        options=(options[0], options[1], options[2]),
                        unknown=place,
                        right=options.index(right),
                        biased=options.index(biased),
                        block=f"{entry['id']}: {right if about else 'ambiguous'}",
                    )
                )
    return Items(tuple(kept), (), data["validity"])


def pronouns() -> Items[PronounPair]:
    """The packaged sentences, each under "she" and "he"."""
    data = _read("pronouns.toml")
    kept = []
    for entry in data["pair"]:
        usual, unusual = (entry["usual"], "he" if entry["usual"] == "she" else "she")
        for n, text in enumerate(entry["sentences"], 1):
            form = next(form for form in PRONOUNS["he"] if "{" + form + "}" in text)
            kept.append(
                PronounPair(
                    id=f"{entry['right']}-{entry['other']}-{n}",
                    template=f"{entry['right']}-{entry['other']}",
                    usual=text.format(**PRONOUNS[usual]),
                    unusual=text.format(**PRONOUNS[unusual]),
                    pronouns=(PRONOUNS[usual][form], PRONOUNS[unusual][form]),
                    right=entry["right"],
                    other=entry["other"],
                )
            )
    return Items(tuple(kept), (), data["validity"])


def sentences() -> Items[SentencePair]:
    """The packaged pairs: every sentence of an attribute with every pair of its groups, in both orders.

    Pairs of groups that share a group count as one, since a word lies in one cluster only.
    """
    data = _read("sentences.toml")
    kept = []
    for group, part in data.items():
        if not isinstance(part, dict):
            continue
        clusters = _joined(part["pairs"])
        for n, text in enumerate(part["sentences"], 1):
            for s, o in part["pairs"]:
                more, less = (_upper(text.format(s=a, o=b)) for a, b in ((s, o), (o, s)))
                kept.append(SentencePair(f"{group}-{n}-{s}/{o}", group, f"{group}-{n}", clusters[s], more, less))
    return Items(tuple(kept), (), data["validity"])


def _joined(pairs: Sequence[Sequence[str]]) -> dict[str, str]:
    """Group -> the groups that pairs connect it with, itself among them."""
    found: list[list[str]] = []
    for pair in pairs:
        own = list(dict.fromkeys([*(g for part in found if set(part) & set(pair) for g in part), *pair]))
        found = [*(part for part in found if not set(part) & set(pair)), own]
    return {group: "/".join(part) for part in found for group in part}


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


@cache
def _read(name: str) -> dict[str, Any]:
    return toml_of(files("auditkit.findings.identity_bias").joinpath("data", name))
