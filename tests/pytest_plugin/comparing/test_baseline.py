"""`--baseline`: item by item against a recorded run, and never subtracted where the two are not comparable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from days import in_days
from following import write_again
from scipy import stats

from auditkit.record.baseline import set_name
from auditkit.record.identity import model_digest
from auditkit.record.manifest import record_digest
from auditkit.record.schema import Cost, Verdict
from auditkit.record.store import AUDIT_JSON, ITEMS_PARQUET, read_items, read_run

pytestmark = pytest.mark.unit

NO_COST = Cost(seconds=0, token_layers=0, share_of_minimum=None)


# -- comparing -------------------------------------------------------------------------------------------------


def test_effects_are_compared_in_pairs_with_the_interval_of_their_clusters(audits: Any, recorded: Path) -> None:
    audits.plant(shift=-0.2)
    result = audits("--baseline", str(recorded), "-v")
    assert result.ret == 0
    difference = audits.difference(-0.2)
    means = difference.reshape(5, 12).mean(axis=0)
    low, high = stats.t.interval(0.95, 11, means.mean(), stats.sem(means))
    (effect,) = audits.claim("once").change.effects
    assert (effect.estimate, effect.lower, effect.upper) == pytest.approx((difference.mean(), low, high), rel=1e-9)
    assert (effect.n, effect.clusters, effect.unit) == (60, 12, "logit")
    change = audits.claim("once").change
    assert (change.verdict, change.comparable, change.reason) == (Verdict.PASS, True, "")
    run = audits.run
    assert (run.baseline.run, run.baseline.plan_differences, run.baseline.absent) == (recorded.name, (), {})
    assert run.baseline.summary.verdict is Verdict.PASS
    result.stdout.fnmatch_lines(["*since baseline: lower: effect minus the baseline: *", "baseline *"])
    page, summary = ((audits.folder / name).read_text() for name in ("audit.html", "summary.md"))
    assert "Changes since baseline" in page
    assert "effect minus the baseline" in page
    assert "### Changes since baseline" in summary
    assert "change.1.estimate" in (audits.folder / "junit.xml").read_text()


def test_shares_are_compared_though_each_run_has_its_own_total(audits: Any, recorded: Path) -> None:
    """The difference of two ratios of means; its standard error is the delta method's, from a plain loop."""
    audits.plant(shift=-0.2)
    audits("--baseline", str(recorded))
    (effect,) = audits.claim("share").change.effects
    noise = np.random.default_rng(0).normal(0, 0.4, 60)
    was = (1 + noise - noise.mean(), 2 + 0.1 * np.cos(np.arange(60.0)))
    now = (was[0] + audits.difference(-0.2), was[1] - 0.2)
    ratios = [top.mean() / bottom.mean() for top, bottom in (now, was)]
    parts = [
        (top - ratio * bottom) / bottom.mean() for (top, bottom), ratio in zip((now, was), ratios, strict=True)
    ]
    means = (parts[0] - parts[1]).reshape(5, 12).mean(axis=0)
    half = stats.t.ppf(0.975, 11) * stats.sem(means)
    centre = ratios[0] - ratios[1]
    assert (effect.estimate, effect.lower, effect.upper) == pytest.approx((centre, centre - half, centre + half))


def test_a_claim_that_asks_for_the_baseline_does_not_apply_without_one(audits: Any, recorded: Path) -> None:
    assert audits.claim("kept").verdict is Verdict.NOT_APPLICABLE
    assert "no baseline to compare with (--baseline)" in audits.claim("kept").reason
    items = read_items(recorded)
    assert len(items[(items["claim"] == "suite/kept") & (items["effect"] == "kept")]) == 60


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-0.2, Verdict.PASS), (-0.5, Verdict.FAIL), (-0.3, Verdict.INCONCLUSIVE)]
)
def test_a_claim_is_decided_by_the_paired_difference(
    audits: Any, recorded: Path, shift: float, verdict: Verdict
) -> None:
    audits.plant(shift=shift)
    audits("--baseline", str(recorded), "-k", "kept")
    kept = audits.claim("kept")
    assert kept.verdict is verdict
    assert kept.effect.estimate == pytest.approx(audits.difference(shift).mean())
    assert [effect.estimate for effect in kept.change.effects] == [pytest.approx(kept.effect.estimate)]


