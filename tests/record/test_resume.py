"""What an interrupted run says of its model before another process goes on with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from auditkit.record.journal import Header
from auditkit.record.resume import Interrupted
from auditkit.record.store import RecordError

pytestmark = pytest.mark.unit


def test_a_run_on_weights_without_a_digest_is_not_continued() -> None:
    known = Header(plan_sha256="ab", model_sha256="cd", seed=7, created="2025", model={"weights": "ef"})
    Interrupted(Path("run"), known, ()).require_same(known)
    served = msgspec.structs.replace(known, model={"said by the server/repository": "owner/tiny"})
    with pytest.raises(
        RecordError, match="whether the weights are still the same is not known, since their server"
    ):
        Interrupted(Path("run"), served, ()).require_same(served)
