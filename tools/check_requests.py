"""Check the pairs of requests of the refusal suite: `python tools/check_requests.py [FILE]`.

Prints counts, then one line for each fault, and exits with 1 where there is one. Without an argument the packaged pairs
are checked: how many there are, that topics have as many, that no request comes twice, that twins begin with the same
word and share a word of their subject, that harmful and harmless requests are equally long, and that no single word
gives the harmful ones away. The last line says how often the words of a request alone tell its kind, learnt from the
other topics: what a score has to beat before it says anything about the model.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from auditkit.data.errors import DataError
from auditkit.findings.refusal.prompts.requests import HARMFUL, KINDS, RequestPair, own_requests
from auditkit.methods.separation.text_baselines import bag_of_words

LEAST_PAIRS, LEAST_TOPICS = 128, 12
MOST_WORDS = 14
"""Of a request: one plain line."""
APART = 4
"""Words by which two twins may differ in length."""
LETTERS = (0.9, 1.1)
"""Letters of all harmful requests by those of all harmless ones."""
GIVES_AWAY = 0.07
"""Share of all pairs by which a word may be more frequent in one kind of request than in the other."""
TOLD = 0.65
"""How often words alone may tell the kind of a request of another topic; 0.5 is chance."""
_SMALL = (
    "a an the of to in on at for from with by and or that who whom which when where while so is are was be it its them "
    "my me i you our their his her how do can what not get make made give write tell help show find plan up out"
)
SMALL = frozenset(_SMALL.split())
"""Words that are no subject."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[\w'-]+", text.lower())


def faults_of(pairs: Sequence[RequestPair]) -> Iterator[str]:
    """One line for each fault."""
    topics = Counter(pair.topic for pair in pairs)
    if len(pairs) < LEAST_PAIRS:
        yield f"{len(pairs)} pairs, at least {LEAST_PAIRS} are needed"
    if len(topics) < LEAST_TOPICS:
        yield f"{len(topics)} topics, at least {LEAST_TOPICS} are needed"
    for topic, count in topics.items():
        if count < max(topics.values()):
            yield f"topic {topic}: {count} pairs, another topic has {max(topics.values())}"
    seen: dict[str, str] = {}
    for pair in pairs:
        for kind in KINDS:
            plain = " ".join(words_of(pair.of(kind)))
            if plain in seen:
                yield f"{pair.id}: its {kind} request is that of {seen[plain]}"
            seen.setdefault(plain, pair.id)
        yield from (f"{pair.id}: {fault}" for fault in _unlike(pair))
    yield from _balance(pairs)


def _unlike(pair: RequestPair) -> Iterator[str]:
    one, other = words_of(pair.harmful), words_of(pair.harmless)
    if one[:1] != other[:1]:
        yield f"its twins begin with {one[0]!r} and {other[0]!r}"
    if not _stems(one[1:]) & _stems(other[1:]):
        yield "its twins share no word of their subject"
    if abs(len(one) - len(other)) > APART:
        yield f"its twins have {len(one)} and {len(other)} words"
    for words in (one, other):
        if len(words) > MOST_WORDS:
            yield f"{len(words)} words, at most {MOST_WORDS} are one plain line"


def _stems(words: Sequence[str]) -> set[str]:
    return {word.removesuffix("'s").rstrip("s")[:6] for word in words if word not in SMALL}


def _balance(pairs: Sequence[RequestPair]) -> Iterator[str]:
    texts = [[pair.of(kind) for pair in pairs] for kind in KINDS]
    letters = [sum(map(len, own)) for own in texts]
    if all(letters) and not LETTERS[0] <= letters[0] / letters[1] <= LETTERS[1]:
        yield f"harmful requests have {letters[0] / letters[1]:.2f} times the letters of harmless ones"
    counts = [Counter(word for text in own for word in set(words_of(text))) for own in texts]
    most = GIVES_AWAY * len(pairs)
    for word in sorted(counts[0].keys() | counts[1].keys()):
        if abs(counts[0][word] - counts[1][word]) > most:
            yield f"{word!r} is in {counts[0][word]} harmful and {counts[1][word]} harmless requests"
    if len({pair.topic for pair in pairs}) > 1 and (told := told_by_words(pairs)) > TOLD:
        yield f"words alone tell the kind of {told:.0%} of the requests of another topic, at most {TOLD:.0%} may be"


def told_by_words(pairs: Sequence[RequestPair]) -> float:
    """Share of requests whose kind their words tell, learnt from the requests of all other topics."""
    from sklearn.linear_model import LogisticRegression

    values = bag_of_words([pair.of(kind) for kind in KINDS for pair in pairs])
    kinds = np.array([kind == HARMFUL for kind in KINDS for _ in pairs])
    topics = np.array([pair.topic for _ in KINDS for pair in pairs])
    right = [
        LogisticRegression(C=10.0, max_iter=1000).fit(values[topics != topic], kinds[topics != topic]).predict(
            values[topics == topic]
        ) == kinds[topics == topic]
        for topic in sorted(set(topics))
    ]  # fmt: skip
    return float(np.concatenate(right).mean())


def main(*arguments: str) -> int:
    try:
        pairs = own_requests(*map(Path, arguments)).pairs
    except DataError as error:
        print(error)
        return 1
    topics = Counter(pair.topic for pair in pairs)
    words = [len(words_of(pair.of(kind))) for pair in pairs for kind in KINDS]
    print(f"{len(pairs)} pairs in {len(topics)} topics, {min(words)} to {max(words)} words")
    faults = list(faults_of(pairs))
    for fault in faults:
        print(fault)
    if len(topics) > 1:
        print(f"words alone tell the kind of {told_by_words(pairs):.0%} of the requests of another topic")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
