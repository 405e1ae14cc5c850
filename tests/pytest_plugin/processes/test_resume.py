"""`--resume`: a run killed at any moment is continued in its folder and comes to the record it would have had."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from journals import edited
from recorded import content

from auditkit.record.journal import Journal, has_header, read_journal
from auditkit.record.store import is_written

CONFTEST = '''
import os, signal
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

def log(line):
    with open("log.txt", "a") as stream:
        stream.write(line + "\\n")

@pytest.fixture(scope="session")
def shared(model):
    """What claims one and two measure together."""
    log("built shared")
    yield 0.0
    log("torn down shared")

@pytest.fixture(scope="module")
def estimate(model):
    def make(center, name="planted"):
        rng = np.random.default_rng(0)
        values = rng.normal(0, 0.4, 60)
        values += center - values.mean()
        index = pd.Index([f"item{i}" for i in range(60)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
        return Estimate(name, "logit", Measurement(name, "logit", pd.DataFrame({"p": values}, index=index), labels),
                        values)
    return make

@pytest.fixture(autouse=True)
def die(request):
    """Kill this process once, inside the claim that the file names, before or after its body."""
    name, kill = request.node.name, Path("kill.txt")
    def now(moment):
        if kill.exists() and kill.read_text() == f"{moment} {name}":
            kill.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    now("before")
    log(f"ran {name}")
    yield
    now("after")
'''

FIRST = '''"""A finding (Somebody 2020)."""
import pytest
from auditkit import control
from auditkit.claims.evidence import note

def test_one(shared, estimate, threshold):
    """The first holds."""
    note("made of noise ☂")
    with control("and its control"):
        assert estimate(0.0, "control") <= 0.5
    assert estimate(1.0 + shared) > threshold(0.0, "the test")

def test_two(shared, estimate):
    """The second does not."""
    assert estimate(1.0 + shared) > 2.0

@pytest.mark.parametrize("word", ["a", "b"])
def test_three(estimate, word):
    """The third is undecided."""
    assert estimate(1.0, word) > 1.0
'''
SECOND = '''"""Another finding."""
import pytest
from auditkit import NotApplicable

@pytest.fixture
def missing(model):
    raise NotApplicable("the model does not show it")

@pytest.mark.skip(reason="not today")
def test_skipped(estimate):
    """Is skipped."""

def test_missing(missing):
    """Cannot be asked."""

def test_broken(estimate):
    """Cannot be read."""
    1 / 0

class TestPlain:
    @pytest.fixture(autouse=True)
    def die(self):
        pass

    def test_one(self):  # no claim, though it is named like one: it runs every time
        with open("log.txt", "a") as stream:
            stream.write("ran plain\\n")
'''
NAMES = ["test_one", "test_two", "test_three[a]", "test_three[b]", "test_missing", "test_broken"]


class Audits:
    """Runs of one suite with one command, and what they left."""

    def __init__(self, pytester: pytest.Pytester, model: Path, shelf: Any) -> None:
        self.pytester, self.path, self.model, self.shelf = pytester, pytester.path, model, shelf
        pytester.makeini("[pytest]")  # the root of the run, which the claims' commands are relative to
        suite = pytester.mkdir("suite")
        for name, text in {"conftest": CONFTEST, "test_first": FIRST, "test_second": SECOND}.items():
            (suite / f"{name}.py").write_text(text)
        self.args = ["suite", "--model", str(model)]

    def __call__(self, *more: str) -> pytest.RunResult:
        (self.path / "log.txt").write_text("")
        return self.pytester.runpytest_inprocess(*self.args, *more)

    def whole(self) -> Path:
        """The folder of a run that nothing cut off, the same for all tests."""
        self.shelf.take("resume", self.path / "reports", self)
        return self.latest

    def killed(self, moment: str) -> Path:
        """A run in a process of its own that kills itself at `moment`; its folder."""
        (self.path / "log.txt").write_text("")
        (self.path / "kill.txt").write_text(moment)
        before = self.folders()
        result = self.pytester.runpytest_subprocess(*self.args)
        assert result.ret == -signal.SIGKILL
        (folder,) = self.folders() - before
        return folder

    def cut(self, whole: Path, size: int, name: str = "20990101T000000Z-cut") -> Path:
        """A copy of a finished run as a kill would have left it after `size` bytes of journal."""
        folder = whole.parent / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes((whole / "journal.jsonl").read_bytes()[:size])
        return folder

    def folders(self) -> set[Path]:
        return set((self.path / "reports").glob("2*"))

    @property
    def latest(self) -> Path:
        return (self.path / "reports" / "latest").resolve()

    @property
    def log(self) -> list[str]:
        return (self.path / "log.txt").read_text().split("\n")[:-1]


@pytest.fixture
def audits(pytester: pytest.Pytester, tiny_llama: Path, shelf: Any) -> Audits:
    return Audits(pytester, tiny_llama, shelf)


def assert_same(folder: Path, whole: Path) -> None:
    assert content(folder) == content(whole)
    for name in ("audit.html", "junit.xml", "summary.md", "items.parquet"):
        assert (folder / name).stat().st_size > 100


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".begun"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def outcomes(result: pytest.RunResult) -> list[str]:
    """What pytest said of each test, in order, and its last line without the seconds, on which its frame depends."""
    lines = [" ".join(line.split()[:2]) for line in result.outlines if "::" in line and "%]" in line]
    return [*lines, result.outlines[-1].rsplit(" in ", 1)[0].strip("= ")]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("moment", "finished"),
    [
        pytest.param("before test_one", 0, marks=pytest.mark.slow),
        ("after test_two", 2),
        pytest.param("before test_three[b]", 3, marks=pytest.mark.slow),
        ("after test_broken", 7),
    ],
)
def test_a_killed_run_is_continued_to_the_same_record(audits: Audits, moment: str, finished: int) -> None:
    whole = audits("-v")
    first = audits.latest
    audits.args.append("-v")
    folder = audits.killed(moment)
    assert audits.latest == first, "latest still points at the finished run"
    result = audits("--resume")
    assert result.ret == whole.ret == 1
    result.stdout.fnmatch_lines([f"resuming *{folder.name}: {finished} of 7 claims are taken over"])
    assert outcomes(result) == outcomes(whole)
    assert audits.folders() == {first, folder}
    assert audits.latest == folder
    assert_same(folder, first)
    taken = [name for name in NAMES if f"ran {name}" not in audits.log]
    assert len(taken) == (finished if finished < 7 else 6), "each claim ran once, or not at all"
    assert ("built shared" in audits.log) == (finished < 2), "only what a claim still needs is measured"
    assert "ran plain" in audits.log


@pytest.mark.unit
def test_a_journal_cut_at_any_byte_is_continued_to_the_same_record(audits: Audits) -> None:
    whole = audits.whole()
    journal = (whole / "journal.jsonl").read_bytes()
    header = journal.index(b"\n") + 1
    ends = [at + 1 for at, byte in enumerate(journal) if byte == 10]
    cuts = [header, header + 1, *random.Random(0).sample(range(header, len(journal)), 4), ends[3] - 1, ends[-1]]
    for cut in cuts:
        folder = audits.cut(whole, cut)
        assert audits("--resume").ret == 1
        assert_same(folder, whole)
        header_then, entries = read_journal(folder / "journal.jsonl")
        assert header_then == read_journal(whole / "journal.jsonl")[0]
        assert len(entries) == 7


@pytest.mark.unit
def test_each_claim_says_what_it_was_made_with_though_another_process_measured_it(audits: Audits) -> None:
    import torch

    whole = audits.whole()
    claims = {claim["id"]: claim for claim in content(whole)[0]["claims"]}
    made = claims["suite/one"]["made_with"]
    assert {"threads", "torch", "transformers", "safetensors", "numpy", "onednn", "processor instructions"} <= set(
        made
    )
    assert made["threads"] == str(torch.get_num_threads())
    ends = [at + 1 for at, byte in enumerate((whole / "journal.jsonl").read_bytes()) if byte == 10]
    folder = audits.cut(whole, ends[3])

    def elsewhere(lines: list[Any]) -> None:
        for line in lines[1:]:
            line["claim"]["made_with"]["threads"] = "99"

    edited(folder / "journal.jsonl", elsewhere, chain=True)
    assert audits("--resume").ret == 1, "another number of threads is recorded and does not refuse the run"
    claims = {claim["id"]: claim for claim in content(folder)[0]["claims"]}
    said = f"measured by an earlier process with threads 99 (this one: {made['threads']})"
    assert [said in claim.get("notes", []) for claim in claims.values()] == [True] * 3 + [False] * 4
    assert claims["suite/one"]["made_with"] == made | {"threads": "99"}
    assert claims["suite/broken"]["made_with"] == made


@pytest.mark.unit
def test_the_newest_cut_off_run_is_taken_or_the_one_that_is_named(audits: Audits) -> None:
    whole = audits.whole()
    end = (whole / "journal.jsonl").read_bytes().index(b"\n") + 1
    old, new, other = (audits.cut(whole, end, f"209{n}0101T000000Z-{n}") for n in (1, 2, 3))
    audits.cut(whole, end - 1, "20990101T000000Z-killed-at-once")
    assert audits("--resume", str(old)).ret == 1
    assert audits.latest == old
    assert not (other / "audit.json").exists()
    audits("--audit-resume")
    assert audits.latest == other
    assert not (new / "audit.json").exists()
    assert len(audits.log) > 3


@pytest.mark.unit
def test_a_run_that_was_stopped_in_good_order_is_continued_when_it_is_named(audits: Audits) -> None:
    whole = audits.whole()
    audits("-x")
    stopped = audits.latest
    assert content(stopped) != content(whole)
    record, journal = tree(whole), tree(stopped)["journal.jsonl"]
    assert audits("--resume").ret == 4, "it has a record, so it is not taken unasked"
    assert audits("--resume", "reports/latest").ret == 1
    assert audits.latest == stopped
    assert tree(stopped)["journal.jsonl"].startswith(journal)
    assert [claim["verdict"] for claim in content(stopped)[0]["claims"]] == [
        claim["verdict"] for claim in content(whole)[0]["claims"]
    ]
    assert tree(whole) == record


@pytest.mark.unit
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (["--seed", "1"], "*--seed was 0, is 1*"),
        (["--items", "3"], "*--items was not given, is 3*"),
        (["-k", "not two"], "*the plan differs: claims were selected, added or changed*"),
        (["--thresholds", "limits.toml"], "*--thresholds was not given, is limits.toml (*"),
        ("suite", "*the plan differs*code, data or versions behind them*"),
        ("versions", "*version of torch was 1.0, is *"),
        ("schema", "*was written by another version of auditkit (record schema 3, this one reads *"),
        ("weights", "*the model differs in: weights (identity was *, is *)*"),
        ("config", "*the model differs in: config (rms_norm_eps) (identity was *, is *)*"),
        ("template", "*the model differs in: chat template (identity was *, is *)*"),
        ("unknown", "*whether the model is the same is not known, since the journal does not hold its parts*"),
        ("model", "*--model was *tiny-llama*, is copy;*"),
    ],
)
def test_another_run_is_not_continued_and_nothing_is_touched(
    audits: Audits, change: list[str] | str, line: str
) -> None:
    copy = audits.path / "copy"
    shutil.copytree(audits.model, copy)
    swapped = change in ("weights", "config", "template")
    if swapped:
        audits.args[2] = str(copy)
        audits()
    whole = audits.latest if swapped else audits.whole()
    folder = audits.cut(whole, (whole / "journal.jsonl").read_bytes().index(b"\n") + 200)
    more = change if isinstance(change, list) else []
    (audits.path / "limits.toml").write_text('[default]\n"suite/one" = { threshold = 0.5 }')
    if change == "suite":
        (audits.path / "suite" / "helper.py").write_text("LIMIT = 2\n")
    elif change in ("versions", "schema", "unknown"):

        def written_otherwise(lines: list[dict[str, Any]]) -> None:
            header = lines[0]
            if change == "schema":
                header["schema_version"] = 3
            elif change == "unknown":  # as an earlier version wrote it, with the digest of the weights
                header["model_sha256"], header["model"] = header["model"]["weights"], {}
            else:
                header["versions"]["torch"] = "1.0"

        edited(folder / "journal.jsonl", written_otherwise, chain=True)
    elif change == "model":
        audits.args[2] = "copy"
    elif change == "weights":
        from safetensors.torch import load_file, save_file

        weights = load_file(copy / "model.safetensors")
        weights["model.norm.weight"] = weights["model.norm.weight"] * 1.5
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    elif change == "config":
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1.0}))
    elif change == "template":
        template = copy / "chat_template.jinja"
        template.write_text(template.read_text().replace("<|assistant|>", "<|end|>"))
    before = tree(audits.path / "reports")
    result = audits("--resume", *more)
    assert result.ret == 4
    (error,) = [text for text in result.errlines if text.startswith("ERROR: ")]
    if change != "schema":
        assert error.startswith(f"ERROR: cannot resume {Path('reports') / folder.name}: ")
    result.stderr.fnmatch_lines([line])
    assert tree(audits.path / "reports") == before
    assert audits.latest == whole


@pytest.mark.unit
@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--resume"], "ERROR: nothing to resume: no run under reports was cut off*"),
        (["--resume", "--audit-dir", "nowhere"], "ERROR: nothing to resume: no run under nowhere was cut off*"),
        (["--resume=suite"], "ERROR: nothing to resume: suite is no run folder, it holds no journal.jsonl*"),
        (["--resume=nowhere"], "ERROR: nothing to resume: nowhere is no run folder*"),
        (["--resume=reports/latest"], "ERROR: nothing to resume: *is finished; leave out --resume*"),
        (["--resume=reports/beheaded"], "ERROR: *has no header line; nothing can be resumed from it"),
    ],
)
def test_nothing_to_resume_is_one_line_and_exit_code_4(audits: Audits, args: list[str], line: str) -> None:
    whole = audits.whole()
    audits.cut(whole, 20, "beheaded")
    before = tree(audits.path / "reports")
    result = audits(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([line])
    assert len([text for text in result.errlines if text.startswith("ERROR: ")]) == 1
    assert tree(audits.path / "reports") == before
    assert not (audits.path / "nowhere").exists()


def _claim(**fields: object) -> Callable[[list[Any]], object]:
    """Edits the first claim of a journal, which passes: its own fields, those of its effect, or a control's."""

    def change(lines: list[Any]) -> None:
        claim = lines[1]["claim"]
        for name, value in fields.items():
            of = {"effect": claim["effect"], "control": claim["controls"][0], "claim": claim}
            part, _, field = name.partition("_")
            of[part][field] = value

    return change


