"""Models that bring their own code, and repositories without safetensors, on a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from auditkit.adapters import open_model
from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading import own_code
from tests.adapters.loading.test_hub import COMMIT, Hub, serve

pytestmark = pytest.mark.unit

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

from .numbers_of_tiny import TWO


class TinyConfig(LlamaConfig):
    model_type = "tiny_of_its_own"


class Tiny(LlamaForCausalLM):
    config_class = TinyConfig

    def forward(self, *arguments, **named):
        output = super().forward(*arguments, **named)
        output.logits = output.logits * TWO
        return output
"""
NUMBERS = "TWO = 2\n"
AUTO = {"AutoConfig": "modeling_tiny.TinyConfig", "AutoModelForCausalLM": "modeling_tiny.Tiny"}

OPEN = """
import json, sys, torch
torch.set_num_threads(1)
from auditkit.adapters import open_model
from auditkit.adapters.errors import ModelError
from auditkit.record.identity import model_digest
for spec in sys.argv[1:]:
    trusted = spec.startswith("+")
    try:
        adapter = open_model(spec.removeprefix("+"), device="cpu", trust_remote_code=trusted)
        info = adapter.info
        print(json.dumps({
            "class": type(adapter.module).__name__, "revision": info.revision, "code": info.code_sha256,
            "trusted": info.trust_remote_code, "identity": model_digest(info),
        }))
    except ModelError as error:
        print(json.dumps({"error": str(error)}))
"""


@dataclass
class Hubs:
    """Several repositories behind one address."""

    repositories: dict[str, dict[str, bytes]]
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        for name, files in self.repositories.items():
            if f"/{name}" in path:
                return Hub(files, {}).answer(path.replace(f"/{name}", "/owner/tiny", 1))
        return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"


def digest(*files: tuple[str, str]) -> str:
    """What `own_code` makes of these files, by another way."""
    lines = [f"{name} {hashlib.sha256(text.encode()).hexdigest()}\n" for name, text in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def with_auto_map(folder: Path, auto_map: dict[str, str]) -> Path:
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"model_type": "tiny_of_its_own", "auto_map": auto_map}
    file.write_text(json.dumps(config | {"architectures": ["Tiny"]}))
    return folder


