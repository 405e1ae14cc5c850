"""The result of a run: frozen, versioned, and the source of every output.

A run *is* its `audit.json`; the HTML page, the JUnit file, the Markdown summary and the exit code are
projections of it. The types below are that file's schema: one field, one meaning. Reading validates against
them, so a file that does not fit is refused with the path of the field that is wrong, and never half-read.

A number that could not be measured is `None` (JSON `null`) and the reason stands next to it; NaN and infinity
never enter the file.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from auditkit.record.provenance import CrossCheck as CrossCheck
from auditkit.record.provenance import Environment as Environment
from auditkit.record.provenance import FineTune as FineTune
from auditkit.record.provenance import ModelInfo as ModelInfo
from auditkit.record.provenance import Plan as Plan
from auditkit.record.provenance import Recipe as Recipe
from auditkit.record.provenance import Struct as Struct
from auditkit.record.provenance import Tool as Tool

SCHEMA_VERSION = 5


class Verdict(StrEnum):
    """What a claim came to. Every verdict but PASS carries a reason; PASS says what it rests on."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    ERROR = "ERROR"


Relation = Literal[">=", ">", "<=", "<", "within"]
Lack = Literal["behaviour", "capability", "not asked", "skipped", "not measured"]
Ended = Literal["", "undecided", "failed assertion", "not applicable", "not readable", "skipped", "exception"]
FigureKind = Literal["curves", "heatmap", "dots", "table", "sets", "points", "image"]


