"""What a run was made with and what it was going to ask: the part of the record that says how numbers came about.

`auditkit.record.schema` holds the rest and offers these names as well.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all record types: immutable and strict about unknown fields."""


class Tool(Struct, frozen=True, kw_only=True):
    version: str
    git: str | None
    """Commit of the suites' repository, with "+dirty" when the tree had changes; None outside a repository."""


class Environment(Struct, frozen=True, kw_only=True):
    python: str
    packages: dict[str, str]
    cpu: str
    gpu: str | None
    threads: int
    """Of each process that measured claims."""
    workers: int = 1
    """Processes that measured claims side by side."""


class Plan(Struct, frozen=True, kw_only=True):
    """What was going to be asked, fixed before the first forward pass. The model is no part of it: two models asked
    the same have one plan."""

    claims: dict[str, str]
    """Claim -> SHA-256 of its statement, its code (comments and layout apart) and what its suite shares."""
    thresholds: dict[str, str]
    """Table and key in the file of thresholds -> number and source."""
    data: dict[str, str]
    """Data file -> SHA-256; those of a suite begin with its name, the project's own with "auditkit"."""
    code: dict[str, str]
    """Module that a claim runs through, by its path -> SHA-256 of its code (comments, layout and docstrings apart)."""
    methods: dict[str, tuple[str, ...]]
    """Suite -> the modules among `code` that define what its numbers mean: findings, methods, loaders of data, and the
    project's own modules. The others (engine, adapters, statistics) compute the same numbers in another way."""
    settings: dict[str, str]
    """Seed, items, level of the intervals, number type, adapter."""
    versions: dict[str, str]
    """auditkit, the record's schema and the packages that change numbers."""


class CrossCheck(Struct, frozen=True, kw_only=True):
    """A random sample of the run's edits, measured again through another adapter."""

    adapter: str
    """The other adapter."""
    asked: int
    """How many sites were asked for."""
    offered: int
    """Edits that this process measured, from which the sample was drawn."""
    measured: int
    """How many of the sample were measured again."""
    missing: dict[str, int]
    """Why the other adapter could not make an edit -> how many of the sample."""
    largest: float | None
    """Largest absolute difference of an answer logit; None where nothing was measured again."""
    where: str
    """Site of the largest difference."""
    allowed: float | None
    """The difference that rounding explains."""
    agrees: bool | None
    """None: nothing could be compared, and nothing is vouched for."""
    reason: str
    """Why nothing could be compared; empty where something was."""
    claims_taken_over: int = 0
    """Claims of an interrupted run, measured by another process and so not part of the sample."""


class Recipe(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an effect is computed from rows of items.parquet, so that `auditkit verify` can compute it again."""

    kind: Literal["mean", "change", "rate", "rates", "exact"]
    """A mean or ratio of means; a paired difference from a baseline; a rate; a contrast of rates; an exact value."""
    rows: str
    """`effect` of the rows."""
    log: bool = False
    """The rows are natural logarithms, and the effect is the geometric mean."""
    shift: float = 0.0
    """Number that was subtracted."""
    shown: tuple[str, ...] = ()
    """Conditions of the measurement that the values are made of."""
    compare: Literal["", "ratio", "difference"] = ""
    """How two rates are compared."""
    blocks: bool = False
    """The items are a jackknife's blocks."""
    cross_fitted: bool = False
    """Items were judged by what other items found, so the variance is doubled."""
    undivided: bool = False
    """The effect is no share: a denominator among these rows belongs to a share of the same name."""
    size: int = 0
    """Items of the population of an exact value."""
    refused: str = ""
    """Why the effect has no interval, whatever its values."""


class FineTune(Struct, frozen=True, kw_only=True):
    """A PEFT adapter that was merged into its base. The model's own digest covers both."""

    kind: str
    """peft's type: "LORA", "IA3", ..."""
    sha256: str
    """Of the adapter: its weights, and its config without the place of its base."""
    base: str
    """The base, as one would write it after --model."""
    base_source: str
    """Where the base's weights came from, in words."""
    base_sha256: str


class ModelInfo(Struct, frozen=True, kw_only=True):
    """Which model was measured, and how it was opened."""

    spec: str
    """What the user wrote after --model."""
    name: str
    source: str
    """Where the weights came from: wheel, hub id, directory, GGUF file."""
    weights_sha256: str
    tokenizer_sha256: str
    chat_template_sha256: str | None
    """None: the model has no chat template."""
    prompt_format: str
    """How chats become text: "chat template", or what was done instead."""
    family: str
    """transformers' model_type: "llama", "gemma3_text" ..."""
    parameters: int
    layers: int
    heads: int
    dtype: str
    device: str
    adapter: str
    parity_max_abs: float
    """Largest absolute difference between the adapter's batched logits and those of the plain module run one
    prompt at a time."""
    trust_remote_code: bool = False
    fine_tune: FineTune | None = None
    """None: whole weights were opened."""
    template_date: str | None = None
    """The date that the chat template is shown, ISO 8601; None where it does not read the clock."""
    rendered_sha256: str = ""
    """Of the text that the model's chat template makes of a few fixed chats: two runs with another digest gave their
    models other prompts, though they asked the same."""
    rendered_prompt: str = ""
    """One of these chats as the model reads it: a system turn, a question, and the start of an answer."""
    template_arguments: dict[str, str] = msgspec.field(default_factory=dict)
    """Variable of the chat template -> value as JSON: what the user gave, and what was given to keep thoughts away."""
    context: int | None = None
    """Tokens that the model can read at once, by its config; None where that states no limit."""
    revision: str = ""
    """Commit of the hub's repository; empty for weights from elsewhere."""
    code_sha256: str = ""
    """Of the checkpoint's own code that ran; empty where none did."""
    text_of: str = ""
    """Class of a checkpoint that takes images or sound too, of which the text model was measured; empty for others."""
    identity: dict[str, str] = msgspec.field(default_factory=dict)
    """What decides the model's numbers besides the digests above: part and field, as "config/rms_norm_eps" -> its value
    as JSON, or a SHA-256 of a long one (see `auditkit.record.identity`). Empty: an earlier version made the record."""