def _item(lines: list[Any]) -> None:
    lines[1]["items"]["values"][_of_effect(lines)] = 7.0


def _fewer_items(lines: list[Any]) -> None:
    columns, row = lines[1]["items"], _of_effect(lines)
    for column in (columns["values"], *columns["which"].values()):
        del column[row]


def _of_effect(lines: list[Any]) -> int:
    """The first row of the effect."""
    columns = lines[1]["items"]
    return [columns["texts"]["effect"][n] for n in columns["which"]["effect"]].index("planted")


EDITS: dict[str, Callable[[list[Any]], object]] = {
    "verdict": _claim(claim_verdict="FAIL"),
    "statement": _claim(claim_statement="Is something else."),
    "estimate": _claim(effect_estimate=99.0),
    "interval": _claim(effect_lower=0.5),
    "threshold": _claim(effect_threshold=-5.0),
    "recipe": _claim(effect_recipe=None),
    "control's verdict": _claim(control_verdict="FAIL"),
    "controls": _claim(claim_controls=[]),
    "value of an item": _item,
    "item taken out": _fewer_items,
    "header": lambda lines: lines[0].update(seed=0, created="2001-01-01T00:00:00Z"),
    "claim taken out": lambda lines: lines.pop(1),
    "claims exchanged": lambda lines: lines.insert(1, lines.pop(2)),
    "claim doubled": lambda lines: lines.append(lines[1]),
    "last claim": lambda lines: lines[-1]["claim"].update(reason="because"),
}
NEEDS_CHAIN = ("statement", "recipe", "header", "claim taken out", "claims exchanged", "last claim")
"""Edits that contradict nothing: a line that says so may be written by a run."""


