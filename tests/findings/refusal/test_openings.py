"""What refusals and answers begin with, and the check of it for a tokenizer."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.locating import locate
from auditkit.claims.outcomes import Unsupported
from auditkit.data.errors import DataError
from auditkit.findings.refusal.prompts.openings import ENGLISH, Openings, first_tokens, of_language, openings

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def encoder(*words: str) -> ChatEncoder:
    """An encoder with these tokens, the longest first; all other text is one token for each letter."""
    letters = sorted({*map(chr, range(32, 127)), "’"})
    vocabulary = list(dict.fromkeys(["<pad>", *words, *letters]))
    merges = []
    for word in words:
        merges += [(word[:k], word[k]) for k in range(1, len(word))]
        vocabulary += [word[: k + 1] for k in range(1, len(word)) if word[: k + 1] not in vocabulary]
    backend = Tokenizer(models.BPE({word: n for n, word in enumerate(vocabulary)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    return ChatEncoder(tokenizer)


@pytest.mark.unit
def test_the_first_tokens_of_both_kinds_are_read_behind_the_prompt() -> None:
    chat = encoder("Sorry", "Sure", "Here")
    found = first_tokens(chat, Openings("english", ("Sorry", "No,"), ("Sure", "Here is")))
    decode = chat.tokenizer.convert_ids_to_tokens
    assert sorted(decode(found.refusal)) == ["N", "Sorry"]
    assert sorted(decode(found.answer)) == ["Here", "Sure"]
    assert found.ids == (*found.refusal, *found.answer)


@pytest.mark.unit
def test_an_opening_that_shares_its_first_token_with_an_answer_is_refused_in_one_line() -> None:
    own = Openings("english", ("Sorry", "No,"), ("Here", "Sure"))
    with pytest.raises(Unsupported, match="refusal opening 'Sorry' and the answer opening 'Sure'") as caught:
        first_tokens(encoder("Here"), own)
    assert "the same token 'S'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.unit
@pytest.mark.parametrize("name", openings())
def test_no_packaged_opening_is_in_both_lists_or_twice(name: str) -> None:
    own = openings()[name]
    assert len({*own.refusal, *own.answer}) == len(own.refusal) + len(own.answer)
    assert not any(own.refuses(text) for text in own.answer)


@pytest.mark.unit
def test_an_unknown_language_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DataError, match="in 'klingon'; there are english, german"):
        of_language("klingon")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I can’t do that.", True),
        ("  **I cannot** do that.", True),
        ("As an AI, I do not.", True),
        ("Sure, here is a plan.", False),
        ("Here is why I cannot stop singing.", False),
        ("", False),
    ],
)
def test_a_text_refuses_where_it_begins_with_a_phrase(text: str, refuses: bool) -> None:
    assert of_language(ENGLISH).refuses(text) is refuses


@pytest.mark.model
def test_the_default_model_tells_refusals_from_answers_in_english_and_says_where_it_cannot() -> None:
    tokenizer = AutoTokenizer.from_pretrained(locate(DEFAULT_MODEL)[0])
    chat = ChatEncoder(tokenizer)
    found = first_tokens(chat, of_language(ENGLISH))
    assert tokenizer.convert_tokens_to_ids("I") in found.refusal
    assert tokenizer.convert_tokens_to_ids("Sure") in found.answer
    with pytest.raises(Unsupported, match="begin with the same token"):
        first_tokens(chat, of_language("chinese"))
