"""What a run says of weights that nobody can identify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from auditkit.adapters.errors import ModelError
from auditkit.adapters.protocol import Support
from auditkit.pytest_plugin.resume import go_on
from auditkit.pytest_plugin.run import WrittenRun, require_digest, unasked
from auditkit.record.schema import Run, Untested

pytestmark = pytest.mark.unit


def test_weights_without_a_digest_are_named_as_untested(a_run: Run) -> None:
    support = {"z": Support(False, "no heads"), "mlp": Support(True)}
    assert list(unasked(support, a_run.model)) == [Untested(what="z", reason="no heads")]
    served = msgspec.structs.replace(a_run.model, weights_sha256="", source="a server")
    assert list(unasked({}, served)) == [
        Untested(
            what="identity of the weights",
            reason="no digest of them is known (a server), so other weights may have run, and may have changed during "
            "the run, without a sign",
        )
    ]


def test_a_run_on_them_that_is_cut_off_names_no_command_to_go_on(a_run: Run) -> None:
    served = msgspec.structs.replace(a_run, model=msgspec.structs.replace(a_run.model, weights_sha256=""))
    cut = WrittenRun("m", served, Path("reports/x"), 11, "", cut_off=True)
    options: Any = None  # not asked
    assert list(go_on(["suite"], options, [cut], True)) == [
        "reports/x cannot be resumed: its weights have no digest, so they may have changed by then"
    ]


def test_a_release_is_not_gated_on_them(a_run: Run) -> None:
    served = msgspec.structs.replace(a_run.model, weights_sha256="")
    for model, profile in ((a_run.model, "release"), (served, "pr")):
        require_digest(model, profile)
    with pytest.raises(
        ModelError, match="a release gate vouches for the weights that it measured, and those of m have"
    ):
        require_digest(served, "release")
