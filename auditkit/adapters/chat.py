"""From a chat to token ids, by the model's own template.

The rendered text is encoded without adding special tokens again, since templates write them out. Where a
template refuses or silently drops the system turn, its text goes to the head of the user turn; where there is
no template at all, the parts are joined as plain text. Both are said in `ChatEncoder.format`, because they are
another prompt than the finding was stated for.

Some templates (Llama 3.2, Granite) write the day's date into the prompt. The same model would then answer another
prompt tomorrow, so every template is shown one fixed date.

A generation prompt may open a thought, inside which the start of an answer would be a thought and no answer. Thinking
is switched off where the template takes `enable_thinking`, and a thought that is opened all the same is closed
(`auditkit.adapters.thoughts`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from auditkit.adapters import sandbox, thoughts
from auditkit.adapters.errors import ModelError, first_line
from auditkit.claims.outcomes import Unsupported
from auditkit.data.prompts import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE_DATE = date(2024, 7, 26)
"""The date that chat templates are shown, whatever the day: the one that Llama's templates write without a clock."""

_CLOCK = "strftime_now"
"""The function by which transformers lets a template read the clock."""


def _pinned_clock() -> str:
    """A macro of this name, which goes before the function: transformers passes no function of ours to a template."""
    letters = "aAbBcdDeFHIjmMpSTuUVwWxXyYZz"
    table = {f"%{letter}": TEMPLATE_DATE.strftime(f"%{letter}") for letter in letters}
    table |= {f"%-{letter}": table[f"%{letter}"].strip().lstrip("0") or "0" for letter in "dejmyHIMS"}
    replaced = "".join(f" | replace({json.dumps(code)}, {json.dumps(text)})" for code, text in table.items())
    # A doubled percent sign is put aside while directives are replaced.
    body = f'format | replace("%%", "\\x00"){replaced} | replace("\\x00", "%")'
    return f"{{% macro {_CLOCK}(format) %}}{{{{ {body} }}}}{{% endmacro %}}"


_PROBE, _SYSTEM = Chat("Hello heron."), "Reply as a heron."
"""Text by which a template is tried."""


def _parts(text: str) -> list[dict[str, str]]:
    """A turn's text as templates of models with images take it."""
    return [{"type": "text", "text": text}]


def require_room(tokens: int, context: int | None, what: str = "a prompt of") -> None:
    """Refuse a text that is longer than what the model can read at once.

    Raises:
        Unsupported: naming both lengths.
    """
    if context is not None and tokens > context:
        raise Unsupported(
            f"{what} {tokens:,} tokens is longer than the model's context of {context:,} tokens, so it was not run"
        )


@dataclass(frozen=True)
class Prompt:
    """A rendered chat: its text and token ids (unpadded)."""

    text: str
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