class Effect(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An estimate with its interval, and the comparison that was asked of it."""

    name: str
    """What was estimated, in words: "recovery by MLP layers 2-6"."""
    estimate: float | None
    """Point estimate in `unit`."""
    lower: float | None
    """Lower end of the two-sided interval at level 1 - `alpha`; None where it has none."""
    upper: float | None
    """Upper end of the same interval."""
    unit: str
    """Unit of estimate, interval and threshold: "logit", "fraction of the total effect", "1" ..."""
    relation: Relation | None
    """How it is compared with `threshold`; "within": the interval lies in ±threshold around 0. None: only shown."""
    threshold: float | None
    """The number compared with, or the equivalence margin."""
    counts_from: float = 0.0
    """The least distance from the threshold that counts: an undecided comparison whose whole interval lies so near to
    it sits at its threshold. 0: any distance counts."""
    alpha: float
    """1 - the level of the interval."""
    spent: float = 1.0
    """Share of the error that it spends, where undecided claims are looked at again with more items."""
    n: int
    """Items measured in every condition that the effect needs."""
    clusters: int
    """Independent clusters behind the interval (the smaller count where two factors are crossed)."""
    standardized: float | None
    """Estimate of the tested contrast divided by the standard deviation of its cluster means."""
    mde: float | None
    """Minimum detectable effect: the distance from the threshold, in `unit`, decided with 80 % power."""
    items_needed: int | None
    """Items that would decide at the present estimate; None where already decided or not computable."""
    items_range: tuple[int, int | None] | None = None
    """The likely range of that number, by the uncertainty of estimate and variance; its end is None: no end."""
    method: str
    """Estimator and interval in words, for the report's methods section."""
    items_assume: str = ""
    """The cluster factors that must grow with the items for `items_needed` to hold: "topic"; "topic and pair", which
    stay crossed; "topic, with as many of pair" where at most half of the combinations are measured."""
    exact: bool = False
    """The items are the whole population: the estimate is compared as it is, and there is no interval."""
    threshold_call: int | None = None
    """Which `threshold()` call of the claim gave the threshold, from 1: its key in a file of thresholds is the claim's
    id and this number. None: the number cannot be replaced from a file."""
    p_fail: float | None = None
    """One-sided p-value of the comparison as a null hypothesis, from the statistic of the interval: small means
    that the effect is on the wrong side. What a family corrects; 0 or 1 for an exact comparison."""
    df: float | None = None
    """Degrees of freedom of that statistic; None: normal, or exact."""
    least: float | None = None
    greatest: float | None = None
    """The ends of the values that the effect can have; None: not known."""
    recipe: Recipe | None = None
    """None: the effect cannot be computed again from the items alone."""


class Control(Struct, frozen=True, kw_only=True):
    """A measurement that must come out the way theory says; without it the claim is not readable."""

    name: str
    effect: Effect | None
    verdict: Verdict | None
    """None: measured and shown beside the claim, judged by the reader."""
    reason: str


class Figure(Struct, frozen=True, kw_only=True):
    """The numbers of a figure; the report draws it."""

    title: str
    kind: FigureKind
    """What `data` holds is said by the type of that kind in `auditkit.record.figures`."""
    data: dict[str, Any]


class Example(Struct, frozen=True, kw_only=True):
    """One measured item, shown so that a reader sees what the numbers are made of."""

    item: str
    """Item id, as in items.parquet."""
    rank: Literal["worst", "median", "best"]
    """Where it stands among the items of the claim, from the claim's point of view."""
    prompts: dict[str, str]
    """Condition -> the exact text given to the model. Empty in a redacted report."""
    values: dict[str, float]
    """Condition -> measured value, in `unit`."""
    unit: str


class FamilyPlace(Struct, frozen=True, kw_only=True):
    """A claim among the claims that are judged together; Holm's correction holds for FAIL alone."""

    name: str
    size: int = 0
    """Claims declared in the family, measured or not; 0 while the run has not ended."""
    p: float | None = None
    """One-sided p-value of "the claim holds"."""
    p_adjusted: float | None = None
    """The same by Holm; FAIL stands where it is at most half of alpha."""
    alone: Verdict | None = None
    """The claim's verdict without its family."""
    alone_reason: str = ""
    of_baseline: bool = False
    """The claim is judged among those that the baseline's family had: claims that were added since do not count."""


class Alternative(Struct, frozen=True, kw_only=True):
    """What the claim would say had its author made one choice in another way that can be defended as well.

    It is shown and decides nothing: it belongs to no family, and no verdict, exit code or gate depends on it.
    """

    choice: str
    """What was chosen: "layers of the band"."""
    own: str
    """What the claim itself chose."""
    other: str
    """What stands in its place here, in words that follow "with"; every other choice is the claim's own."""
    verdict: Verdict
    """By the claim's own rule: same relations, thresholds, level and controls."""
    reason: str
    effects: tuple[Effect, ...] = ()
    """What was compared, the deciding comparison first."""
    controls: tuple[Control, ...] = ()
    """The controls that judge, measured again where they depend on the choice."""
    ended: Ended = ""
    """As of a claim."""


class Cell(Struct, frozen=True, kw_only=True):
    """One site of an exploratory grid."""

    effect: Effect
    p: float
    q: float
    """p adjusted by Benjamini & Hochberg: the smallest false discovery rate at which this is found."""
    found: bool


class Grid(Struct, frozen=True, kw_only=True):
    """An exploratory look over many sites. It decides nothing: what it found is to be confirmed on other items."""

    name: str
    relation: Literal[">", "<", "!="]
    threshold: float
    rate: float
    """False discovery rate (Benjamini & Hochberg): the expected share of false ones among those found."""
    cells: tuple[Cell, ...]


class Cost(Struct, frozen=True, kw_only=True):
    seconds: float
    """Wall-clock time of the claim, including measurements that later claims reuse."""
    token_layers: int
    """Tokens sent through one block each, summed; the engine counts them as it runs."""
    share_of_minimum: float | None
    """Theoretical minimum of token-layers divided by those run (1 is perfect); None where not declared."""


class Change(Struct, frozen=True, kw_only=True):
    """A claim beside the same claim on the baseline: what it came to there, and by how much its effects differ."""

    verdict: Verdict | None
    """The verdict on the baseline; None: the claim was not part of that run."""
    comparable: bool
    """The same was asked in the same way of both. If not, `reason` says what differs, and nothing is subtracted."""
    effects: tuple[Effect, ...]
    """Candidate minus baseline over the same items, paired, for each effect that both measured."""
    reason: str
    """Why nothing, or not everything, could be subtracted; empty where all was."""


class Waiver(Struct, frozen=True, kw_only=True):
    """Somebody's decision that a claim need not block a release until a day."""

    claim: str
    owner: str
    reason: str
    expires: str
    """Last day on which it holds, ISO 8601, UTC."""
    state: Literal["applied", "expired", "not needed", "cannot be waived", "not measured"]
    """"not needed": the claim passed or does not apply. "cannot be waived": the claim is an ERROR. "not measured": it
    was deselected."""


class Claim(Struct, frozen=True, kw_only=True):
    """One claim: what was asserted, what was measured, what follows."""

    id: str
    """Stable identity, independent of file and line: "persona_patching/early_mlps_carry_the_persona"."""
    suite: str
    statement: str
    """The claim in one or two sentences: the test function's docstring."""
    source: str
    """Where the finding comes from: the docstring of the test's file (paper, arXiv number)."""
    verdict: Verdict
    reason: str
    threshold_source: str
    """Where the threshold comes from: suite default, paper, calibration run, policy file."""
    effect: Effect | None
    """The comparison that decided the verdict; None where nothing could be measured."""
    also: tuple[Effect, ...] = ()
    """Further comparisons of the same claim; all of them must hold for PASS."""
    controls: tuple[Control, ...] = ()
    figures: tuple[Figure, ...] = ()
    examples: tuple[Example, ...] = ()
    family: FamilyPlace | None = None
    """The family the claim was declared in; None: judged alone."""
    grids: tuple[Grid, ...] = ()
    """Exploratory grids that were looked over on the way."""
    alternatives: tuple[Alternative, ...] = ()
    """What the claim would say under other choices; empty: its author named none, or an earlier version made the
    record."""
    notes: tuple[str, ...] = ()
    """What a reader must know: items dropped, pairs that could not be built, how prompts were made."""
    cost: Cost
    rerun: str = ""
    """Command that measures this claim again."""
    location: str = ""
    """File and line of its test function, relative to the run's root: "suites/personas/test_where.py:12"."""
    change: Change | None = None
    """None: the run compares with no baseline."""
    waiver: Waiver | None = None
    """The waiver that keeps this claim from blocking; its verdict stays what it is."""
    lack: Lack | None = None
    """What kept the claim from being applied: the model does not show the behaviour, lacks a capability, this run does
    not ask it by design, or its test was skipped. Kept where a baseline that shows the behaviour made it a FAIL.
    "not measured": the baseline has values for the claim and this run did not measure it; it stands here by the
    baseline's record."""
    ended: Ended = ""
    """What ended the test; empty: it came to its end. With the effects and controls it makes the verdict."""
    made_with: dict[str, str] = msgspec.field(default_factory=dict)
    """"threads", and package -> version, of the process that measured the claim: what its numbers depend on besides the
    model and the plan."""
    question: str = ""
    """What the suite asks, in plain words; empty: the suite does not say, or an earlier version made the record."""

    @property
    def compared(self) -> tuple[Effect, ...]:
        """The effects that the claim compares with something, the deciding one first."""
        return tuple(effect for effect in (self.effect, *self.also) if effect is not None)


class Summary(Struct, frozen=True, kw_only=True):
    """Counts of verdicts and the one that stands for the run."""

    verdict: Verdict
    reason: str
    passed: int = msgspec.field(name="pass")
    failed: int = msgspec.field(name="fail")
    inconclusive: int
    not_applicable: int
    error: int
    waived: int
    """How many of the claims above do not block because of a waiver."""


class Untested(Struct, frozen=True, kw_only=True):
    """Something the run did not test, and why. Missing evidence is part of the result."""

    what: str
    reason: str


class Baseline(Struct, frozen=True, kw_only=True):
    """The recorded run that this one is compared with."""

    name: str
    """How it was asked for, in words: the name of a recorded run, its folder, or a model."""
    run: str
    """Name of its run folder."""
    created: str
    audit_sha256: str
    """Digest of its audit.json."""
    plan_sha256: str
    plan_differences: tuple[str, ...]
    """How its plan differs from this run's; empty where the plans are the same."""
    model: ModelInfo
    summary: Summary
    absent: dict[str, Verdict]
    """Claims of the baseline that this run did not measure -> their verdict there."""
    loosened: tuple[str, ...] = ()
    """How this run is easier to pass than the baseline was: a threshold or a waiver in each line."""


class Run(Struct, frozen=True, kw_only=True):
    """One execution: the whole of audit.json."""

    schema_version: int
    created: str
    """UTC, ISO 8601, seconds."""
    seed: int
    profile: Literal["pr", "release"]
    command: tuple[str, ...]
    tool: Tool
    plan: Plan
    plan_sha256: str
    """Digest of `plan`."""
    items_sha256: str
    """Digest of items.parquet, so that a record and items of two runs are not taken for one."""
    model: ModelInfo
    baseline: Baseline | None
    environment: Environment
    summary: Summary
    claims: tuple[Claim, ...]
    untested: tuple[Untested, ...]
    cross_check: CrossCheck | None = None
    """None: not asked for."""
    waivers: tuple[Waiver, ...] = ()
    """Every waiver of the file that was given, with what became of it."""


class ItemRow(Struct, frozen=True, kw_only=True):
    """One measured value: a row of items.parquet."""

    claim: str
    measurement: str
    condition: str
    item: str
    clusters: str
    """Labels of the clusters the item belongs to, as "factor=label" joined by ";"; a backslash stands before one of
    these signs that belongs to a label."""
    value: float | None
    unit: str
    digest: str = ""
    """Of the item's content: its prompts and clusters. The same item has the same digest in every run."""
    effect: str = ""
    """Empty: a measured value. Otherwise the effect that is computed from this value; `unit` is then the effect's, and
    `condition` the part that the value plays: "numerator" or "denominator" of what the claim compares, which runs are
    compared by; other parts, and those of effects beside the claim ("beside numerator"), serve `auditkit verify`."""
