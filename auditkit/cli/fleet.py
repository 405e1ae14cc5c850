"""`auditkit fleet`: the same audit of many models, each in one or several processes of this machine or of many."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from auditkit.cli.shared import INTEGRITY, refused, say, say_plainly, with_reports
from auditkit.options import said_of

if TYPE_CHECKING:
    from auditkit.fleet.folder import FleetPlan
    from auditkit.fleet.joined import ModelRun
    from auditkit.fleet.schedulers import Scheduler

_VALUES = (
    *("seed", "items", "effort", "device", "dtype", "adapter", "tokenizer"),
    *("profile", "thresholds", "waivers"),
)
_LISTS = ("data", "template-arg")
_TRUST = "trust-remote-code"
_INTERRUPTED = 2
"""Exit code of a launcher that was stopped, as it is of a run."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    fleet = commands.add_parser(
        "fleet",
        help="audit several models alike, in jobs on this machine, a Ray cluster or Slurm, and write one page over all",
        allow_abbrev=False,
    )
    fleet.add_argument("models", nargs="+", metavar="MODEL", help="alias, directory, .gguf file or hub id")
    fleet.add_argument(
        "--into", type=Path, required=True, metavar="FOLDER", help="folder for jobs, runs and the page"
    )
    fleet.add_argument(
        "--on", choices=["local", "ray", "slurm"], default="local", help="where jobs run (default: local)"
    )
    fleet.add_argument("--suites", nargs="+", default=[], metavar="SUITE", help="suites to measure (default: all)")
    fleet.add_argument(
        "--shards", type=int, default=1, metavar="N", help="number of jobs for each model (default 1)"
    )
    fleet.add_argument(
        "--baseline",
        metavar="SPEC|RUN",
        help=f"{said_of('baseline')}; a model is measured once, before all others",
    )
    fleet.add_argument(
        "--retries", type=int, default=2, metavar="N", help="how often a job that ended badly is started again"
    )
    fleet.add_argument("--cpus", type=int, metavar="N", help="processors of each job, and its number of threads")
    fleet.add_argument("--gpus", type=float, metavar="N", help="GPUs of each job; 0.5 where two jobs share one")
    fleet.add_argument(
        "--address", help="address of a Ray cluster that is running already (auto: the one of this machine)"
    )
    fleet.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of Slurm jobs: partition, account, timeout_min, ...; may be given for several",
    )
    for name in _VALUES:
        fleet.add_argument(f"--{name}", metavar="VALUE", help=said_of(name))
    for name in _LISTS:
        fleet.add_argument(f"--{name}", action="append", default=[], metavar="VALUE", help=said_of(name))
    fleet.add_argument(f"--{_TRUST}", action="store_true", help=said_of(_TRUST))
    with_reports(fleet)
    fleet.set_defaults(command=_fleet)