@pytest.mark.unit
@pytest.mark.parametrize("chain", [False, True])
def test_an_edited_journal_is_not_continued(audits: Audits, chain: bool) -> None:
    """With the digests of its lines as they were, and, where the edit contradicts the values, with new ones too."""
    whole = audits.whole()
    for name, change in EDITS.items():
        if chain and name in NEEDS_CHAIN:
            continue
        folder = audits.cut(whole, 10**9)
        edited(folder / "journal.jsonl", change, chain=chain)
        before = tree(audits.path / "reports")
        result = audits("--resume")
        assert result.ret == 11, name
        (line,) = [line for line in (*result.outlines, *result.errlines) if "start anew" in line]
        assert f"{folder.name}/journal.jsonl" in line, name
        assert tree(audits.path / "reports") == before, name
    damaged = folder / "journal.jsonl"
    damaged.write_bytes(damaged.read_bytes().replace(b'"verdict"', b'"verdi', 1))
    assert audits("--resume").ret == 11


@pytest.mark.unit
def test_a_journal_written_anew_without_an_edit_is_continued(audits: Audits) -> None:
    """The helper of the test above breaks nothing by itself."""
    whole = audits.whole()
    for chain in (False, True):
        folder = audits.cut(whole, 10**9)
        edited(folder / "journal.jsonl", lambda lines: None, chain=chain)
        assert (folder / "journal.jsonl").read_bytes() == (whole / "journal.jsonl").read_bytes()
    assert audits("--resume").ret == 1
    assert_same(folder, whole)


