"""Which model of a server is opened, and what is refused before any job."""

from __future__ import annotations

from typing import Any

import pytest
from ndif import REPOSITORY, Ndif

from auditkit.adapters.errors import ModelError
from auditkit.adapters.ndif.opening import load

pytestmark = pytest.mark.unit


def listed(server: Ndif, *changes: dict[str, Any]) -> None:
    """Let the server list its model once for each change of its entry."""
    entry = server.status["deployments"]["one"]
    entries = {str(n): entry | change for n, change in enumerate(changes)}
    server.instead["/status"] = lambda handler: handler.json({"deployments": entries})


def key(repository: str, revision: str = "null") -> dict[str, str]:
    named = f'{{"repo_id": "{repository}", "revision": {revision}}}'
    return {"model_key": f"nnsight.modeling.language.LanguageModel:{named}"}


def test_a_module_without_weights_stands_for_the_model(led: Ndif) -> None:
    led.revision = "v2"
    opened = load(REPOSITORY)
    assert all(parameter.is_meta for parameter in opened.module.parameters())
    assert (opened.weights_sha256, opened.revision, opened.name) == ("", "", "tiny")
    assert "names repository owner/tiny at v2 and no digest of its weights" in opened.source
    assert opened.identity["said by the server/revision"] == "v2"
    assert opened.identity["config/num_hidden_layers"] == "3"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([key("a/one"), key("b/two")], "has no model owner/tiny; it runs a/one, b/two$"),
        ([key(f"a/m{n}") for n in range(10)], "it runs a/m0, .*, a/m7 and 2 more$"),
        (
            [{"application_state": "DEPLOYING"}],
            r"does not run owner/tiny now \(state DEPLOYING\); try again later",
        ),
        ([{}, key(REPOSITORY, '"v2"')], "runs several revisions of owner/tiny, .*: one without a name, v2$"),
        ([{"model_key": "nnsight.modeling.vlm.VisionLanguageModel:{}"}, {"model_key": 3}], "it runs none$"),
    ],
)
def test_a_model_that_the_server_does_not_run(led: Ndif, changes: list[dict[str, Any]], said: str) -> None:
    listed(led, *changes)
    with pytest.raises(ModelError, match=said):
        load(REPOSITORY)


def test_a_key_that_the_server_does_not_know(led: Ndif, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_API_KEY", "another")
    with pytest.raises(ModelError, match="refuses the API key; give one that it knows in NDIF_API_KEY"):
        load(REPOSITORY)


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (REPOSITORY, {"dtype": "float16"}, "--dtype float16: the server decides it"),
        (REPOSITORY, {"device": "cuda"}, "--device cuda: the server decides it"),
        (REPOSITORY, {"trust_remote_code": True}, "a model with its own code is not opened with --adapter ndif"),
        (".", {}, "is on this machine, and --adapter ndif measures models of the hub"),
    ],
)
def test_what_a_server_decides_is_not_asked_for(
    spec: str, options: dict[str, Any], said: str, led: Ndif, tiny_llama: object
) -> None:
    with pytest.raises(ModelError, match=said):
        load(str(tiny_llama) if spec == "." else spec, **options)


def test_a_server_that_is_not_there(led: Ndif, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_HOST", "http://127.0.0.1:9")
    with pytest.raises(
        ModelError, match=r"the NDIF server 127\.0\.0\.1:9 does not answer \(ConnectError: .*NDIF_HOST"
    ):
        load(REPOSITORY)
