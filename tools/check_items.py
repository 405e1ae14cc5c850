"""Check the items of the identity bias suite, and print what each pool holds.

    python tools/check_items.py

For every pool: how many items there are, items that occur twice, whether what could pass for a bias is balanced (the
favourable answer, the order of two people, which of them is right), whether groups are told in phrases of one length,
and words that give a group away. Prints one line for each pool, then one line for each fault. The exit code is 1 where
there is a fault. A unit test runs the same checks.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from auditkit.data.items import CompletionItem, completion_items
from auditkit.findings.identity_bias.measurements.personas import WORDS
from auditkit.findings.identity_bias.prompts import items as bias_items
from auditkit.findings.identity_bias.prompts.dealing import SHE
from auditkit.findings.identity_bias.prompts.identities import Identity, identities
from auditkit.findings.identity_bias.prompts.items import BiasQuestion, DecisionCase, PronounPair, SentencePair

LEAST: Mapping[str, int] = {
    "cases": 200,
    "kinds": 10,
    "questions": 150,
    "attributes": 9,
    "sentences": 120,
    "occupations": 40,
    "pairs": 200,
    "completions": 48,
}
"""The fewest of each that a pool may hold."""
HALF = (0.4, 0.6)
"""What counts as half, where items are too few or too uneven for exactly half."""
ALIKE = (0.6, 1.6)
"""Words of a case, relative to the median of its kind, and of a kind, relative to the median of all."""
GROUPS_ALIKE = (0.85, 1.18)
"""Letters of all phrases of one side, relative to those of the other side."""
SHARED = frozenset({"a", "an", "person"})
"""Words of an identity that give nobody away."""
GENDERED = frozenset(
    {
        *("he", "she", "him", "her", "his", "hers", "himself", "herself", "man", "men", "woman", "women", "male"),
        *(
            "female",
            "boy",
            "boys",
            "girl",
            "girls",
            "mother",
            "mothers",
            "father",
            "fathers",
            "brother",
            "brothers",
        ),
        *("sister", "sisters", "son", "sons", "daughter", "daughters", "wife", "wives", "husband", "husbands"),
        *(
            "uncle",
            "uncles",
            "aunt",
            "aunts",
            "grandmother",
            "grandfather",
            "niece",
            "nephew",
            "lady",
            "gentleman",
        ),
        *("widow", "widower", "mr", "mrs", "ms"),
    }
)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[\w'-]+", text.lower())


def twice(pool: str, texts: Mapping[str, str]) -> Iterator[str]:
    """A fault for every item whose text is that of another one but for case and punctuation."""
    seen: dict[str, str] = {}
    for item, text in texts.items():
        plain = " ".join(words_of(text))
        if plain in seen:
            yield f"{pool}: {item} has the text of {seen[plain]}"
        seen.setdefault(plain, item)


def few(pool: str, counts: Mapping[str, int]) -> Iterator[str]:
    """A fault for every count below `LEAST`."""
    for what, count in counts.items():
        if count < LEAST[what]:
            yield f"{pool}: {count} {what}, at least {LEAST[what]} are needed"


def outside(pool: str, what: str, share: float, limits: tuple[float, float]) -> Iterator[str]:
    """A fault where a share or ratio lies outside of its limits."""
    if not limits[0] <= share <= limits[1]:
        yield f"{pool}: {what} is {share:.2f}, not between {limits[0]:g} and {limits[1]:g}"


def uneven(pool: str, what: str, counts: Mapping[str, int], most: int) -> Iterator[str]:
    """A fault where counts differ by more than `most`."""
    if counts and max(counts.values()) - min(counts.values()) > most:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        yield f"{pool}: {what} differ by more than {most}: {told}"


def unlike(pool: str, phrases: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """A fault for every item that tells its two groups in phrases of other lengths, and where one side is longer in
    all."""
    for item, (one, other) in phrases.items():
        if abs(len(one.split()) - len(other.split())) > 1:
            yield f"{pool}: {item}: {one!r} and {other!r} differ by more than a word"
    letters = [sum(len(pair[side]) for pair in phrases.values()) for side in (0, 1)]
    if all(letters):
        yield from outside(pool, "letters of the stereotyped groups by those of the others", letters[0] / letters[1],
                           GROUPS_ALIKE)  # fmt: skip


# -- decisions ---------------------------------------------------------------------------------------------------------


def check_decisions(cases: Sequence[DecisionCase], people: Iterable[Identity]) -> list[str]:
    """The faults of cases that are decided about each of these people."""
    faults = [*few("decisions", {"cases": len(cases), "kinds": len({case.domain for case in cases})})]
    faults += twice("decisions", {case.id: case.case for case in cases})
    counts = Counter(case.domain for case in cases)
    faults += uneven("decisions", "cases of a kind", counts, 0)
    unfavourable = {case.domain for case in cases if case.favourable == "no"}
    share = len(unfavourable) / max(len(counts), 1)
    faults += outside("decisions", 'the share of kinds in which "no" is favourable', share, (0.25, 0.5))
    lengths: dict[str, list[int]] = {}
    for case in cases:
        lengths.setdefault(case.domain, []).append(len(words_of(case.case)))
    usual = median(n for own in lengths.values() for n in own)
    for kind, own in lengths.items():
        faults += outside("decisions", f"the length of {kind} by that of all kinds", median(own) / usual, ALIKE)
    for case in cases:
        relative = len(words_of(case.case)) / median(lengths[case.domain])
        faults += outside("decisions", f"the length of {case.id} by that of its kind", relative, ALIKE)
    told, names = give_aways(people)
    for case in cases:
        text = f"{case.case} {case.ask} {case.role}"
        found = sorted({*words_of(text)} & told | {*re.findall(r"[\w'-]+", text)} & names)
        faults += [f"decisions: {case.id} holds {word!r}, a word of an identity" for word in found]
        gendered = sorted({*words_of(text)} & GENDERED - told)
        faults += [f"decisions: {case.id} holds {word!r}, a gendered word" for word in gendered]
    return faults


def give_aways(people: Iterable[Identity]) -> tuple[set[str], set[str]]:
    """Words that tell a group, in lower case, and the parts of names, as they are written."""
    told: set[str] = set()
    names: set[str] = set()
    for one in people:
        if one.how == "name":
            names.update(one.phrase.split())
        else:
            told.update(words_of(one.phrase))
    return told - SHARED, names


# -- questions ---------------------------------------------------------------------------------------------------------


def check_questions(questions: Sequence[BiasQuestion]) -> list[str]:
    """The faults of questions about two people."""
    attributes = {question.template: question.attribute for question in questions}
    counts = Counter(attributes.values())
    faults = [*few("questions", {"questions": len(questions), "attributes": len(counts)})]
    faults += twice("questions", {question.id: question.user for question in questions})
    faults += uneven("questions", "templates of an attribute", counts, 1)
    for condition in ("ambiguous", "disambiguated"):
        own = [question for question in questions if question.condition == condition]
        if own:
            faults += _balance(condition, own)
    for question in questions:
        faults += _named(question)
    negative = {q.template: q for q in questions if q.id.endswith("-negative")}
    faults += unlike(
        "questions",
        {name: (q.options[q.biased], q.options[3 - q.unknown - q.biased]) for name, q in negative.items()},
    )
    return faults


def _balance(condition: str, own: Sequence[BiasQuestion]) -> Iterator[str]:
    """Faults of order: which person comes first, where "not known" stands, which person is right."""
    first = [q.biased < 3 - q.unknown - q.biased for q in own]
    yield from outside(f"{condition} questions", "how often the stereotype's person is the first",
                       sum(first) / len(own), HALF)  # fmt: skip
    for place in range(3):
        share = sum(q.unknown == place for q in own) / len(own)
        yield from outside(
            f"{condition} questions", f"how often place {place + 1} is 'not known'", share, (0.28, 0.4)
        )
    if condition == "disambiguated":
        right = sum(q.right == q.biased for q in own) / len(own)
        yield from outside(f"{condition} questions", "how often the stereotype is right", right, (0.5, 0.5))
        ahead = sum(q.right < 3 - q.unknown - q.right for q in own) / len(own)
        yield from outside(f"{condition} questions", "how often the right person is the first", ahead, HALF)


def _named(question: BiasQuestion) -> Iterator[str]:
    """Faults of naming: the context names both people equally often, and the question names neither."""
    people = [option for k, option in enumerate(question.options) if k != question.unknown]
    context = question.context.lower()
    counts = [len(re.findall(rf"\b{re.escape(person.lower())}\b", context)) for person in people]
    if counts[0] != counts[1] or not counts[0]:
        told = " and ".join(f"{person!r} {n} times" for person, n in zip(people, counts, strict=True))
        yield f"questions: {question.id}: the context names {told}"
    for person in people:
        if {*words_of(person)} - {"the", "who", "with", "in", "on"} & {*words_of(question.question)}:
            yield f"questions: {question.id}: the question holds a word of {person!r}"


# -- pronouns ----------------------------------------------------------------------------------------------------------


def check_pronouns(pairs: Sequence[PronounPair]) -> list[str]:
    """The faults of sentences with two occupations and one pronoun."""
    faults = [*few("pronouns", {"sentences": len(pairs), "occupations": len({pair.right for pair in pairs})})]
    faults += twice("pronouns", {pair.id: pair.usual for pair in pairs})
    usual = {pair.right: pair.pronouns[0] in SHE for pair in pairs}
    for pair in pairs:
        faults += _sentence(pair, usual)
    couples = Counter((pair.right, pair.other) for pair in pairs)
    for (right, other), count in couples.items():
        if couples[other, right] != count:
            faults.append(
                f"pronouns: {right} and {other}: {count} sentences one way, {couples[other, right]} the other"
            )
    if pairs:
        she = sum(pair.pronouns[0] in SHE for pair in pairs) / len(pairs)
        faults += outside("pronouns", 'the share of sentences in which "she" is usual', she, (0.5, 0.5))
        first = [pair.usual.lower().find(pair.right) < pair.usual.lower().find(pair.other) for pair in pairs]
        faults += outside("pronouns", "how often the right person is the first", sum(first) / len(pairs), HALF)
    return faults


def _sentence(pair: PronounPair, usual: Mapping[str, bool]) -> Iterator[str]:
    """Faults of one sentence: people, pronoun, gendered words, and an occupation that is usual in both ways."""
    for person in (pair.right, pair.other):
        if pair.usual.lower().count(person) != 1:
            yield f"pronouns: {pair.id} names {person!r} {pair.usual.lower().count(person)} times, not once"
    if usual[pair.right] != (pair.pronouns[0] in SHE) or usual.get(pair.other) == usual[pair.right]:
        yield f"pronouns: {pair.id}: the usual pronoun of {pair.right!r} is not that in other sentences"
    gendered = [word for word in words_of(pair.usual) if word in GENDERED]
    if gendered != [pair.pronouns[0]]:
        yield f"pronouns: {pair.id} holds the gendered words {', '.join(gendered) or 'none'}, not one pronoun"


# -- sentences ---------------------------------------------------------------------------------------------------------


def check_sentences(pairs: Sequence[SentencePair]) -> list[str]:
    """The faults of pairs of sentences with the two groups exchanged."""
    faults = [*few("sentences", {"pairs": len(pairs)})]
    faults += twice("sentences", {pair.id: pair.more for pair in pairs})
    more = {" ".join(words_of(pair.more)): pair.id for pair in pairs}
    phrases: dict[str, tuple[str, str]] = {}
    first: dict[str, bool] = {}
    for pair in pairs:
        if (other := more.get(" ".join(words_of(pair.less)))) is not None:
            faults.append(f"sentences: {pair.id} opposes the stereotype of {other}")
        if sorted(words_of(pair.more)) != sorted(words_of(pair.less)):
            faults.append(f"sentences: {pair.id}: its two sentences do not hold the same words")
        s, o = pair.id.removeprefix(f"{pair.template}-").split("/")
        phrases[f"{s}/{o}"] = (s, o)
        first[pair.template] = pair.more.lower().find(s.lower()) < pair.more.lower().find(o.lower())
    faults += unlike("sentences", phrases)
    faults += uneven("sentences", "pairs of an attribute", Counter(pair.group for pair in pairs), 6)
    faults += uneven("sentences", "pairs of a wording", Counter(pair.template for pair in pairs), 1)
    if first:
        share = sum(first.values()) / len(first)
        faults += outside("sentences", "how often the stereotyped group is the first", share, HALF)
    return faults


# -- answers -----------------------------------------------------------------------------------------------------------


def check_completions(completions: Sequence[CompletionItem], words: Mapping[str, Sequence[str]]) -> list[str]:
    """The faults of the questions that are asked under identities, and of the identities' words."""
    faults = [*few("completions", {"completions": len(completions)})]
    faults += twice("completions", {item.id: f"{item.question} {item.start}" for item in completions})
    reused = [word for word, n in Counter(word for own in words.values() for word in own).items() if n > 1]
    return faults + [f"completions: the identity {word!r} occurs twice" for word in reused]


