"""Templates, tokenizers, configs and indices that ask for the absurd are refused in one line, and cost little."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import TEMPLATES

from auditkit.adapters import open_model, sandbox
from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading.bounds import opening, require_own_files, require_sizes, require_tokenizer
from auditkit.adapters.loading.files import files_read
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

SPLIT = {"type": "Split", "pattern": {"Regex": "((a+)+)+$(?=b)"}, "behavior": "Isolated", "invert": False}
"""A pattern whose search takes time that doubles with each letter."""


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_hostile_template_is_one_line_and_costs_little(make_tokenizer: Callable[..., Any], name: str) -> None:
    source, said = TEMPLATES[name]
    tokenizer = make_tokenizer("system")
    good = ChatEncoder(tokenizer).render(Chat("Hello."))  # the process that renders is there
    hostile = make_tokenizer("system")
    hostile.chat_template = source
    began = time.perf_counter()
    for _ in range(3):  # what overran once is not run again
        with pytest.raises(ModelError, match=said) as refused:
            ChatEncoder(hostile).render(Chat("Hello."))
    assert time.perf_counter() - began < sandbox.SECONDS + 1
    assert str(refused.value).isprintable()
    # A child counts the memory of the process that forked it, until it becomes another program.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < max(500 * 1024, own + 1024)
    assert ChatEncoder(tokenizer).render(Chat("Hello.")) == good


def test_templates_render_as_the_tokenizer_itself_renders(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer("system")
    turns = [{"role": "system", "content": "A \ud800 “b”\n"}, {"role": "user", "content": "{{ x }} <é🙂>"}]
    for opened in (True, False):
        expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened)
        assert sandbox.applied(tokenizer, tokenizer.chat_template, turns, opened) == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_hidden_layers": 1_000_000}, "num_hidden_layers 1e\\+06; possible are 1 to 2,000"),
        ({"num_attention_heads": 0}, "num_attention_heads 0; possible"),
        ({"num_attention_heads": -4}, "num_attention_heads -4; possible"),
        ({"hidden_size": 10**9}, "hidden_size 1e\\+09"),
        ({"vocab_size": 2**62}, "vocab_size"),
        ({"text_config": {"num_hidden_layers": 10**6}}, "num_hidden_layers"),
    ],
)
def test_a_config_of_absurd_numbers_is_refused_before_anything_is_built(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, **fields}))
    with pytest.raises(ModelError, match=said):
        require_sizes(tmp_path, "m")


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.txt"]
)
def test_a_file_of_absurd_size_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(ModelError, match=f"{name} of m has 1,048,576 MiB; at most"):
        require_sizes(tmp_path, "m")


def test_a_config_nested_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 200_000)
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        require_sizes(tmp_path, "m")


@pytest.mark.parametrize(
    "name", ["../evil.safetensors", "sub/evil.safetensors", "/etc/evil.safetensors", "..", "a\\b.safetensors"]
)
def test_an_index_names_files_beside_it_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "evil.safetensors").touch()
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match="is no file beside it"):
        files_read(tmp_path / "model")


@pytest.mark.parametrize("name", ["w.bin", "w.pt", "w.pkl", "pytorch_model.bin", "w.safetensors.bin"])
def test_an_index_that_names_a_pickle_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ModelError, match="read from safetensors only, since a pickle"):
        require_own_files([name], tmp_path / "model.safetensors.index.json")


class _Panic(BaseException):
    """As the panics of native libraries are."""


def test_a_panic_of_a_native_library_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"cannot open directory m \(_Panic: regex\)"), opening("directory m"):
        raise _Panic("regex\nand a backtrace")
    for ends in (KeyboardInterrupt, SystemExit, ModelError):
        with pytest.raises(ends), opening("m"):
            raise ends("on purpose")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"added_tokens": [{"id": 10**9, "content": "<x>", "special": True}]}, "token id 1,000,000,000; at most"),
        ({"pre_tokenizer": SPLIT}, "PanicException: Onig"),
        ({"normalizer": {"type": "Prepend", "prepend": 7}}, "cannot load m: tokenizer.json cannot be read"),
        ({"model": {"type": "BPE", "vocab": 3, "merges": []}}, "cannot load m: tokenizer.json cannot be read"),
    ],
)  # fmt: skip
def test_a_tokenizer_is_tried_in_another_process(
    tmp_path: Path, make_tokenizer: Callable[..., Any], changes: dict[str, Any], said: str
) -> None:
    whole = json.loads(make_tokenizer("system").backend_tokenizer.to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    require_tokenizer(tmp_path, "m")
    (tmp_path / "tokenizer.json").write_text(json.dumps({**whole, **changes}))
    with pytest.raises(ModelError, match=said):
        require_tokenizer(tmp_path, "m")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ '' }}", "the chat template writes nothing for the turns user"),
        ("{{ raise_exception('no') }}", "TemplateError: no"),
    ],
)
def test_a_model_whose_template_fails_or_writes_nothing_is_refused_in_one_line(
    save_checkpoint: Callable[..., Path], template: str, said: str
) -> None:
    folder = save_checkpoint("llama", "system")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=said) as refused:
        open_model(str(folder))
    assert len(str(refused.value).splitlines()) == 1