@pytest.mark.unit
def test_a_run_that_is_still_going_on_is_not_continued(audits: Audits) -> None:
    whole = audits.whole()
    folder = audits.cut(whole, (whole / "journal.jsonl").read_bytes().index(b"\n") + 200)
    size = read_journal(folder / "journal.jsonl")
    going_on = Journal(folder / "journal.jsonl", size[0])
    result = audits("--resume")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *is being measured by another process*"])
    going_on.close()
    assert audits("--resume").ret == 1
    assert_same(folder, whole)


@pytest.mark.unit
def test_the_record_of_a_continued_run_names_the_first_call(audits: Audits) -> None:
    whole = audits.whole()
    header, entries = read_journal(whole / "journal.jsonl")
    folder = audits.cut(whole, 0)
    earlier = msgspec.structs.replace(header, created="2001-01-01T00:00:00Z")
    Journal(folder / "journal.jsonl", earlier).append(entries[0])
    audits("--resume")
    record = json.loads((folder / "audit.json").read_text())
    assert record["created"] == "2001-01-01T00:00:00Z"
    assert record["command"] == ["pytest", *audits.args]


@pytest.mark.unit
@pytest.mark.parametrize("moment", ["write_run", "write_outputs", "point_latest"])
def test_a_kill_between_the_files_of_a_record_is_made_good(
    audits: Audits, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before or after `audit.json`, before the page, before `latest`: the run is still there to be continued."""
    from auditkit import report as run

    whole = audits.whole()
    real = getattr(run, moment)

    class Killed(BaseException):
        """As good as a kill: nothing behind it runs."""

    def killed(folder: Path, *rest: object) -> None:
        if moment == "write_outputs":
            (folder / ".audit.html.abcdefgh").write_text("<html")  # what a kill leaves of a file under way
        raise Killed

    monkeypatch.setattr(run, moment, killed)
    with pytest.raises(Killed):
        audits()
    (folder,) = audits.folders() - {whole}
    assert (folder / "audit.json").exists() == (moment != "write_run")
    assert audits.latest == whole
    monkeypatch.setattr(run, moment, real)
    result = audits("--resume")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"resuming *{folder.name}: 7 of 7 claims are taken over"])
    assert audits.latest == folder
    assert_same(folder, whole)
    assert not list(folder.glob(".*"))
    assert audits("--resume").ret == 4, "and now it is finished"


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "workers"), [(50, []), (20, ["-n", "2"])], ids=["serial", "workers"])
def test_kills_from_outside_at_random_moments(audits: Audits, kills: int, workers: list[str]) -> None:
    """Whatever it is doing: importing, opening the model, measuring, writing the record. `-s` shows the counts."""
    import subprocess
    import sys
    import time

    command = [sys.executable, "-m", "pytest", *audits.args, "-p", "no:cacheprovider", *workers]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=audits.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def until_the_journal(process: subprocess.Popen[bytes], before: set[Path]) -> None:
        while audits.folders() == before and process.poll() is None:
            time.sleep(0.005)

    started, first = time.monotonic(), start()
    until_the_journal(first, set())
    opened = time.monotonic()
    while not is_written(*audits.folders()) and first.poll() is None:
        time.sleep(0.005)
    measuring = time.monotonic() - opened  # without the end of the process, which takes longer
    first.wait()
    length = time.monotonic() - started
    whole, draw = audits.latest, random.Random(0)
    came = Counter[str]()
    for number in range(kills):
        before = audits.folders()
        process = start()
        if number % 2:
            time.sleep(draw.uniform(0.3, 1.1) * length)
        else:  # most of a run is importing, so half of the kills wait for the journal
            until_the_journal(process, before)
            time.sleep(draw.uniform(0.0, 1.0) * measuring)
        process.kill()
        process.wait()
        new = audits.folders() - before
        result = audits("--resume", *workers)
        if result.ret == 4:
            result.stderr.fnmatch_lines(["ERROR: nothing to resume: *"])
            assert all(is_written(f) or not has_header(f / "journal.jsonl") for f in new)
            assert not new or not is_written(*new) or audits.latest in new
            came["after the end" if new and is_written(*new) else "before the journal"] += 1
            continue
        assert result.ret == 1
        (folder,) = new
        assert_same(folder, whole)
        came["resumed to the same record"] += 1
    print(f"{kills} kills {' '.join(workers)}: {dict(came)}")
    assert came["resumed to the same record"] >= kills // 4, (
        "kills came too early or too late to leave anything to continue"
    )