def test_the_same_model_again_is_undecided_and_said_to_be_the_same(audits: Any, recorded: Path) -> None:
    result = audits("--baseline", str(recorded), "--profile", "release")
    assert result.ret == 10
    digest = model_digest(audits.run.model)[:12]
    same = f"the models are the same in every part (identity {digest})"
    for name in ("once", "share", "kept"):
        change = audits.claim(name).change
        assert change.comparable
        assert (change.effects[0].estimate, change.effects[0].lower) == (0.0, None)
        assert "identical: candidate and baseline have the same value on every item" in change.reason
    kept = audits.claim("kept")
    assert (kept.verdict, kept.effect.n, kept.effect.clusters) == (Verdict.INCONCLUSIVE, 60, 12)
    assert f"and {same}: the model was compared with itself" in kept.reason
    result.stdout.fnmatch_lines([f"*{same}: this run compares a model with itself"])


def test_another_model_that_comes_to_the_same_values_is_said_to_be_another(audits: Any, recorded: Path) -> None:
    document = json.loads((recorded / AUDIT_JSON).read_text())
    document["model"]["weights_sha256"] = "0" * 64
    document["model"]["identity"]["config/rms_norm_eps"] = "1"
    write_again(recorded, document)
    result = audits("--baseline", str(recorded), "-k", "kept")
    said = "though the models differ in: weights; config (rms_norm_eps): did the change take effect?"
    assert said in audits.claim("kept").reason
    result.stdout.no_fnmatch_line("*compares a model with itself*")
    document["model"]["weights_sha256"], document["model"]["identity"] = audits.run.model.weights_sha256, {}
    write_again(recorded, document)  # as an earlier version wrote it
    result = audits("--baseline", str(recorded), "-k", "kept")
    assert "whether the configs are is not known" in audits.claim("kept").reason
    result.stdout.fnmatch_lines(["*whether the configs are is not known*: the baseline may be the model itself"])
    result.stdout.no_fnmatch_line("*compares a model with itself*")


def test_a_candidate_run_can_be_the_next_baseline(audits: Any, recorded: Path) -> None:
    audits.plant(shift=-0.2)
    audits("--baseline", str(recorded))
    audits.plant(shift=-0.4)
    audits("--baseline", "reports/latest")
    (effect,) = audits.claim("kept").change.effects
    assert effect.estimate == pytest.approx(-0.2)
    assert audits.run.baseline.plan_differences == ()


# -- not comparable --------------------------------------------------------------------------------------------


def other_statement(audits: Any) -> list[str]:
    text = (audits.suite / "test_finding.py").read_text()
    (audits.suite / "test_finding.py").write_text(text.replace("Is above a limit", "Is far above a limit"))
    return []


def other_shared_code(audits: Any) -> list[str]:
    (audits.suite / "helper.py").write_text("LIMIT = 3\n")
    return []


def other_method(audits: Any) -> list[str]:
    """The method that the suite's fixtures import has changed since the baseline was recorded."""
    document = json.loads((audits.folder / AUDIT_JSON).read_text())
    assert "auditkit/data/order.py" in document["plan"]["methods"]["suite"]
    document["plan"]["code"]["auditkit/data/order.py"] = "0" * 64
    write_again(audits.folder, document)
    return []


def other_data(audits: Any) -> list[str]:
    (audits.suite / "questions.csv").write_text("question\nwhy?\n")
    return []


def other_prompts(audits: Any) -> list[str]:
    audits.plant(shift=-0.2, prompt="tell")
    return []


def fewer_items(audits: Any) -> list[str]:
    audits.plant(shift=-0.2, items=48)
    return []


def other_threshold(audits: Any) -> list[str]:
    (audits.path / "limits.toml").write_text('[default]\n"suite/once" = { threshold = 0.4 }')
    return ["--thresholds", "limits.toml"]


