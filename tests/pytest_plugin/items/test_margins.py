"""Margins of claims that compare with a baseline, calibrated from two recorded runs of one model on other items."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from auditkit.cli import main
from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit


def test_margins_come_from_two_runs_and_the_gate_reads_them(
    audits: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = audits.suite / "test_finding.py"
    file.write_text(
        file.read_text()
        .replace("def test_kept(estimate, baseline)", "def test_kept(estimate, baseline, threshold)")
        .replace("by=0.3", "by=threshold(0.3)")
    )
    audits("--seed", "0")
    first = audits.folder
    assert main(["calibrate", str(first)]) == 0
    assert "compares with a baseline, and this run has none" in capsys.readouterr().out
    audits("--seed", "1", "--baseline", str(first))
    assert audits.claim("kept").verdict is Verdict.INCONCLUSIVE
    assert audits.claim("kept").effect.threshold_call == 1
    margins = audits.path / "margins.toml"
    command = ["calibrate", str(audits.folder), "--against", str(first), "--out", str(margins)]
    assert main(command) == 0
    (table,) = tomllib.loads(margins.read_text())["family"].values()
    margin = table["suite/kept"]["threshold"]
    assert 0.1 < margin < 0.5  # the interval of one run is ±0.08, that of two runs' difference 0.11
    audits("--seed", "0", "--thresholds", str(margins))
    again = audits.folder
    audits.plant(shift=-0.02)
    audits("--seed", "0", "--thresholds", str(margins), "--baseline", str(again))
    kept = audits.claim("kept")
    assert (kept.verdict, kept.effect.threshold) == (Verdict.PASS, -margin)
    capsys.readouterr()
    for against, words in ((again, "both run with --seed 0"), ("nobody", "no recorded run nobody")):
        assert main(["calibrate", str(first), "--against", str(against)]) == 4
        printed = capsys.readouterr()
        assert words in printed.err
        assert len(printed.err.splitlines()) == 1
