"""Check the words of personas and the sets of role prompts: `python tools/check_prompts.py [PERSONAS [ROLES]]`.

Prints counts of both files, then one line for each fault, and exits with 1 where there is one. Without arguments the
files of the package are checked.

Words of personas (auditkit/data/personas.toml): a word comes once, whatever its case; it takes the article that its
first letter asks for, or that `ARTICLES` lists; groups are large enough, and neutral words are as many of each article
as racial and colour words, since only words of one article make a pair.

Sets of role prompts (auditkit/findings/role_conditioning/data/prompts.toml): the four texts have as many words and
differ in their subject and in the verb that agrees with it; no text comes twice; frames have as many sets, give or take
one, and "she" and "he" are about equally frequent.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from auditkit.data.errors import DataError
from auditkit.data.files import toml_of
from auditkit.data.personas import Persona

LEAST = {"positive": 48, "negative": 48, "racial": 60, "colour": 40, "nonsense": 16, "neutral": 60}
"""Words of each group at least, so that words do not limit the number of pairs in a default run."""
LEAST_SETS, LEAST_FRAMES = 60, 20
ARTICLES = {"European": "a", "Ukrainian": "a", "useless": "a", "university": "a"}
"""Words that take another article than their first letter asks for, by their sound."""

SUBJECTS = (("you",), ("I",), ("she", "he"))
CATEGORIES = ("self", "confounder", "third", "neutral")
AGREEING: Mapping[str, Mapping[str, str]] = {
    "confounder": {"are": "am", "were": "was"},
    "third": {"are": "is", "were": "was", "do": "does", "have": "has"},
    "neutral": {},
}
"""What becomes of the verb of a question about "you" in the same question about somebody else."""
PRONOUNS = {"you", "i", "she", "he", "it", "we", "they", "your", "my", "her", "his"}


def word_faults(data: Mapping[str, Any]) -> Iterator[str]:
    """One line for each fault of the words of personas."""
    groups: Mapping[str, Sequence[str]] = data.get("groups", {})
    seen: dict[str, str] = {}
    for group, words in groups.items():
        for word in words:
            if word != word.strip() or not word:
                yield f"group {group}: {word!r} is empty or has outer spaces"
            if word.lower() in seen:
                yield f"group {group}: {word!r} is already in group {seen[word.lower()]}"
            seen.setdefault(word.lower(), group)
            wanted = ARTICLES.get(word, "an" if word[:1].lower() in "aeiou" else "a")
            if Persona(word, group).article != wanted:
                yield f"group {group}: '{Persona(word, group).article} {word}' should be '{wanted} {word}'"
    for group, least in LEAST.items():
        if len(groups.get(group, ())) < least:
            yield f"group {group}: {len(groups.get(group, ()))} words, at least {least} are needed"
    for group in ("racial", "colour"):
        for article in ("a", "an"):
            count, neutral = (_with_article(groups.get(name, ()), article) for name in (group, "neutral"))
            if neutral < count:
                yield f"group neutral: {neutral} words take {article!r}, {count} of group {group} do"
    yield from _synonym_faults(data.get("synonyms", ()), groups)


def _synonym_faults(synonyms: Sequence[Sequence[str]], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    group_of = {word: group for group, words in groups.items() for word in words}
    uses = Counter(word for pair in synonyms for word in pair)
    yield from (f"synonyms: {word!r} is in {count} pairs" for word, count in uses.items() if count > 1)
    for pair in synonyms:
        found = {group_of.get(word) for word in pair}
        if len(found) > 1 or None in found:
            yield f"synonyms: {' and '.join(pair)} are not of one group"
        if len({Persona(word, "").article for word in pair}) > 1:
            yield f"synonyms: {' and '.join(pair)} take different articles"


def set_faults(data: Mapping[str, Any]) -> Iterator[str]:
    """One line for each fault of the sets of role prompts."""
    frames: Mapping[str, Sequence[Sequence[str]]] = data.get("frames", {})
    seen: dict[str, str] = {}
    for frame, sets in frames.items():
        for number, texts in enumerate(sets, start=1):
            where = f"set {frame}-{number}"
            for text in texts:
                if text.lower() in seen:
                    yield f"{where}: {text!r} is already in {seen[text.lower()]}"
                seen.setdefault(text.lower(), where)
                if text != text.strip() or not text.endswith("?"):
                    yield f"{where}: {text!r} has outer spaces or no question mark at its end"
            yield from (f"{where}: {fault}" for fault in _differing(texts))
    yield from _balance(frames)


def _differing(texts: Sequence[str]) -> Iterator[str]:
    """What the four texts of a set differ in besides their subject and the verb that agrees with it."""
    if len(texts) != len(CATEGORIES):
        yield f"{len(texts)} texts, {len(CATEGORIES)} are needed"
        return
    own, *others = ([word if word == "I" else word.lower() for word in text.split()] for text in texts)
    if own.count("you") != 1:
        yield f"{texts[0]!r} has no subject 'you', or more than one"
        return
    place = own.index("you")
    for category, words, text in zip(CATEGORIES[1:], others, texts[1:], strict=True):
        if len(words) != len(own):
            yield f"{text!r} has {len(words)} words, {texts[0]!r} has {len(own)}"
            continue
        subject = words[place]
        allowed = dict(zip(CATEGORIES, SUBJECTS, strict=False)).get(category)
        wrong = subject.lower() in PRONOUNS if allowed is None else subject not in allowed
        if wrong:
            yield f"{text!r} has the subject {subject!r}"
        for n, (mine, theirs) in enumerate(zip(own, words, strict=True)):
            if n != place and theirs != (AGREEING[category].get(mine, mine) if n < place else mine):
                yield f"{text!r} differs from {texts[0]!r} in {theirs!r}"


def _balance(frames: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[str]:
    counts = {frame: len(sets) for frame, sets in frames.items()}
    if sum(counts.values()) < LEAST_SETS:
        yield f"{sum(counts.values())} sets, at least {LEAST_SETS} are needed"
    if len(counts) < LEAST_FRAMES:
        yield f"{len(counts)} frames, at least {LEAST_FRAMES} are needed"
    most = max(counts.values(), default=0)
    for frame, count in counts.items():
        if count < most - 1:
            yield f"frame {frame}: {count} sets, another frame has {most}"
    pronouns = Counter(word for texts in _complete(frames) for word in texts[2].split() if word in ("she", "he"))
    if abs(pronouns["she"] - pronouns["he"]) > pronouns.total() / 5:
        yield f"third person: {pronouns['she']} times 'she', {pronouns['he']} times 'he'"


def _complete(frames: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[Sequence[str]]:
    return (texts for sets in frames.values() for texts in sets if len(texts) == len(CATEGORIES))


def _with_article(words: Sequence[str], article: str) -> int:
    return sum(Persona(word, "").article == article for word in words)


def main(*arguments: str) -> int:
    package = files("auditkit")
    packaged = (
        package.joinpath("data", "personas.toml"),
        package.joinpath("findings", "role_conditioning", "data", "prompts.toml"),
    )
    personas, roles = (*map(Path, arguments), *packaged[len(arguments) :])
    try:
        words, sets = toml_of(personas), toml_of(roles)
    except DataError as error:
        print(error)
        return 1
    for group, listed in words.get("groups", {}).items():
        print(f"{group}: {len(listed)} words, {_with_article(listed, 'an')} of them take 'an'")
    frames = sets.get("frames", {})
    print(f"role prompts: {sum(map(len, frames.values()))} sets in {len(frames)} frames")
    faults = [f"{personas}: {fault}" for fault in word_faults(words)]
    faults += [f"{roles}: {fault}" for fault in set_faults(sets)]
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
