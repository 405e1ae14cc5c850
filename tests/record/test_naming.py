"""Models whose paths end alike have names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.record.naming import told_apart

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (["runs/a/final"], ["final"]),
        (["runs/a/final", "runs/b/other"], ["final", "other"]),
        (["runs/a/final", "runs/b/final"], ["a/final", "b/final"]),
        (["/x/a/last/final", "/x/b/last/final", "c"], ["a/last/final", "b/last/final", "c"]),
        (["owner/tiny", "other/tiny"], ["owner/tiny", "other/tiny"]),
        (["tiny", "other/tiny"], ["tiny", "other/tiny"]),
        (["a/final", "a/final"], ["final", "final"]),
        (["smollm2-135m-instruct", "./b/final/"], ["smollm2-135m-instruct", "final"]),
        (["/", "b"], ["/", "b"]),
    ],
)
def test_a_name_is_the_shortest_end_that_differs(specs: list[str], names: list[str]) -> None:
    assert told_apart(specs) == names


def test_a_path_that_is_there_is_told_by_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/final", "b/final"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "final")
    assert told_apart([".", "../../b/final"]) == ["a/final", "b/final"]
    assert told_apart(["."]) == ["final"]
    assert told_apart([".", str(tmp_path / "a" / "final")]) == ["final", "final"]