class ChatEncoder:
    """Renders chats for one tokenizer.

    Args:
        arguments: variable of the chat template -> value; `enable_thinking` is False where the template takes it and
            this does not say otherwise.
        context: tokens that the model can read at once; None: it states no limit.

    Raises:
        ModelError: an argument that the chat template does not read.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        arguments: Mapping[str, Any] | None = None,
        context: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.context = context
        self.arguments = thoughts.arguments(self.template, arguments or {})

    def __call__(self, chat: Chat) -> Prompt:
        """The prompt of a chat.

        Raises:
            ModelError: as `render`.
            Unsupported: the prompt is longer than the model's context.
        """
        text = self.render(chat)
        prompt = Prompt(text, tuple(self.encode(text)))
        require_room(len(prompt), self.context)
        return prompt

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def render(self, chat: Chat) -> str:
        """The text that the model sees, up to and including the start of the answer.

        Raises:
            ModelError: the chat template fails on it; one line.
        """
        if self.template is None:
            parts = [part for part in (chat.system, chat.user) if part]
            return self._plain_bos + "\n\n".join(parts) + "\n" + chat.assistant
        return self._opened(self._taken(chat)) + chat.assistant

    def _opened(self, chat: Chat) -> str:
        """The template's text up to where the answer starts, which is in no thought."""
        text = self.apply(self._turns(chat))
        return text + thoughts.closing(text, chat.user)

    def apply(self, turns: Sequence[Mapping[str, str]], opened: bool = True) -> str:
        """The template's text for any turns (keys "role" and "content"), on the date `TEMPLATE_DATE`.

        A template's own default for `date_string` stands: it is part of the template and does not change by itself.

        Args:
            opened: with the start of the assistant's answer.

        Raises:
            ModelError: the template refuses these turns or fails on them; one line.
        """
        return self._applied([self._content(turn) for turn in turns], opened)

    def _applied(self, turns: list[dict[str, Any]], opened: bool) -> str:
        template = (_pinned_clock() if self.template_date else "") + (self.template or "")
        roles = ", ".join(turn["role"] for turn in turns)
        try:
            text = sandbox.applied(self.tokenizer, template, turns, opened, **self.arguments)
        except sandbox.TemplateFailure as error:
            raise ModelError(f"the chat template fails on the turns {roles} ({first_line(error, 200)})") from error
        except Warning:  # a warning that was turned into an error says nothing about the template
            raise
        except Exception as error:  # jinja2's errors, and whatever an expression in the template runs into
            raise ModelError(
                f"the chat template fails on the turns {roles} ({type(error).__name__}: {first_line(error, 160)})"
            ) from error
        if not text:
            raise ModelError(
                f"the chat template writes nothing for the turns {roles}; give the model's own template"
            )
        return text

    def opening(self, chat: Chat) -> int:
        """How many tokens open the answer, behind the user's turn; 0 where the template has no generation prompt."""
        chat = Chat(chat.user, chat.system)
        whole = self.render(chat)
        turn = whole[:-1] if self.template is None else self.apply(self._turns(self._taken(chat)), opened=False)
        ids, before = self.encode(whole), self.encode(turn)
        same = (i for i, pair in enumerate(zip(ids, before, strict=False)) if pair[0] != pair[1])
        return len(ids) - next(same, min(len(ids), len(before)))

    @cached_property
    def closing(self) -> int | None:
        """The token with which the template ends an assistant's turn; None where that is plain text or nothing."""
        answer = "Reply of a heron"
        turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": answer}]
        try:
            text = self.apply(turns, opened=False) if self.template else ""
        except ModelError:  # it takes no turn of the assistant
            return None
        before, found, after = text.rpartition(answer)
        if not found:
            return None
        known = {*self.tokenizer.all_special_ids, *getattr(self.tokenizer, "added_tokens_decoder", ())}
        ids = self.encode(before + answer + after.lstrip())
        start = len(self.encode(before + answer))
        return ids[start] if start < len(ids) and ids[start] in known else None

    @property
    def template(self) -> str | None:
        """The chat template's source; None where the model has none."""
        template: Any = getattr(self.tokenizer, "chat_template", None)
        if isinstance(template, dict):  # several named templates; transformers applies this one when none is named
            template = template.get("default")
        return template if isinstance(template, str) and template.strip() else None

    @property
    def template_sha256(self) -> str | None:
        return hashlib.sha256(self.template.encode()).hexdigest() if self.template else None

    @property
    def template_date(self) -> str | None:
        """The date that the template is shown, as YYYY-MM-DD; None where it does not read the clock."""
        return TEMPLATE_DATE.isoformat() if self.template and _CLOCK in self.template else None

    @property
    def format(self) -> str:
        """How chats become text, in words."""
        if self.template is None:
            return (
                "no chat template: system text and question joined by a blank line, "
                "the start of the answer on the next line"
            )
        said = ["chat template"]
        if not self._takes_system:
            said.append("it takes no system turn, so the system text heads the user turn")
        if self._takes_parts:
            said.append("it reads a turn as a list of parts, of which the text is one")
        said += [f"{name} is {value!r}" for name, value in self.arguments.items()]
        prompt = self.apply(self._turns(_PROBE))
        if thoughts.closing(prompt, _PROBE.user):
            said.append(thoughts.SAID)
        return "; ".join(said)

    def _taken(self, chat: Chat) -> Chat:
        """With the system text in the user turn where the template takes no system turn."""
        if not chat.system or self._takes_system:
            return chat
        return Chat(user=f"{chat.system}\n\n{chat.user}", assistant=chat.assistant)

    def _content(self, turn: Mapping[str, str]) -> dict[str, Any]:
        """A turn as the template reads it."""
        return {**turn, "content": _parts(turn["content"])} if self._takes_parts else dict(turn)

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template drops a turn that is a text, and keeps one that is a list of parts (Llava)."""
        plain = {"role": "user", "content": _PROBE.user}

        def kept(turn: dict[str, Any]) -> bool | None:
            try:
                return _PROBE.user in self._applied([turn], True)
            except ModelError:  # said where a chat of the run meets it
                return None

        if self.template is None or kept(plain):
            return False
        return bool(kept({**plain, "content": _parts(_PROBE.user)}))

    @cached_property
    def _takes_system(self) -> bool:
        try:
            return _SYSTEM in self.apply(self._turns(Chat(system=_SYSTEM, user=_PROBE.user)))
        except ModelError:
            return False

    @cached_property
    def _plain_bos(self) -> str:
        """Text of the token that the tokenizer puts in front of plain text, if it does."""
        bos = self.tokenizer.bos_token
        first = list(self.tokenizer("a")["input_ids"])[:1]
        return str(bos) if bos and first == [self.tokenizer.bos_token_id] else ""

    @staticmethod
    def _turns(chat: Chat) -> list[dict[str, str]]:
        system = [{"role": "system", "content": chat.system}] if chat.system else []
        return [*system, {"role": "user", "content": chat.user}]


def plain(chat: ChatEncoder, text: str) -> Prompt:
    """Text after one special token; the same kind of token for every family."""
    tokenizer: Any = chat.tokenizer
    for name in ("bos_token", "eos_token", "pad_token"):
        first = getattr(tokenizer, f"{name}_id", None)
        if first is not None:
            return Prompt(f"{getattr(tokenizer, name)}{text}", (int(first), *chat.encode(text)))
    return Prompt(f"\n{text}", (*chat.encode("\n"), *chat.encode(text)))
