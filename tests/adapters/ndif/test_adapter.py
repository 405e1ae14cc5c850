"""The adapter for NDIF servers: it agrees with the first one, and does what the conformance kit asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ndif import Ndif

from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.hf.touches import keep
from auditkit.adapters.ndif.adapter import OFFERED, NdifAdapter
from auditkit.adapters.protocol import Capability, Component, Place, Touch
from auditkit.engine.crosscheck import allowed_difference
from auditkit.engine.edits import Edited, add, project_out, replace
from auditkit.engine.forward import capture, donate, execute
from auditkit.engine.sites import residual
from auditkit.testing.conformance import Conformance, example_prompts

pytestmark = pytest.mark.unit


class TestConformance(Conformance):
    @pytest.fixture
    def adapter(self, remote: NdifAdapter) -> NdifAdapter:
        return remote


def close(remote: NdifAdapter, got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.shape == expected.shape
    allowed = allowed_difference(float(expected.abs().max()), remote.info.dtype, remote.info.parity_max_abs)
    assert float((got.float() - expected.float()).abs().max()) <= allowed


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_reads_edits_and_logits_are_those_of_the_first_adapter(
    kind: str, open_remote: Callable[[str], NdifAdapter], open_family: Callable[[str], HFAdapter]
) -> None:
    remote, plain = open_remote(kind), open_family(kind)
    prompts, rows = example_prompts(plain), slice(None)
    places = [(component, layer) for component in OFFERED for layer in range(plain.layers)]
    ours, theirs = (capture(one, one.batch(prompts), places) for one in (remote, plain))
    close(remote, ours[0], theirs[0])
    for place in places:
        for row, pad in enumerate(plain.batch(prompts).pads):  # what stands at padding means nothing
            close(remote, ours[1][place][row, pad:], theirs[1][place][row, pad:])
    vector = torch.randn(plain.width, generator=torch.Generator().manual_seed(0))
    other = Prompt("", tuple(reversed(prompts[0].ids)))
    edits = [
        (replace(residual.layer(0)[-2], other), add(residual.layer(2)[-1], vector, 2.0)),
        (project_out(residual.everywhere(), vector),),
    ]
    for some in edits:
        runs = [Edited(prompts[0], some)]
        ours, theirs = (
            execute(one, runs, donate(one, runs, 512), [(Component.RESIDUAL, 2)]) for one in (remote, plain)
        )
        close(remote, ours[0], theirs[0])
        close(remote, ours[1][Component.RESIDUAL, 2][rows], theirs[1][Component.RESIDUAL, 2][rows])


def test_a_job_more_for_each_layer_that_is_changed(remote: NdifAdapter) -> None:
    batch = remote.batch(example_prompts(remote))
    seen: dict[Place, torch.Tensor] = {}
    reads: dict[Place, Touch] = {
        (Component.RESIDUAL, layer): keep(seen, (Component.RESIDUAL, layer)) for layer in range(3)
    }

    def jobs(touches: dict[Place, Touch]) -> int:
        before, counted = remote.jobs, remote.meter.token_layers
        remote.run(batch, touches)
        assert remote.meter.token_layers - counted == int(batch.mask.sum()) * remote.layers
        return remote.jobs - before

    assert jobs(reads) == 1
    assert jobs(reads | {(Component.RESIDUAL, 1): lambda value: value * 2}) == 2
    assert jobs(dict.fromkeys(reads, lambda value: value * 2)) == 4
    assert (
        jobs(dict.fromkeys(reads, lambda value: value.clone())) == 2
    )  # what is written back is sent all the same


def test_what_a_touch_raises_arrives_as_it_is(remote: NdifAdapter) -> None:
    def touch(value: torch.Tensor) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        remote.run(remote.batch(example_prompts(remote)), {(Component.RESIDUAL, 0): touch})


def test_what_is_not_offered_has_a_reason(remote: NdifAdapter) -> None:
    refused = {name: offered.reason for name, offered in remote.support().items() if not offered}
    assert refused.keys() == {*Component, *Capability} - {*OFFERED}
    assert refused[Component.PATTERN] == (
        "through an NDIF server auditkit reads and replaces the residual stream before and after whole blocks only"
    )
    assert all(refused.values())


def test_the_record_has_the_servers_word_and_no_digest(remote: NdifAdapter, server: Ndif) -> None:
    info = remote.info
    host = server.address.removeprefix("http://")
    assert (info.weights_sha256, info.revision, info.device) == ("", "", f"NDIF server {host}")
    assert info.source == (
        f"NDIF server {host}, which names repository owner/tiny at no stated revision and no digest of its weights"
    )
    said = {name: value for name, value in info.identity.items() if name.startswith("said by the server/")}
    assert said == {
        "said by the server/host": host,
        "said by the server/repository": "owner/tiny",
        "said by the server/revision": "none stated",
        "said by the server/torch": "9.9.9",
    }


def test_no_other_adapter_takes_a_model_without_weights(led: Ndif) -> None:
    from auditkit.adapters.ndif.opening import load

    with pytest.raises(ModelError, match=r"the weights are not here but on a server: NDIF server 127\.0\.0\.1"):
        HFAdapter(load("owner/tiny"))


def test_a_model_that_is_loaded_here_is_not_this_adapters(tiny_llama: object) -> None:
    from auditkit.adapters.loading.load import load

    with pytest.raises(ModelError, match="the adapter ndif opens models by their hub id"):
        NdifAdapter(load(str(tiny_llama), device="cpu"))
