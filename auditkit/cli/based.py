"""The base of `auditkit gate CANDIDATE --base BASE`: a recorded run, or a model that is measured once and kept.

A base that was measured lies under the reports in a folder whose name has a digest of what decides its numbers: the
suites, the package, the options, and the size and time of each file of a local model. The digest of its record lies
beside it, and the gate accepts that record only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.cli.shared import say_plainly

PINNED = "pinned"
_MEASURED = (0, 1, 10)
"""Exit codes of a base that can be compared with: what its own claims came to is not asked."""


class BaseError(Exception):
    """The base could not be measured.

    Attributes:
        code: exit code of the gate.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class BaseRun:
    """Which base a gate takes.

    Attributes:
        spec: the model, as after --model.
        reports: folder of run folders.
        suites: folders of the suites.
        asked: pytest's options that both runs are given.
        files: files that these options name.
        digest: SHA-256 that the base's record must have; None for that of the record that was measured.
    """

    spec: str
    reports: Path
    suites: Sequence[Path]
    asked: Sequence[str]
    files: Sequence[Path]
    digest: str | None

    @property
    def folder(self) -> Path:
        """Where its run lies, or will."""
        from auditkit.record.escaping import path_part

        return self.reports / f"base-{path_part(self.spec, 'model')}-{self._state()}"

    def pinned(self, measure: Callable[[list[str]], int]) -> str:
        """The recorded base, as after --baseline, with the digest of its record; measured now if it is not there.

        Args:
            measure: runs pytest with arguments and returns its exit code.

        Raises:
            BaseError: it could not be measured.
        """
        from auditkit.record.manifest import record_digest
        from auditkit.record.store import AUDIT_JSON, RecordError, atomic_write

        folder = self.folder
        pin, latest = self.reports / PINNED / folder.name, folder / "latest"
        known = self.digest or (pin.read_text().strip() if pin.is_file() else None)
        if known and (latest / AUDIT_JSON).is_file():
            say_plainly(f"the base {self.spec} was measured before: {folder}")
            return f"{latest}#{known}"
        say_plainly(f"measuring the base {self.spec} first; its run is kept in {folder}")
        code = measure([*self.asked, f"--audit-model={self.spec}", f"--audit-dir={folder}", "--audit-as-baseline"])
        if code not in _MEASURED:
            raise BaseError(f"the base {self.spec} could not be measured (exit code {code})", code)
        try:
            measured = record_digest(latest)
            pin.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(pin, f"{measured}\n".encode())
        except RecordError as error:
            raise BaseError(str(error), 11) from None
        except OSError as error:
            raise BaseError(f"cannot write {pin}: {error.strerror or error}", 4) from None
        say_plainly(f"the base is recorded; to accept this record and no other: --base-sha256 {measured}")
        return f"{latest}#{self.digest or measured}"

    def _state(self) -> str:
        """Digest of what decides the base's numbers."""
        import auditkit

        said = hashlib.sha256("\x1f".join(self.asked).encode())
        for top in (*self.suites, Path(auditkit.__file__).parent):
            for name, path in _files(top):
                if path.suffix != ".pyc":
                    said.update(name.encode())
                    said.update(path.read_bytes())
        for path in self.files:
            for name, one in _files(path):
                said.update(name.encode())
                said.update(one.read_bytes())
        for name, path in _files(Path(self.spec)):
            about = path.stat()
            said.update(f"{name} {about.st_size} {about.st_mtime_ns}".encode())
        return said.hexdigest()[:12]


def _files(top: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a folder by its name there, or the file itself; nothing where there is neither."""
    found: Iterable[Path] = [top] if top.is_file() else sorted(top.rglob("*"))
    for path in found:
        if path.is_file():
            yield (path.name if path == top else path.relative_to(top).as_posix()), path
