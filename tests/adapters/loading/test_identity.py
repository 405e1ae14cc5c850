"""The identity of a model: whatever decides its numbers changes it, and nothing else does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from auditkit.adapters import open_model
from auditkit.adapters.loading.identity import fields_of, tokenizer_sha256
from auditkit.record.identity import compared_in_words, differences_of, differing_parts, is_known, model_digest
from auditkit.record.schema import ModelInfo

pytestmark = pytest.mark.unit

NAMES = st.text("ab.\\\\é", max_size=2)
LEAVES = st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=4
)
CONFIGS = st.dictionaries(NAMES, VALUES, max_size=5)


def info_of(folder: Path, **options: Any) -> ModelInfo:
    info: ModelInfo = open_model(str(folder), device="cpu", **options).info
    return info


def configure(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def lower(file: Path) -> None:
    """Change a weight; the size and the time of the file stay."""
    status = file.stat()
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] -= 0.25
    save_file(tensors, file, metadata={"format": "pt"})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def rewrite(file: Path, was: str, now: str) -> None:
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, now))


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a norm's epsilon": (lambda m: configure(m / "config.json", rms_norm_eps=1.0), "config (rms_norm_eps)"),
    "a rotary base": (
        lambda m: configure(m / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 3.0}),
        "config (rope_parameters.rope_theta)",
    ),
    "an activation": (lambda m: configure(m / "config.json", hidden_act="gelu"), "config (hidden_act)"),
    "a weight in a file of the same size and time": (lambda m: lower(m / "model.safetensors"), "weights"),
    "the end of a text": (
        lambda m: configure(m / "generation_config.json", eos_token_id=[2, 5]),
        "generation config (eos_token_id)",
    ),
    "a merge": (
        lambda m: rewrite(m / "tokenizer.json", '"ignore_merges": false', '"ignore_merges": true'),
        "tokenizer",
    ),
    "a special token": (
        lambda m: configure(m / "tokenizer_config.json", bos_token="<pad>"),
        "tokenizer (bos_token)",
    ),
    "a template": (lambda m: rewrite(m / "chat_template.jinja", "<|", "<||"), "chat template"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_part_that_decides_numbers_changes_the_identity_and_is_named(
    save_checkpoint: Callable[..., Path], change: str
) -> None:
    folder = save_checkpoint()
    alter, said = CHANGES[change]
    before = info_of(folder)
    alter(folder)
    after = info_of(folder)
    assert model_digest(after) != model_digest(before)
    assert differences_of(before, after) == (said,)
    assert compared_in_words(before, after) == f"the models differ in: {said}"


def test_the_number_type_is_a_part(save_checkpoint: Callable[..., Path]) -> None:
    folder = save_checkpoint()
    assert differences_of(info_of(folder), info_of(folder, dtype="bfloat16")) == ("dtype",)


def test_what_decides_no_number_leaves_the_identity(save_checkpoint: Callable[..., Path]) -> None:
    folder = save_checkpoint()
    before = info_of(folder)
    config = json.loads((folder / "config.json").read_text())
    moved = {**config, "_name_or_path": "/elsewhere", "transformers_version": "1.0", "id2label": {"0": "x"}}
    (folder / "config.json").write_text(json.dumps(dict(reversed(moved.items())), indent=7))
    (folder / "README.md").write_text("A model.")
    folder = folder.rename(folder.with_name("moved"))
    assert model_digest(info_of(folder)) == model_digest(before)


def test_fewer_layers_than_the_weights_hold_are_refused(save_checkpoint: Callable[..., Path]) -> None:
    from auditkit.adapters.errors import ModelError

    folder = save_checkpoint()
    configure(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"hold 3 layers, but its config uses 2 \(num_hidden_layers\)"):
        open_model(str(folder), device="cpu")


def test_a_slow_tokenizer_is_told_by_the_files_behind_it(tmp_path: Path) -> None:
    """Two sentencepiece models may hold the same pieces under the same ids, and cut texts by other scores."""

    class Slow:
        @staticmethod
        def get_vocab() -> dict[str, int]:
            return {"a": 0, "b": 1}

    (tmp_path / "tokenizer.model").write_bytes(b"scores")
    slow: Any = Slow()
    before = tokenizer_sha256(slow, tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"others")
    assert tokenizer_sha256(slow, tmp_path) != before


def test_an_earlier_record_is_never_said_to_be_of_the_same_model(a_run: Any) -> None:
    known = a_run.model
    unknown = msgspec.structs.replace(known, identity={})
    for pair in ((known, unknown), (unknown, known), (unknown, unknown)):
        assert differences_of(*pair) == ()
        assert "whether the configs are is not known" in compared_in_words(*pair)
    other = msgspec.structs.replace(unknown, weights_sha256="00", dtype="bfloat16")
    assert compared_in_words(known, other) == "the models differ in: weights; dtype"
    assert compared_in_words(known, known).startswith("the models are the same in every part (identity ")


def test_weights_without_a_digest_are_never_said_to_be_the_same(a_run: Any) -> None:
    here = a_run.model
    word = {"said by the server/repository": "owner/tiny", "said by the server/revision": "main"}
    there = msgspec.structs.replace(here, weights_sha256="", adapter="ndif", identity={**here.identity, **word})
    other = msgspec.structs.replace(there, identity={**there.identity, "said by the server/revision": "v2"})
    unknown = (
        "whether their weights are the same is not known, since the server that ran the weights states no digest"
    )
    assert not is_known(there)
    assert differences_of(there, there) == ()
    assert compared_in_words(there, there).startswith(f"the models agree in all that is recorded, and {unknown}")
    assert differences_of(there, other) == ("said by the server (revision)",)
    assert compared_in_words(here, there).startswith(
        f"the models differ in: adapter; said by the server (repository, revision), and {unknown}"
    )


@given(config=CONFIGS, random=st.randoms(use_true_random=False))
def test_no_formatting_of_a_config_changes_its_fields(config: dict[str, Any], random: Any) -> None:
    names = list(config)
    random.shuffle(names)
    written = json.loads(json.dumps({name: config[name] for name in names}, indent=random.randrange(9)))
    assert fields_of(written, "config") == fields_of(config, "config")
    more = {**written, "transformers_version": "9", "_name_or_path": "/x", "nothing": None}
    assert fields_of(more, "config") == fields_of(
        {**written, **dict.fromkeys(more.keys() - written.keys())}, "config"
    )
    assert all(name.isascii() and name.isprintable() for name in fields_of(config, "config"))


@given(config=CONFIGS, value=LEAVES, other=LEAVES)
def test_another_value_of_any_field_is_seen_and_named(config: dict[str, Any], value: Any, other: Any) -> None:
    was, now = ({**config, "rms_norm_eps": one, "x.y": {"z": one}} for one in (value, other))
    parts = differing_parts(fields_of(was, "config"), fields_of(now, "config"))
    same = type(value) is type(other) and value == other
    numbers = not isinstance(value, bool | str) and not isinstance(other, bool | str)
    if same or (numbers and value == other):  # 1 and 1.0 are one number
        assert parts == ()
    else:
        assert parts == ("config (rms_norm_eps, x\\.y.z)",)


def test_a_config_without_end_is_kept_as_one_digest() -> None:
    for config in ({str(number): number for number in range(10_000)}, {"x" * 10_000: 1}):
        fields = fields_of(config, "config")
        assert len(json.dumps(fields)) < 200
        assert fields != fields_of({**config, "0": -1}, "config")
