"""Checkpoints that are not the causal language model that they seem to be; every refusal is one line."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from auditkit.adapters import open_model
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.loading.causal import refuse_unlike
from auditkit.adapters.loading.quiet import quiet
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

SaveCheckpoint = Callable[..., Path]
CHAT = Chat(user="What is the capital of France?", system="You are a student.")
ENCODER = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


def refused(folder: Path, adapter: str = "hf") -> str:
    """The message with which a folder is refused: one line, exit code 4."""
    with pytest.raises(ModelError) as caught:
        open_model(str(folder), device="cpu", adapter=adapter)
    assert not isinstance(caught.value, IntegrityError)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    return message


@pytest.fixture
def save(tmp_path: Path, make_tokenizer: Callable[..., Any]) -> Callable[..., Path]:
    """(class of transformers, model_type, config) -> a new folder that save_pretrained wrote."""

    def saved(name: str, model_type: str, **options: Any) -> Path:
        torch.manual_seed(0)
        folder = tmp_path / name
        with quiet():
            module = getattr(transformers, name)(AutoConfig.for_model(model_type, **options))
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.05)
            module.save_pretrained(folder)
            make_tokenizer().save_pretrained(folder)
        return folder

    return saved


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **options: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | options))


# -- encoders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model_type"),
    [("BertLMHeadModel", "bert"), ("RobertaForCausalLM", "roberta"), ("ElectraForCausalLM", "electra")],
)
@pytest.mark.parametrize("adapter", ["hf", "nnterp"])
def test_an_encoder_that_looks_both_ways_is_refused(
    save: Callable[..., Path], name: str, model_type: str, adapter: str
) -> None:
    both_ways = save(name, model_type, **ENCODER, is_decoder=False, pad_token_id=0)
    assert "is no causal language model: tokens that come later change the logits of" in refused(
        both_ways, adapter
    )


def test_the_same_weights_read_from_left_to_right_are_a_language_model(save: Callable[..., Path]) -> None:
    folder = save("BertLMHeadModel", "bert", **ENCODER, is_decoder=True, pad_token_id=0)
    assert open_model(str(folder), device="cpu").layers == 2


def test_a_masked_language_model_is_refused_by_its_name(save: Callable[..., Path]) -> None:
    folder = save("BertForMaskedLM", "bert", **ENCODER)
    assert "holds a BertForMaskedLM, whose head does not predict the next token" in refused(folder)


def test_a_language_model_turned_both_ways_is_refused(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint("llama")
    configure(folder, is_causal=False)
    assert "is no causal language model" in refused(folder)


# -- heads ---------------------------------------------------------------------------------------------------------

LLAMA = {**ENCODER, "num_key_value_heads": 2, "pad_token_id": 0}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("name", ["LlamaForSequenceClassification", "LlamaForTokenClassification"])
def test_a_classifier_is_refused_whatever_its_config_says(
    save: Callable[..., Path], name: str, tied: bool, told: bool
) -> None:
    folder = save(name, "llama", **LLAMA, tie_word_embeddings=tied)
    if not told:
        configure(folder, architectures=None)
    message = refused(folder)
    if told:
        assert f"holds a {name}, whose head does not predict the next token" in message
    elif tied:
        assert "hold" in message
        assert "tensors that LlamaForCausalLM has no place for (score." in message
    else:
        assert "lack the language model head (lm_head.weight) and hold score." in message


def test_a_reward_model_is_refused_by_its_name_and_by_its_head(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint("llama")
    configure(folder, architectures=["LlamaForRewardModelWithGating"])
    assert "holds a LlamaForRewardModelWithGating" in refused(folder)
    configure(folder, architectures=["LlamaForCausalLM"])
    write(folder, tensors_of(folder) | {"v_head.summary.weight": torch.ones(1, 32)})
    assert "hold 1 tensors that LlamaForCausalLM has no place for (v_head.summary.weight, ...)" in refused(folder)


def test_a_model_without_its_head_is_refused(save: Callable[..., Path]) -> None:
    folder = save("LlamaModel", "llama", **LLAMA)
    assert "lack the language model head (lm_head.weight): it would be random" in refused(folder)


@pytest.mark.parametrize(
    ("name", "model_type", "options", "words"),
    [
        ("T5ForConditionalGeneration", "t5", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
         "holds an encoder with a decoder (t5)"),
        ("BartForConditionalGeneration", "bart", {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
         "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
         "holds an encoder with a decoder (bart)"),
        ("ViTModel", "vit", {**ENCODER, "image_size": 32, "patch_size": 8},
         "is of type 'vit', for which transformers has no causal language model"),
        ("CLIPTextModel", "clip_text_model", ENCODER,
         "is of type 'clip_text_model', for which transformers has no causal language model"),
    ],
)  # fmt: skip
def test_a_type_without_a_causal_head_is_refused(
    save: Callable[..., Path], name: str, model_type: str, options: dict[str, Any], words: str
) -> None:
    if "vocab_size" not in options and model_type != "vit":
        options = {**options, "vocab_size": 300}
    assert words in refused(save(name, model_type, **options))


# -- layers and other tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "bloom", "mixtral", "opt"])
@pytest.mark.parametrize("adapter", ["hf", "nnterp"])
def test_more_layers_than_the_config_uses_are_refused(
    save_checkpoint: SaveCheckpoint, kind: str, adapter: str
) -> None:
    folder = save_checkpoint(kind)
    config = json.loads((folder / "config.json").read_text())
    key = next(key for key in ("num_hidden_layers", "n_layer", "num_layers") if key in config)
    configure(folder, **{key: 2})
    message = refused(folder, adapter)
    assert "hold 3 layers, but its config uses 2 (num_hidden_layers)" in message


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral"])
def test_fewer_layers_than_the_config_uses_are_refused(save_checkpoint: SaveCheckpoint, kind: str) -> None:
    folder = save_checkpoint(kind)
    config = json.loads((folder / "config.json").read_text())
    configure(folder, **{key: 5 for key in ("num_hidden_layers", "n_layer") if key in config})
    assert "hold nothing for layer 3, but its config uses 5" in refused(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "model.layers.2.mlp.up_proj.weight_scale",
        "classifier.weight",
        "model.prefix.weight",
    ],
)
def test_a_tensor_without_a_place_is_refused_by_name(save_checkpoint: SaveCheckpoint, name: str) -> None:
    folder = save_checkpoint()
    write(folder, tensors_of(folder) | {name: torch.ones(4)})
    assert f"hold 1 tensors that LlamaForCausalLM has no place for ({name}, ...)" in refused(folder)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("llama", "vision_tower.encoder.layers.7.mlp.fc1.weight"),
        ("llama", "model.visual.blocks.9.attn.qkv.weight"),
        ("llama", "multi_modal_projector.linear_1.weight"),
        ("llama", "mtp.layers.5.mlp.up_proj.weight"),
        ("gpt2", "transformer.h.0.attn.bias"),
        ("gpt2", "h.1.attn.masked_bias"),
        ("gpt_neo", "transformer.h.0.attn.attention.bias"),
        ("gpt_neo", "transformer.h.2.attn.attention.masked_bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.masked_bias"),
    ],
)
def test_what_takes_nothing_away_from_the_text_model_is_let_through(
    save_checkpoint: SaveCheckpoint, kind: str, name: str
) -> None:
    folder = save_checkpoint(kind)
    plain = open_model(str(folder), device="cpu")
    batch = plain.batch([plain.chat(CHAT)])
    expected = plain.run(batch)
    tensors = {key: value.clone() for key, value in tensors_of(folder).items()}
    write(folder, tensors | {name: torch.ones(4)})
    again = open_model(str(folder), device="cpu").run(batch)
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-5)  # tensors lie elsewhere in the file


def test_layers_that_only_draft_tokens_are_let_through(make_module: Callable[[str], Any]) -> None:
    module = make_module("deepseek_v3")
    module.config.num_nextn_predict_layers = 1
    report = {"unexpected_keys": {"model.layers.3.eh_proj.weight", "model.layers.3.mlp.up_proj.weight"}}
    refuse_unlike(report, module, "x")
    report["unexpected_keys"].add("model.layers.4.mlp.up_proj.weight")
    with pytest.raises(ModelError, match="hold 5 layers, but its config uses 3"):
        refuse_unlike(report, module, "x")


def test_scales_of_a_quantized_format_are_let_through(make_module: Callable[[str], Any]) -> None:
    module = make_module("llama")
    module.config.quantization_config = {"quant_method": "fp8"}
    refuse_unlike({"unexpected_keys": {"model.layers.1.self_attn.k_proj.k_scale"}}, module, "x")
    with pytest.raises(ModelError, match="no place for"):
        refuse_unlike({"unexpected_keys": {"model.layers.1.self_attn.k_proj.bias"}}, module, "x")


# -- adapters ------------------------------------------------------------------------------------------------------

LORA = {"peft_type": "LORA", "base_model_name_or_path": "owner/base", "r": 4, "target_modules": ["q_proj"]}


def leave_adapter(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(LORA))
    key = "base_model.model.model.layers.0.self_attn.q_proj"
    pair = {f"{key}.lora_A.weight": torch.ones(4, 32), f"{key}.lora_B.weight": torch.ones(32, 4)}
    save_file(pair, folder / "adapter_model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("peft", [True, False])
def test_an_adapter_beside_full_weights_is_refused_whether_peft_is_installed_or_not(
    save_checkpoint: SaveCheckpoint, monkeypatch: pytest.MonkeyPatch, peft: bool
) -> None:
    folder = save_checkpoint()
    leave_adapter(folder)
    for place in ("transformers.models.auto.auto_factory", "transformers.integrations.peft"):
        monkeypatch.setattr(f"{place}.is_peft_available", lambda: peft)
    message = refused(folder)
    assert "holds an adapter (adapter_config.json) beside full weights" in message
    assert "move adapter_config.json and adapter_model.safetensors out of the folder" in message


def test_a_folder_without_the_adapter_opens_again_and_a_stray_adapter_file_changes_nothing(
    save_checkpoint: SaveCheckpoint,
) -> None:
    folder = save_checkpoint()
    before = open_model(str(folder), device="cpu").info
    leave_adapter(folder)
    (folder / "adapter_config.json").unlink()
    assert open_model(str(folder), device="cpu").info == before


def test_an_adapter_beside_a_gguf_file_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_module: Callable[[str], Any]
) -> None:
    from auditkit.adapters.loading import files as weights

    leave_adapter(tmp_path / "ggufs")
    gguf = tmp_path / "ggufs" / "tiny.gguf"
    name, value = b"general.architecture", b"llama"
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)  # version, tensors, keys
    header += struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, len(value)) + value  # 8: a string
    gguf.write_bytes(header)
    seen: list[list[str]] = []

    def reading(folder: str, **_: object) -> None:
        seen.append(sorted(path.name for path in Path(folder).iterdir()))
        assert (Path(folder) / "tiny.gguf").read_bytes() == header
        raise ValueError("far enough")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", reading)
    with pytest.raises(ModelError, match="far enough"):
        weights.gguf_model(gguf)
    assert seen == [["tiny.gguf"]]


# -- the files that are read ---------------------------------------------------------------------------------------


def in_shards(folder: Path, family_module: Any) -> list[Path]:
    (folder / "model.safetensors").unlink()
    with quiet():
        family_module.save_pretrained(folder, max_shard_size="20KB")
    return sorted(folder.glob("model-*.safetensors"))


def test_a_weight_file_that_is_not_read_changes_no_digest(
    save_checkpoint: SaveCheckpoint, make_module: Callable[[str], Any]
) -> None:
    folder = save_checkpoint()
    one = open_model(str(folder), device="cpu").info.weights_sha256
    assert one == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    for stale in ("consolidated.safetensors", "model-00001-of-00002.safetensors", "adapter_model.safetensors"):
        shutil.copy(folder / "model.safetensors", folder / stale)
    for stale in ("pytorch_model.bin", "consolidated.00.pth", "model.gguf"):
        (folder / stale).write_bytes(b"stale")
    assert open_model(str(folder), device="cpu").info.weights_sha256 == one


def test_the_digest_of_shards_is_that_of_all_and_of_no_other_file(
    save_checkpoint: SaveCheckpoint, make_module: Callable[[str], Any]
) -> None:
    folder = save_checkpoint()
    shards = in_shards(folder, make_module("llama"))
    assert len(shards) > 2
    before = open_model(str(folder), device="cpu").info.weights_sha256
    shutil.copy(shards[0], folder / "model-00009-of-00009.safetensors")
    assert open_model(str(folder), device="cpu").info.weights_sha256 == before
    last = load_file(shards[-1])
    last[sorted(last)[-1]].view(-1)[0] += 1
    save_file(last, shards[-1], metadata={"format": "pt"})
    assert open_model(str(folder), device="cpu").info.weights_sha256 != before


def test_a_single_file_stands_before_an_index_as_in_transformers(
    save_checkpoint: SaveCheckpoint, make_module: Callable[[str], Any]
) -> None:
    folder = save_checkpoint()
    whole = (folder / "model.safetensors").read_bytes()
    in_shards(folder, make_module("gpt2"))  # of another model
    (folder / "model.safetensors").write_bytes(whole)
    with quiet():
        make_module("llama").config.save_pretrained(folder)
    opened = open_model(str(folder), device="cpu")
    assert opened.info.weights_sha256 == hashlib.sha256(whole).hexdigest()


def test_a_file_named_by_the_config_is_the_one_that_counts(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint()
    tensors = tensors_of(folder)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    save_file(tensors, folder / "other.safetensors", metadata={"format": "pt"})
    configure(folder, transformers_weights="other.safetensors")
    opened = open_model(str(folder), device="cpu")
    assert opened.info.weights_sha256 == hashlib.sha256((folder / "other.safetensors").read_bytes()).hexdigest()
    assert torch.equal(opened.module.get_output_embeddings().weight, tensors["lm_head.weight"])


def test_a_shard_that_is_not_there_is_named(
    save_checkpoint: SaveCheckpoint, make_module: Callable[[str], Any]
) -> None:
    folder = save_checkpoint()
    in_shards(folder, make_module("llama"))[1].unlink()
    assert "model.safetensors.index.json of llama lists model-00002-of-" in refused(folder)


def test_safetensors_under_another_name_are_told_apart_from_none(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint()
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert "holds consolidated.safetensors, but neither model.safetensors nor" in refused(folder)


# -- every family --------------------------------------------------------------------------------------------------


def test_the_files_that_are_named_are_those_that_transformers_opens(
    save_checkpoint: SaveCheckpoint, make_module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import modeling_utils

    from auditkit.adapters.loading.files import files_read

    folder = save_checkpoint()
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    in_shards(folder, make_module("llama"))
    opened: set[Path] = set()
    own = modeling_utils.safe_open

    def opening(path: str, *args: Any, **options: Any) -> Any:
        opened.add(Path(path))
        return own(path, *args, **options)

    monkeypatch.setattr(modeling_utils, "safe_open", opening)
    with quiet():
        AutoModelForCausalLM.from_pretrained(folder)
    assert opened == set(files_read(folder))
