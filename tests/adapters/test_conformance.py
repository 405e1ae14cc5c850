"""The conformance suite on both adapters and every family, and the table in the docs that is made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import SkipTest

import listed
import pytest
import torch
from listed import TABLE, agrees, made_with, same_versions

from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.nnterp import NnterpAdapter
from auditkit.adapters.protocol import Component, Support
from auditkit.testing.conformance import CHECKS, CheckResult, Conformance, example_pairs, example_prompts

pytestmark = pytest.mark.unit

ADAPTERS = ("hf", "nnterp")

Report = tuple[list[CheckResult], dict[str, Support]] | str
"""Findings and support of an adapter on a family, or why it does not open."""


@pytest.fixture(scope="session")
def report(
    open_family: Callable[[str], HFAdapter], open_nnterp: Callable[[str], NnterpAdapter]
) -> Callable[[str, str], Report]:
    """(family, adapter) -> its report, measured once per session."""
    made: dict[tuple[str, str], Report] = {}

    def once(family: str, name: str) -> Report:
        if (family, name) not in made:
            try:
                adapter: Any = {"hf": open_family, "nnterp": open_nnterp}[name](family)
            except ModelError as error:
                made[family, name] = str(error)
            else:
                prompts = example_prompts(adapter)
                findings = [check(adapter, prompts) for check in CHECKS.values()]
                made[family, name] = (findings, {str(key): value for key, value in adapter.support().items()})
        return made[family, name]

    return once


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_check_is_green_or_refused_with_a_reason(
    family: str, name: str, report: Callable[[str, str], Report]
) -> None:
    found = report(family, name)
    if isinstance(found, str):
        agrees((family, name), ("biogpt", "nnterp"), f"{name} does not open {family}: {found}")
        return
    for finding in found[0]:
        assert finding.outcome == "green" or (finding.outcome == "refused" and finding.reason), finding
        needed = {
            "sweep = one at a time": "blockwise",
            "tap = eager": "pattern",
            "cached = uncached": "generation",
        }
        if finding.check in needed:
            assert (finding.outcome == "green") == bool(found[1][needed[finding.check]])
        else:
            assert finding.outcome == "green", finding


def test_the_table_in_the_docs_is_what_the_checks_find(
    report: Callable[[str, str], Report], families: Sequence[str], pytestconfig: pytest.Config
) -> None:
    text = table({(family, name): report(family, name) for name in ADAPTERS for family in families})
    if pytestconfig.getoption("write_conformance"):
        TABLE.write_text(text)
    if same_versions():
        assert TABLE.read_text() == text, "the table is out of date; run: make conformance"
    before, now = cells(TABLE.read_text()), cells(text)
    for place in sorted(before.keys() | now.keys()):
        agrees(now.get(place, "absent"), before.get(place, "absent"), ", ".join(place))


def test_under_other_versions_a_changed_family_is_told_and_does_not_fail(
    report: Callable[[str, str], Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = table({(family, "hf"): report(family, "hf") for family in ("llama", "bloom")})
    page = tmp_path / "conformance.md"
    monkeypatch.setattr(listed, "TABLE", page)
    page.write_text(text)
    assert listed.same_versions()
    with pytest.raises(AssertionError, match="pattern of bloom: True, written down is False"):
        agrees(True, False, "pattern of bloom")
    page.write_text(text.replace("transformers ", "transformers 1."))
    assert not listed.same_versions()
    with pytest.warns(listed.ConformanceChanged, match="pattern of bloom: True, written down is False"):
        agrees(True, False, "pattern of bloom")
    assert cells(text)["hf: what is offered", "bloom", "pattern"] == "no"
    assert cells(text)["hf: what is offered", "llama", "pattern"] == "yes"


def cells(text: str) -> dict[tuple[str, str, str], str]:
    """(section, family, column) -> "yes" or "no", as the page says it."""
    found: dict[tuple[str, str, str], str] = {}
    section, columns = "", []
    for line in text.splitlines():
        parts = [part.strip() for part in line.strip("|").split("|")]
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| family"):
            columns = parts[1:]
        elif line.startswith("| "):
            for column, part in zip(columns, parts[1:], strict=True):
                found[section, parts[0], column] = "yes" if part == "✓" else "no"
    return found


def table(reports: Mapping[tuple[str, str], Report]) -> str:
    """docs/conformance.md: what each family passes and offers, with the reasons for what it does not."""
    reasons: dict[str, int] = {}

    def cell(fine: bool, reason: str) -> str:
        return "✓" if fine else f"[{reasons.setdefault(reason, len(reasons) + 1)}]"

    lines = [
        "# Conformance",
        "",
        "Made by `make conformance` from the checks of `auditkit.testing.conformance` on a tiny random checkpoint of",
        "each family (float32, CPU, chat prompts of unequal length); a test compares this page with what they find.",
        "✓: the check holds, or the component can be read and replaced. A number: refused, for the reason below.",
        "Under other versions of these libraries a family may offer more or less; `make canary` says what changed.",
        "",
        made_with(),
    ]
    for name in ADAPTERS:
        mine = {family: found for (family, adapter), found in reports.items() if adapter == name}
        for what, columns in (
            ("checks", list(CHECKS)),
            ("what is offered", [*Component, "blockwise", "swaps", "generation", "gradients"]),
        ):
            lines += [
                "",
                f"## {name}: {what}",
                "",
                f"| family | {' | '.join(columns)} |",
                "|---" * (len(columns) + 1) + "|",
            ]
            for family, found in mine.items():
                if isinstance(found, str):
                    cells = [cell(False, found)] * len(columns)
                elif what == "checks":
                    cells = [cell(finding.outcome == "green", finding.reason) for finding in found[0]]
                else:
                    offers = [found[1].get(column, found[1]["blockwise"]) for column in columns]
                    cells = [cell(bool(offer), offer.reason) for offer in offers]
                lines.append(f"| {family} | {' | '.join(cells)} |")
    lines += ["", "## Reasons", ""]
    lines += [f"{number}. {' '.join(reason.split())}" for reason, number in reasons.items()]
    return "\n".join(lines) + "\n"


# -- the checks find what is wrong -----------------------------------------------------------------------------


class Tampered:
    """The adapter with one fault planted."""

    def __init__(self, adapter: HFAdapter, **faults: Any) -> None:
        self._adapter, self._faults = adapter, faults

    def __getattr__(self, name: str) -> Any:
        return self._faults.get(name, getattr(self._adapter, name))


def found(adapter: Any, name: str) -> CheckResult:
    return CHECKS[name](adapter, example_prompts(adapter))


def test_padding_that_counts_as_tokens_is_found(llama: HFAdapter) -> None:
    def attended(prompts: Any) -> Any:
        batch = llama.batch(prompts)
        return replace(batch, mask=torch.ones_like(batch.mask))

    broken = Tampered(llama, batch=attended)
    for name in ("batched = single", "padding changes nothing", "right padding = left padding"):
        finding = found(broken, name)
        assert finding.outcome == "failed", name
        assert "rounding explains" in finding.reason
        assert finding.difference > 1e-3


def test_a_touch_that_fires_twice_or_never_is_found(llama: HFAdapter) -> None:
    def twice(batch: Any, touches: Any = None) -> Any:
        llama.run(batch, touches)
        return llama.run(batch, touches)

    finding = found(Tampered(llama, run=twice), "every touch fires once")
    assert (finding.outcome, finding.difference) == ("failed", None)
    assert finding.reason.endswith("fired 2 times")
    finding = found(Tampered(llama, run=lambda batch, touches=None: llama.run(batch)), "every touch fires once")
    assert finding.reason.endswith("fired 0 times")


def test_edits_that_are_dropped_or_altered_are_found(llama: HFAdapter) -> None:
    def reading(batch: Any, touches: Any = None) -> Any:
        def see(touch: Any) -> Any:
            def only(value: Any) -> None:
                touch(value)

            return only

        return llama.run(batch, {place: see(touch) for place, touch in (touches or {}).items()})

    broken = Tampered(llama, run=reading)
    assert found(broken, "full patch").outcome == "failed"
    assert "changes no logit" in found(broken, "declared = works").reason
    assert "full patch misses" in found(broken, "patched = raw hooks").reason

    def altered(batch: Any, touches: Any = None) -> Any:
        logits = llama.run(batch, touches)
        return logits + 0.01 if touches else logits

    assert found(Tampered(llama, run=altered), "identity edit").reason.startswith("the logits differs by 0.01")


def test_a_capability_that_does_not_work_or_has_no_reason_is_found(llama: HFAdapter) -> None:
    support = llama.support()
    for changed, reason in (
        ({Component.MLP: Support(False, "no")}, "mlp of layer 0 is not there, and asking for it is no ValueError"),
        ({Component.MLP: Support(False, "")}, "mlp is refused without a reason"),
    ):
        finding = found(Tampered(llama, support=lambda c=changed: {**support, **c}), "declared = works")
        assert finding.outcome == "failed"
        assert finding.reason.startswith(reason)


def test_a_sweep_that_is_wrong_is_found(llama: HFAdapter) -> None:
    def off(*args: Any) -> Any:
        return llama.restart(*args) + 0.0001 * torch.arange(2)

    assert found(Tampered(llama, restart=off), "sweep = one at a time").outcome == "failed"


def test_without_a_module_there_is_nothing_to_compare_with(llama: HFAdapter) -> None:
    finding = found(Tampered(llama, module=None), "patched = raw hooks")
    assert (finding.outcome, finding.reason) == ("refused", "the adapter shows no module to compare with")


def test_example_pairs_differ_in_one_token(llama: HFAdapter) -> None:
    prompts = example_prompts(llama)
    assert len({len(prompt) for prompt in prompts}) == 3
    for pair in example_pairs(prompts):
        assert [a == b for a, b in zip(pair.base.ids, pair.source.ids, strict=True)].count(False) == 1
        assert len(set(pair.answers)) == 2


# -- as another package uses it --------------------------------------------------------------------------------


class TestSubclassed(Conformance):
    """The class itself, as the docs show it."""

    @pytest.fixture
    def adapter(self, llama: HFAdapter) -> HFAdapter:
        return llama


def test_the_class_has_a_method_for_every_check_and_says_what_failed(llama: HFAdapter) -> None:
    methods = [name for name in vars(Conformance) if name.startswith("test_")]
    assert methods == [f"test_{check.__name__}" for check in CHECKS.values()]
    dropping = Tampered(llama, run=lambda batch, touches=None: llama.run(batch))
    with pytest.raises(AssertionError, match=r"every touch fires once: the touch at .* fired 0 times"):
        Conformance().test_every_touch_fires_once(dropping)
    with pytest.raises(SkipTest, match="the adapter shows no module"):
        Conformance().test_patched_is_raw_hooks(Tampered(llama, module=None))
