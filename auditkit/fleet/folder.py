"""The folder of a fleet: what it asks, which launcher holds it, and where jobs and runs lie.

FOLDER/fleet.json        what was asked: models, shards, suites, options
FOLDER/jobs/NAME/        a job's run folders (of a shard), and log.txt
FOLDER/jobs/MODEL-exchange/    what the shards of a model exchange, until they are merged
FOLDER/runs/NAME/        the run of a model, merged of its shards
FOLDER/compare.html      the page over the models, and compare.csv
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from auditkit.record.escaping import path_part, plain
from auditkit.record.locks import lock
from auditkit.record.schema import Struct
from auditkit.record.store import RecordError, atomic_write, require_writable

FLEET = "fleet.json"
_LOCK = ".lock"
BASELINE_NAME = "baseline"


class FleetPlan(Struct, frozen=True, kw_only=True):
    """What a fleet asks; a folder belongs to one plan."""

    models: tuple[str, ...]
    baseline: str | None
    """The model that is measured first; None where there is none, or a recorded run."""
    shards: int
    suites: tuple[str, ...]
    options: tuple[str, ...]
    """pytest's options that every job is given."""
    layout: int = 1
    """Of the folder."""

    @property
    def names(self) -> dict[str, str]:
        """Model -> its name in paths, another one for each."""
        names: dict[str, str] = {}
        for spec in self.models:
            name = path_part(Path(spec).name, "model")
            others = {*names.values(), BASELINE_NAME}
            names[spec] = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in others)
        return names


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a fleet's folder for this process alone.

    Raises:
        RecordError: it cannot be written, or another launcher holds it.
    """
    require_folder(folder)
    with (folder / _LOCK).open("ab") as stream:
        try:
            lock(stream)
        except BlockingIOError:
            raise RecordError(
                f"{folder} is the folder of a fleet that is running; wait for it, or end it"
            ) from None
        yield


def require_folder(folder: Path) -> None:
    """Make the folder.

    Raises:
        RecordError: it cannot be written, or holds something else than a fleet.
    """
    if folder.is_dir() and not (folder / FLEET).exists() and any(p.name[0] != "." for p in folder.iterdir()):
        raise RecordError(f"{folder} holds other files and no {FLEET}; name a new folder with --into")
    try:
        require_writable(folder)
    except RecordError as error:
        raise RecordError(str(error).replace("--audit-dir", "--into")) from None


def begin_plan(folder: Path, plan: FleetPlan) -> bool:
    """Write what the fleet asks into its folder; whether it was there already, so that the fleet goes on.

    Raises:
        RecordError: the folder has another plan, naming what differs, or its plan cannot be read or written.
    """
    file = folder / FLEET
    if not file.exists():
        document = msgspec.json.format(msgspec.json.encode(plan), indent=1)
        try:
            atomic_write(file, document + b"\n")
        except OSError as error:
            raise RecordError(f"cannot write {file}: {error.strerror or error}") from None
        return False
    try:
        before = msgspec.json.decode(file.read_bytes(), type=FleetPlan)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"cannot read {file}: {plain(str(error))}; name a new folder with --into") from None
    if said := "; ".join(_differences(before, plan)):
        raise RecordError(f"{folder} is the folder of another fleet: {said}; name a new folder with --into")
    return True


def _differences(was: FleetPlan, now: FleetPlan) -> Iterator[str]:
    for name in FleetPlan.__struct_fields__:
        before, after = getattr(was, name), getattr(now, name)
        if before != after:
            yield f"{name} {_written(before)} there, {_written(after)} here"


def _written(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value)) or "none"
    return str(value if value is not None else "none")
