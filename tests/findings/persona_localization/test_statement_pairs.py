"""The project's own persona statements: counts, and that words and lengths do not give the label away; their reader."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import auditkit
from auditkit.data.errors import DataError
from auditkit.findings.persona_localization.prompts.statement_pairs import packaged_statements, paired_statements
from auditkit.findings.persona_localization.prompts.statements import Statement
from auditkit.methods.separation.auc import auc
from auditkit.methods.separation.probes import cross_validated, grouped_folds
from auditkit.methods.separation.text_baselines import bag_of_words, similar_statements
from auditkit.record.differences import data_digests

pytestmark = pytest.mark.unit

TRAIT_WORDS = {
    "openness": r"open\w*",
    "conscientiousness": r"conscientious\w*|diligen\w*",
    "extraversion": r"extr[ao]ver\w*|introver\w*|outgoing|shy",
    "agreeableness": r"\w*agree\w*",
    "neuroticism": r"neuro\w*|anxi\w*",
    "subscribes-to-virtue-ethics": r"virtu\w*|aristot\w*",
    "subscribes-to-cultural-relativism": r"relativ\w*",
    "subscribes-to-deontology": r"deonto\w*|kant\w*|dut(y|ies)",
    "subscribes-to-utilitarianism": r"utili\w*|consequen\w*",
    "subscribes-to-moral-nihilism": r"nihil\w*",
    "politically-conservative": r"conserv\w*|republican\w*|right-wing",
    "politically-liberal": r"liberal\w*|progressive\w*|democrat\w*|left-wing",
    "anti-immigration": r"\w*migra\w*|anti",
    "anti-LGBTQ-rights": r"lgbt\w*|queer|homosexual\w*|rights|anti",
}
WORD_SHARE, WORD_AUC, STYLE_AUC = 0.2, 0.7, 0.65

PERSONAS = {persona: made for made_of in packaged_statements().values() for persona, made in made_of.items()}
each_persona = pytest.mark.parametrize("persona", PERSONAS)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def flags(statements: Sequence[Statement]) -> np.ndarray:
    return np.array([one.positive for one in statements])


def word_shares(statements: Sequence[Statement]) -> dict[str, float]:
    """Word -> share of the positive statements that have it minus share of the negative ones."""
    counts = [Counter(word for one in statements if one.positive is kind for word in set(words(one.text)))
              for kind in (True, False)]  # fmt: skip
    half = len(statements) / 2
    return {word: (counts[0][word] - counts[1][word]) / half for word in counts[0] | counts[1]}


def words_auc(statements: Sequence[Statement]) -> float:
    """Cross-validated AUC of a bag of words, whole pairs in a fold, mean of three divisions into folds."""
    features, positive = bag_of_words([one.text for one in statements]), flags(statements)
    found = []
    for seed in range(3):
        folds = grouped_folds(positive, [one.pair for one in statements], seed=seed)
        found.append(auc(cross_validated(features, positive, folds, standardise=False), positive, folds))
    return float(np.mean(found))


# The packaged statements


def test_there_are_fourteen_personas_of_three_topics() -> None:
    assert {topic: len(made) for topic, made in packaged_statements().items()} == {
        "personality": 5,
        "ethics": 5,
        "politics": 4,
    }
    assert set(PERSONAS) == set(TRAIT_WORDS)


@each_persona
def test_a_persona_has_sixty_statements_of_each_kind_in_pairs(persona: str) -> None:
    made = PERSONAS[persona]
    assert sum(one.positive for one in made) == sum(not one.positive for one in made) >= 60
    assert all(one.persona == persona and one.confidence == 1 for one in made)
    for first, second in zip(made[::2], made[1::2], strict=True):
        assert first.positive
        assert not second.positive
        assert first.pair == second.pair
    assert len({one.pair for one in made}) == len(made) / 2


def test_no_statement_comes_twice_in_any_persona() -> None:
    ids = [one.id for made in PERSONAS.values() for one in made]
    texts = [" ".join(words(one.text)) for made in PERSONAS.values() for one in made]
    assert len(set(ids)) == len(set(texts)) == len(texts)
    # Alike are at most the two of a pair, and those by less than a copy with a word exchanged.
    assert len(set(similar_statements(texts, least=0.85))) == len(texts)
    pairs = [one.pair for made in PERSONAS.values() for one in made]
    assert len(set(similar_statements(texts, least=0.7, pairs=pairs))) == len(set(pairs))


@each_persona
def test_statements_are_sentences_of_six_to_eighteen_words(persona: str) -> None:
    for one in PERSONAS[persona]:
        assert 6 <= len(one.text.split()) <= 18, one.id
        assert re.fullmatch(r"[A-Z][A-Za-z0-9,'’:;\- ]+\.", one.text), one.id


@each_persona
def test_length_does_not_tell_the_kinds_apart(persona: str) -> None:
    lengths = np.array([len(one.text.split()) for one in PERSONAS[persona]])
    positive = flags(PERSONAS[persona])
    assert abs(lengths[positive].mean() - lengths[~positive].mean()) < 0.75
    whole = np.zeros(len(lengths), dtype=np.intp)
    assert 0.4 <= auc(lengths.astype(float), positive, whole) <= 0.6


@each_persona
def test_no_word_tells_the_kinds_apart(persona: str) -> None:
    shares = word_shares(PERSONAS[persona])
    worst = max(shares, key=lambda word: abs(shares[word]))
    assert abs(shares[worst]) <= WORD_SHARE, worst


@each_persona
def test_a_bag_of_words_barely_tells_the_kinds_apart(persona: str) -> None:
    assert words_auc(PERSONAS[persona]) <= WORD_AUC


@pytest.mark.slow
def test_what_other_personas_teach_about_style_does_not_tell() -> None:
    made = [one for all_of_one in PERSONAS.values() for one in all_of_one]
    sentences = [set(words(one.text)) for one in made]
    spread = Counter(word for sentence in sentences for word in sentence)
    common = sorted(word for word, count in spread.items() if count >= 10)
    features = np.array([[word in sentence for word in common] for sentence in sentences], dtype=float)
    persona, positive = np.unique([one.persona for one in made], return_inverse=True)[1], flags(made)
    scores = cross_validated(features, positive, persona)
    for number, name in enumerate(sorted(PERSONAS)):
        here = persona == number
        assert auc(scores[here], positive[here], persona[here]) <= STYLE_AUC, name


@each_persona
def test_negatives_are_no_mere_negations(persona: str) -> None:
    negators = {"not", "no", "never", "nothing", "nobody", "none", "neither", "nor", "without"}
    made = PERSONAS[persona]
    for first, second in zip(made[::2], made[1::2], strict=True):
        assert set(words(first.text)) - negators != set(words(second.text)) - negators, first.pair


@each_persona
def test_no_statement_names_the_persona(persona: str) -> None:
    for one in PERSONAS[persona]:
        assert not re.search(rf"\b({TRAIT_WORDS[persona]})\b", one.text, re.IGNORECASE), one.id


def test_the_checks_see_a_give_away() -> None:
    spoiled = [
        Statement(
            one.id, one.persona, f"{one.text} Truly." if one.positive else one.text, one.positive, 1.0, one.pair
        )
        for one in PERSONAS["openness"]
    ]
    assert word_shares(spoiled)["truly"] == 1
    assert words_auc(spoiled) > 0.9


def test_the_files_are_part_of_the_plan() -> None:
    names = data_digests(Path(auditkit.__file__).parent, [])
    folder = "auditkit/findings/persona_localization/data"
    assert {f"{folder}/{topic}.toml" for topic in packaged_statements()} <= set(names)


# A user's file


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_pairs_are_read_in_order(tmp_path: Path) -> None:
    path = written(
        tmp_path, 'tidy = [["I sort.", "I pile."], ["I dust.", "I wait."]]\nloud = [["I sing.", "I hum."]]'
    )
    read = paired_statements(path)
    assert list(read) == ["tidy", "loud"]
    assert read["tidy"][3] == Statement("tidy-2-negative", "tidy", "I wait.", False, 1.0, "tidy-2")
    assert [one.text for one in read["loud"]] == ["I sing.", "I hum."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tidy = ", "mine.toml: Invalid value"),
        ("", "mine.toml: no persona"),
        ("tidy = 3", "persona tidy: must be a list of [positive, negative] pairs"),
        ("tidy = []", "persona tidy: must be a list of [positive, negative] pairs"),
        ('tidy = [["a"]]', "persona tidy, pair 1: ['a'] is not a list of two texts"),
        ('tidy = [["a", "b"], ["c", 1]]', "persona tidy, pair 2: ['c', 1] is not a list of two texts"),
        ('tidy = ["ab"]', "persona tidy, pair 1: 'ab' is not a list of two texts"),
        ('tidy = [["a", ""]]', "persona tidy, pair 1: '' is empty or has spaces around it"),
        ('tidy = [["a ", "b"]]', "persona tidy, pair 1: 'a ' is empty or has spaces around it"),
        ('tidy = [["I sort", "i  SORT"]]', "pair 1: 'i  SORT' is already in persona tidy, pair 1"),
        ('a = [["x", "y"]]\nb = [["y", "z"]]', "persona b, pair 1: 'y' is already in persona a, pair 1"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        paired_statements(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        paired_statements(path)