def _fleet(arguments: argparse.Namespace) -> int:
    from auditkit.adapters.errors import ModelError
    from auditkit.claims.suites import SuiteError
    from auditkit.fleet.folder import held
    from auditkit.fleet.launch import stopped_by_signals
    from auditkit.fleet.schedulers import SchedulerError
    from auditkit.fleet.whole import BaselineError
    from auditkit.record.store import NotVerified, RecordError

    try:
        _check(arguments)
        with held(arguments.into), stopped_by_signals():
            return _measured(arguments)
    except (NotVerified, BaselineError) as error:
        return refused(f"fleet: {error}", INTEGRITY)
    except (SuiteError, ModelError, RecordError, SchedulerError, ValueError) as error:
        return refused(f"fleet: {error}")
    except OSError as error:
        why = error.strerror or error
        return refused(
            f"fleet: cannot write to {arguments.into}: {why}; make room, and give the same command again",
            INTEGRITY,
        )
    except KeyboardInterrupt:
        return refused(
            "fleet: stopped; its jobs have ended, and the same command goes on with what they measured",
            _INTERRUPTED,
        )


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what can be told from the command line alone.

    Raises:
        ValueError: in one line.
        ModelError: a model that nobody knows.
    """
    from auditkit.adapters.loading.catalogue import classify

    twice = next((spec for spec in arguments.models if arguments.models.count(spec) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is named twice")
    for name, least in (("shards", 1), ("retries", 0), ("cpus", 1), ("gpus", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} {value:g}: at least {least}")
    if arguments.gpus is not None and arguments.gpus > 1 and arguments.gpus != int(arguments.gpus):
        raise ValueError(f"--gpus {arguments.gpus:g}: a share of one GPU, or whole ones")
    other = next((text for text in arguments.slurm if "=" not in text), None)
    if other is not None:
        raise ValueError(f"--slurm {other}: write NAME=VALUE, as in --slurm partition=gpu")
    if arguments.slurm and arguments.on != "slurm":
        raise ValueError("--slurm is for --on slurm")
    if arguments.address is not None and arguments.on != "ray":
        raise ValueError("--address is for --on ray")
    if arguments.baseline == "base":
        raise ValueError("--baseline base may be another model for each; name the model, or a recorded run")
    for spec in arguments.models:
        classify(spec)


def _measured(arguments: argparse.Namespace) -> int:
    """Measure a fleet whose folder this process holds; its exit code."""
    from auditkit.fleet.folder import begin_plan
    from auditkit.fleet.launch import Launch
    from auditkit.fleet.whole import Fleet

    suites, apart = _suites(arguments.suites)
    plan = _plan(arguments, suites, apart)
    if begin_plan(arguments.into, plan):
        say_plainly(f"going on with the fleet in {arguments.into}")
    jobs = len(plan.models) * plan.shards
    scheduler, cpus, gpus = _opened(arguments, jobs)
    try:
        launch = Launch(scheduler, cpus, gpus, arguments.retries, _now)
        models, code = Fleet(arguments.into, plan, apart, launch, _now).measure()
    finally:
        scheduler.close()
    _say(arguments.into, models)
    return code


def _suites(names: Sequence[str]) -> tuple[list[str], bool]:
    """pytest's arguments for suites, and whether they are the package's.

    Raises:
        SuiteError: there is no such suite.
    """
    from auditkit.cli.audit import chosen

    given, apart = chosen(names)
    return [*given, "-p", "no:cacheprovider"], apart


def _plan(arguments: argparse.Namespace, suites: Sequence[str], apart: bool) -> FleetPlan:
    """What the fleet asks, with no more shards than there are parts to share out.

    Raises:
        ValueError: pytest refuses it, in one line.
        ModelError, RecordError: the baseline is neither a model nor a recorded run that holds.
    """
    from auditkit.adapters.loading.catalogue import classify
    from auditkit.fleet.folder import FleetPlan
    from auditkit.record.baseline import find_baseline
    from auditkit.record.manifest import record_digest

    options = [
        f"--audit-{name}={value}"
        for name in _VALUES
        if (value := getattr(arguments, name.replace("-", "_"))) is not None
    ]
    options += [
        f"--audit-{name}={value}" for name in _LISTS for value in getattr(arguments, name.replace("-", "_"))
    ]
    options += [f"--audit-{_TRUST}"] if arguments.trust_remote_code else []
    shards = _possible(arguments.shards, [*suites, *options], apart)
    if shards < arguments.shards:
        say_plainly(
            f"the suites have {shards} parts that share no measurement: {shards} shards, not {arguments.shards}"
        )
    base = arguments.baseline
    if base is not None and (recorded := find_baseline(base, arguments.audit_dir)) is not None:
        options.append(f"--audit-baseline={recorded}#{record_digest(recorded)}")
        base = None
    elif base is not None:
        classify(base)
    return FleetPlan(
        models=tuple(arguments.models), baseline=base, shards=shards, suites=tuple(suites), options=tuple(options)
    )


def _possible(shards: int, asked: Sequence[str], apart: bool) -> int:
    """How many shards there can be, of so many: pytest collects, and refuses at once what every job would refuse.

    Raises:
        ValueError: the line with which pytest refuses.
    """
    with tempfile.TemporaryDirectory(prefix="auditkit-") as elsewhere:
        python = [sys.executable, *(["-P"] if apart else []), "-m", "pytest"]
        options = [f"--audit-shard=1/{shards}", f"--audit-dir={elsewhere}", "--collect-only", "-q"]
        done = subprocess.run([*python, *asked, *options], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return shards
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    why = next((line for line in reversed(lines) if line.startswith("ERROR: ")), lines[-1] if lines else "")
    most = re.search(r"use at most (\d+) shards?$", why)
    if most is None:
        raise ValueError(why.removeprefix("ERROR: ") or f"pytest ends with {done.returncode} where it collects")
    return int(most[1])


def _opened(arguments: argparse.Namespace, jobs: int) -> tuple[Scheduler, int, float]:
    """The scheduler, and the processors and GPUs of a job.

    Raises:
        SchedulerError: it is not there.
    """
    from auditkit.fleet.choice import of_a_job, open_scheduler

    here = arguments.on == "local" or (arguments.on == "ray" and arguments.address is None)
    cpus, gpus = of_a_job(jobs, here, arguments.cpus, arguments.gpus)
    slurm = dict(text.split("=", 1) for text in arguments.slurm)
    return open_scheduler(arguments.on, arguments.into, cpus, arguments.address, slurm), cpus, gpus


def _say(folder: Path, models: Sequence[ModelRun]) -> None:
    """Print what every model came to, and write the page over them."""
    from auditkit.fleet.joined import PAGE, write_page

    _now("")
    for model in models:
        for line in model.lines():
            _now(line)
    if sum(model.run is not None for model in models) > 1:
        say(["", *write_page(folder, models)])
        _now(f"page over the models: {folder / PAGE}")


def _now(text: str) -> None:
    say_plainly(text)
    sys.stdout.flush()
