"""Every claim on the small real model by itself, by the command that its report names, in a process of its own."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from audits import audit as audited
from recorded import said

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.record.store import read_run

pytestmark = pytest.mark.slow


def test_every_claim_alone_says_what_it_says_in_the_whole_suite(tmp_path: Path) -> None:
    """It takes about half an hour: each claim opens the model and measures what others had measured for it."""
    whole = read_run(audited(tmp_path / "whole", "suites/", "--model", DEFAULT_MODEL, "--items", "6"))
    different = []
    for number, claim in enumerate(whole.claims):
        _, *command = shlex.split(claim.rerun)
        (alone,) = read_run(audited(tmp_path / str(number), *command)).claims
        if said(alone) != said(claim):
            different.append(claim.id)
    assert not different
