"""Where an answer starts under templates that open a thought, and what a template is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.errors import ModelError
from auditkit.adapters.rendering import rendered_prompt, rendered_sha256
from auditkit.adapters.thoughts import SAID, read_arguments
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

CHAT = Chat(user="What is it?", assistant="It is")
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
SWITCH = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"

# name -> (generation prompt, what stands between the user's text and the answer)
OPENED = {
    "deepseek-r1": ("<|Assistant|><think>\n", "<|Assistant|><think>\n\n</think>\n\n"),
    "qwq": ("<|im_start|>assistant\n<think>\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "without a new line": ("<|Assistant|><think>", "<|Assistant|><think>\n\n</think>\n\n"),
    "with the thought's first words": ("<think>\nOkay, ", "<think>\nOkay, \n\n</think>\n\n"),
    "magistral": ("[/INST][THINK]", "[/INST][THINK]\n\n[/THINK]\n\n"),
    "command a reasoning": (
        "<|CHATBOT_TOKEN|><|START_THINKING|>",
        "<|CHATBOT_TOKEN|><|START_THINKING|>\n\n<|END_THINKING|>\n\n",
    ),
    "open thoughts": ("<|begin_of_thought|>\n", "<|begin_of_thought|>\n\n<|end_of_thought|>\n\n"),
    "seed": ("<seed:think>", "<seed:think>\n\n</seed:think>\n\n"),
    "reasoning": ("<reasoning>\n", "<reasoning>\n\n</reasoning>\n\n"),
    "thinking": ("<Thinking>\n", "<Thinking>\n\n</Thinking>\n\n"),
    "gpt-oss": ("<|start|>assistant", "<|start|>assistant<|channel|>final<|message|>"),
}
CLOSED = {
    "no thought": "<|assistant|>\n",
    "an empty thought": "<|assistant|>\n<think>\n\n</think>\n\n",
    "a closing mark alone": "<|Assistant|></think>",
    "another tag": "<|assistant|><answer>",
}


@pytest.fixture
def encoder(make_tokenizer: Callable[..., Any]) -> Callable[..., ChatEncoder]:
    def make(prompt: str, arguments: dict[str, Any] | None = None) -> ChatEncoder:
        tokenizer = make_tokenizer()
        tokenizer.chat_template = TURNS + "{% if add_generation_prompt %}" + prompt + "{% endif %}"
        return ChatEncoder(tokenizer, arguments)

    return make


@pytest.mark.parametrize("name", OPENED)
def test_an_answer_is_never_inside_the_thought_that_the_prompt_opens(
    encoder: Callable[..., ChatEncoder], name: str
) -> None:
    prompt, before = OPENED[name]
    made = encoder(prompt)
    assert made.render(CHAT) == f"<|user|>What is it?{before}It is"
    assert made.format == f"chat template; {SAID}"
    assert made.opening(CHAT) == len(made.encode(before))
    assert made.apply([{"role": "user", "content": "a"}]).endswith(prompt)


@pytest.mark.parametrize("name", CLOSED)
def test_a_prompt_that_opens_no_thought_stays_as_it_is(encoder: Callable[..., ChatEncoder], name: str) -> None:
    made = encoder(CLOSED[name])
    assert made.render(CHAT) == f"<|user|>What is it?{CLOSED[name]}It is"
    assert made.format == "chat template"


def test_a_mark_in_the_users_text_opens_no_thought(encoder: Callable[..., ChatEncoder]) -> None:
    made = encoder("<|assistant|>")
    chat = Chat(user="Close <think>", system="Mind <reasoning>", assistant="It is")
    assert made.render(chat) == "<|system|>Mind <reasoning><|user|>Close <think><|assistant|>It is"


def test_thinking_is_switched_off_where_the_template_lets_it(encoder: Callable[..., ChatEncoder]) -> None:
    made = encoder("<|assistant|>" + SWITCH)
    assert made.render(CHAT) == "<|user|>What is it?<|assistant|><think>\n\n</think>\n\nIt is"
    assert made.arguments == {"enable_thinking": False}
    assert made.format == "chat template; enable_thinking is False"


def test_thinking_that_the_user_asks_for_is_not_switched_off(encoder: Callable[..., ChatEncoder]) -> None:
    made = encoder("<|assistant|>" + SWITCH, {"enable_thinking": True})
    assert made.render(CHAT) == "<|user|>What is it?<|assistant|>It is"
    assert made.format == "chat template; enable_thinking is True"


def test_a_thought_is_closed_although_the_template_is_asked_to_open_it(
    encoder: Callable[..., ChatEncoder],
) -> None:
    made = encoder("<|assistant|>{% if enable_thinking %}<think>\n{% endif %}", {"enable_thinking": True})
    assert made.render(CHAT) == "<|user|>What is it?<|assistant|><think>\n\n</think>\n\nIt is"
    assert made.format == f"chat template; enable_thinking is True; {SAID}"


def test_what_the_template_is_given_changes_the_digest_of_rendered_prompts(
    encoder: Callable[..., ChatEncoder],
) -> None:
    prompt = "{{ effort }}<|assistant|>"
    low, high = (encoder(prompt, {"effort": effort}) for effort in ("low", "high"))
    assert rendered_sha256(low) != rendered_sha256(high)
    assert rendered_prompt(high) == (
        "<|system|>You are a nurse.<|user|>Is bread a kind of food?high<|assistant|>Answer:"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("efort", "the chat template reads no 'efort'; did you mean effort?"),
        ("zzz", "the chat template reads no 'zzz'"),
        ("assistant_text", "the chat template reads no 'assistant_text'"),
    ],
)
def test_a_variable_that_the_template_does_not_read_is_refused(
    encoder: Callable[..., ChatEncoder], name: str, words: str
) -> None:
    with pytest.raises(ModelError) as refused:
        encoder("{{ effort }}assistant_text", {name: 3})
    assert str(refused.value) == f"--template-arg {name}=3 would change nothing: {words}"


def test_a_model_without_a_template_takes_no_variable(make_tokenizer: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"would change nothing: the model has no chat template$"):
        ChatEncoder(make_tokenizer(None), {"effort": "low"})


def test_values_are_json_where_they_read_as_json() -> None:
    texts = ("a=true", "b=True", "c=3", "d=high", 'e="3"', "f=null", "g=", "h=x=y", "i=NaN", "j=[1, 2]", "k=1e999")
    assert read_arguments(texts) == {
        "a": True, "b": True, "c": 3, "d": "high", "e": "3", "f": None, "g": "", "h": "x=y", "i": "NaN", "j": [1, 2],
        "k": "1e999",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["enable_thinking"], "--template-arg enable_thinking: write NAME=VALUE, as in"),
        (["=3"], "--template-arg =3: write NAME=VALUE"),
        (["a-b=3"], "--template-arg a-b=3: write NAME=VALUE"),
        (["messages=[]"], "--template-arg messages=[]: messages is given by the run itself"),
        (["a=1", "a=2"], "--template-arg: a is given two values"),
    ],
)
def test_what_is_no_argument_is_refused_in_one_line(texts: list[str], words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # compared below
        read_arguments(texts)
    assert str(refused.value).startswith(words)


LLAVA = (
    "{% for m in messages %}{{ m.role }}: "
    "{% for part in m.content | selectattr('type', 'equalto', 'text') %}{{ part.text }} {% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def test_a_template_that_reads_turns_as_parts_gets_parts(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = LLAVA
    plain = [{"role": "user", "content": "What is it?"}]
    assert "What is it?" not in tokenizer.apply_chat_template(plain, tokenize=False)
    made = ChatEncoder(tokenizer)
    chat = Chat(user="What is it?", system="You are a student.", assistant="It is")
    assert made.render(chat) == "system: You are a student. user: What is it? ASSISTANT:It is"
    assert made.format == "chat template; it reads a turn as a list of parts, of which the text is one"
