"""`auditkit fleet` with scripted jobs: what is started, started again, merged, shown, and how it ends."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fleets import Act, Scripted, ending, value_of

from auditkit.cli import fleet, main
from auditkit.fleet import choice, launch
from auditkit.fleet.command import UNSEEN, Command
from auditkit.fleet.folder import held
from auditkit.fleet.schedulers import LOST
from auditkit.fleet.slow import Watch
from auditkit.record.journal import Entry, Header, Journal
from auditkit.record.locks import QUEUED
from auditkit.record.schema import ItemRow, Run, Verdict
from auditkit.record.store import AUDIT_JSON, read_run

pytestmark = pytest.mark.unit


@pytest.fixture
def fleets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaving: Callable[..., Act]) -> Any:
    """`fleets(script, *arguments)`: the exit code of a fleet of two models, and its scheduler."""
    monkeypatch.chdir(tmp_path)
    for name in ("alpha", "beta", "suite"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.setattr(fleet, "_possible", lambda shards, asked, apart: min(shards, 2))

    def run(
        script: dict[str, list[Act]],
        *arguments: str,
        otherwise: Act | None = None,
        rounds: dict[str, int] | None = None,
    ) -> tuple[int, Scripted]:
        stage = Scripted(otherwise or leaving(), script, rounds or {})
        monkeypatch.setattr(choice, "open_scheduler", lambda *_, **__: stage)
        models = [] if "./alpha" in arguments else ["./alpha", "./beta"]
        return main(["fleet", *models, *arguments, "--into", "fleet", "--suites", "./suite"]), stage

    return run


def of(model: str, shard: int | None = None) -> str:
    return f"--audit-model=./{model}" if shard is None else f"--audit-dir=fleet/jobs/{model}-{shard}of2"


def merged(model: str) -> Run:
    return read_run((Path("fleet/runs") / model / "latest").resolve())


def test_every_model_is_measured_in_jobs_of_the_ordinary_command_and_stands_on_one_page(
    fleets: Any, capsys: pytest.CaptureFixture[str], leaving: Callable[..., Act]
) -> None:
    code, stage = fleets(
        {of("beta", 2): [leaving(Verdict.FAIL)]}, "--shards", "2", "--effort", "quick", "--seed", "3"
    )
    assert code == 1, "the worst of the models"
    assert [value_of(one, "--audit-shard") for one in stage.commands] == ["1/2", "2/2"] * 2
    assert stage.commands[0].args == (
        *("-m", "pytest", "./suite", "-p", "no:cacheprovider", "--audit-seed=3", "--audit-effort=quick"),
        *("--audit-model=./alpha", "--audit-shard=1/2", "--audit-exchange=fleet/jobs/alpha-exchange"),
        "--audit-dir=fleet/jobs/alpha-1of2",
    )
    runs = [merged(name) for name in ("alpha", "beta")]
    assert [run.summary.verdict for run in runs] == [Verdict.PASS, Verdict.FAIL]
    assert [len(run.claims) for run in runs] == [2, 2]
    out = capsys.readouterr().out
    assert "./beta: FAIL" in out
    assert "page over the models: fleet/compare.html" in out
    page = Path("fleet/compare.html").read_text()
    assert ">alpha<" in page
    assert ">beta<" in page


def test_a_fleet_goes_on_with_what_it_has(fleets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleets({of("beta", 2): [ending(4)]}, "--shards", "2")[0] == 11
    was = merged("alpha").created, sorted(Path("fleet/runs/alpha").iterdir())
    code, stage = fleets({}, "--shards", "2")
    assert code == 0
    assert [value_of(one, "--audit-dir") for one in stage.commands] == ["fleet/jobs/beta-2of2"]
    assert (merged("alpha").created, sorted(Path("fleet/runs/alpha").iterdir())) == was
    assert merged("beta").summary.error == 0
    assert "going on with the fleet in fleet" in capsys.readouterr().out


def test_a_job_that_was_cut_off_is_started_again_and_goes_on(
    fleets: Any, a_run: Run, leaving: Callable[..., Act], capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(command: Command) -> int:
        folder = Path(value_of(command, "--audit-dir")) / "20260101T000000Z-alpha"
        folder.mkdir()
        header = Header(plan_sha256="p", model_sha256="m", seed=0, created="2026")
        Journal(folder / "journal.jsonl", header).close()
        return -signal.SIGKILL

    code, stage = fleets({of("alpha"): [killed, ending(256), leaving()]})
    assert code == 0
    resumed = [value_of(one, "--audit-resume") for one in stage.commands if of("alpha") in one.args]
    assert resumed == ["", *["fleet/runs/alpha/20260101T000000Z-alpha"] * 2]
    out = capsys.readouterr().out
    assert "alpha: it was ended by SIGKILL; going on with what it measured (retry 1 of 2)" in out
    assert "alpha: nobody knows how it ended" in out


def test_a_job_whose_record_holds_is_measured_however_its_process_ended(
    fleets: Any, leaving: Callable[..., Act]
) -> None:
    """Its machine is gone, or it was killed, behind its last line."""

    def gone(status: int) -> Act:
        def act(command: Command) -> int:
            leaving()(command)
            return status

        return act

    code, stage = fleets({of("alpha"): [gone(LOST)], of("beta"): [gone(-signal.SIGKILL)]})
    assert code == 0
    assert len(stage.commands) == 2, "neither is started again"


def test_a_slow_job_is_named_and_not_started_twice(
    fleets: Any, leaving: Callable[..., Act], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=30)
    monkeypatch.setattr(launch, "Watch", partial(Watch, lambda: float(next(ticks))))

    def late(command: Command) -> int:
        Path(command.log).write_text("a line\n")
        return leaving()(command)

    code, stage = fleets({of("beta"): [late]}, rounds={of("beta"): 20})
    assert code == 0
    assert len(stage.commands) == 2
    out = capsys.readouterr().out
    assert "beta: slow: it has run for" in out
    assert "alpha: slow" not in out
    assert out.index("beta: slow") < out.index("beta: PASS")


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (3, "it ended with exit code 3 and left no record"),
        (LOST, "nobody knows how it ended, since its machine or its place in the scheduler was lost"),
        (-signal.SIGKILL, "it was ended by SIGKILL"),
    ],
)
def test_what_is_missing_is_an_error_and_never_absent(
    fleets: Any, capsys: pytest.CaptureFixture[str], status: int, why: str
) -> None:
    """One shard of alpha is lost, and all of gamma."""
    Path("gamma").mkdir()
    Path("gamma/config.json").write_text("{}")
    script = {of("alpha", 2): [ending(status)] * 2, of("gamma"): [ending(status)] * 4}
    code, stage = fleets(script, "./alpha", "./beta", "./gamma", "--shards", "2", "--retries", "1")
    assert code == 11
    assert sum(of("gamma") in one.args for one in stage.commands) == 4, "two shards, each twice"
    run = merged("alpha")
    assert run.summary.verdict is Verdict.ERROR
    assert [claim.verdict for claim in run.claims] == [Verdict.PASS, Verdict.ERROR]
    assert run.claims[1].statement == merged("beta").claims[1].statement
    assert f"alpha 2/2 was not measured: {why}" in run.claims[1].reason
    page = Path("fleet/compare.html").read_text()
    assert "./gamma has no run and counts as an ERROR: gamma 1/2 was not measured" in page
    out = capsys.readouterr().out
    assert "./gamma: ERROR, it has no run" in out
    assert "no retry is left" in out
    assert main(["verify", str(Path("fleet/runs/alpha/latest").resolve())]) == 0


def test_a_shard_that_was_changed_is_set_aside_and_measured_again(
    fleets: Any, leaving: Callable[..., Act]
) -> None:
    def damaged(command: Command) -> int:
        code = leaving()(command)
        (file,) = Path(value_of(command, "--audit-dir")).glob(f"2*/{AUDIT_JSON}")
        file.write_text(file.read_text().replace('"seed": 7', '"seed": 8'))
        return code

    code, stage = fleets({of("beta", 1): [damaged]}, "--shards", "2")
    assert code == 0
    assert len(stage.commands) == 5
    (folder,) = Path("fleet/jobs/beta-1of2").glob("damaged-*")
    assert read_run(folder).seed == 8
    assert merged("beta").seed == 7


def test_a_journal_that_was_changed_is_set_aside(fleets: Any, a_run: Run) -> None:
    def killed(command: Command) -> int:
        folder = Path(value_of(command, "--audit-dir")) / "20260101T000000Z-alpha"
        folder.mkdir()
        journal = Journal(
            folder / "journal.jsonl", Header(plan_sha256="p", model_sha256="m", seed=0, created="2026")
        )
        row = ItemRow(claim="c", measurement="m", condition="c", item="i", clusters="", value=1.0, unit="u")
        journal.append(Entry(claim=a_run.claims[0], items=(row,)))
        journal.close()
        file = folder / "journal.jsonl"
        file.write_text(file.read_text().replace('"PASS"', '"FAIL"'))
        return -signal.SIGKILL

    code, stage = fleets({of("alpha"): [killed]})
    assert code == 0
    assert not any(value_of(one, "--audit-resume") for one in stage.commands)
    assert [path.name for path in Path("fleet/runs/alpha").glob("damaged-*")] == ["damaged-20260101T000000Z-alpha"]


def test_a_baseline_that_is_a_model_is_measured_once_and_first(fleets: Any) -> None:
    Path("base").mkdir()
    Path("base/config.json").write_text("{}")
    code, stage = fleets({}, "--baseline", "./base", "--shards", "2")
    assert code == 0
    models = [value_of(one, "--audit-model") for one in stage.commands]
    assert models == ["./base"] * 2 + ["./alpha"] * 2 + ["./beta"] * 2
    assert ["--audit-as-baseline" in one.args for one in stage.commands] == [True] * 2 + [False] * 4
    (pinned,) = {value_of(one, "--audit-baseline") for one in stage.commands[2:]}
    folder, _, digest = pinned.partition("#")
    assert (Path(folder) / AUDIT_JSON).is_file()
    assert len(digest) == 64
    assert fleets({of("base", None): []}, "--baseline", "./base", "--shards", "2")[1].commands == []


def test_without_its_baseline_nothing_is_measured(fleets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("base").mkdir()
    Path("base/config.json").write_text("{}")
    code, stage = fleets({of("base"): [ending(1)]}, "--baseline", "./base", "--retries", "0")
    assert code == 11
    assert len(stage.commands) == 1
    assert "the baseline ./base could not be measured" in capsys.readouterr().err


def test_what_every_job_refuses_ends_as_a_wrong_command(fleets: Any) -> None:
    assert fleets({}, otherwise=ending(4))[0] == 4


def test_a_machine_that_does_not_see_the_folder_is_named(fleets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, stage = fleets({of("alpha"): [ending(UNSEEN)]})
    assert code == 11
    assert len(stage.commands) == 2, "it is not tried again"
    assert "does not see" in capsys.readouterr().out


def test_models_of_other_tokenizers_are_compared_by_claim(
    fleets: Any, leaving: Callable[..., Act], a_run: Run
) -> None:
    other = leaving(Verdict.FAIL, tokenizer_sha256="ef")
    assert fleets({of("beta"): [other]})[0] == 1
    text = Path("fleet/compare.csv").read_text()
    assert text.count("suite/claim0") == 2
    assert "not comparable" not in Path("fleet/compare.html").read_text().lower().split("<details")[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["./alpha", "./alpha"], "./alpha is named twice"),
        (["./alpha", "--shards", "0"], "--shards 0: at least 1"),
        (["./alpha", "--gpus", "1.5"], "--gpus 1.5: a share of one GPU, or whole ones"),
        (["./alpha", "--slurm", "partition=gpu"], "--slurm is for --on slurm"),
        (["./alpha", "--on", "slurm", "--slurm", "gpu"], "--slurm gpu: write NAME=VALUE"),
        (["./alpha", "--address", "auto"], "--address is for --on ray"),
        (["./alpha", "--baseline", "base"], "--baseline base may be another model for each"),
        (["./alpha", "--suites", "./nothing"], "there is no folder or file ./nothing"),
        (["smollm9"], "smollm9"),
    ],
)
def test_what_cannot_be_is_one_line(
    fleets: Any, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = [] if "--suites" in arguments else ["--suites", "./suite"]
    assert main(["fleet", *arguments, *suites, "--into", "fleet"]) == 4
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not Path("fleet/fleet.json").exists()


def test_a_folder_belongs_to_one_plan(fleets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleets({})[0] == 0
    assert fleets({}, "--seed", "1", "--shards", "2")[0] == 4
    said = capsys.readouterr().err
    assert (
        "fleet is the folder of another fleet: shards 1 there, 2 here; options none there, --audit-seed=1 here"
        in said
    )
    Path("fleet/fleet.json").unlink()
    assert fleets({})[0] == 4
    assert "fleet holds other files and no fleet.json" in capsys.readouterr().err


def test_a_folder_belongs_to_one_launcher(fleets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with held(Path("fleet")):
        assert fleets({})[0] == 4
    assert "fleet is the folder of a fleet that is running" in capsys.readouterr().err
    assert fleets({})[0] == 0


def test_more_shards_than_parts_are_fewer_jobs(fleets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, stage = fleets({}, "--shards", "9")
    assert code == 0
    assert {value_of(one, "--audit-shard") for one in stage.commands} == {"1/2", "2/2"}
    assert "2 shards, not 9" in capsys.readouterr().out
    assert json.loads(Path("fleet/fleet.json").read_text())["shards"] == 2


def test_a_launcher_that_is_stopped_says_how_to_go_on(fleets: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(command: Command) -> int:
        raise KeyboardInterrupt

    assert fleets({of("beta"): [stop]})[0] == 2
    assert "the same command goes on" in capsys.readouterr().err
    assert fleets({})[0] == 0


def test_a_disk_without_room_is_one_line(
    fleets: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("auditkit.fleet.joined.write_folder", full)
        assert fleets({}, "--shards", "2")[0] == 11
    said = capsys.readouterr().err
    assert "cannot write to fleet: No space left on device; make room" in said
    assert fleets({}, "--shards", "2")[0] == 0


def test_shards_that_are_done_make_room_as_long_as_jobs_wait_for_a_place(
    fleets: Any, leaving: Callable[..., Act], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job has a place; each prints a line when it starts, and is asked twice whether it has ended."""
    seen: list[tuple[str, bool, bool]] = []

    class Narrow(Scripted):
        busy = False

        def has_room(self, command: Command) -> bool:
            return not self.busy

        def submit(self, command: Command) -> Any:
            with Path(command.log).open("a") as log:
                log.write("begun\n")
            self.busy = True
            shard, ended = value_of(command, "--audit-shard"), super().submit(command)
            folders = [Path("fleet/jobs") / f"{model}-exchange" for model in ("alpha", "beta")]

            def status() -> int | None:
                code = ended.status()
                seen.append((shard, *((folder / QUEUED).exists() for folder in folders)))
                self.busy = code is None
                return code

            return SimpleNamespace(status=status)

    stage = Narrow(leaving(), {}, {"--audit-shard=1/2": 2, "--audit-shard=2/2": 2})
    monkeypatch.setattr(choice, "open_scheduler", lambda *_, **__: stage)
    code = main(["fleet", "./alpha", "./beta", "--shards", "2", "--into", "fleet", "--suites", "./suite"])
    assert code == 0
    *early, last = [entry for entry in seen if entry[0]]
    assert all(alpha and beta for _, alpha, beta in early[1:-2]), "others wait for a place"
    assert last[1:] == (False, False), "the last one may be helped"
    assert not list(Path("fleet/jobs").glob("*-exchange")), "what shards exchanged goes when they are merged"
