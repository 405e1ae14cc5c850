"""Margins of claims that compare with a baseline: from two runs of one model on other items, and from fine-tunes."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from auditkit.cli import main
from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit


def with_a_margin(audits: Any) -> None:
    """Let the margin of the paired claim be one that a file can replace."""
    file = audits.suite / "test_finding.py"
    file.write_text(
        file.read_text()
        .replace("def test_kept(estimate, baseline)", "def test_kept(estimate, baseline, threshold)")
        .replace("by=0.3", "by=threshold(0.3)")
    )


def test_margins_come_from_two_runs_and_the_gate_reads_them(
    audits: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with_a_margin(audits)
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


def test_margins_come_from_harmless_fine_tunes_and_the_gate_reads_them(
    audits: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with_a_margin(audits)
    audits("--seed", "0")
    base, tuned = audits.folder, []

    def gate(name: str, shift: float, *args: str) -> None:
        config = audits.copy(name) / "config.json"
        config.write_text(
            config.read_text().replace('"rms_norm_eps": 1e-06', f'"rms_norm_eps": {1e-6 * (1 - shift)}')
        )
        audits.plant(shift=shift)
        audits("--seed", "0", "--baseline", str(base), *args, model=audits.path / name)

    for shift in (-0.1, -0.12, -0.14):
        gate(f"tuned{shift}", shift)
        tuned.append(str(audits.folder))
    margins = audits.path / "margins.toml"
    assert main(["calibrate", tuned[0], "--benign", *tuned[1:], "--out", str(margins)]) == 0
    written = tomllib.loads(margins.read_text())
    assert "a further fine-tune of the same kind" in written["calibration"]["rule"]
    (table,) = written["family"].values()
    half = audits.claim("kept").effect.estimate - audits.claim("kept").effect.lower
    assert table["suite/kept"]["threshold"] == pytest.approx(
        0.12 + 4.3027 * 0.02 * (4 / 3) ** 0.5 + half, rel=0.03
    )
    audits.plant(shift=0.0)
    audits("--seed", "0", "--thresholds", str(margins))
    base = audits.folder
    for shift, verdict in ((-0.15, Verdict.PASS), (-0.5, Verdict.FAIL)):
        gate(f"tuned{shift}", shift, "--thresholds", str(margins))
        assert audits.claim("kept").verdict is verdict
    capsys.readouterr()
    for args, words in (
        (["--benign", tuned[1]], "2 runs of harmless fine-tunes say too little"),
        (["--benign", tuned[1], str(base)], "compares with no baseline"),
        (["--benign", tuned[1], "--against", str(base)], "give --against or --benign"),
    ):
        assert main(["calibrate", tuned[0], *args]) == 4
        printed = capsys.readouterr()
        assert words in printed.err
        assert len(printed.err.splitlines()) == 1
