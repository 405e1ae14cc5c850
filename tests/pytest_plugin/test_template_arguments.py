"""`--template-arg`, the prompt that the report shows in full, and prompts that the model's context does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}effort: {{ effort | default('none') }}\n"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)


@pytest.fixture
def thinking(audits: Any) -> Path:
    """The tiny model with a template that reads `effort` and opens a thought."""
    model: Path = audits.copy("thinking")
    (model / "chat_template.jinja").write_text(TEMPLATE)
    return model


def test_arguments_of_the_template_are_recorded_planned_and_compared(audits: Any, thinking: Path) -> None:
    given = ("--template-arg", "effort=high")
    audits(*given, model=thinking)
    base, run = audits.folder, audits.run
    assert run.plan.settings["template-arg effort"] == '"high"'
    assert run.model.template_arguments == {"effort": '"high"'}
    assert run.model.prompt_format == (
        "chat template; effort is 'high'; its generation prompt opens a thought, which is closed before the answer"
    )
    assert run.model.rendered_prompt == (
        "system: You are a nurse.\nuser: Is bread a kind of food?\neffort: high\n"
        "assistant: <think>\n\n</think>\n\nAnswer:"
    )
    assert "--template-arg effort=high" in audits.claim("once").rerun
    page = (base / "audit.html").read_text()
    assert "effort: high\nassistant: &lt;think>\n\n&lt;/think>\n\nAnswer:</code></pre>" in page

    audits("--baseline", str(base), *given, model=thinking)
    assert audits.claim("kept").change.comparable
    audits("--baseline", str(base), model=thinking)
    reason = audits.claim("kept").change.reason
    assert '--template-arg effort: "high" there, not given here; the prompts differ: ' in reason
    assert any("template-arg effort was" in line for line in audits.run.baseline.plan_differences)

    again = audits("--resume", str(base), "--template-arg", "effort=low", model=thinking)
    assert again.ret == 4
    again.stderr.fnmatch_lines(["*cannot resume *: --template-arg was effort=high, is effort=low;*"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "efort=high",
            "*--template-arg efort=* would change nothing: the chat template reads no 'efort'*effort?",
        ),
        ("effort", "*--template-arg effort: write NAME=VALUE, as in --template-arg enable_thinking=true"),
        ("tools=[]", "*--template-arg tools=[[]]: tools is given by the run itself"),
    ],
)
def test_an_argument_that_changes_nothing_ends_the_run_in_one_line(
    audits: Any, thinking: Path, text: str, words: str
) -> None:
    ended = audits("--template-arg", text, model=thinking)
    assert ended.ret == 4
    ended.stderr.fnmatch_lines([words])
    assert not audits.folders()


LONG = '''"""A finding."""
import pytest
from auditkit.data.prompts import Chat

@pytest.fixture(scope="session")
def asked(model):
    return [model.chat(Chat("word " * number)) for number in (1, 400)]

def test_short(model):
    """Holds."""
    assert len(model.chat(Chat("word"))) > 0

def test_long(model, asked):
    """Is asked with a long prompt."""
    model.run(model.batch(asked))
'''


def test_a_prompt_beyond_the_context_is_not_applicable_before_anything_runs(audits: Any) -> None:
    (audits.suite / "test_finding.py").write_text(LONG)
    audits()
    claim = audits.claim("long")
    assert (claim.verdict, claim.lack) == (Verdict.NOT_APPLICABLE, "capability")
    assert "tokens is longer than the model's context of 256 tokens, so it was not run" in claim.reason
    assert int(claim.reason.split("a prompt of ")[1].split()[0].replace(",", "")) > 400
    assert claim.cost.token_layers == 0
    assert audits.run.model.context == 256
