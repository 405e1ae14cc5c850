"""What a prompt becomes: a chat template that writes other text asks something else, and is not subtracted."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.rendering import rendered_sha256
from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
DATED = "{{ strftime_now('%d %b %Y') }}\n" + TEMPLATE


def with_template(folder: Path, template: str) -> Path:
    """The model in `folder` with this chat template in place of its own."""
    (folder / "chat_template.jinja").write_text(template)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config.pop("chat_template", None)
    file.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda text: text + "{# a comment #}", True),
        (lambda text: text.replace("m in messages", "turn in messages").replace("{ m.", "{ turn."), True),
        (lambda text: text.replace("assistant:", "assistant: "), False),
        (lambda text: text.replace("m.content", "m.content | trim"), False),
        (lambda text: "Be brief.\n" + text, False),
    ],
)
def test_the_digest_is_of_what_is_written_and_not_of_the_template(
    tiny_llama: Path, change: Callable[[str], str], same: bool
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.chat_template = TEMPLATE
    before = rendered_sha256(ChatEncoder(tokenizer))
    tokenizer.chat_template = change(TEMPLATE)
    assert (rendered_sha256(ChatEncoder(tokenizer)) == before) is same


def test_a_template_that_was_changed_between_two_runs_is_not_subtracted(audits: Any) -> None:
    model = with_template(audits.copy("model"), TEMPLATE)
    audits(model=model)
    base = audits.folder
    audits.plant(shift=-0.2)
    with_template(model, TEMPLATE + "{# tidied #}")
    audits("--baseline", str(base), model=model)
    assert audits.claim("kept").change.comparable
    assert audits.claim("kept").verdict is Verdict.PASS
    with_template(model, TEMPLATE.replace("assistant:", "answer:"))
    assert audits("--baseline", str(base), "--profile", "release", model=model).ret == 10
    for name in ("once", "kept"):
        change = audits.claim(name).change
        assert (change.comparable, change.effects) == (False, ())
        assert "the prompts differ: the chat template makes other text of the same chats" in change.reason
    assert audits.claim("kept").verdict is Verdict.INCONCLUSIVE
    assert audits.run.baseline.plan_differences == ()


def day(year: int) -> type[datetime.datetime]:
    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime(year, 1, 2)

    return Day


def test_a_template_that_reads_the_clock_asks_the_same_on_two_days_or_is_not_subtracted(
    audits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the encoder pins the date the prompts are the same; where it did not, the record would tell and refuse."""
    pinned = hasattr(ChatEncoder, "template_date")
    model = with_template(audits.copy("model"), DATED)
    monkeypatch.setattr(chat_template_utils, "datetime", day(2031))
    audits(model=model)
    base, then = audits.folder, audits.run
    monkeypatch.setattr(chat_template_utils, "datetime", day(2032))
    audits.plant(shift=-0.2)
    audits("--baseline", str(base), model=model)
    now = audits.run
    assert now.plan_sha256 == then.plan_sha256
    assert now.model.template_date == then.model.template_date
    assert (now.model.template_date is not None) is pinned
    assert (now.model.rendered_sha256 == then.model.rendered_sha256) is pinned
    assert audits.claim("kept").change.comparable is pinned
