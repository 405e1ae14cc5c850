"""What a run cannot ask of a model, and cannot say of it: entries of the record's list of what was not tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from auditkit.adapters.errors import ModelError
from auditkit.adapters.protocol import Support
from auditkit.record.identity import has_digest
from auditkit.record.schema import ModelInfo, Untested

IDENTITY = "identity of the weights"


def unasked(support: Mapping[str, Support], info: ModelInfo) -> Iterator[Untested]:
    """What the adapter refuses on this model, and whether it is known which weights ran."""
    for name, offered in support.items():
        if not offered:
            yield Untested(what=str(name), reason=offered.reason)
    if not has_digest(info):
        reason = (
            f"no digest of them is known ({info.source}), so other weights may have run, and may have changed during "
            "the run, without a sign"
        )
        yield Untested(what=IDENTITY, reason=reason)


def require_digest(info: ModelInfo, profile: str) -> None:
    """Refuse a release gate on weights that nobody can identify.

    Raises:
        ModelError: the weights have no digest, and the profile is that of a release.
    """
    if profile == "release" and not has_digest(info):
        raise ModelError(
            f"--profile release: a release gate vouches for the weights that it measured, and those of {info.name} "
            "have no digest; give --profile pr, or measure the weights themselves with --adapter hf"
        )
