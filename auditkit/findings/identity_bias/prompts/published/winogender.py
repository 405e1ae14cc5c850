"""Winogender (Rudinger et al. 2018, arXiv:1804.09301): sentences that differ in the pronoun alone.

`all_sentences.tsv` names each sentence "technician.customer.1.female.txt": occupation, other participant, which of them
is meant (0 the occupation, 1 the participant) and the pronoun. Which pronoun the stereotype gives an occupation stands
in `occupations-stats.tsv` of the same set: the share of women that the Bureau of Labor Statistics counts. Where the
participant is meant, the pronoun that is usual for them is the one that is not the occupation's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from auditkit.data.errors import DataError, Dropped
from auditkit.data.tables import read_rows
from auditkit.findings.identity_bias.prompts.items import Items, PronounPair

VALIDITY = (
    "Winogender takes 60 occupations by United States labour statistics; of its pronouns 'he' and 'she' are compared. "
    "A model that does not understand the sentence guesses, and then the difference is about a guess."
)
SENTENCES, STATISTICS = ("sentid", "sentence"), ("occupation", "bls_pct_female")
_ID = re.compile(r"([^.]+)\.([^.]+)\.([01])\.(male|female|neutral)(?:\.txt)?")


def read_winogender(paths: Sequence[Path], statistics: Sequence[Path]) -> Items[PronounPair]:
    """Sentences under "he" and "she"; those without either, or about "someone", are left out.

    Args:
        statistics: tables with the share of women by occupation, in percent.

    Raises:
        DataError: no statistics, or files without a usable sentence.
    """
    if not statistics:
        raise DataError(
            f"{paths[0]}: Winogender's sentences do not say which pronoun is usual for an occupation; give a folder "
            "that holds its occupations-stats.tsv too"
        )
    shares = _shares(statistics)
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    dropped: list[Dropped] = []
    for path in paths:
        for number, row in read_rows(path).named:
            parts = _ID.fullmatch(str(row.get("sentid") or "").strip())
            if parts is None or not row.get("sentence"):
                dropped.append(
                    Dropped(f"{path.stem}-{number}", "its sentid is not occupation.participant.answer.gender")
                )
            elif parts[4] != "neutral":
                found.setdefault((parts[1], parts[2], parts[3]), {})[parts[4]] = str(row["sentence"]).strip()
    kept: list[PronounPair] = []
    for key, texts in found.items():
        item = _pair(*key, texts, shares)
        if isinstance(item, Dropped):
            dropped.append(item)
        else:
            kept.append(item)
    if not kept:
        raise DataError(f"{paths[0]}: no usable sentence" + (f" (first: {dropped[0].reason})" if dropped else ""))
    return Items(tuple(kept), tuple(dropped), VALIDITY)


def _shares(statistics: Sequence[Path]) -> dict[str, float]:
    """Occupation -> share of women, in percent."""
    found = {}
    for path in statistics:
        for number, row in read_rows(path).named:
            try:
                found[str(row["occupation"]).strip().lower()] = float(row["bls_pct_female"])
            except (TypeError, ValueError):
                raise DataError(f"{path}, line {number}, column bls_pct_female: not a number") from None
    return found


def _pair(
    occupation: str, participant: str, answer: str, texts: Mapping[str, str], shares: Mapping[str, float]
) -> PronounPair | Dropped:
    name = f"winogender-{occupation}-{participant}-{answer}"
    share = shares.get(occupation.lower())
    if set(texts) != {"male", "female"}:
        return Dropped(name, "it is not there under both pronouns")
    if participant.lower() == "someone":
        return Dropped(name, "the second person is 'someone', whom a question cannot name")
    if share is None or share == 50:
        return Dropped(name, f"the statistics do not say which pronoun is usual for {occupation!r}")
    female = (share > 50) == (answer == "0")
    usual, unusual = (texts["female"], texts["male"]) if female else (texts["male"], texts["female"])
    words = [re.findall(r"[\w']+", text.lower()) for text in (usual, unusual)]
    differ = [pair for pair in zip(*words, strict=False) if pair[0] != pair[1]]
    if len(words[0]) != len(words[1]) or len(differ) != 1:
        return Dropped(name, "its sentences differ in more than one pronoun")
    right, other = (occupation, participant) if answer == "0" else (participant, occupation)
    return PronounPair(
        name, f"{occupation}/{participant}", usual, unusual, differ[0], right.lower(), other.lower()
    )
