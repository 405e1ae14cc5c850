"""Representations: what plain transformers gives, in any order, cached by content."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from auditkit import mlp, residual, z
from auditkit.adapters import open_model
from auditkit.claims.evidence import gathering
from auditkit.methods import representations as module
from auditkit.methods.representations import representations

pytestmark = pytest.mark.unit

STATEMENTS = ("I like long parties.", "Paris, not London", "You are a good student", "no")


@pytest.fixture(scope="module")
def model(tiny_llama: Path):
    torch.set_num_threads(1)
    return open_model(str(tiny_llama))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path))
    return tmp_path / "representations"


def plainly(model, text: str, position: int) -> np.ndarray:
    """(layers, width) after every block at one position, by transformers alone."""
    ids = torch.tensor([model.chat.encode(text)])
    found = []
    hooks = [
        block.register_forward_hook(
            lambda module, args, out: found.append(out[0] if isinstance(out, tuple) else out)
        )
        for block in model.module.model.layers
    ]
    with torch.no_grad():
        model.module(ids)
    for hook in hooks:
        hook.remove()
    return torch.stack([value[0, position] for value in found]).numpy()


def test_as_published_the_last_token_of_the_template_is_read(model) -> None:
    read = representations(model, STATEMENTS, residual.everywhere())
    assert read.values.shape == (4, 6, 32)
    for i, statement in enumerate(STATEMENTS):
        text = f"<|system|>\n{statement}<|end|>\n<|assistant|>\n"
        assert read.prompts[i].text == text
        np.testing.assert_allclose(read.values[i], plainly(model, text, -1), rtol=1e-4, atol=1e-4)
    assert len(set(read.tokens)) == 1
    np.testing.assert_array_equal(read.at(4), read.values[:, 4])


def test_as_a_user_turn_the_last_token_of_the_statement_is_read(model) -> None:
    read = representations(model, STATEMENTS, residual.layers(2, 4), role="user")
    assert read.layers == (2, 3, 4)
    for i, statement in enumerate(STATEMENTS):
        assert statement.endswith(read.tokens[i])
        text = read.prompts[i].text
        assert text.startswith(f"<|user|>\n{statement}<|end|>")
        place = len(model.chat.encode(text.split("<|end|>")[0])) - 1
        np.testing.assert_allclose(read.values[i], plainly(model, text, place)[2:5], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="layer 5 was not read, only 2, 3, 4"):
        read.at(5)


@pytest.mark.parametrize("role", ["system", "user"])
def test_the_order_of_statements_changes_no_bit(model, role) -> None:
    order = [2, 0, 3, 1, 0]
    once = representations(model, STATEMENTS, mlp.layer(1), role=role, cache=False)
    again = representations(model, [STATEMENTS[i] for i in order], mlp.layer(1), role=role, cache=False)
    np.testing.assert_array_equal(again.values, once.values[order])


def test_the_order_of_batches_changes_no_bit(model, monkeypatch) -> None:
    """Batches of two, done from the last to the first; how many are in one changes rounding at most."""

    def by_twos(work, lengths, description, *, last_first=False) -> None:
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        batches = [order[start : start + 2] for start in range(0, len(order), 2)]
        for rows in reversed(batches) if last_first else batches:
            work(rows)

    read = []
    for last_first in (False, True):
        monkeypatch.setattr(module, "in_batches", partial(by_twos, last_first=last_first))
        read.append(representations(model, STATEMENTS, residual.everywhere(), cache=False).values)
    np.testing.assert_array_equal(read[0], read[1])
    monkeypatch.undo()
    together = representations(model, STATEMENTS, residual.everywhere(), cache=False)
    np.testing.assert_allclose(read[0], together.values, rtol=1e-4, atol=1e-4)


def test_a_second_request_runs_nothing(model, cache: Path) -> None:
    first = representations(model, STATEMENTS, residual.layer(3))
    spent = model.meter.token_layers
    second = representations(model, STATEMENTS[::-1], residual.layer(3))
    assert model.meter.token_layers == spent
    np.testing.assert_array_equal(second.values, first.values[::-1])
    assert len(list(cache.iterdir())) == 1
    representations(model, STATEMENTS, residual.layer(4))
    representations(model, STATEMENTS[:2], residual.layer(3))
    representations(model, STATEMENTS, residual.layer(3), role="user")
    assert len(list(cache.iterdir())) == 4


def test_nothing_is_kept_of_weights_without_a_digest(model, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "info", msgspec.structs.replace(model.info, weights_sha256=""))
    spent = [model.meter.token_layers]
    for _ in range(2):
        representations(model, STATEMENTS, residual.layer(3))
        spent.append(model.meter.token_layers)
    assert spent[2] - spent[1] == spent[1] - spent[0] > 0
    assert not cache.exists()


def test_equal_weights_under_another_config_are_another_model(model, tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    other = open_model(str(folder))
    assert other.info.weights_sha256 == model.info.weights_sha256
    first = representations(model, STATEMENTS, residual.layer(3))
    assert not np.allclose(representations(other, STATEMENTS, residual.layer(3)).values, first.values)


def test_a_damaged_file_is_made_again(model, cache: Path) -> None:
    first = representations(model, STATEMENTS, residual.layer(3))
    (file,) = cache.iterdir()
    for damage in (b"", file.read_bytes()[:-50], b"not an array"):
        file.write_bytes(damage)
        np.testing.assert_array_equal(representations(model, STATEMENTS, residual.layer(3)).values, first.values)


def test_without_the_cache_nothing_is_written(model, cache: Path) -> None:
    representations(model, STATEMENTS, residual.layer(3), cache=False)
    assert not cache.exists()


def test_a_template_that_takes_no_system_turn_alone_has_the_statement_as_user_turn(
    model, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = (
        "{% if messages[-1]['role'] != 'user' %}{{ raise_exception('a user turn must come last') }}{% endif %}"
        "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    )
    monkeypatch.setattr(model.chat.tokenizer, "chat_template", refusing)
    with gathering() as evidence:
        read = representations(model, ["I like tea"], residual.layer(0), cache=False)
    assert read.prompts[0].text == "<|user|>\nI like tea<|end|>\n"
    assert evidence.notes == ["this model takes no system turn alone: the statement is the user's turn"]


def test_what_is_no_statement_or_no_vector_is_refused(model) -> None:
    with pytest.raises(ValueError, match="every statement some text"):
        representations(model, ["a", " "], residual.layer(0))
    with pytest.raises(ValueError, match="every statement some text"):
        representations(model, [], residual.layer(0))
    with pytest.raises(ValueError, match="one vector of the stream"):
        representations(model, ["a"], z.layer(0))
