"""The terminal at the end of a run: the sentence that answers, a table, and what needs a human; with `-v` all of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hostile import HOSTILE, replace_text
from msgspec.structs import replace

from auditkit.pytest_plugin import settings, terminal
from auditkit.record.plan import UNREACHED
from auditkit.record.schema import Change, Claim, FamilyPlace, Run, Verdict, Waiver
from auditkit.report.terminal import MOST_NEEDED

pytestmark = pytest.mark.unit

PASS, FAIL, INCONCLUSIVE, NOT_APPLICABLE, ERROR = Verdict
EFFECT = (
    "recovery: 0.5 [0.4, 0.6] of the total effect, to be ≥ 0.3, n=20, clusters=10, minimum detectable effect 0.1"
)
SHOW = "      auditkit show reports/run --claim suite/claim0"
RERUN = "      pytest suites/suite::test_claim0 --model m"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


class Reporter:
    """Keeps what a terminal reporter is told to write."""

    def __init__(self, verbosity: int, *args: str, tbstyle: str = "auto", **stats: list[Any]) -> None:
        self.verbosity, self.text, self.hasmarkup, self.stats = verbosity, "", False, stats
        option = SimpleNamespace(tbstyle=tbstyle, verbose=verbosity)
        self.config = SimpleNamespace(option=option, invocation_params=SimpleNamespace(args=args))

    def ensure_newline(self) -> None: ...

    def section(self, title: str) -> None:
        self.text += f"== {title}\n"

    def write(self, text: str, **markup: bool) -> None:
        self.text += text

    def write_line(self, line: str, **markup: bool) -> None:
        self.text += f"{line}\n"


def written(run: Run, verbosity: int = 0, cut_off: bool = False) -> list[str]:
    reporter = Reporter(verbosity)
    folder = Path("reports/run")
    audited = SimpleNamespace(record=run, folder=folder, remark="", record_sha256="ab12", cut_off=cut_off)
    terminal.summarize(cast(Any, reporter), cast(Any, audited))
    return reporter.text.splitlines()


def attention(lines: list[str]) -> list[str]:
    """The lines of what needs a human, without the heading."""
    return lines[lines.index("Needs attention") + 1 : lines.index("", lines.index("Needs attention"))]


def asked(run: Run, **fields: Any) -> Run:
    """The run with its first claim changed, under the profile `pr` unless another is given."""
    profile = fields.pop("profile", "pr")
    first = replace(run.claims[0], **{"rerun": RERUN.strip()} | fields)
    return replace(run, profile=profile, claims=(first, *run.claims[1:]))


def waiver(state: Any) -> Waiver:
    return Waiver(claim="suite/claim0", owner="Jane", reason="ticket 12", expires="2999-12-31", state=state)


def before(verdict: Verdict) -> Change:
    return Change(verdict=verdict, comparable=True, effects=(), reason="")


def test_a_run_that_needs_nobody_is_the_sentence_and_a_table(a_run: Run) -> None:
    assert written(a_run) == [
        "== audit of m", "Of 2 checks of this model by itself 2 pass.", "", "suite  answer  pass",
        "suite  passes     2", "", "verdict: PASS (2 of 2 claims passed)", "report: reports/run/audit.html",
        "record: SHA-256 ab12",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"verdict": FAIL}, ["FAIL  ", "recovery: 0.5 [0.4, 0.6] of the total effect, to be ≥ 0.3", SHOW]),
        ({"verdict": FAIL, "effect": None, "reason": "why\nnot"}, ["FAIL  ", "why not", SHOW]),
        ({"verdict": ERROR, "reason": "it broke"}, ["ERROR  ", "it broke", RERUN]),
        (
            {"verdict": INCONCLUSIVE, "reason": "too few", "profile": "release"},
            ["INCONCLUSIVE  ", "too few", SHOW],
        ),
        (
            {"verdict": FAIL, "reason": "the baseline shows it", "lack": "behaviour", "change": before(PASS)},
            ["FAIL  ", "the baseline shows it (PASS on the baseline)", SHOW],
        ),
        (
            {"verdict": INCONCLUSIVE, "reason": "too few", "change": before(PASS)},
            ["INCONCLUSIVE  ", "too few (PASS on the baseline)", SHOW],
        ),
        (
            {"verdict": INCONCLUSIVE, "family": FamilyPlace(name="f", size=3, alone=FAIL)},
            [
                "INCONCLUSIVE  ",
                "pytest showed it as F, and so does its own --junitxml: alone it failed, and whether that can",
                "      be chance is known only at the end",
                SHOW,
            ],
        ),
        ({"verdict": ERROR, "reason": "\x1b[31mred"}, ["ERROR  ", "\N{REPLACEMENT CHARACTER}[31mred", RERUN]),
    ],
)
def test_a_claim_that_needs_a_human_has_its_reason_and_the_command_that_goes_on(
    a_run: Run, fields: dict[str, Any], lines: list[str]
) -> None:
    word, reason, *rest = lines
    assert attention(written(asked(a_run, **fields))) == [f"{word}suite/claim0", f"      {reason}", *rest]


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({"verdict": INCONCLUSIVE}, ["pass", "undecided"]),
        ({"verdict": NOT_APPLICABLE}, ["pass", "not applicable"]),
        ({"verdict": FAIL, "waiver": "applied"}, ["pass", "waived"]),
        ({"verdict": NOT_APPLICABLE, "change": NOT_APPLICABLE}, ["pass", "not applicable"]),
        ({"verdict": NOT_APPLICABLE, "lack": "not asked", "reason": "by design"}, ["pass", "not asked"]),
    ],
)
def test_a_claim_that_blocks_nothing_is_counted(a_run: Run, fields: dict[str, Any], counted: list[str]) -> None:
    fields = dict(fields)
    if "waiver" in fields:
        fields["waiver"] = waiver(fields["waiver"])
    if "change" in fields:
        fields["change"] = before(fields["change"])
    run = asked(a_run, **fields)
    assert "Needs attention" not in written(run)
    assert re.split(r"\s{2,}", written(run)[3])[2:] == counted
    assert written(run)[4].split()[-2:] == ["1", "1"]


def test_undecided_claims_and_claims_without_a_baseline_are_a_line_each_with_its_command(a_run: Run) -> None:
    base = "there is no baseline to compare with (--baseline)"
    one = replace(
        a_run.claims[0], verdict=NOT_APPLICABLE, lack="not asked", reason=base, location="suites/s/t.py:1"
    )
    many = tuple(replace(one, id=f"suite/base{i}") for i in range(16))
    open_ = replace(a_run.claims[0], id="suite/open", verdict=INCONCLUSIVE)
    lines = written(replace(a_run, claims=(*a_run.claims, *many, open_)))
    assert sum("base" in line for line in lines) == 3, "the column, the sentence and its command"
    place = lines.index("16 claims compare this model with a base, and the run was given none.")
    assert lines[place + 1 : place + 4] == [
        "      pytest suites/s --model m --baseline BASE",
        "1 claim is undecided. What would decide them:",
        "      auditkit plan reports/run",
    ]


def test_claims_that_one_fault_has_stopped_stand_together(a_run: Run) -> None:
    broken = tuple(
        replace(a_run.claims[0], id=f"suite/c{i}", verdict=ERROR, reason="no disk", rerun=f"pytest c{i}")
        for i in range(5)
    )
    assert attention(written(replace(a_run, claims=broken))) == [
        "ERROR  suite/c0, suite/c1 and 3 more", "      no disk", "      pytest c0",
    ]  # fmt: skip


def test_of_many_claims_that_fail_the_first_are_shown_and_the_rest_named(a_run: Run) -> None:
    failed = tuple(replace(a_run.claims[0], id=f"suite/c{i}", verdict=FAIL) for i in range(MOST_NEEDED + 3))
    run = replace(a_run, claims=failed)
    lines = attention(written(run))
    assert sum(line.startswith("FAIL") for line in lines) == MOST_NEEDED
    assert lines[-1] == "      and 3 more (-v shows each): suite/c10, suite/c11, suite/c12"
    assert sum(line.startswith("FAIL  ") for line in attention(written(run, verbosity=1))) == MOST_NEEDED + 3


def test_an_interrupted_run_says_how_far_it_came(a_run: Run) -> None:
    run = asked(a_run, verdict=ERROR, reason=UNREACHED, effect=None)
    lines = written(run, cut_off=True)
    assert lines[1] == "This run was cut off: 1 of 2 claims were measured."
    assert attention(lines) == ["ERROR  suite/claim0", f"      {UNREACHED}"], "the session says how to go on"


@pytest.mark.parametrize("columns", ["40", "72", "100", "300"])
def test_sentences_and_tables_fit_the_terminal(a_run: Run, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    claims = tuple(
        replace(
            a_run.claims[0], id=f"a_suite_with_a_long_name_{i}/c{i}", suite=f"a_suite_with_a_long_name_{i}",
            verdict=verdict, reason="a long reason " * 20, lack=lack,
        )
        for i, (verdict, lack) in enumerate([(v, None) for v in Verdict] + [(NOT_APPLICABLE, "not asked")])
    )  # fmt: skip
    lines = written(replace(a_run, claims=claims))
    commands = ("      auditkit", "      pytest", "verdict: ")  # not broken, so that they can be copied
    longest = max(len(line) for line in lines if not line.startswith(commands))
    assert longest <= min(100, int(columns))
    assert any(line.startswith("suite  ") for line in lines) is (columns in ("100", "300"))
    for suite in {claim.suite for claim in claims}:
        assert sum(suite in line for line in lines if "/" not in line) == 1


def test_q_leaves_out_the_table_and_reasons_and_qq_what_needs_a_human(a_run: Run) -> None:
    run = asked(a_run, verdict=FAIL)
    sentence = "Of 2 checks of this model by itself 1 fails and 1 passes."
    assert written(run, -1)[:5] == ["== audit of m", sentence, "", "Needs attention", "FAIL  suite/claim0"]
    assert written(run, -2)[:4] == ["== audit of m", sentence, "", "verdict: PASS (2 of 2 claims passed)"]


@pytest.mark.parametrize("state", ["expired", "not needed", "cannot be waived", "not measured"])
def test_a_waiver_that_is_not_applied_has_a_line(a_run: Run, state: str) -> None:
    lines = written(replace(a_run, waivers=(waiver(state),)))
    assert sum(line.startswith("waiver of suite/claim0 by Jane: ") for line in lines) == 1


def test_an_applied_waiver_has_a_line_with_v_only(a_run: Run) -> None:
    run = replace(a_run, waivers=(waiver("applied"),))
    said = "waiver of suite/claim0 by Jane: waived until 2999-12-31; ticket 12"
    assert (said in written(run), said in written(run, verbosity=1)) == (False, True)


def test_with_v_every_claim_is_shown_with_its_evidence(a_run: Run) -> None:
    run = asked(a_run, verdict=FAIL, reason="the interval lies below 0.7")
    indent, lines = " " * 16, written(run, verbosity=1)
    start = lines.index("FAIL            suite/claim0")
    assert lines[start : start + 5] == [
        "FAIL            suite/claim0", f"{indent}{EFFECT}", f"{indent}the interval lies below 0.7",
        "PASS            suite/claim1", f"{indent}{EFFECT}",
    ]  # fmt: skip


def test_models_with_long_names_are_numbered_so_that_the_table_fits(a_run: Run) -> None:
    runs = [
        replace(asked(a_run, verdict=verdict), model=replace(a_run.model, name=f"{'a-long-name-' * 3}{i}"))
        for i, verdict in enumerate((PASS, FAIL, ERROR))
    ]
    reporter = Reporter(0)
    terminal.compare(cast(Any, reporter), runs)
    lines = [line.rstrip() for line in reporter.text.splitlines()]
    assert lines[1:6] == [
        *(f" {number}  {run.model.name}" for number, run in enumerate(runs, 1)),
        "✓ PASS, ✗ FAIL, ? INCONCLUSIVE, – NOT APPLICABLE, ! ERROR", "1  2  3  claim",
    ]  # fmt: skip
    assert lines[6] == "✓  ✗  !  suite/claim0"


# -- pytest's own sections -------------------------------------------------------------------------------------


def report(verdict: str | None = None, raised: str = "") -> Any:
    told = {"auditkit_verdict": verdict, "auditkit_raised": raised} if verdict else {}
    return SimpleNamespace(**told)


def test_pytest_shows_tests_that_are_no_claims_and_each_exception_once() -> None:
    plain, fails = report(), report("FAIL")
    first, again, other = (report("ERROR", raised) for raised in ("a.py:3: x", "a.py:3: x", "b.py:1: y"))
    guard = report("ERROR")
    reporter = Reporter(0, failed=[fails, plain], error=[first, again, guard, other], passed=[1])
    before = {name: list(reports) for name, reports in reporter.stats.items()}
    with terminal.without_claims(cast(Any, reporter)):
        assert reporter.stats == {"failed": [plain], "error": [first, other], "passed": [1]}
        terminal.leave_out_claims(cast(Any, reporter))
        assert reporter.stats == {"failed": [plain], "passed": [1]}
    assert reporter.stats == before, "pytest counts them all in its last line"


@pytest.mark.parametrize(
    ("verbosity", "args", "style", "shown"),
    [
        (0, (), "auto", False), (1, (), "auto", False), (2, (), "auto", True), (0, ("--tb=auto",), "auto", True),
        (0, ("--tb", "long"), "long", True), (0, ("--tb=no",), "no", False), (0, ("-rA",), "auto", True),
        (0, ("-qra",), "auto", True), (0, ("--runxfail", "-m", "slow or r"), "auto", False),
    ],
)  # fmt: skip
def test_pytest_shows_claims_where_somebody_asks(
    verbosity: int, args: tuple[str, ...], style: str, shown: bool
) -> None:
    reporter = Reporter(verbosity, *args, tbstyle=style, failed=[report("FAIL")])
    with terminal.without_claims(cast(Any, reporter)):
        assert ("failed" in reporter.stats) is shown


def by_model(runs: list[Run], verbosity: int) -> list[str]:
    reporter = Reporter(verbosity)
    terminal.compare(cast(Any, reporter), runs)
    return [line.rstrip() for line in reporter.text.splitlines()][2:]


def test_of_several_models_the_claims_that_differ_or_need_a_human_have_a_row(a_run: Run) -> None:
    third: Claim = replace(a_run.claims[0], id="suite/claim2", verdict=ERROR)
    runs = [replace(run, claims=(*run.claims, third)) for run in (a_run, asked(a_run, verdict=NOT_APPLICABLE))]
    rows = [
        "PASS            NOT APPLICABLE  suite/claim0",
        "PASS            PASS            suite/claim1",
        "ERROR           ERROR           suite/claim2",
        "PASS            PASS            verdict",
    ]
    assert by_model(runs, verbosity=1) == rows
    fewer = "1 more with the same verdict on all models (-v shows each)"
    assert by_model(runs, verbosity=0) == [rows[0], rows[2], fewer, rows[3]]


@pytest.mark.parametrize("place", ["{text}", "{text} {old}", "{old}\n{text}"])
def test_nothing_in_a_run_is_obeyed_by_the_terminal_or_a_build_server(a_run: Run, place: str) -> None:
    gone = replace(a_run.claims[1], verdict=FAIL, change=before(PASS), waiver=waiver("expired"))
    run = replace(a_run, waivers=(waiver("expired"),), claims=(a_run.claims[0], gone))
    for text in HOSTILE:
        hostile = replace_text(run, lambda old, text=text: place.format(text=text, old=old))
        reporter = Reporter(1)
        terminal.compare(cast(Any, reporter), [hostile, hostile])
        terminal.write_line(cast(Any, reporter), text)
        printed = [*written(hostile), *written(hostile, 1), *reporter.text.split("\n")]
        for line in printed:
            assert not re.search(
                "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]", line
            ), text
            assert not re.match(r"\s*::", line), text
            assert not re.search(r"##\[|##vso\[|##teamcity\[", line, re.IGNORECASE), text


def test_every_value_of_the_command_to_measure_again_is_one_word_of_a_shell() -> None:
    words = [text for text in HOSTILE if text.isprintable()]
    for text in words:
        options = SimpleNamespace(
            seed=3, items=None, effort=text, device=text, dtype=text, adapter=text, data_texts=[text], thresholds=text,
            baseline=text, waivers=text, profile="pr", tokenizer=None, template_texts=[],
        )  # fmt: skip
        said = shlex.split(settings.rerun_options(cast(Any, options), text))
        assert said[:4] == ["--model", text, "--seed", "3"]
        assert said[5::2] == [text] * 8