@pytest.mark.parametrize(
    ("change", "reason", "plan"),
    [
        (other_statement, "statement or code, or what its suite shares, has changed", "claims changed (*suite/once"),
        (other_shared_code, "statement or code, or what its suite shares, has changed", "claims changed (*"),
        (other_method, "other code of the methods it calls: auditkit/data/order.py",
         "method auditkit/data/order.py has other code"),
        (other_data, "other data: suite/questions.csv", "data file suite/questions.csv is new"),
        (other_prompts, "unmatched_content: 60 of 60 items have other prompts", None),
        (fewer_items, "unmatched_items: 0 of 48 items have no partner in the baseline, and 12 of its 60", None),
        (other_threshold, "other threshold: 'effect' > 0.5 there, > 0.4 here", "threshold [[]default] suite/once#1 *"),
        (lambda audits: ["--seed", "1"], "seed: 0 there, 1 here", "seed was 0, is 1"),
        (lambda audits: ["--items", "9"], "items: None there, 9 here", "items was None, is 9"),
    ],
)  # fmt: skip
def test_what_is_not_comparable_is_said_and_never_subtracted(
    audits: Any, recorded: Path, change: Callable[[Any], list[str]], reason: str, plan: str | None
) -> None:
    audits.plant(shift=-0.2)
    result = audits("--baseline", str(recorded), *change(audits))
    once = audits.claim("once")
    assert once.change.effects == ()
    assert not once.change.comparable
    assert reason in once.change.reason
    differences = audits.run.baseline.plan_differences
    assert bool(differences) == (plan is not None)
    if plan is not None:
        result.stdout.fnmatch_lines([f"  the plan differs: {plan}"])
    assert "not comparable" in (audits.folder / "audit.html").read_text()
    assert "not comparable: " in (audits.folder / "summary.md").read_text()
    assert audits.run.untested[-1].what == "changes since the baseline"
    if change is not other_statement and change is not other_threshold:
        kept = audits.claim("kept")
        assert kept.verdict is Verdict.INCONCLUSIVE, "asked for a baseline, given one, and no evidence"
        assert kept.effect.estimate is None or "unmatched_items" in kept.reason


def test_tidying_a_suite_or_adding_a_claim_keeps_its_past(audits: Any, recorded: Path) -> None:
    file = audits.suite / "test_finding.py"
    text = (
        file.read_text()
        .replace("assert estimate() >", "assert (estimate()  >")
        .replace("(0.5)\n", "(0.5))  # yes\n")
    )
    file.write_text(text + '\ndef test_new(estimate):\n    """Is new."""\n    assert estimate() > 0\n')
    audits.plant(shift=-0.2)
    audits("--baseline", str(recorded), "-k", "not share")
    assert audits.claim("once").change.comparable
    new = audits.claim("new").change
    assert (new.verdict, new.comparable, new.reason) == (None, False, "the baseline holds no such claim")
    assert audits.run.baseline.absent == {"suite/share": Verdict.PASS}
    assert audits.run.baseline.plan_differences == ("claims added: suite/new", "claims left out: suite/share")


def test_numbers_of_another_auditkit_are_not_subtracted(audits: Any, recorded: Path) -> None:
    document = json.loads((recorded / AUDIT_JSON).read_text())
    document["plan"]["versions"]["auditkit"] = "0.0.9"
    write_again(recorded, document)
    audits("--baseline", str(recorded), "-k", "once")
    assert "measured by auditkit 0.0.9 there" in audits.claim("once").change.reason
    assert "version of auditkit was 0.0.9, is " in audits.run.baseline.plan_differences[-1]


def test_an_error_has_no_number_to_compare(audits: Any, recorded: Path) -> None:
    document = json.loads((recorded / AUDIT_JSON).read_text())
    document["claims"][0] |= {"verdict": "ERROR", "reason": "a guard tripped", "ended": "exception"}
    write_again(recorded, document)
    audits.plant(shift=-0.2)
    audits("--baseline", str(recorded))
    change = audits.claim("once").change
    assert (change.verdict, change.effects) == (Verdict.ERROR, ())
    assert "a guard tripped" in change.reason


# -- a baseline that cannot be used ----------------------------------------------------------------------------


def no_items(folder: Path) -> None:
    (folder / ITEMS_PARQUET).unlink()


def other_items(folder: Path) -> None:
    shutil.copy(folder / ITEMS_PARQUET, folder / "kept")
    (folder / ITEMS_PARQUET).write_bytes((folder / "kept").read_bytes() + b" ")


