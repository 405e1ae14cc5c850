"""Persona words, articles, user files and the building of aligned pairs."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.data.order import shuffle_key
from auditkit.data.personas import (
    DataError,
    Persona,
    PersonaPair,
    build_pairs,
    differing_span,
    persona_groups,
    synonym_pairs,
)
from auditkit.testing.strategies import persona_pairs, personas

pytestmark = pytest.mark.unit

some_personas = st.lists(personas(), max_size=12)
seeds = st.integers(0, 2**32)
token_lists = st.lists(st.integers(0, 3), max_size=8)


def encode_prompt(persona: Persona) -> list[int]:
    """A toy prompt: fixed tokens, the article, the word in pieces of four letters, fixed tokens."""
    pieces = [persona.word[i : i + 4] for i in range(0, len(persona.word), 4)]
    return [1, 2, len(persona.article), *(sum(map(ord, piece)) for piece in pieces), 3, 4]


def named(*words: str, group: str = "positive") -> list[Persona]:
    return [Persona(word, group) for word in words]


# Words


def test_packaged_groups_are_large_enough() -> None:
    groups = persona_groups()
    smallest = {"positive": 48, "negative": 48, "racial": 60, "colour": 40, "nonsense": 16, "neutral": 60}
    assert set(groups) == set(smallest)
    assert all(len(groups[name]) >= size for name, size in smallest.items())
    assert all(persona.group == name for name, group in groups.items() for persona in group)


def test_packaged_words_appear_once_whatever_their_case() -> None:
    words = [persona.word.lower() for group in persona_groups().values() for persona in group]
    assert len(set(words)) == len(words)


def test_packaged_synonyms_share_group_and_article() -> None:
    pairs = synonym_pairs()
    assert len(pairs) >= 8
    assert all(pair.clean.group == pair.corrupt.group for pair in pairs)
    assert all(pair.clean.article == pair.corrupt.article for pair in pairs)
    words = [persona.word for pair in pairs for persona in (pair.clean, pair.corrupt)]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("word", "article"),
    [
        ("bad", "a"),
        ("astute", "an"),
        ("European", "a"),
        ("Asian", "an"),
        ("useless", "a"),
        ("unskilled", "an"),
        ("honest", "an"),
        ("uninterested", "an"),
        ("Ukrainian", "a"),
        ("Ethiopian", "an"),
        ("unmarried", "an"),
        ("unique", "a"),
        ("urban", "an"),
        ("one", "a"),
        ("hopeless", "a"),
    ],
)
def test_article_follows_the_sound(word: str, article: str) -> None:
    assert Persona(word, "any").article == article


def test_names_of_personas_and_pairs() -> None:
    good, bad = Persona("good", "positive"), Persona("bad", "negative")
    assert bad.phrase == "bad student"
    assert PersonaPair(good, bad).id == "good>bad"


# User files


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_user_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.toml", 'synonyms = [["old", "aged"]]\n[groups]\nage = ["old", "aged", "young"]')
    assert persona_groups(path) == {"age": tuple(named("old", "aged", "young", group="age"))}
    assert [pair.id for pair in synonym_pairs(path)] == ["old>aged"]


def test_synonyms_are_optional(tmp_path: Path) -> None:
    assert synonym_pairs(write(tmp_path / "mine.toml", '[groups]\nage = ["old"]')) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\[groups\] is missing"),
        ("groups = 3", r"\[groups\] is missing"),
        ("[groups", "mine.toml: "),
        ("[groups]\nage = []", "group age: must be a list of words"),
        ('[groups]\nage = "old"', "group age: must be a list of words"),
        ("[groups]\nage = [3]", "group age: 3 is not a word"),
        ('[groups]\nage = ["old "]', "group age: 'old ' is not a word"),
        ('[groups]\nage = ["old"]\nvalence = ["old"]', "group valence: 'old' is already in group age"),
    ],
)
def test_bad_groups_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "mine.toml", text)
    with pytest.raises(DataError, match=message) as caught:
        persona_groups(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("synonyms", "message"),
    [
        ("3", "must be a list of two-word lists"),
        ('[["old"]]', r"entry 1: \['old'\] is not a list of two words"),
        ('[["old", 3]]', "entry 1: .* is not a list of two words"),
        ('[["old", "aged"], ["old", "blue"]]', "entry 2: 'blue' is in no group"),
        ('[["old", "old"]]', "entry 1: .* are not two different words of one group"),
        ('[["old", "bad"]]', "entry 1: .* are not two different words of one group"),
    ],
)
def test_bad_synonyms_are_explained(tmp_path: Path, synonyms: str, message: str) -> None:
    text = f'synonyms = {synonyms}\n[groups]\nage = ["old", "aged"]\nvalence = ["bad"]'
    with pytest.raises(DataError, match=message):
        synonym_pairs(write(tmp_path / "mine.toml", text))


# Spans


@given(token_lists, token_lists)
def test_span_is_the_smallest_range_that_holds_every_difference(a: list[int], b: list[int]) -> None:
    span = differing_span(a, b)
    if len(a) != len(b) or a == b:
        assert span is None
        return
    assert span is not None
    start, stop = span
    assert a[:start] == b[:start]
    assert a[stop:] == b[stop:]
    assert a[start] != b[start]
    assert a[stop - 1] != b[stop - 1]


# Pairs


@given(clean=some_personas, corrupt=some_personas, n=st.integers(0, 60), seed=seeds)
def test_pairs_align_and_differ_in_one_span(
    clean: list[Persona], corrupt: list[Persona], n: int, seed: int
) -> None:
    pairs = build_pairs(clean, corrupt, encode_prompt, n=n, seed=seed).pairs
    assert len(pairs) <= n
    assert len({aligned.pair for aligned in pairs}) == len(pairs)
    for aligned in pairs:
        good, bad = aligned.pair.clean, aligned.pair.corrupt
        assert good in clean
        assert bad in corrupt
        assert good.article == bad.article
        a, b = encode_prompt(good), encode_prompt(bad)
        start, stop = aligned.span
        assert len(a) == len(b)
        assert a[:start] == b[:start]
        assert a[stop:] == b[stop:]
        assert 0 <= start < stop <= len(a)


@given(clean=some_personas, corrupt=some_personas, n=st.integers(0, 60), seed=seeds, data=st.data())
def test_builds_are_nested_and_ignore_the_order_of_words(
    clean: list[Persona], corrupt: list[Persona], n: int, seed: int, data: st.DataObject
) -> None:
    for reuse in (False, True):
        everything = build_pairs(clean, corrupt, encode_prompt, n=144, seed=seed, reuse=reuse)
        shuffled = data.draw(st.permutations(clean))
        again = build_pairs(shuffled, corrupt, encode_prompt, n=n, seed=seed, reuse=reuse)
        assert again.pairs == everything.pairs[:n]


@given(clean=some_personas, corrupt=some_personas, n=st.integers(0, 60), seed=seeds)
def test_no_word_is_in_two_pairs_and_no_more_pairs_could_be_made(
    clean: list[Persona], corrupt: list[Persona], n: int, seed: int
) -> None:
    """Pairs are clusters: what two of them share would be counted as evidence twice."""
    pairs = [aligned.pair for aligned in build_pairs(clean, corrupt, encode_prompt, n=n, seed=seed).pairs]
    words = [persona.word for pair in pairs for persona in (pair.clean, pair.corrupt)]
    assert len(set(words)) == len(words)
    if len(pairs) < n:
        free = build_pairs(clean, corrupt, encode_prompt, n=999, seed=seed, reuse=True).pairs
        assert all({one.pair.clean.word, one.pair.corrupt.word} & set(words) for one in free)


@given(clean=some_personas, corrupt=some_personas, seed=seeds)
def test_every_word_is_paired_or_dropped(clean: list[Persona], corrupt: list[Persona], seed: int) -> None:
    build = build_pairs(clean, corrupt, encode_prompt, n=144, seed=seed, reuse=True)
    unmatched = [
        persona.word
        for side, used in (
            (clean, {aligned.pair.clean for aligned in build.pairs}),
            (corrupt, {aligned.pair.corrupt for aligned in build.pairs}),
        )
        for persona in dict.fromkeys(side)
        if persona not in used
    ]
    assert [dropped.item_id for dropped in build.dropped] == unmatched
    assert all("\n" not in dropped.reason for dropped in build.dropped)


@given(clean=some_personas, corrupt=some_personas, seed=seeds)
def test_a_word_is_reused_only_when_no_less_used_pair_is_left(
    clean: list[Persona], corrupt: list[Persona], seed: int
) -> None:
    usable = {
        (good, bad)
        for good, bad in product(clean, corrupt)
        if good.article == bad.article and differing_span(encode_prompt(good), encode_prompt(bad))
    }
    uses: Counter[tuple[str, Persona]] = Counter()
    for aligned in build_pairs(clean, corrupt, encode_prompt, n=144, seed=seed, reuse=True).pairs:
        words = (aligned.pair.clean, aligned.pair.corrupt)
        busiest = max(uses["clean", words[0]], uses["corrupt", words[1]])
        assert all(max(uses["clean", good], uses["corrupt", bad]) >= busiest for good, bad in usable)
        usable.remove(words)
        uses["clean", words[0]] += 1
        uses["corrupt", words[1]] += 1
    assert not usable


@given(clean=some_personas, corrupt=some_personas, n=st.integers(0, 60), seed=seeds)
def test_the_next_pair_is_the_first_of_those_whose_words_are_used_least(
    clean: list[Persona], corrupt: list[Persona], n: int, seed: int
) -> None:
    """As by looking at all pairs again for each that is taken."""
    waiting = list(build_pairs(clean, corrupt, encode_prompt, n=999, seed=seed, reuse=True).pairs)
    waiting.sort(
        key=lambda one: shuffle_key(seed, f"{one.pair.id} {one.pair.clean.group}>{one.pair.corrupt.group}")
    )
    uses: Counter[tuple[str, Persona]] = Counter()
    taken = []
    while waiting and len(taken) < n:
        counts = [(uses["clean", one.pair.clean], uses["corrupt", one.pair.corrupt]) for one in waiting]
        place = min(range(len(waiting)), key=lambda k: (max(counts[k]), sum(counts[k])))
        taken.append(waiting.pop(place))
        uses["clean", taken[-1].pair.clean] += 1
        uses["corrupt", taken[-1].pair.corrupt] += 1
    assert build_pairs(clean, corrupt, encode_prompt, n=n, seed=seed, reuse=True).pairs == tuple(taken)


def test_every_word_is_used_once_where_there_are_as_many_on_both_sides() -> None:
    clean = named("good", "wise", "keen", "calm")
    corrupt = named("poor", "lazy", "dull", "weak", group="negative")
    pairs = build_pairs(clean, corrupt, encode_prompt, n=4, seed=3).pairs
    assert {aligned.pair.clean for aligned in pairs} == set(clean)
    assert {aligned.pair.corrupt for aligned in pairs} == set(corrupt)


@given(persona_pairs(), seeds)
def test_two_words_pair_when_they_align(pair: PersonaPair, seed: int) -> None:
    build = build_pairs([pair.clean], [pair.corrupt], encode_prompt, n=1, seed=seed)
    span = differing_span(encode_prompt(pair.clean), encode_prompt(pair.corrupt))
    aligns = span is not None and pair.clean.article == pair.corrupt.article
    assert [(aligned.pair, aligned.span) for aligned in build.pairs] == ([(pair, span)] if aligns else [])


def test_reasons_for_words_that_fit_nothing() -> None:
    clean = named("good", "astute")
    corrupt = named("poor", "mediocre", "dog", group="negative")
    reasons = build_pairs(clean, corrupt, encode_prompt, n=9, seed=0).dropped
    assert [(dropped.item_id, dropped.reason) for dropped in reasons] == [
        ("astute", "'astute' takes the article 'an', no corrupt word does"),
        ("mediocre", "'mediocre' makes a prompt of 7 tokens, clean words after 'a' make 6"),
    ]


def test_words_with_equal_tokens_are_not_a_pair() -> None:
    build = build_pairs(named("good"), named("bad"), lambda persona: [1, 2, 3], n=1, seed=0)
    assert build.pairs == ()
    assert [dropped.reason for dropped in build.dropped] == [
        "'good' gives the same tokens as every corrupt word of its length",
        "'bad' gives the same tokens as every clean word of its length",
    ]


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot build -1 pairs"):
        build_pairs([], [], encode_prompt, n=-1, seed=0)
