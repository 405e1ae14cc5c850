"""Fleets without processes: a scheduler whose commands are scripted, and records as jobs would leave them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from following import coming_to

from auditkit.claims.verdicts import summarize
from auditkit.fleet.command import Command
from auditkit.record.manifest import write_manifest
from auditkit.record.plan import OTHER_SHARDS
from auditkit.record.schema import Run, Untested, Verdict
from auditkit.record.store import new_run_folder, write_run

Act = Callable[[Command], int]
"""What a command does when it is started; its exit status."""


@dataclass
class Ended:
    """A command that has ended, which its scheduler says after a number of questions."""

    code: int
    rounds: int = 0

    def status(self) -> int | None:
        self.rounds -= 1
        return self.code if self.rounds < 0 else None


@dataclass
class Scripted:
    """A scheduler that starts nothing.

    Attributes:
        script: what the next commands do, by a word of their arguments.
        rounds: how often a command is said to run still, by a word of its arguments.
        otherwise: what all others do.
        commands: the commands that were submitted.
    """

    otherwise: Act
    script: dict[str, list[Act]] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    pause = 0.0

    def has_room(self, command: Command) -> bool:
        return True

    def submit(self, command: Command) -> Ended:
        self.commands.append(command)
        acts = next((acts for word, acts in self.script.items() if acts and word in command.args), None)
        rounds = next((number for word, number in self.rounds.items() if word in command.args), 0)
        return Ended((acts.pop(0) if acts else self.otherwise)(command), rounds)

    def close(self) -> None:
        pass


def value_of(command: Command, option: str) -> str:
    return next((arg.partition("=")[2] for arg in command.args if arg.startswith(f"{option}=")), "")


def leaving(a_run: Run) -> Callable[..., Act]:
    """What leaves the record of a run, or of a shard, of which each has one of the two claims, as `made(verdict)`."""

    def make(verdict: Verdict = Verdict.PASS, **of_model: object) -> Act:
        def act(command: Command) -> int:
            which = value_of(command, "--audit-shard").partition("/")[0]
            own = [claim for place, claim in enumerate(a_run.claims, start=1) if which in ("", str(place))]
            claims = tuple(coming_to(claim, verdict) for claim in own)
            spec = value_of(command, "--audit-model")
            model = msgspec.structs.replace(a_run.model, **{"spec": spec, "name": Path(spec).name, **of_model})
            others = (Untested(what=OTHER_SHARDS, reason="the other"),) if which else ()
            run = msgspec.structs.replace(
                a_run,
                command=("pytest", *_first_call(command)),
                claims=claims,
                model=model,
                summary=summarize(claims),
                untested=(*a_run.untested, *others),
            )
            folder = new_run_folder(Path(value_of(command, "--audit-dir")), model.name)
            write_run(folder, run, [])
            write_manifest(folder)
            return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.ERROR: 11}.get(verdict, 10)

        return act

    return make


def _first_call(command: Command) -> list[str]:
    """pytest's arguments as the run was first called: its record names these."""
    args = command.args[command.args.index("pytest") + 1 :]
    return [arg for arg in args if not arg.startswith("--audit-resume=")]


def ending(status: int) -> Act:
    """End with a status and leave nothing but a line."""

    def act(command: Command) -> int:
        with Path(command.log).open("a") as log:
            log.write(f"ended with {status}\n")
        return status

    return act