def cut_record(folder: Path) -> None:
    (folder / AUDIT_JSON).write_bytes((folder / AUDIT_JSON).read_bytes()[:500])


def other_schema(folder: Path) -> None:
    document = json.loads((folder / AUDIT_JSON).read_text())
    (folder / AUDIT_JSON).write_text(json.dumps(document | {"schema_version": 1}))


def unfinished(folder: Path) -> None:
    (folder / AUDIT_JSON).unlink()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (no_items, "*cannot read the items in *items.parquet: No such file*"),
        (other_items, "*items.parquet is not the file that audit.json was written with*"),
        (cut_record, "*audit.json is not a whole audit record*"),
        (other_schema, "*audit.json has schema version 1; this auditkit reads version*"),
        (unfinished, "*no baseline in *: the folder holds no audit.json*"),
    ],
)
def test_a_damaged_baseline_ends_the_run_with_11_before_anything_is_measured(
    audits: Any, recorded: Path, damage: Callable[[Path], None], line: str
) -> None:
    damage(recorded)
    before = audits.folders()
    result = audits("--baseline", str(recorded))
    assert result.ret == 11
    said = (text for text in (*result.outlines, *result.errlines) if not text.startswith("rootdir"))
    lines = [text for text in said if "baseline" in text or "audit.json" in text]
    assert len(lines) == 1
    result.stdout.fnmatch_lines([f"!* {line}"])
    assert audits.folders() == before


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("reports/20200101T000000Z-gone", 11, "*no baseline reports/20200101T000000Z-gone: there is no such run*"),
        ("releesed", 4, "ERROR: --baseline: no recorded run, and unknown model 'releesed'*"),
        ("suite", 11, "*no baseline in suite: the folder holds no audit.json*"),
        (
            f"reports/latest#{'ab' * 32}",
            11,
            "*is not the record that was asked for (*, asked for abababababab)*",
        ),
        ("reports/latest#abab", 11, "*behind # stands the SHA-256 of a recorded run, 64 hexadecimal digits*"),
        (f"smollm2-135m#{'ab' * 32}", 11, "*no baseline smollm2-135m: only a recorded run has a SHA-256*"),
    ],
)
def test_a_baseline_that_is_not_there_is_one_line(
    audits: Any, recorded: Path, text: str, code: int, line: str
) -> None:
    result = audits("--audit-baseline", text)
    assert result.ret == code
    (result.stdout if code == 11 else result.stderr).fnmatch_lines([line])
    assert audits.folders() == {recorded.name}


def test_a_named_run_that_changed_is_refused(audits: Any, recorded: Path) -> None:
    set_name(audits.path / "reports", "released", recorded)
    audits("--baseline", "released", "-k", "once")
    assert audits.run.baseline.name == "released"
    (recorded / AUDIT_JSON).write_bytes((recorded / AUDIT_JSON).read_bytes() + b"\n")
    result = audits("--baseline", "released")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*baseline 'released': *audit.json has changed since it was named*"])


def test_a_baseline_is_pinned_by_the_digest_of_its_record(audits: Any, recorded: Path) -> None:
    """By its folder, and by its name; the report names it without the digest."""
    set_name(audits.path / "reports", "released", recorded)
    digest = record_digest(recorded)
    for text, name in ((str(recorded), recorded.name), ("released", "released")):
        audits("--baseline", f"{text}#{digest}", "-k", "once")
        assert audits.run.baseline.name == name
        assert audits.run.baseline.audit_sha256 == digest


