"""A hub that serves a tiny checkpoint and a data set on this machine, and a fresh process that opens them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from auditkit.adapters.loading.quiet import quiet

pytestmark = pytest.mark.unit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEVER = ("pytorch_model.bin", "consolidated.safetensors", "onnx/config.json", "evil.py")

OPEN = """
import json, sys, torch
torch.set_num_threads(1)
from auditkit.adapters import open_model
from auditkit.adapters.errors import ModelError
from auditkit.data.sources import DataError, read_questions
for spec in sys.argv[1:]:
    try:
        if "questions" in spec or "nothing" in spec:
            print(json.dumps({"ids": [item.id for item in read_questions(spec).kept]}))
            continue
        info = open_model(spec, device="cpu").info
        print(json.dumps({"source": info.source, "name": info.name, "layers": info.layers}))
    except (ModelError, DataError) as error:
        print(json.dumps({"error": str(error)}))
"""

ROW = "Which of these is a bird?,heron,otter,pike,newt,A\n"
DATA = {
    name: ROW.encode()
    for name in ("data/test/birds_test.csv", "data/test/fishes_test.csv", "data/dev/birds_dev.csv")
}


@dataclass
class Hub:
    """Just enough of the hub: what a repository holds, and its files."""

    files: dict[str, bytes]
    data: dict[str, bytes]
    adapter: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        path, files = path.split("?")[0], self.files
        for asked, alike in (("/api/datasets/owner/questions", "/api/models/owner/tiny"), ("/datasets/", "/")):
            if path.startswith(asked):
                path, files = path.replace(asked, alike, 1).replace("owner/questions", "owner/tiny"), self.data
        if path.startswith(("/api/models/owner/lora", "/owner/lora/")):
            path, files = path.replace("owner/lora", "owner/tiny", 1), self.adapter
        if path.startswith(("/api/models/owner/gated", "/owner/gated/")):
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        if path.startswith("/api/models/owner/tiny/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": self.etag(data)}
                for name, data in files.items()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
        if path.startswith("/api/models/owner/tiny"):
            siblings = [{"rfilename": name} for name in files]
            body = {"id": "owner/tiny", "modelId": "owner/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        name = path.removeprefix("/owner/tiny/resolve/").partition("/")[2]
        if path.startswith("/owner/tiny/resolve/") and name in files:
            data = files[name]
            return 200, {"ETag": f'"{self.etag(data)}"', "X-Repo-Commit": COMMIT}, data
        if path.startswith("/owner/tiny/"):
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"

    @staticmethod
    def etag(data: bytes) -> str:
        return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def serve(hub: Hub) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass
class Story:
    """What a first process saw with the hub up, and a second one with the hub gone."""

    requests: list[str]
    up: dict[str, dict[str, Any]]
    gone: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, make_module: Callable[[str], Any], make_tokenizer: Callable[..., Any]
) -> Story:
    folder, home = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("home")
    make_module("llama").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    tuned = tmp_path_factory.mktemp("adapter")
    with quiet():
        config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(make_module("llama"), config).save_pretrained(tuned)
    wrote = tuned / "adapter_config.json"
    wrote.write_text(json.dumps({**json.loads(wrote.read_text()), "base_model_name_or_path": "owner/tiny"}))
    whole, adapter = ({file.name: file.read_bytes() for file in place.iterdir()} for place in (folder, tuned))
    hub = Hub(whole | dict.fromkeys(NEVER, b"never"), DATA, adapter | dict.fromkeys(NEVER, b"never"))
    server = serve(hub)
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()
    }
    environment = kept | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}",
        "HF_HOME": str(home / "hf"),
        "AUDITKIT_CACHE": str(home / "auditkit"),
    }

    def opened(*specs: str) -> dict[str, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-c", OPEN, *specs], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return dict(zip(specs, map(json.loads, done.stdout.splitlines()), strict=True))

    try:
        up = opened(
            *("owner/tiny", "owner/lora", "owner/none", "owner/gated", "owner/bad--name"),
            *("owner/questions", "owner/questions#brids", "owner/nothing"),
        )
    finally:
        server.shutdown()
        server.server_close()
    requests = list(hub.requests)
    return Story(
        requests,
        up,
        opened("owner/tiny", "owner/lora", "owner/other", "owner/questions#fishes", "other/questions"),
    )


def test_a_hub_id_opens(story: Story) -> None:
    assert story.up["owner/tiny"] == {"source": "hub owner/tiny", "name": "tiny", "layers": 3}


def test_what_was_fetched_once_opens_with_the_hub_gone(story: Story) -> None:
    assert story.gone["owner/tiny"] == story.up["owner/tiny"]


def test_an_adapter_on_the_hub_is_merged_into_its_base_on_the_hub(story: Story) -> None:
    source = "hub owner/lora, a LORA adapter merged into hub owner/tiny"
    assert story.up["owner/lora"] == {"source": source, "name": "lora", "layers": 3}
    assert story.gone["owner/lora"] == story.up["owner/lora"]


@pytest.mark.parametrize("name", NEVER)
def test_pickles_copies_exports_and_code_are_never_fetched(story: Story, name: str) -> None:
    resolved = [request for request in story.requests if "/resolve/" in request]
    assert any("model.safetensors" in request for request in resolved)
    assert not [request for request in resolved if request.split("?")[0].endswith(f"/{name}")]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("owner/none", "the hub has no model 'owner/none' (or it is private and needs 'hf auth login')"),
        ("owner/gated", "owner/gated is gated on the hub: accept its licence there, then log in"),
        ("owner/bad--name", "'owner/bad--name' is no hub id: "),
    ],
)
def test_what_the_hub_does_not_give_is_said_in_one_line(story: Story, spec: str, words: str) -> None:
    assert story.up[spec]["error"].startswith(words)
    assert len(story.up[spec]["error"].splitlines()) == 1


def test_an_unreachable_hub_is_said_in_one_line(story: Story) -> None:
    message = story.gone["owner/other"]["error"]
    assert message.startswith("cannot fetch owner/other from the hub (")
    assert message.endswith("connect to a network, or give a local directory or .gguf file with --model")
    assert len(message.splitlines()) == 1


def test_the_test_split_of_a_data_set_is_read_and_nothing_else_fetched(story: Story) -> None:
    assert story.up["owner/questions"] == {"ids": ["birds-1", "fishes-1"]}
    fetched = {
        request.split("/resolve/")[1].partition("/")[2]
        for request in story.requests
        if "/questions/resolve/" in request
    }
    assert fetched == {"data/test/birds_test.csv", "data/test/fishes_test.csv"}


def test_a_data_set_that_was_fetched_once_is_read_with_the_hub_gone(story: Story) -> None:
    assert story.gone["owner/questions#fishes"] == {"ids": ["fishes-1"]}


def test_data_that_the_hub_does_not_give_are_said_in_one_line(story: Story) -> None:
    for told, words in (
        (story.up["owner/questions#brids"], "no subject 'brids' among the 2 of the data: did you mean birds?"),
        (story.up["owner/nothing"], "owner/nothing is no file or folder here, and the hub has no such data set"),
        (story.gone["other/questions"], "cannot fetch the data set other/questions from the hub ("),
    ):
        assert told["error"].startswith(words)
        assert len(told["error"].splitlines()) == 1
