"""The identity of a model: everything that decides its numbers, part by part, and in which parts two models differ.

Equal weights do not make one model: another `rms_norm_eps`, another chat template or another number type gives other
numbers. So wherever two runs must have measured the same model (a run that is continued, shards, a calibration, a
comparison of a model with itself), the whole identity is compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from auditkit.record.schema import ModelInfo

WEIGHTS = "weights"
CONVERTED = "weights as converted"
"""Part: the digest of the files that were made of the source and then read."""

SERVED = "said by the server"
"""Part: what a server says of a model whose weights only it has. It is no digest, and vouches for nothing."""

_NAMED = 4
"""Fields of a part that are named one by one."""


def parts_of(model: ModelInfo) -> dict[str, str]:
    """Part, or part and field as "config/rms_norm_eps" -> SHA-256 or value; a part that the model lacks is left out."""
    tuned = model.fine_tune
    parts = {
        WEIGHTS: tuned.base_sha256 if tuned else model.weights_sha256,
        "PEFT adapter": tuned.sha256 if tuned else "",
        "own code": model.code_sha256,
        "tokenizer": model.tokenizer_sha256,
        "chat template": model.chat_template_sha256 or "",
        "dtype": model.dtype,
        "adapter": model.adapter,
        **model.identity,
    }
    return {name: value for name, value in parts.items() if value}


def model_digest(model: ModelInfo) -> str:
    """SHA-256 over all parts of a model's identity."""
    return hashlib.sha256(json.dumps(parts_of(model), sort_keys=True).encode()).hexdigest()


def differing_parts(was: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The parts in which two identities differ, with the fields: "weights", "config (rms_norm_eps, rope_theta)"."""
    fields: dict[str, list[str]] = {}
    for name in {**was, **now}:
        if was.get(name) != now.get(name):
            part, _, inside = name.partition("/")
            fields.setdefault(part, []).extend([inside] if inside else [])
    return tuple(part if not inside else f"{part} ({_listed(inside)})" for part, inside in fields.items())


def differences_of(was: ModelInfo, now: ModelInfo) -> tuple[str, ...]:
    """The parts in which two models differ, as far as both records hold them; see `is_known`."""
    both = [parts_of(model) for model in (was, now)]
    if not (was.identity and now.identity):
        told = {
            name for parts, model in zip(both, (was, now), strict=True) for name in parts.keys() - model.identity
        }
        both = [{name: value for name, value in parts.items() if name in told} for parts in both]
    if not has_digest(was, now):  # weights of which only one has a digest may be the same
        both = [{name: value for name, value in parts.items() if name != WEIGHTS} for parts in both]
    return differing_parts(*both)


def is_known(*models: ModelInfo) -> bool:
    """Whether the records hold the whole identity. Those of earlier versions lack configs, and those of models that
    only a server has lack a digest of the weights, so models that agree in all that is recorded may differ all the
    same."""
    return has_digest(*models) and all(model.identity for model in models)


def has_digest(*models: ModelInfo) -> bool:
    """Whether the weights that ran have a digest. A server that runs a model states none."""
    return all(model.weights_sha256 for model in models)


def unknown_in_words(*models: ModelInfo) -> str:
    """Why it is not known whether models whose records agree are one, where `is_known` says that it is not."""
    if not has_digest(*models):
        return "the server that ran the weights states no digest of them"
    return "a record does not hold its config"


def compared_in_words(was: ModelInfo, now: ModelInfo) -> str:
    """In which parts a baseline's model and a candidate differ, or that they are one model, or that it is not known."""
    parts = differences_of(was, now)
    if not has_digest(was, now):
        agree = (
            f"the models differ in: {'; '.join(parts)}" if parts else "the models agree in all that is recorded"
        )
        return f"{agree}, and whether their weights are the same is not known, since {unknown_in_words(was, now)}"
    if parts:
        return f"the models differ in: {'; '.join(parts)}"
    if not is_known(was, now):
        return (
            f"the weights are the same (SHA-256 {now.weights_sha256[:12]}), and whether the configs are is not known, "
            "since a record does not hold them"
        )
    return f"the models are the same in every part (identity {model_digest(now)[:12]})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