# -- a model as the baseline -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_is_measured_first_and_all_are_recorded_runs(audits: Any) -> None:
    """The baseline is measured once, by the same command, however many candidates there are."""
    base, near, far = (audits.copy(name) for name in ("base", "near", "far"))
    audits.plant(base={"shift": 0.0}, near={"shift": -0.2}, far={"shift": -0.5})
    result = audits("--model", str(far), "--baseline", str(base), "-k", "once or kept", model=near)
    assert result.ret == 1
    assert sum(line.startswith("measuring the baseline ") for line in result.outlines) == 1
    result.stdout.fnmatch_lines(
        ["measuring the baseline *base first", "*suite/test_finding.py*", "opening *near", "opening *far"]
    )
    folders = {read_run(audits.path / "reports" / name).model.name: name for name in audits.folders()}
    assert len(audits.folders()) == 3
    runs = {name: read_run(audits.path / "reports" / folder) for name, folder in folders.items()}
    assert runs["base"].baseline is None
    assert "--audit-as-baseline" in runs["base"].command
    for name, shift, verdict in (("near", -0.2, Verdict.PASS), ("far", -0.5, Verdict.FAIL)):
        run = runs[name]
        assert (run.baseline.run, run.baseline.model.name) == (folders["base"], "base")
        assert run.baseline.plan_sha256 == run.plan_sha256, "the same was asked of all"
        claims = {claim.id: claim for claim in run.claims}
        assert claims["suite/kept"].verdict is verdict
        (effect,) = claims["suite/once"].change.effects
        assert effect.estimate == pytest.approx(audits.difference(shift).mean())
    assert [path.name for path in (audits.path / "reports").iterdir() if path.name.startswith(".")] == []
    # A candidate's run, cut off and continued, takes the baseline that is recorded already.
    run, whole = runs["near"], audits.path / "reports" / folders["near"]
    end = (whole / "journal.jsonl").read_bytes().index(b"\n") + 1
    cut = whole.parent / "20990101T000000Z-cut"
    cut.mkdir()
    (cut / "journal.jsonl").write_bytes((whole / "journal.jsonl").read_bytes()[:end])
    result = audits("--baseline", str(base), "-k", "once or kept", "--resume", model=near)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*measuring the baseline*")
    assert audits.folder == cut
    assert [msgspec.structs.replace(c, cost=NO_COST) for c in audits.run.claims] == [
        msgspec.structs.replace(c, cost=NO_COST) for c in run.claims
    ]


def test_a_baseline_model_that_cannot_be_measured_ends_with_11(audits: Any) -> None:
    broken = audits.copy("broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    result = audits("--baseline", str(broken), "-k", "once")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*the baseline *broken could not be measured (pytest ended with 4: *"])
    assert audits.folders() == set()


@pytest.mark.slow
def test_several_models_are_each_compared_serially_and_by_workers(audits: Any, recorded: Path) -> None:
    """Two candidates against one recorded run, with a waiver: in one process, and with a worker for each."""
    near, far = audits.copy("near"), audits.copy("far")
    audits.plant(shift=0.0, near={"shift": -0.2}, far={"shift": -0.5})
    (audits.path / "waivers.toml").write_text(
        f'[[waiver]]\nclaim = "suite/kept"\nowner = "Jane"\nreason = "known"\nexpires = {in_days(30)}\n'
    )
    args = ("--model", str(far), "--baseline", str(recorded), "--waivers", "waivers.toml", "-k", "kept or share")
    before, found = audits.folders(), []
    for more in ((), ("-n", "2")):
        result = audits(*args, *more, model=near)
        assert result.ret == 0, "the worse of the two is waived"
        result.assert_outcomes(passed=3)
        result.stdout.fnmatch_lines(
            ["*claims by model*", "near * far *", "PASS * FAIL * suite/kept", "*1 waived*"]
        )
        runs = {
            r.model.name: r for r in (read_run(audits.path / "reports" / f) for f in audits.folders() - before)
        }
        before = audits.folders()
        assert {run.baseline.run for run in runs.values()} == {recorded.name}
        for name, shift, verdict in (("near", -0.2, Verdict.PASS), ("far", -0.5, Verdict.FAIL)):
            claims = {claim.id: claim for claim in runs[name].claims}
            (effect,) = claims["suite/kept"].change.effects
            assert effect.estimate == pytest.approx(audits.difference(shift).mean())
            assert claims["suite/kept"].verdict is verdict
            assert (claims["suite/kept"].waiver is None) == (verdict is Verdict.PASS)
            assert claims["suite/share"].change.comparable
        found.append({n: [msgspec.structs.replace(c, cost=NO_COST) for c in r.claims] for n, r in runs.items()})
    assert found[0] == found[1]
    assert runs["far"].environment.workers == 2