@dataclass
class Story:
    requests: list[str]
    opened: dict[str, dict[str, Any]]
    elsewhere: str
    """A folder that takes its code from a repository."""


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, make_module: Callable[[str], Any], make_tokenizer: Callable[..., Any]
) -> Story:
    folder, home = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("home")
    make_module("llama").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    with_auto_map(folder, {name: f"owner/code--{each}" for name, each in AUTO.items()})
    code = {"modeling_tiny.py": CODE.encode(), "numbers_of_tiny.py": NUMBERS.encode()}
    weights = {file.name: file.read_bytes() for file in folder.iterdir()}
    config = json.loads(weights["config.json"]) | {"auto_map": AUTO}
    hubs = Hubs(
        {
            "owner/own": weights | code | {"config.json": json.dumps(config).encode()},
            "owner/code": code,
            "owner/ggufs": dict.fromkeys(("README.md", "tiny.Q4_K_M.gguf", "tiny.Q8_0.gguf"), b"GGUF"),
            "owner/pickled": {"config.json": b"{}", "pytorch_model.bin": b"never"},
        }
    )
    server = serve(hubs)  # type: ignore[arg-type]  # it answers as a hub does
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    environment = kept | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hubs.port}",
        "HF_HOME": str(home / "hf"),
        "AUDITKIT_CACHE": str(home / "auditkit"),
    }
    specs = ["owner/own", "+owner/own", str(folder), f"+{folder}", "owner/ggufs", "owner/pickled"]
    try:
        done = subprocess.run(
            [sys.executable, "-c", OPEN, *specs], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
    finally:
        server.shutdown()
        server.server_close()
    opened = dict(zip(specs, map(json.loads, done.stdout.splitlines()), strict=True))
    return Story(hubs.requests, opened, str(folder))


def test_code_runs_only_where_the_user_trusts_it_and_is_not_fetched_before(story: Story) -> None:
    assert story.opened["owner/own"] == {
        "error": "hub owner/own is of type 'tiny_of_its_own', which runs only with the model's own code "
        "(modeling_tiny.py): read that code, and give --audit-trust-remote-code to run it"
    }
    fetched = [request for request in story.requests if "/own/resolve/" in request]
    weights = next(i for i, request in enumerate(fetched) if request.split("?")[0].endswith(".safetensors"))
    code = next(i for i, request in enumerate(fetched) if request.split("?")[0].endswith(".py"))
    assert weights < code


def test_trusted_code_is_fetched_pinned_and_digested(story: Story) -> None:
    opened = {name: value for name, value in story.opened["+owner/own"].items() if name != "identity"}
    assert opened == {
        "class": "Tiny",
        "revision": COMMIT,
        "code": digest(("modeling_tiny.py", CODE), ("numbers_of_tiny.py", NUMBERS)),
        "trusted": True,
    }


def test_code_in_another_repository_is_fetched_at_one_commit(story: Story) -> None:
    assert "own code (in owner/code): read that code" in story.opened[story.elsewhere]["error"]
    opened = story.opened[f"+{story.elsewhere}"]
    assert opened["class"] == "Tiny"
    assert (opened["revision"], opened["code"]) == ("", story.opened["+owner/own"]["code"])
    resolved = [request for request in story.requests if "/owner/code/resolve/" in request]
    assert resolved
    assert all(f"/resolve/{COMMIT}/" in request for request in resolved)


def test_a_repository_without_safetensors_is_said_with_the_next_step(story: Story) -> None:
    assert story.opened["owner/ggufs"]["error"] == (
        "hub owner/ggufs holds GGUF files (tiny.Q4_K_M.gguf, tiny.Q8_0.gguf) and no .safetensors weights: fetch one "
        "with 'hf download owner/ggufs tiny.Q4_K_M.gguf --local-dir .' and give its path, or give the model that they "
        "were made from"
    )
    assert story.opened["owner/pickled"]["error"].startswith("hub owner/pickled holds pytorch_model.bin and no ")


@pytest.mark.parametrize(
    ("auto_map", "words"),
    [
        (
            {"AutoConfig": "a.A", "AutoModelForCausalLM": "b.B"},
            "name the code a.py, b.py, which is not there; fetch it again",
        ),
        (
            {"AutoModelForCausalLM": "o/a--m.A", "AutoConfig": "o/b--m.B"},
            "from several repositories (o/a, o/b): copy",
        ),
    ],
)
def test_code_that_cannot_be_had_is_said(
    save_checkpoint: Callable[..., Path], auto_map: dict[str, str], words: str
) -> None:
    folder = with_auto_map(save_checkpoint(), auto_map)
    with pytest.raises(ModelError) as refused:
        open_model(str(folder), device="cpu", trust_remote_code=True)
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_type_that_transformers_knows_needs_no_code_of_its_own(save_checkpoint: Callable[..., Path]) -> None:
    folder = save_checkpoint()
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": AUTO}))
    info = open_model(str(folder), device="cpu").info
    assert (info.trust_remote_code, info.code_sha256) == (False, "")


def test_the_digest_changes_with_any_file_of_the_code(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "a.A"}})
    )
    (tmp_path / "a.py").write_text("import b")
    digests = []
    for text in ("1", "2"):
        (tmp_path / "b.py").write_text(text)
        digests.append(own_code.allowed(tmp_path, "it", True, lambda name: tmp_path).sha256)
    assert len(set(digests)) == 2
    assert own_code.allowed(tmp_path, "it", False, lambda name: tmp_path).sha256 == ""


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A folder whose code lies in sub-folders, linked ones and hidden ones too."""
    folder = tmp_path / "model"
    texts = {"a.py": "import b", "code/deep/c.py": "C = 1", ".hidden/d.py": "D = 1", "notes.txt": "no code"}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "config.json").write_text('{"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "a.A"}}')
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "e.py").write_text("E = 1")
    (folder / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
    (folder / "code" / "round").symlink_to(folder, target_is_directory=True)
    (folder / "nowhere.py").symlink_to(folder / "absent.py")
    os.mkfifo(folder / "pipe.py")
    return folder


def digest_of(folder: Path) -> str:
    return own_code.allowed(folder, "it", True, lambda name: folder).sha256


def test_the_digest_covers_the_files_of_sub_folders(nested: Path) -> None:
    was = digest_of(nested)
    assert was == digest(
        (".hidden/d.py", "D = 1"), ("a.py", "import b"), ("code/deep/c.py", "C = 1"), ("linked/e.py", "E = 1")
    )
    (nested / "notes.txt").write_text("other notes")
    assert digest_of(nested) == was
    for name in ("code/deep/c.py", ".hidden/d.py", "linked/e.py"):
        before = digest_of(nested)
        (nested / name).write_text("CHANGED = 1")
        assert digest_of(nested) != before, name
    before = digest_of(nested)
    (nested / "code" / "deep" / "c.py").rename(nested / "code" / "c.py")
    assert digest_of(nested) != before


@pytest.mark.parametrize("limit", [{"MOST_FILES": 3}, {"LARGEST_CODE": 20 / 1024**2}])
def test_more_code_than_a_model_brings_is_refused_before_it_is_read(
    nested: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, float]
) -> None:
    for name, value in limit.items():
        monkeypatch.setattr(own_code, name, value)
    with pytest.raises(ModelError) as refused:
        digest_of(nested)
    assert "the folder of it holds more than" in str(refused.value)
    assert "keep only the model's own code there" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_changed_file_of_a_sub_folder_is_another_model(
    save_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto_map` may name a module of a sub-folder, and transformers then imports it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = with_auto_map(save_checkpoint(), {name: f"code/{each}" for name, each in AUTO.items()})
    (folder / "code").mkdir()
    (folder / "code" / "modeling_tiny.py").write_text(CODE)
    opened = []
    for text in (NUMBERS, NUMBERS + "# more\n"):
        (folder / "code" / "numbers_of_tiny.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", OPEN, f"+{folder}"], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        opened.append(json.loads(done.stdout))
    assert [each["class"] for each in opened] == ["Tiny", "Tiny"]
    assert opened[0]["code"] == digest(("code/modeling_tiny.py", CODE), ("code/numbers_of_tiny.py", NUMBERS))
    assert opened[0]["code"] != opened[1]["code"]
    assert opened[0]["identity"] != opened[1]["identity"]


@pytest.mark.parametrize(
    ("name", "commit"),
    [(f"snapshots/{COMMIT}", COMMIT), (COMMIT, ""), ("snapshots/main", "")],
)
def test_the_commit_is_that_of_a_snapshot_of_the_hub(tmp_path: Path, name: str, commit: str) -> None:
    assert own_code.commit_of(tmp_path / name) == commit