def main() -> int:
    """Print the pools and their faults; 1 where there are faults."""
    cases, questions = bias_items.decisions().kept, bias_items.questions().kept
    pronouns, sentences, completions = bias_items.pronouns().kept, bias_items.sentences().kept, completion_items()
    faults = check_decisions(cases, identities()) + check_questions(questions) + check_pronouns(pronouns)
    faults += check_sentences(sentences) + check_completions(completions, WORDS)
    kinds = {case.domain: case.favourable for case in cases}
    favourable = Counter(kinds.values())
    lengths = [len(words_of(case.case)) for case in cases]
    print(
        f"decisions: {len(cases)} cases of {len(kinds)} kinds, {min(lengths)} to {max(lengths)} words; favourable is "
        f"yes in {favourable['yes']} kinds and no in {favourable['no']}"
    )
    by = Counter(question.condition for question in questions)
    print(
        f"questions: {by['ambiguous']} ambiguous and {by['disambiguated']} disambiguated, "
        f"{len({q.template for q in questions})} templates, {len({q.attribute for q in questions})} attributes"
    )
    print(f"pronouns: {len(pronouns)} sentences, {len({pair.right for pair in pronouns})} occupations")
    wordings, groups = ({getattr(pair, name) for pair in sentences} for name in ("template", "pair"))
    print(f"sentences: {len(sentences)} pairs, {len(wordings)} wordings, {len(groups)} pairs of groups")
    print(
        f"completions: {len(completions)} questions, each asked under {sum(map(len, WORDS.values()))} identities"
    )
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
