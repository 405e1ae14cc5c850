"""Which tokens end a text.

Three places say so, and they disagree: a fine-tune keeps the base model's generation config while its template closes
turns with another token, and would run on through the turns of a made-up user. So a text ends at a token of any of
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def of(module: PreTrainedModel, chat: ChatEncoder, rows: int) -> tuple[int, ...]:
    """Token ids that end a text, by the generation config, the tokenizer and the chat template, in this order.

    Args:
        rows: tokens that the model embeds.

    Raises:
        ModelError: a stated value that is no token of the model.
    """
    config = getattr(module, "generation_config", None)
    stated = [
        ("generation config", getattr(config, "eos_token_id", None)),
        ("tokenizer", chat.tokenizer.eos_token_id),
        ("chat template", chat.closing),
    ]
    found = [_token(one, where, chat, rows) for where, value in stated for one in _listed(value)]
    return tuple(dict.fromkeys(found))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def _token(value: Any, where: str, chat: ChatEncoder, rows: int) -> int:
    """The token id that `value` states, as a number or as the token's text."""
    token: Any = value
    if isinstance(value, str):
        token = chat.tokenizer.get_vocab().get(value)
        if token is None:
            raise ModelError(
                f"the {where} names {value[:60]!r} as the end of a text (eos_token_id), which is no token of the "
                "tokenizer; give its id, or the text of a token"
            )
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < rows:
        raise ModelError(
            f"the {where} names {str(value)[:60]!r} as the end of a text (eos_token_id); give ids from 0 to "
            f"{rows - 1}, which are the tokens that the model embeds"
        )
    return token
