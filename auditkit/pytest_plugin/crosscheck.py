"""`--cross-check N`: a sample of the measured sites, measured again through the other adapter at the end."""

from __future__ import annotations

from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.registry import DEFAULT_ADAPTER, adapter_factory
from auditkit.claims.outcomes import NotReadable
from auditkit.engine.crosscheck import cross_check
from auditkit.engine.sampling import Sample
from auditkit.record.schema import CrossCheck, ModelInfo


def other_than(adapter: str) -> str:
    """The adapter that vouches for this one."""
    return "nnterp" if adapter == DEFAULT_ADAPTER else DEFAULT_ADAPTER


def cross_checked(
    loaded: Loaded, info: ModelInfo, sample: Sample, other: str, taken_over: int, stopped: bool
) -> CrossCheck:
    """The sample measured again on the same weights; whatever prevents that is the record's reason.

    Args:
        info: the model as the audit opened it.
        other: name of the adapter to measure with.
        taken_over: claims that were not measured by this process.
        stopped: the session was stopped, so nothing more is measured.
    """
    result, reason = None, ""
    if stopped:
        reason = "the run was stopped"
    elif not sample.kept:
        reason = "this run restored no activations at any site"
    else:
        try:
            adapter = adapter_factory(other)(loaded)
            result = cross_check(adapter, sample.kept, info.parity_max_abs)
        except (ModelError, NotReadable) as error:
            reason = str(error)
    if result is not None and result.agrees is None:
        reason = "the other adapter can make none of the sampled edits on this model"
    return CrossCheck(
        adapter=other,
        asked=sample.size,
        offered=sample.offered,
        measured=result.measured if result else 0,
        missing=result.missing if result else {},
        largest=result.largest if result else None,
        where=result.where if result else "",
        allowed=result.allowed if result else None,
        agrees=result.agrees if result else None,
        reason=reason,
        claims_taken_over=taken_over,
    )
