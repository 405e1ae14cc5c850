"""Fine-tunes as people have them: PEFT adapters, checkpoints of a training run, shards of DeepSpeed and FSDP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoHaConfig, LoraConfig, PeftConfig, PrefixTuningConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.loading.quiet import quiet
from tests.adapters.layouts.layout import READ, Layout

ROWS = 260
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}a: {% endif %}"
)
SAVE = "the base's hub id or path into adapter_config.json as base_model_name_or_path"
BESIDE = "copy config.json and the tokenizer's files beside them, and give that folder"


def tokenizer(*added: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and three special tokens; what is added has ids from `ROWS` - 1 on."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    made.add_tokens(["<unused>", "<last>"])
    made.chat_template = TEMPLATE
    if added:
        made.add_special_tokens({"pad_token": added[0]})
        made.add_tokens(list(added[1:]))
    return made


def base(folder: Path, tied: bool = False, rows: int = ROWS) -> Path:
    """A random Llama of three blocks with its tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied, bos_token_id=256, eos_token_id=257, pad_token_id=None,
        initializer_range=0.1,
    )  # fmt: skip
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
    return folder


def lora(**values: Any) -> LoraConfig:
    """LoRA on the attention's queries and values, where `values` say nothing else."""
    return LoraConfig(
        **{"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | values
    )


def trained(config: PeftConfig, at: str | Path, rows: int | None = None) -> Any:
    """The base at a path with an adapter that three steps of training have changed."""
    with quiet():
        module = LlamaForCausalLM.from_pretrained(at, dtype=torch.float32)
        if rows is not None:
            module.resize_token_embeddings(rows)
        wrapped = get_peft_model(module, config)
    ids = torch.arange(48).reshape(2, 24) * 5 % (rows or ROWS)
    moving = [value for value in wrapped.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(moving, lr=0.05)
    with quiet():  # peft hands prefixes on in a form that transformers announces the end of
        for _ in range(3):
            optimizer.zero_grad()
            wrapped(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    return wrapped.eval()


Step = Callable[[Path], object]


def adapter(
    config: PeftConfig,
    *steps: Step,
    own_tokenizer: bool = False,
    tied: bool = False,
    rows: int | None = None,
    saved: dict[str, Any] | None = None,
) -> Callable[[Path], Path]:
    """A folder "lora" beside its base "base"; each step then changes the adapter's folder."""

    def build(folder: Path) -> Path:
        wrapped = trained(config, base(folder / "base", tied), rows)
        with quiet():
            wrapped.save_pretrained(folder / "lora", **saved or {})
        if own_tokenizer:
            tokenizer("<pad>", *(["<more>"] if rows else [])).save_pretrained(folder / "lora")
        for step in steps:
            step(folder / "lora")
        return folder / "lora"

    return build


def stated(**values: Any) -> Step:
    """A step that changes adapter_config.json."""

    def step(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return step


def without(*names: str) -> Step:
    """A step that takes files away."""

    def step(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return step


def wrote(name: str, content: str = "") -> Step:
    """A step that writes a file."""

    def step(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return step


def copied(name: str) -> Step:
    """A step that copies a file of the base."""
    return lambda folder: shutil.copy(folder.parent / "base" / name, folder)


def checkpoint(*steps: Step, at: str = "checkpoint-20") -> Callable[[Path], Path]:
    """Whole weights without a tokenizer, as the Trainer writes them, beside their base "base"."""

    def build(folder: Path) -> Path:
        base(folder / "base")
        base(folder / at)
        without("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")(folder / at)
        wrote("trainer_state.json", "{}")(folder / at)
        for step in steps:
            step(folder / at)
        return folder / at

    return build


def named(text: str, key: str = "_name_or_path") -> Step:
    """A step that writes a value into config.json, with {base} for the path of the base."""

    def step(folder: Path) -> None:
        file = folder / "config.json"
        values = json.loads(file.read_text())
        file.write_text(json.dumps({**values, key: text.format(base=folder.parent / "base")}))

    return step


def card(folder: Path) -> None:
    wrote("README.md", f"---\nbase_model: {folder.parent / 'base'}\n---\n")(folder)


def padded(folder: Path) -> Path:
    """A model whose tokenizer was given a pad token that has no embedding."""
    base(folder)
    tokenizer("<pad>").save_pretrained(folder)
    return folder


def holding(*names: str, at: str = "") -> Callable[[Path], Path]:
    """A folder with these files and nothing else; what is given is the folder `at` in it."""

    def build(folder: Path) -> Path:
        for name in names:
            wrote(name)(folder)
        return folder / at

    return build


def run_folder(folder: Path) -> Path:
    for step in (5, 20, 100):
        base(folder / f"checkpoint-{step}")
    return folder


ZERO = (
    "directory '{path}' holds the shards of DeepSpeed ZeRO (zero_to_fp32.py) and no .safetensors weights: write whole "
    "weights with 'python {path}/zero_to_fp32.py {path} {path}/whole --safe_serialization'; " + BESIDE
)
LAYOUTS = [
    # -- PEFT adapters -------------------------------------------------------------------------------------------
    Layout("a LoRA adapter, its base named by path", adapter(lora()), READ),
    Layout("a LoRA adapter with the base's config.json", adapter(lora(), copied("config.json")), READ),
    Layout("a LoRA adapter with a tokenizer", adapter(lora(), own_tokenizer=True), READ),
    Layout(
        "a LoRA adapter, its base named by a path from its own folder",
        adapter(lora(), stated(base_model_name_or_path="../base")),
        READ,
    ),
    Layout("a LoRA adapter with rsLoRA and DoRA", adapter(lora(use_rslora=True, use_dora=True)), READ),
    Layout("a LoRA adapter with the head in modules_to_save", adapter(lora(modules_to_save=["lm_head"])), READ),
    Layout(
        "a LoRA adapter with both ends in modules_to_save",
        adapter(lora(modules_to_save=["embed_tokens", "lm_head"])),
        READ,
    ),
    Layout(
        "a LoRA adapter on the embeddings of a base with tied embeddings",
        adapter(lora(target_modules=["q_proj", "embed_tokens"]), tied=True),
        READ,
    ),
    Layout(
        "a LoRA adapter on the head of a base with tied embeddings",
        adapter(lora(target_modules=["q_proj", "lm_head"]), tied=True),
        READ,
    ),
    Layout("a LoRA adapter with resized embeddings", adapter(lora(), own_tokenizer=True, rows=ROWS + 2), READ),
    Layout(
        "a LoRA adapter with resized, tied embeddings",
        adapter(lora(), own_tokenizer=True, rows=ROWS + 2, tied=True),
        READ,
    ),
    Layout("a LoRA adapter with trained tokens", adapter(lora(trainable_token_indices=[3, 5])), READ),
    Layout(
        "an IA3 adapter",
        adapter(
            IA3Config(
                target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
            )
        ),
        READ,
    ),
    Layout("a LoHa adapter", adapter(LoHaConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")), READ),
    Layout(
        "a LoRA adapter with resized embeddings that were not saved",
        adapter(lora(target_modules=["q_proj", "lm_head"]), rows=ROWS + 2, saved={"save_embedding_layers": False}),
        "directory {path} holds an adapter that was trained with 262 token embeddings, its base has 260, and the "
        "adapter does not hold the ones that differ: save it again with save_embedding_layers=True",
    ),
    Layout(
        "an adapter for prefix tuning",
        adapter(PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")),
        "directory {path} holds a PREFIX_TUNING adapter, which cannot be merged into weights; auditkit opens adapters "
        "that can be (LORA, DoRA, IA3, LOHA, LOKR, OFT, ...)",
    ),
    Layout(
        "an adapter for another task",
        adapter(lora(), stated(task_type="SEQ_CLS")),
        "directory {path} holds a LORA adapter for the task SEQ_CLS; auditkit measures causal language models, whose "
        "adapters are for CAUSAL_LM",
    ),
    Layout(
        "an adapter with pickled weights",
        adapter(lora(), without("adapter_model.safetensors"), wrote("adapter_model.bin")),
        "directory {path} holds adapter_model.bin and no adapter_model.safetensors: its weights are pickled, and "
        "pickled weights can run code: load it with peft where its origin is trusted, and save it again with "
        "save_pretrained",
    ),
    Layout(
        "an adapter without weights",
        adapter(lora(), without("adapter_model.safetensors")),
        "directory {path} holds adapter_config.json and no adapter_model.safetensors: fetch the adapter's weights as "
        "well",
    ),
    Layout(
        "an adapter whose base is gone",
        adapter(lora(), stated(base_model_name_or_path="/no/such/base")),
        "directory {path} holds an adapter of the base '/no/such/base', which is not there: put the base there, or "
        "write its hub id or path into adapter_config.json as base_model_name_or_path",
    ),
    Layout(
        "an adapter that names no base",
        adapter(lora(), stated(base_model_name_or_path=None)),
        "directory {path} holds an adapter that names no base: write " + SAVE,
    ),
    Layout(
        "an adapter that names itself as its base",
        adapter(lora(), lambda folder: stated(base_model_name_or_path=str(folder))(folder)),
        "directory {path} holds an adapter that names its own folder as its base: write " + SAVE,
    ),
    Layout(
        "an adapter of another release's kind",
        adapter(lora(), stated(use_tomorrow=True)),
        "directory {path} holds an adapter whose config sets use_tomorrow, which this release of peft does not know: "
        "upgrade peft",
    ),
    Layout(
        "an adapter without a module that it should hold whole",
        adapter(lora(), stated(modules_to_save=["lm_head"])),
        "directory {path} holds an adapter whose config says that it holds lm_head whole (modules_to_save), and its "
        "weights do not: save it again",
    ),
    Layout(
        "an adapter of which the config names more modules than its weights have",
        adapter(lora(), stated(target_modules=["q_proj", "v_proj", "k_proj"])),
        "the adapter of directory {path} does not fit its base or its config: 6 tensors are missing or have no place "
        "(base_model.model.model.layers.0.self_attn.k_proj.lora_A.default.weight, ...)",
    ),
    Layout(
        "an adapter beside full weights",
        adapter(lora(), copied("config.json"), copied("model.safetensors"), copied("tokenizer.json")),
        "directory {path} holds an adapter (adapter_config.json) beside full weights: if they contain it already, move "
        "adapter_config.json and adapter_model.safetensors out of the folder; if not, merge it first (peft's "
        "merge_and_unload) and give the folder of the result",
    ),
    # -- checkpoints of a training run ---------------------------------------------------------------------------
    Layout(
        "a Trainer checkpoint without a tokenizer, its base named in config.json",
        checkpoint(named("{base}")),
        READ,
    ),
    Layout("a Trainer checkpoint without a tokenizer, its base named in its model card", checkpoint(card), READ),
    Layout(
        "a Trainer checkpoint without a tokenizer that names no base",
        checkpoint(),
        "directory {path} holds no tokenizer and names no base that could have it: give the model that it was made "
        "from with --tokenizer (a folder, a hub id or an alias)",
    ),
    Layout(
        "a Trainer checkpoint without a tokenizer whose base has none either",
        checkpoint(named("{base}"), lambda folder: without("tokenizer.json")(folder.parent / "base")),
        "directory {path} holds no tokenizer, and that of its base '{folder}/base' cannot be had ('{folder}/base' "
        "holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json, ...)): give the model that it was made from "
        "with --tokenizer (a folder, a hub id or an alias)",
    ),
    Layout(
        "the folder around three checkpoints",
        run_folder,
        "directory '{path}' holds 3 checkpoints of a training run and no model of its own: give the newest, or another "
        "one, --model {path}/checkpoint-100",
    ),
    Layout(
        "the folder of a training run that ended with a whole model",
        lambda folder: base(base(folder / "checkpoint-5").parent),
        READ,
    ),
    Layout("a pad token that was added without an embedding", padded, READ),
    # -- shards --------------------------------------------------------------------------------------------------
    Layout(
        "DeepSpeed ZeRO", holding("zero_to_fp32.py", "latest", "global_step20/mp_rank_00_model_states.pt"), ZERO
    ),
    Layout(
        "DeepSpeed ZeRO, one step",
        holding(
            "zero_to_fp32.py", "global_step20/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", at="global_step20"
        ),
        ZERO.replace("'{path}'", "'{path}'", 1)
        .replace("{path}/", "{folder}/")
        .replace("py {path} ", "py {folder} "),
    ),
    Layout(
        "DeepSpeed ZeRO with config.json",
        lambda folder: [wrote("config.json", "{}")(folder), holding("zero_to_fp32.py")(folder)][1],
        ZERO.replace("'{path}'", "{path}", 1),
    ),
    Layout(
        "DeepSpeed without its script",
        holding("latest", "global_step20/mp_rank_00_model_states.pt"),
        "directory '{path}' holds the shards of a DeepSpeed checkpoint (global_step20) without zero_to_fp32.py: fetch "
        "that script from DeepSpeed (deepspeed.utils.zero_to_fp32), and write whole weights with 'python "
        "zero_to_fp32.py {path} {path}/whole --safe_serialization'; " + BESIDE,
    ),
    Layout(
        "FSDP shards of the Trainer",
        holding("trainer_state.json", "pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0/.metadata"),
        "directory '{path}' holds the shards of an FSDP checkpoint (.distcp) and no .safetensors weights: write whole "
        "weights with 'accelerate merge-weights {path}/pytorch_model_fsdp_0 {path}/whole'; " + BESIDE,
    ),
    Layout(
        "the folder of FSDP shards itself",
        holding("run/__0_0.distcp", "run/__1_0.distcp", at="run"),
        "directory '{path}' holds the shards of an FSDP checkpoint (.distcp) and no .safetensors weights: write whole "
        "weights with 'accelerate merge-weights {path} {folder}/whole'; " + BESIDE,
    ),
    Layout(
        "Megatron",
        holding("latest_checkpointed_iteration.txt", "iter_0000100/mp_rank_00/model_optim_rng.pt"),
        "directory '{path}' holds the shards of a Megatron checkpoint: convert it with the converter of the program "
        "that trained it, into the folder that save_pretrained writes, and give that folder",
    ),
]
