"""From a chat to token ids under each kind of template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters import open_model
from auditkit.adapters.chat import TEMPLATE_DATE, ChatEncoder, Prompt
from auditkit.adapters.errors import ModelError
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


LLAMA_DATE = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{% endif %}Today Date: {{ date_string }}\n"
)
CLOCKS = {
    "llama 3.2": (LLAMA_DATE, "Today Date: 26 Jul 2024\n"),
    "granite": (
        "Today's Date: {{ strftime_now('%B %d, %Y') }}.\n",
        "Today's Date: July 26, 2024.\n",
    ),
    "inside a macro": (
        "{% macro today() %}{{ strftime_now('%d.%m.%y') }}{% endmacro %}{{ today() }}\n",
        "26.07.24\n",
    ),
    "percent signs and no zeros": ("{{ strftime_now('100%%Y %-d/%-m %j %A') }}\n", "100%Y 26/7 208 Friday\n"),
    "weekday and time": ("{{ strftime_now('%A %H:%M:%S') }}\n", "Friday 00:00:00\n"),
}


@pytest.fixture
def another_day(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Year -> from now on transformers' clock stands in it."""
    from transformers.utils import chat_template_utils

    def turn(year: int) -> None:
        clock = type("Clock", (), {"now": staticmethod(lambda: datetime(year, 1, 2, 3, year % 60, 5))})
        monkeypatch.setattr(chat_template_utils, "datetime", clock)

    return turn


@pytest.mark.parametrize("kind", CLOCKS)
def test_a_template_that_reads_the_clock_sees_one_date(
    make_tokenizer: MakeTokenizer, another_day: Callable[[int], None], kind: str
) -> None:
    source, text = CLOCKS[kind]
    tokenizer = make_tokenizer("system")
    tokenizer.chat_template = source + tokenizer.chat_template
    encoder = ChatEncoder(tokenizer)
    another_day(2025)
    turns = [{"role": "user", "content": "What is it?"}]
    unpinned = tokenizer.apply_chat_template(turns, tokenize=False)
    first = encoder(CHAT), encoder.opening(CHAT), encoder.apply(turns)
    another_day(2030)
    assert tokenizer.apply_chat_template(turns, tokenize=False) != unpinned
    assert (encoder(CHAT), encoder.opening(CHAT), encoder.apply(turns)) == first
    assert first[0].text == text + EXPECTED["system"]
    assert encoder.template_date == "2024-07-26" == TEMPLATE_DATE.isoformat()


def test_a_date_that_the_template_itself_states_stands(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("system")
    default = (
        "{% if not date_string is defined %}{% set date_string = '10 Dec 2023' %}{% endif %}{{ date_string }}\n"
    )
    tokenizer.chat_template = default + tokenizer.chat_template
    encoder = ChatEncoder(tokenizer)
    assert encoder.render(CHAT) == "10 Dec 2023\n" + EXPECTED["system"]
    assert encoder.template_date is None


@pytest.mark.parametrize("template", EXPECTED)
def test_a_template_without_a_clock_has_no_date(
    encoders: dict[str | None, ChatEncoder], template: str | None
) -> None:
    assert encoders[template].template_date is None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('no\nturns') }}", "TemplateError: no"),
        ("{{ messages[0].content + 1 }}", "TypeError: can only concatenate str"),
        ("{{ nothing.at.all }}", "UndefinedError: 'nothing' is undefined"),
        ("{% for m in messages %}", "TemplateSyntaxError: Unexpected end of template"),
    ],
)
def test_a_template_that_raises_is_refused_in_one_line(
    make_tokenizer: MakeTokenizer, source: str, words: str
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = source
    with pytest.raises(ModelError) as refused:
        ChatEncoder(tokenizer).render(Chat(user="What is it?"))
    message = str(refused.value)
    assert message.startswith(f"the chat template fails on the turns user ({words}")
    assert len(message.splitlines()) == 1


def test_a_model_whose_template_raises_is_refused(save_checkpoint: Callable[..., Any]) -> None:
    folder = save_checkpoint("llama")
    for file in folder.glob("*.jinja"):
        file.write_text("{{ raise_exception('never') }}")
    with pytest.raises(ModelError, match=r"^the chat template fails on the turns user \(TemplateError: never\)$"):
        open_model(str(folder), device="cpu")
