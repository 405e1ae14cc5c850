"""From a chat to token ids under each kind of template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.chat import ChatEncoder, Prompt
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

MakeTokenizer = Callable[..., Any]
CHAT = Chat(user="What is it?", system="You are a student.", assistant="It is")
EXPECTED = {
    "system": "<s><|system|>\nYou are a student.\n<|user|>\nWhat is it?\n<|assistant|>\nIt is",
    "refusing": "<s><|user|>\nYou are a student.\n\nWhat is it?\n<|assistant|>\nIt is",
    "dropping": "<s><|user|>\nYou are a student.\n\nWhat is it?\n<|assistant|>\nIt is",
    None: "You are a student.\n\nWhat is it?\nIt is",
}
WITHOUT_SYSTEM = {
    **dict.fromkeys(("system", "refusing", "dropping"), "<s><|user|>\nWhat is it?\n<|assistant|>\n"),
    None: "What is it?\n",
}


@pytest.fixture(scope="module")
def encoders(make_tokenizer: MakeTokenizer) -> dict[str | None, ChatEncoder]:
    return {template: ChatEncoder(make_tokenizer(template)) for template in EXPECTED}


@pytest.mark.parametrize("template", EXPECTED)
def test_rendered_text(encoders: dict[str | None, ChatEncoder], template: str | None) -> None:
    assert encoders[template].render(CHAT) == EXPECTED[template]
    assert encoders[template].render(Chat(user="What is it?")) == WITHOUT_SYSTEM[template]


def test_format_says_which_way_a_chat_becomes_text(encoders: dict[str | None, ChatEncoder]) -> None:
    moved = "chat template; it takes no system turn, so the system text heads the user turn"
    assert encoders["system"].format == "chat template"
    assert encoders["refusing"].format == encoders["dropping"].format == moved
    assert encoders[None].format.startswith("no chat template: system text and question joined")


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("template", ["system", "refusing", "dropping"])
def test_special_tokens_of_a_template_are_not_doubled(
    make_tokenizer: MakeTokenizer, template: str, adds_bos: bool
) -> None:
    prompt = ChatEncoder(make_tokenizer(template, adds_bos))(CHAT)
    assert prompt.ids[0] == 1
    assert prompt.ids.count(1) == 1


@pytest.mark.parametrize(("adds_bos", "count"), [(False, 0), (True, 1)])
def test_plain_text_begins_as_the_tokenizer_begins_it(
    make_tokenizer: MakeTokenizer, adds_bos: bool, count: int
) -> None:
    tokenizer = make_tokenizer(None, adds_bos)
    prompt = ChatEncoder(tokenizer)(CHAT)
    assert prompt.ids.count(1) == count
    assert list(prompt.ids) == tokenizer(EXPECTED[None])["input_ids"]


@pytest.mark.parametrize("template", EXPECTED)
def test_the_start_of_the_answer_is_the_end_of_the_prompt(
    encoders: dict[str | None, ChatEncoder], template: str | None
) -> None:
    encoder = encoders[template]
    open_turn = encoder.render(Chat(user="What is it?", system="You are a student."))
    assert encoder.render(CHAT) == open_turn + "It is"


def test_ids_are_those_of_transformers_own_template_call(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("system", adds_bos=True)
    turns = [{"role": "system", "content": CHAT.system}, {"role": "user", "content": CHAT.user}]
    theirs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    ours = ChatEncoder(tokenizer)(Chat(user=CHAT.user, system=CHAT.system))
    assert list(ours.ids) == list(theirs)


def test_digest_is_that_of_the_template_and_absent_without_one(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("system")
    assert ChatEncoder(tokenizer).template_sha256 == hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()
    assert ChatEncoder(make_tokenizer(None)).template_sha256 is None


def test_of_several_named_templates_the_default_one_is_used(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("system")
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": "tools"}
    encoder = ChatEncoder(tokenizer)
    assert encoder.render(CHAT) == EXPECTED["system"]
    assert encoder.format == "chat template"


def test_a_blank_template_is_no_template(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.chat_template = "  \n"
    assert ChatEncoder(tokenizer).render(CHAT) == EXPECTED[None]


def test_length_of_a_prompt_is_its_number_of_tokens() -> None:
    assert len(Prompt("text", (1, 2, 3))) == 3
    assert not Prompt("", ())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(user=TEXTS, system=TEXTS, assistant=TEXTS, template=st.sampled_from(list(EXPECTED)))
def test_any_text_reaches_the_prompt_whole(
    encoders: dict[str | None, ChatEncoder], user: str, system: str, assistant: str, template: str | None
) -> None:
    encoder = encoders[template]
    prompt = encoder(Chat(user=user, system=system, assistant=assistant))
    assert prompt.text.endswith(("<|assistant|>\n" if template else "\n") + assistant)
    assert user in prompt.text
    assert system in prompt.text
    assert encoder.tokenizer.decode(prompt.ids, clean_up_tokenization_spaces=False) == prompt.text


@pytest.mark.parametrize("template", EXPECTED)
def test_what_opens_the_answer_is_counted(encoders: dict[str | None, ChatEncoder], template: str | None) -> None:
    encoder = encoders[template]
    header = {None: "\n"}.get(template, "<|assistant|>\n")
    assert encoder.opening(CHAT) == len(encoder.encode(header))


def test_a_template_without_a_generation_prompt_opens_no_answer(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    assert ChatEncoder(tokenizer).opening(CHAT) == 0
