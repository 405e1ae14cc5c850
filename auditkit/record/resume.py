"""Continuing an interrupted run: which folder, and whether its claims may be taken over.

A run that was killed leaves its journal and no finished record. Its finished claims stand for the present run only
if that run would have asked exactly the same of exactly the same model, so everything that says so is compared before
anything is written; where it differs, the folder is left as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auditkit.record.identity import WEIGHTS, differing_parts
from auditkit.record.journal import ANEW, Entry, Header, has_header, read_journal
from auditkit.record.store import JOURNAL, RecordError, is_written


@dataclass(frozen=True)
class Interrupted:
    """An earlier run as its journal describes it."""

    folder: Path
    header: Header
    entries: tuple[Entry, ...]

    def require_missing(self, planned: set[str]) -> None:
        """Refuse a run that has nothing left to measure: it is finished, and its record stands.

        Raises:
            RecordError: it is written, and every planned claim is in the journal.
        """
        if is_written(self.folder) and planned <= {entry.claim.id for entry in self.entries}:
            raise RecordError(f"nothing to resume: {self.folder} is finished; {ANEW}")

    def require_same(self, present: Header) -> None:
        """Refuse to continue what is not the same run; an empty `model_sha256` is not compared (not opened yet).

        Raises:
            RecordError: naming each thing that differs, as it was and as it is.
        """
        was, now = self.header, present
        said = [
            f"{name} was {was.settings.get(name, 'not given')}, is {now.settings.get(name, 'not given')}"
            for name in {**was.settings, **now.settings}
            if was.settings.get(name) != now.settings.get(name)
        ]
        said += [
            f"version of {name} was {was.versions.get(name, 'none')}, is {now.versions.get(name, 'none')}"
            for name in {**was.versions, **now.versions}
            if was.versions.get(name) != now.versions.get(name)
        ]
        if was.seed != now.seed:
            said.append(f"--seed was {was.seed}, is {now.seed}")
        if not said and was.plan_sha256 != now.plan_sha256:
            # Every setting is part of the plan's digest, so it says something of its own only when none differs.
            said.append(
                "the plan differs: claims were selected, added or changed, or the code, data or versions behind them "
                f"(plan_sha256 was {was.plan_sha256[:12]}, is {now.plan_sha256[:12]})"
            )
        if now.model_sha256 and was.model_sha256 != now.model_sha256:
            said.append(_other_model(was, now))
        elif now.model and WEIGHTS not in now.model:
            said.append("whether the weights are still the same is not known, since their server states no digest")
        if said:
            raise RecordError(f"cannot resume {self.folder}: {'; '.join(said)}; {ANEW}")


def _other_model(was: Header, now: Header) -> str:
    digests = f"identity was {was.model_sha256[:12]}, is {now.model_sha256[:12]}"
    if not was.model:
        return f"whether the model is the same is not known, since the journal does not hold its parts ({digests})"
    return f"the model differs in: {'; '.join(differing_parts(was.model, now.model))} ({digests})"


def find_interrupted(reports: Path, folder: str) -> Interrupted:
    """The run in `folder`, or, where that is empty, the newest unfinished one under `reports`.

    A folder may hold an audit.json: a run that was interrupted has written its record, with what it did not measure as
    ERROR, and its folder is marked as unfinished. One that `-x` stopped is finished, and is continued when it is named.

    Raises:
        RecordError: there is none, or its journal is damaged.
    """
    if not folder:
        unfinished = sorted(filter(_is_unfinished, reports.glob(f"*/{JOURNAL}")), key=_age)
        if not unfinished:
            raise RecordError(
                f"nothing to resume: no run under {reports} was cut off after its first claim had begun; a run that "
                "ends while its model is opened has measured nothing, so leave out --resume (a run that -x stopped is "
                "continued with --resume FOLDER)"
            )
        path = unfinished[-1].parent
    else:
        path = named_folder(folder)
    header, entries = read_journal(path / JOURNAL)
    return Interrupted(path, header, entries)


def named_folder(folder: str) -> Path:
    """The run folder that somebody named, itself where it is a link: `reports/latest` may move on meanwhile.

    Raises:
        RecordError: it is none.
    """
    path = Path(folder).resolve()
    if not (path / JOURNAL).is_file():
        raise RecordError(f"nothing to resume: {folder} is no run folder, it holds no {JOURNAL}")
    return path


def _is_unfinished(journal: Path) -> bool:
    """Whether there is something to continue; a run killed before its first line was whole left nothing."""
    return not journal.parent.is_symlink() and not is_written(journal.parent) and has_header(journal)


def _age(journal: Path) -> tuple[str, int]:
    """By the time in the folder's name; two runs of the same second by their journals' last line."""
    return journal.parent.name.split("-", 1)[0], journal.stat().st_mtime_ns
